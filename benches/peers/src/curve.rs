//! The table of curves: one thing grows, and all else stays.

use crate::loads::Load;
use crate::variant::{Variant, kafka, riverlog};

/// A topic that takes records of 1 MiB with what is around them. Both brokers' default is 12 bytes more than 1 MiB.
const LARGE_RECORDS: &[(&str, &str)] = &[("max.message.bytes", "2097152")];

#[derive(Debug)]
pub struct Curve {
    pub name: &'static str,
    /// A line above its table.
    pub about: &'static str,
    /// Of the column that tells what has grown.
    pub heading: &'static str,
    pub points: &'static [Point],
    /// What its table has beside the rate, of both brokers.
    pub columns: &'static [Column],
}

#[derive(Debug)]
pub struct Point {
    /// As it is noted.
    pub name: &'static str,
    /// What has grown, as it stands in the table.
    pub label: &'static str,
    pub partitions: i32,
    pub load: Load,
    pub configs: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub figure: &'static str,
    pub heading: &'static str,
    pub divisor: f64,
}

impl Point {
    /// How many files and connections a process must be allowed to have open. Riverlog shares out what it is allowed: at
    /// least an eighth of it are partitions, and a good half are connections. Kafka needs less.
    pub fn open_files(&self) -> u64 {
        let connections = match self.load {
            Load::Connections { connections, .. } => connections as u64,
            _ => 1,
        };
        (connections * 2).max(u64::from(self.partitions.unsigned_abs()) * 8)
    }

    /// Who is measured there.
    pub fn variants(&self, with_kafka: bool) -> Vec<Variant> {
        let (partitions, load) = (self.partitions, self.load);
        let mut variants = vec![riverlog(partitions, load)];
        if with_kafka {
            variants.push(kafka(partitions, load));
        }
        let configs = self.configs;
        variants
            .into_iter()
            .map(|variant| Variant { configs, ..variant })
            .collect()
    }
}

const fn column(figure: &'static str, heading: &'static str, divisor: f64) -> Column {
    Column {
        figure,
        heading,
        divisor,
    }
}

const fn partitions(name: &'static str, label: &'static str, partitions: i32) -> Point {
    Point {
        name,
        label,
        partitions,
        load: Load::Bulk { size_bytes: 1024 },
        configs: &[],
    }
}

const fn connections(name: &'static str, label: &'static str, connections: usize) -> Point {
    Point {
        name,
        label,
        partitions: 16,
        load: Load::Connections {
            connections,
            size_bytes: 100,
        },
        configs: &[],
    }
}

const fn size(name: &'static str, label: &'static str, size_bytes: usize) -> Point {
    Point {
        name,
        label,
        partitions: 4,
        load: Load::Bulk { size_bytes },
        configs: LARGE_RECORDS,
    }
}

const CPU: Column = column("cpu_s_per_gb", "CPU s/GB", 1.0);

/// All of them, in the order in which they are measured.
pub const CURVES: &[Curve] = &[
    Curve {
        name: "partitions",
        about: "1 KiB records as fast as one librdkafka producer sends them, to all partitions in turn",
        heading: "partitions",
        points: &[
            partitions("scale-partitions-1", "1", 1),
            partitions("scale-partitions-10", "10", 10),
            partitions("scale-partitions-100", "100", 100),
            partitions("scale-partitions-1000", "1,000", 1000),
            // As far as Riverlog goes where 20,000 files may be open.
            partitions("scale-partitions-2500", "2,500", 2500),
            partitions("scale-partitions-10000", "10,000", 10_000),
        ],
        columns: &[CPU],
    },
    Curve {
        name: "connections",
        about: "producers over plain sockets that each wait for their record of 100 B, 16 partitions",
        heading: "connections",
        points: &[
            connections("scale-connections-1", "1", 1),
            connections("scale-connections-10", "10", 10),
            connections("scale-connections-100", "100", 100),
            connections("scale-connections-1000", "1,000", 1000),
            connections("scale-connections-5000", "5,000", 5000),
        ],
        columns: &[column("p50_us", "p50 ms", 1e3), column("p99_us", "p99 ms", 1e3), CPU],
    },
    Curve {
        name: "sizes",
        about: "records as fast as one librdkafka producer sends them, 4 partitions",
        heading: "value",
        points: &[
            size("scale-sizes-10", "10 B", 10),
            size("scale-sizes-100", "100 B", 100),
            size("scale-sizes-1k", "1 KiB", 1024),
            size("scale-sizes-10k", "10 KiB", 10 * 1024),
            size("scale-sizes-100k", "100 KiB", 100 * 1024),
            size("scale-sizes-1m", "1 MiB", 1024 * 1024),
        ],
        columns: &[column("bytes_per_s", "MB/s", 1e6), CPU],
    },
];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scenario::SCENARIOS;

    #[test]
    fn points_have_names_of_their_own() {
        let points = CURVES.iter().flat_map(|curve| curve.points).map(|point| point.name);
        let names: Vec<&str> = points.chain(SCENARIOS.iter().map(|scenario| scenario.name)).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn open_files_are_for_what_has_grown() {
        let most = |curve: &Curve| curve.points.iter().map(Point::open_files).max();
        assert_eq!(
            CURVES.iter().map(most).collect::<Vec<_>>(),
            [Some(80_000), Some(10_000), Some(32)]
        );
    }

    #[test]
    fn both_brokers_get_the_same_topic() {
        let point = &CURVES[2].points[0];
        let variants = point.variants(true);
        assert_eq!(
            variants.iter().map(|variant| variant.name).collect::<Vec<_>>(),
            ["riverlog", "kafka"]
        );
        assert!(variants.iter().all(|variant| variant.configs == LARGE_RECORDS));
        assert_eq!(point.variants(false).len(), 1);
    }
}

//! The table of scenarios: who does what, and what is wanted of it.

use crate::claim::Wanted::{AtLeast, AtMost};
use crate::claim::{Claim, absolute, against, ceiling, synced_ceiling};
use crate::loads::Load;
use crate::variant::{Variant, kafka, kafka_synced, named, riverlog, sink, sink_synced};

const KIB: usize = 1024;

#[derive(Clone, Copy, Debug)]
pub struct Scenario<'a> {
    pub name: &'a str,
    /// A line for `peers list`.
    pub about: &'a str,
    pub variants: &'a [Variant],
    pub claims: &'a [Claim],
}

const BULK_1K: Load = Load::Bulk { size_bytes: KIB };
const BULK_100B: Load = Load::Bulk { size_bytes: 100 };
const WAITING_64: Load = Load::Waiting {
    producers: 64,
    size_bytes: 100,
};
const ONE: Load = Load::OneInFlight { size_bytes: 100 };
const CONSUME: Load = Load::Consume { size_bytes: KIB };
const PACED: Load = Load::EndToEnd {
    records_per_s: 50_000,
    size_bytes: KIB,
};
const START_FULL: Load = Load::StartFull { size_bytes: KIB };
const AFTER_KILL: Load = Load::AfterKill { size_bytes: KIB };
const MEMORY: Load = Load::Memory { size_bytes: KIB };

/// All of them, in the order in which they run.
pub const SCENARIOS: &[Scenario<'static>] = &[
    Scenario {
        name: "bulk-1k",
        about: "1 KiB records as fast as one producer sends them, 4 partitions, acks=all",
        variants: &[
            riverlog(4, BULK_1K),
            kafka(4, BULK_1K),
            kafka_synced(4, BULK_1K),
            sink(4, BULK_1K),
        ],
        claims: &[
            against(
                "1 KiB bulk, 4 partitions, acks=all, against Kafka unsynced",
                "records_per_s",
                "kafka",
                AtLeast(1.5),
            ),
            against(
                "the same against `flush.messages=1`",
                "records_per_s",
                "kafka-synced",
                AtLeast(2.0),
            ),
            against(
                "broker CPU-seconds per GB produced, 1 KiB, against Kafka",
                "cpu_s_per_gb",
                "kafka",
                AtMost(0.4),
            ),
            absolute(
                "bytes written to the device per byte acknowledged: bulk",
                "device_written_per_byte",
                AtMost(1.15),
            ),
            ceiling(
                "1 KiB bulk, ceiling: a broker that keeps nothing, against Kafka unsynced",
                "records_per_s",
                "kafka",
            ),
        ],
    },
    Scenario {
        name: "bulk-100b",
        about: "the same with records of 100 bytes",
        variants: &[
            riverlog(4, BULK_100B),
            kafka(4, BULK_100B),
            sink(4, BULK_100B),
            sink_synced(4, BULK_100B),
        ],
        claims: &[
            against(
                "100-byte bulk against Kafka unsynced",
                "records_per_s",
                "kafka",
                AtLeast(1.2),
            ),
            against(
                "broker CPU-seconds per GB produced, 100 B, against Kafka",
                "cpu_s_per_gb",
                "kafka",
                AtMost(0.4),
            ),
            absolute(
                "bytes written to the device per byte acknowledged: small",
                "device_written_per_byte",
                AtMost(2.3),
            ),
            ceiling(
                "100-byte bulk, ceiling: a broker that keeps nothing, against Kafka unsynced",
                "records_per_s",
                "kafka",
            ),
            synced_ceiling(
                "100-byte bulk, a broker that syncs and does nothing else, against Kafka unsynced",
                "records_per_s",
                "kafka",
            ),
            synced_ceiling("the same, CPU-seconds per GB", "cpu_s_per_gb", "kafka"),
        ],
    },
    Scenario {
        name: "waiting-64x1",
        about: "64 producers that each wait for their record, 1 partition, 100 B",
        variants: &[
            riverlog(1, WAITING_64),
            kafka(1, WAITING_64),
            kafka_synced(1, WAITING_64),
            sink(1, WAITING_64),
            sink_synced(1, WAITING_64),
        ],
        claims: &[
            against(
                "64 waiting producers, 1 partition, against unsynced",
                "records_per_s",
                "kafka",
                AtLeast(1.2),
            ),
            against("the same against synced", "records_per_s", "kafka-synced", AtLeast(8.0)),
            ceiling(
                "64 waiting, ceiling: a broker that keeps nothing, against Kafka unsynced",
                "records_per_s",
                "kafka",
            ),
            ceiling("the same against synced", "records_per_s", "kafka-synced"),
            synced_ceiling(
                "64 waiting, a broker that syncs and does nothing else, against Kafka unsynced",
                "records_per_s",
                "kafka",
            ),
        ],
    },
    Scenario {
        name: "waiting-64x64",
        about: "64 producers that each wait for their record, a partition each, 100 B",
        variants: &[
            riverlog(64, WAITING_64),
            kafka_synced(64, WAITING_64),
            sink(64, WAITING_64),
            sink_synced(64, WAITING_64),
        ],
        claims: &[
            against(
                "64 waiting producers, 64 partitions, against synced",
                "records_per_s",
                "kafka-synced",
                AtLeast(4.0),
            ),
            ceiling(
                "64 waiting, 64 partitions, ceiling: a broker that keeps nothing, against synced",
                "records_per_s",
                "kafka-synced",
            ),
            synced_ceiling(
                "64 waiting, 64 partitions, a broker that syncs and does nothing else, against synced",
                "records_per_s",
                "kafka-synced",
            ),
        ],
    },
    Scenario {
        name: "one-in-flight",
        about: "one librdkafka producer that waits for each record of 100 B",
        variants: &[
            riverlog(1, ONE),
            kafka(1, ONE),
            kafka_synced(1, ONE),
            sink(1, ONE),
            sink_synced(1, ONE),
        ],
        claims: &[
            against(
                "one in flight with the same client, p50, against Kafka unsynced",
                "p50_us",
                "kafka",
                AtMost(1.0),
            ),
            against("the same against synced", "p50_us", "kafka-synced", AtMost(0.5)),
            ceiling(
                "one in flight, floor: a broker that keeps nothing, p50, against Kafka unsynced",
                "p50_us",
                "kafka",
            ),
            synced_ceiling(
                "one in flight, a broker that syncs and does nothing else, p50, against Kafka unsynced",
                "p50_us",
                "kafka",
            ),
        ],
    },
    Scenario {
        name: "one-in-flight-raw",
        about: "one record of 100 B at a time over a socket, against append + fdatasync of a page without a broker",
        variants: &[
            riverlog(1, Load::OneInFlightRaw { size_bytes: 100 }),
            Variant {
                name: "bare",
                product: None,
                partitions: 1,
                configs: &[],
                load: Load::BareAppend,
            },
            sink_synced(1, Load::OneInFlightRaw { size_bytes: 100 }),
        ],
        claims: &[
            against(
                "one in flight over a raw socket against a bare pre-written append + fdatasync",
                "p50_us",
                "bare",
                AtMost(1.5),
            ),
            synced_ceiling(
                "one in flight over a raw socket, a broker that syncs and does nothing else, against the same",
                "p50_us",
                "bare",
            ),
        ],
    },
    Scenario {
        name: "partitions-1000",
        about: "1 KiB records to 1,000 partitions in turn, and to 4 for the syncs",
        variants: &[
            riverlog(1000, BULK_1K),
            kafka(1000, BULK_1K),
            named("riverlog-4", riverlog(4, BULK_1K)),
            sink(1000, BULK_1K),
        ],
        claims: &[
            against(
                "1,000 partitions written evenly, against Kafka unsynced",
                "records_per_s",
                "kafka",
                AtLeast(1.5),
            ),
            against(
                "syncs per MB against the run with 4 partitions",
                "flushes_per_mb",
                "riverlog-4",
                AtMost(1.2),
            ),
            ceiling(
                "1,000 partitions, ceiling: a broker that keeps nothing, against Kafka unsynced",
                "records_per_s",
                "kafka",
            ),
        ],
    },
    Scenario {
        name: "consume",
        about: "a topic of 1 KiB records, 4 partitions, from the page cache, again and again",
        variants: &[riverlog(4, CONSUME), kafka(4, CONSUME)],
        claims: &[
            against(
                "consume from page cache, 4 partitions",
                "records_per_s",
                "kafka",
                AtLeast(1.0),
            ),
            against(
                "the same, broker CPU-seconds per GB",
                "cpu_s_per_gb",
                "kafka",
                AtMost(1.0),
            ),
        ],
    },
    Scenario {
        name: "end-to-end",
        about: "50,000 records of 1 KiB a second, from when each was due until a consumer has it",
        variants: &[riverlog(4, PACED), kafka(4, PACED)],
        claims: &[against(
            "end to end at 50 K records/s, p99, synced, against Kafka unsynced",
            "p99_us",
            "kafka",
            AtMost(1.0),
        )],
    },
    Scenario {
        name: "http-publish",
        about: "NDJSON batches of 100 records of 100 B over HTTP, and the same records by the Kafka protocol",
        variants: &[
            riverlog(
                4,
                Load::HttpBatches {
                    records: 100,
                    size_bytes: 100,
                },
            ),
            named(
                "riverlog-kafka-protocol",
                riverlog(
                    4,
                    Load::KafkaBatches {
                        records: 100,
                        size_bytes: 100,
                    },
                ),
            ),
        ],
        claims: &[against(
            "HTTP publish, NDJSON batches of 100, against produce of the same by the Kafka protocol",
            "records_per_s",
            "riverlog-kafka-protocol",
            AtLeast(0.3),
        )],
    },
    Scenario {
        name: "replay",
        about: "`riverlog replay` from topic to topic, 200 B records, against producing them",
        variants: &[
            riverlog(4, Load::Replay { size_bytes: 200 }),
            named("riverlog-produce", riverlog(4, Load::Bulk { size_bytes: 200 })),
        ],
        claims: &[against(
            "replay topic to topic, 200 B records, against producing them",
            "records_per_s",
            "riverlog-produce",
            AtLeast(0.7),
        )],
    },
    Scenario {
        name: "start-empty",
        about: "from the start of the process to the first answer, without data",
        variants: &[riverlog(1, Load::StartEmpty), kafka(1, Load::StartEmpty)],
        claims: &[absolute("ready after start, empty (ms)", "ready_ms", AtMost(50.0))],
    },
    Scenario {
        name: "start-full",
        about: "the same with data (--start-mib), after a clean stop",
        variants: &[riverlog(4, START_FULL), kafka(4, START_FULL)],
        claims: &[absolute(
            "ready after start, 10 GiB clean (ms)",
            "ready_ms",
            AtMost(300.0),
        )],
    },
    Scenario {
        name: "after-kill",
        about: "SIGKILL under bulk load; from the new start to the first acknowledgement",
        variants: &[riverlog(4, AFTER_KILL), kafka(4, AFTER_KILL)],
        claims: &[absolute(
            "first acknowledgement after a SIGKILL under full load (ms)",
            "first_ack_ms",
            AtMost(1000.0),
        )],
    },
    Scenario {
        name: "memory",
        about: "private memory of a fresh broker, idle and under 1 KiB bulk",
        variants: &[riverlog(4, MEMORY), kafka(4, MEMORY)],
        claims: &[
            against(
                "private memory idle, against Kafka's",
                "idle_private_bytes",
                "kafka",
                AtMost(0.1),
            ),
            against(
                "private memory under load, against Kafka's",
                "load_private_bytes",
                "kafka",
                AtMost(0.2),
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_name_variants_that_exist() {
        for scenario in SCENARIOS {
            let has = |name: &str| scenario.variants.iter().any(|variant| variant.name == name);
            for claim in scenario.claims {
                assert!(has(claim.of), "{}: {}", scenario.name, claim.of);
                assert!(claim.against.is_none_or(has), "{}: {:?}", scenario.name, claim.against);
            }
        }
    }
}

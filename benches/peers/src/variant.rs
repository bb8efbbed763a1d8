//! Who is measured: a product, what is done to it, and on which topic.

use crate::broker::Product;
use crate::loads::Load;

/// One side of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub name: &'static str,
    /// `None` if no broker takes part.
    pub product: Option<Product>,
    pub partitions: i32,
    /// What its topics are configured to, beside the broker's defaults.
    pub configs: &'static [(&'static str, &'static str)],
    pub load: Load,
}

/// With its defaults.
pub const fn riverlog(partitions: i32, load: Load) -> Variant {
    Variant {
        name: "riverlog",
        product: Some(Product::Riverlog),
        partitions,
        configs: &[],
        load,
    }
}

/// As it is shipped: it acknowledges what is in the page cache.
pub const fn kafka(partitions: i32, load: Load) -> Variant {
    Variant {
        name: "kafka",
        product: Some(Product::Kafka),
        partitions,
        configs: &[],
        load,
    }
}

/// It syncs before it acknowledges, as Riverlog always does.
pub const fn kafka_synced(partitions: i32, load: Load) -> Variant {
    Variant {
        name: "kafka-synced",
        configs: &[("flush.messages", "1")],
        ..kafka(partitions, load)
    }
}

/// The ceiling: it keeps nothing.
pub const fn sink(partitions: i32, load: Load) -> Variant {
    Variant {
        name: "sink",
        product: Some(Product::Sink),
        ..kafka(partitions, load)
    }
}

/// What a durable broker cannot do without: it syncs before it acknowledges, and does nothing else.
pub const fn sink_synced(partitions: i32, load: Load) -> Variant {
    Variant {
        name: "sink-synced",
        product: Some(Product::SyncedSink),
        ..kafka(partitions, load)
    }
}

/// The same by another name, where one product takes part twice.
pub const fn named(name: &'static str, variant: Variant) -> Variant {
    Variant { name, ..variant }
}

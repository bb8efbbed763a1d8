//! What the listeners count as they work. What storage and groups know already is asked of them when somebody
//! scrapes (`http::metrics`), and is not kept twice.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The counters of one server. Clones count into the same places.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Traffic of Kafka clients.
    pub kafka: Traffic,
    /// Traffic of HTTP clients.
    pub http: Traffic,
    requests: Family<RequestLabels, Counter>,
    families: Families,
    memory: Arc<Mutex<Vec<MemoryUse>>>,
}

/// One of the budgets that bound what clients together may hold in memory.
struct MemoryUse {
    holder: &'static str,
    limit_bytes: usize,
    in_use: Box<dyn Fn() -> usize + Send + Sync>,
}

impl fmt::Debug for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} bytes", self.holder, (self.in_use)(), self.limit_bytes)
    }
}

/// What one protocol carries.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Records written and synced.
    pub records_in: Counter,
    /// Their bytes: batches for Kafka, request bodies for HTTP.
    pub bytes_in: Counter,
    /// Records given to readers. Not counted for Kafka, where whole batches pass through unopened.
    pub records_out: Counter,
    /// Bytes given to readers: batches for Kafka, keys and values for HTTP.
    pub bytes_out: Counter,
    /// Connections open now.
    pub connections: Gauge,
    /// Connections closed at once, because there were as many as there may be. Not counted for HTTP, where they wait.
    pub refused: Counter,
    /// Connections ended because they were the slowest when memory was short. Not counted for HTTP.
    pub cut: Counter,
}

#[derive(Clone, Debug, Default)]
struct Families {
    records_in: Family<ProtocolLabels, Counter>,
    bytes_in: Family<ProtocolLabels, Counter>,
    records_out: Family<ProtocolLabels, Counter>,
    bytes_out: Family<ProtocolLabels, Counter>,
    connections: Family<ProtocolLabels, Gauge>,
    refused: Family<ProtocolLabels, Counter>,
    cut: Family<ProtocolLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HolderLabels {
    holder: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabels {
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    protocol: &'static str,
    request: &'static str,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let families = Families::default();
        Self {
            kafka: families.traffic("kafka"),
            http: families.traffic("http"),
            requests: Family::default(),
            families,
            memory: Arc::default(),
        }
    }
}

impl Families {
    fn traffic(&self, protocol: &'static str) -> Traffic {
        let labels = ProtocolLabels { protocol };
        Traffic {
            records_in: self.records_in.get_or_create_owned(&labels),
            bytes_in: self.bytes_in.get_or_create_owned(&labels),
            records_out: self.records_out.get_or_create_owned(&labels),
            bytes_out: self.bytes_out.get_or_create_owned(&labels),
            connections: self.connections.get_or_create_owned(&labels),
            refused: self.refused.get_or_create_owned(&labels),
            cut: self.cut.get_or_create_owned(&labels),
        }
    }
}

impl Metrics {
    /// Counts an answered Kafka request. The names come from tables of ours, never from the wire, so that a
    /// client cannot add time series.
    pub fn kafka_request(&self, api: &'static str, outcome: &'static str) {
        self.request("kafka", api, outcome);
    }

    /// Counts an answered HTTP request, by its route and the class of its status.
    pub fn http_request(&self, route: &'static str, status: u16) {
        let outcome = match status {
            ..400 => "ok",
            400..500 => "client_error",
            _ => "server_error",
        };
        self.request("http", route, outcome);
    }

    fn request(&self, protocol: &'static str, request: &'static str, outcome: &'static str) {
        self.requests
            .get_or_create(&RequestLabels {
                protocol,
                request,
                outcome,
            })
            .inc();
    }

    /// Shows a budget of memory, and how much of it is in use when somebody looks.
    pub fn watch_memory(
        &self,
        holder: &'static str,
        limit_bytes: usize,
        in_use: impl Fn() -> usize + Send + Sync + 'static,
    ) {
        self.memory.lock().push(MemoryUse {
            holder,
            limit_bytes,
            in_use: Box::new(in_use),
        });
    }

    /// Makes the counters visible to a scrape of `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let families = self.families.clone();
        registry.register("records_in", "Records written and synced", families.records_in);
        registry.register_with_unit(
            "in",
            "Bytes written and synced: batches for Kafka, request bodies for HTTP",
            Unit::Bytes,
            families.bytes_in,
        );
        registry.register("records_out", "Records given to HTTP readers", families.records_out);
        registry.register_with_unit(
            "out",
            "Bytes given to readers: batches for Kafka, keys and values for HTTP",
            Unit::Bytes,
            families.bytes_out,
        );
        registry.register("connections", "Connections open now", families.connections);
        registry.register(
            "connections_refused",
            "Connections closed at once because there were as many as there may be",
            families.refused,
        );
        registry.register(
            "connections_cut",
            "Connections ended because they were the slowest when memory was short",
            families.cut,
        );
        let in_use = Family::<HolderLabels, Gauge>::default();
        let limits = Family::<HolderLabels, Gauge>::default();
        for memory in self.memory.lock().iter() {
            let labels = HolderLabels { holder: memory.holder };
            let bytes = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
            in_use.get_or_create(&labels).set(bytes((memory.in_use)()));
            limits.get_or_create(&labels).set(bytes(memory.limit_bytes));
        }
        registry.register_with_unit("memory", "What clients hold in memory", Unit::Bytes, in_use);
        registry.register_with_unit("memory_limit", "The most that they may hold", Unit::Bytes, limits);
        registry.register("requests", "Requests answered", self.requests.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_what_was_counted() {
        let metrics = Metrics::default();
        metrics.kafka.records_in.inc_by(3);
        metrics.http.connections.inc();
        metrics.http_request("publish", 413);
        metrics.watch_memory("somebody", 10, || 3);
        let mut registry = Registry::with_prefix("riverlog");
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap_or_default();
        assert!(
            text.contains("riverlog_records_in_total{protocol=\"kafka\"} 3"),
            "{text}"
        );
        assert!(text.contains("riverlog_connections{protocol=\"http\"} 1"), "{text}");
        assert!(text.contains("riverlog_memory_bytes{holder=\"somebody\"} 3"), "{text}");
        assert!(
            text.contains("riverlog_memory_limit_bytes{holder=\"somebody\"} 10"),
            "{text}"
        );
        assert!(
            text.contains("request=\"publish\",outcome=\"client_error\"} 1"),
            "{text}"
        );
    }
}

//! Private memory of a fresh broker: with one topic and nothing to do, then under bulk load.

use std::time::Duration;

use anyhow::Context;

use super::{Outcome, Site, bulk};
use crate::broker::Home;
use crate::child;
use crate::usage::{MemoryWatch, private_bytes};

/// By then a start is over.
const SETTLE: Duration = Duration::from_secs(5);

pub fn run(site: &Site<'_>, size_bytes: usize) -> anyhow::Result<Outcome> {
    let dir = tempfile::tempdir_in(site.dir)?;
    let product = site.product.context("memory of which broker?")?;
    let broker = Home::new(site.programs, product, &dir.path().join("data"))?.start(site.programs)?;
    broker.create_topic(site.topic, site.partitions, &[])?;
    child::pause(SETTLE)?;
    let idle_bytes = private_bytes(broker.id())?;
    let watch = MemoryWatch::default();
    let outcome = std::thread::scope(|scope| {
        watch.start(scope, broker.id());
        let outcome = bulk::produce(&broker, site, size_bytes, &bulk::Until::after(site.duration));
        watch.end();
        outcome
    })?;
    Ok(Outcome {
        figures: vec![
            ("idle_private_bytes", idle_bytes as f64),
            ("load_private_bytes", watch.end() as f64),
        ],
        ..outcome
    })
}

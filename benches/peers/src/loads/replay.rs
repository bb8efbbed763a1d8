//! `riverlog replay` of a whole topic into another one, as fast as it goes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Outcome, Site};
use crate::child::{self, Process};

/// Far longer than producing the topic took.
const PATIENCE: Duration = Duration::from_secs(600);

pub fn run(site: &Site<'_>, size_bytes: usize) -> anyhow::Result<Outcome> {
    let source = site.source.context("nothing to replay")?;
    let bootstrap = site.broker()?.bootstrap();
    let mut command = child::command(&site.programs.riverlog);
    command
        .args([
            "replay",
            &source.topic,
            "--to-topic",
            site.topic,
            "--quiet",
            "--bootstrap",
            &bootstrap,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let begun = Instant::now();
    let status = Process::spawn(&mut command)?.wait(PATIENCE)?;
    ensure!(status.success(), "riverlog replay: {status}");
    Ok(Outcome {
        records: source.records,
        bytes: source.records * size_bytes as u64,
        seconds: begun.elapsed().as_secs_f64(),
        figures: vec![],
    })
}

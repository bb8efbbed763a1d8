//! Drives a scenario: starts the brokers, lets them take turns, and notes every round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::broker::{Broker, Home, Programs};
use crate::child;
use crate::loads::{self, Client, Load, Outcome, Site, Source};
use crate::machine::{self, Device, NOISE_CORES, Others, PageCache};
use crate::notes::{Log, Note};
use crate::payload::Payloads;
use crate::scenario::Scenario;
use crate::usage::{self, MemoryWatch, Usage};
use crate::variant::Variant;

/// How long a broker may take to give a deleted topic's space back.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(60);

/// What a broker may keep of it: journal files, for one.
const KEPT_BYTES: u64 = 1024 * 1024 * 1024;

/// How many rounds, and how long they are.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub rounds: u32,
    pub duration: Duration,
    pub warm_up: Duration,
}

/// The same for all scenarios of an invocation.
#[derive(Debug)]
pub struct Bench {
    pub programs: Programs,
    pub payloads: Payloads,
    pub client: Client,
    pub pace: Pace,
    pub quiet_patience: Duration,
    pub source_bytes: u64,
    pub start_bytes: u64,
    /// On the file system that is measured.
    pub dir: PathBuf,
    pub log: Log,
    /// What every note of this invocation says.
    pub note: Note,
    pub fills_page_cache: bool,
}

/// A scenario that runs.
struct Stage<'a> {
    bench: &'a Bench,
    scenario: &'a Scenario<'a>,
    brokers: Vec<Broker>,
    sources: BTreeMap<&'static str, Source>,
    page_cache: PageCache,
    device: Option<Device>,
    dir: PathBuf,
}

impl Bench {
    /// Runs one scenario after the other. Returns the notes, and the names of those that failed.
    ///
    /// # Errors
    /// If the run is to end.
    pub fn run_all<'a>(
        &self,
        scenarios: impl IntoIterator<Item = &'a Scenario<'a>>,
    ) -> anyhow::Result<(Vec<Note>, Vec<&'a str>)> {
        let (mut notes, mut failed) = (Vec::new(), Vec::new());
        for scenario in scenarios {
            match self.run(scenario) {
                Ok(more) => notes.extend(more),
                Err(error) if child::interrupted() => return Err(error),
                Err(error) => {
                    // The others can be measured all the same.
                    eprintln!("peers: {error:#}");
                    failed.push(scenario.name);
                }
            }
        }
        Ok((notes, failed))
    }

    /// Runs all rounds of a scenario and returns their notes.
    ///
    /// # Errors
    /// If a broker or a load fails, or the run is to end.
    fn run(&self, scenario: &Scenario<'_>) -> anyhow::Result<Vec<Note>> {
        let dir = tempfile::Builder::new().prefix(scenario.name).tempdir_in(&self.dir)?;
        let mut stage = Stage {
            bench: self,
            scenario,
            brokers: self.brokers(scenario, dir.path())?,
            sources: BTreeMap::new(),
            page_cache: PageCache::new(dir.path())?,
            device: Device::under(dir.path()),
            dir: dir.path().to_owned(),
        };
        let notes = stage.run();
        // Before the directory goes away under them.
        drop(stage);
        dir.close().context("cannot remove the data")?;
        notes
    }

    /// The brokers that last for the whole scenario: one of each product that its variants need.
    fn brokers(&self, scenario: &Scenario<'_>, dir: &Path) -> anyhow::Result<Vec<Broker>> {
        let mut brokers: Vec<Broker> = Vec::new();
        for variant in scenario.variants.iter().filter(|variant| !variant.load.brings_broker()) {
            let Some(product) = variant.product else { continue };
            if brokers.iter().any(|broker| broker.home.product == product) {
                continue;
            }
            // Not a variant's name: those have directories of their own beside it.
            let dir = dir.join(format!("broker-{product:?}").to_lowercase());
            brokers.push(Home::new(&self.programs, product, &dir)?.start(&self.programs)?);
        }
        Ok(brokers)
    }
}

impl Stage<'_> {
    fn run(&mut self) -> anyhow::Result<Vec<Note>> {
        let (variants, pace) = (self.scenario.variants, self.bench.pace);
        for variant in variants {
            std::fs::create_dir_all(self.dir.join(variant.name))?;
            self.fill(variant)?;
        }
        // A virtual machine compiles what runs often; that is no round's business.
        for variant in variants.iter().filter(|variant| !variant.load.brings_broker()) {
            if !pace.warm_up.is_zero() {
                self.round(variant, 0, pace.warm_up)?;
            }
        }
        let mut notes = Vec::new();
        for round in 1..=pace.rounds {
            // Every other round in the other order, so that a drift of the machine favours nobody.
            let mut order: Vec<&Variant> = variants.iter().collect();
            if round % 2 == 0 {
                order.reverse();
            }
            for variant in order {
                let note = self.round(variant, round, pace.duration)?;
                self.bench.log.add(&note)?;
                show(&note);
                notes.push(note);
            }
        }
        Ok(notes)
    }

    fn broker(&self, variant: &Variant) -> Option<&Broker> {
        if variant.load.brings_broker() {
            return None;
        }
        let is_its = |broker: &&Broker| Some(broker.home.product) == variant.product;
        self.brokers.iter().find(is_its)
    }

    fn site<'a>(&'a self, variant: &Variant, topic: &'a str, dir: &'a Path, duration: Duration) -> Site<'a> {
        let bench = self.bench;
        Site {
            programs: &bench.programs,
            payloads: &bench.payloads,
            client: bench.client,
            broker: self.broker(variant),
            product: variant.product,
            topic,
            partitions: variant.partitions,
            source: self.sources.get(variant.name),
            dir,
            duration,
            start_bytes: bench.start_bytes,
        }
    }

    /// Writes what the variant is going to read.
    fn fill(&mut self, variant: &Variant) -> anyhow::Result<()> {
        let (Load::Consume { size_bytes } | Load::Replay { size_bytes }) = variant.load else {
            return Ok(());
        };
        let topic = format!("source-{}", variant.name);
        if let Some(broker) = self.broker(variant) {
            broker.create_topic(&topic, variant.partitions, variant.configs)?;
        }
        let records = self.bench.source_bytes / size_bytes as u64;
        let site = self.site(variant, &topic, &self.dir, self.bench.pace.duration);
        let source = loads::fill(&site, size_bytes, records)?;
        self.sources.insert(variant.name, source);
        Ok(())
    }

    fn round(&mut self, variant: &Variant, round: u32, duration: Duration) -> anyhow::Result<Note> {
        let topic = format!("{}-{}-{round}", self.scenario.name, variant.name);
        let before_bytes = self.broker(variant).map(|broker| machine::tree_bytes(&broker.home.dir));
        if let Some(broker) = self.broker(variant) {
            broker.create_topic(&topic, variant.partitions, variant.configs)?;
        }
        machine::sync_file_system(&self.dir)?;
        machine::await_quiet(self.bench.quiet_patience)?;
        if self.bench.fills_page_cache {
            self.page_cache.fill()?;
        }
        let dir = self.dir.join(variant.name);
        let site = self.site(variant, &topic, &dir, duration);
        let note = self
            .measure(variant, round, &site)
            .with_context(|| format!("{}, {}, round {round}", self.scenario.name, variant.name))?;
        if let (Some(broker), Some(before_bytes)) = (self.broker(variant), before_bytes) {
            broker.delete_topic(&topic)?;
            await_removal(&broker.home.dir, before_bytes)?;
        }
        Ok(note)
    }

    fn measure(&self, variant: &Variant, round: u32, site: &Site<'_>) -> anyhow::Result<Note> {
        let usage = || site.broker.map(|broker| Usage::of(broker.id())).transpose();
        let device = || self.device.as_ref().and_then(Device::usage);
        let watch = MemoryWatch::default();
        let clients_cpu_s = || usage::cpu_s("self", true).unwrap_or(0.0);
        let (others, device_before, before, clients_before) = (Others::now()?, device(), usage()?, clients_cpu_s());
        let outcome = std::thread::scope(|scope| {
            if let Some(broker) = site.broker {
                watch.start(scope, broker.id());
            }
            let outcome = loads::run(variant.load, site);
            watch.end();
            outcome
        })?;
        let clients_used = clients_cpu_s() - clients_before;
        let (after, flushed, others_cores) = (usage()?, device(), others.cores_since()?);
        machine::sync_file_system(&self.dir)?;
        let written = device();

        let mut figures = figures(&outcome, variant);
        if let (Some(before), Some(after)) = (before, after) {
            figures.insert("private_bytes".into(), watch.end() as f64);
            per_byte(
                &mut figures,
                "cpu_s_per_gb",
                (after.cpu_s - before.cpu_s) * 1e9,
                &outcome,
            );
            per_byte(&mut figures, "client_cpu_s_per_gb", clients_used * 1e9, &outcome);
            if !variant.load.reads() {
                let written_bytes = after.written_bytes.saturating_sub(before.written_bytes);
                per_byte(&mut figures, "written_per_byte", written_bytes as f64, &outcome);
            }
        }
        if let (Some(before), Some(flushed), Some(written)) = (device_before, flushed, written)
            && !variant.load.brings_broker()
            && !variant.load.reads()
        {
            let flushes = flushed.flushes.saturating_sub(before.flushes);
            per_byte(&mut figures, "flushes_per_mb", flushes as f64 * 1e6, &outcome);
            let written_bytes = written.written_bytes.saturating_sub(before.written_bytes);
            per_byte(&mut figures, "device_written_per_byte", written_bytes as f64, &outcome);
        }
        Ok(Note {
            scenario: self.scenario.name.to_owned(),
            variant: variant.name.to_owned(),
            round,
            others_cores,
            noisy: others_cores > NOISE_CORES,
            records: outcome.records,
            bytes: outcome.bytes,
            seconds: outcome.seconds,
            figures,
            ..self.bench.note.clone()
        })
    }
}

fn figures(outcome: &Outcome, variant: &Variant) -> BTreeMap<String, f64> {
    let own = outcome.figures.iter().map(|(name, value)| ((*name).to_owned(), *value));
    let mut figures: BTreeMap<String, f64> = own.collect();
    // At a fixed pace the rate says nothing.
    if outcome.records > 0 && !matches!(variant.load, Load::EndToEnd { .. }) {
        figures.insert("records_per_s".into(), outcome.records as f64 / outcome.seconds);
        figures.insert("bytes_per_s".into(), outcome.bytes as f64 / outcome.seconds);
    }
    figures
}

fn per_byte(figures: &mut BTreeMap<String, f64>, name: &str, amount: f64, outcome: &Outcome) {
    if outcome.bytes > 0 {
        figures.insert(name.to_owned(), amount / outcome.bytes as f64);
    }
}

/// Waits until the space of the topic that was deleted is given back, or most of it.
fn await_removal(dir: &Path, before_bytes: u64) -> anyhow::Result<()> {
    let written_bytes = machine::tree_bytes(dir).saturating_sub(before_bytes);
    let bound_bytes = before_bytes + written_bytes / 10 + KEPT_BYTES;
    let started = Instant::now();
    while machine::tree_bytes(dir) > bound_bytes {
        if started.elapsed() > REMOVAL_PATIENCE {
            eprintln!("peers: a deleted topic still takes space after {REMOVAL_PATIENCE:?}");
            return Ok(());
        }
        child::pause(Duration::from_millis(200))?;
    }
    Ok(())
}

fn show(note: &Note) {
    let figures: Vec<String> = note
        .figures
        .iter()
        .map(|(name, value)| format!("{name} {value:.3}"))
        .collect();
    let noise = match note.noisy {
        true => format!("NOISY, others took {:.2} cores", note.others_cores),
        false => format!("others {:.2} cores", note.others_cores),
    };
    println!(
        "{} {} round {}: {:.1} s, {} records, {} [{noise}]",
        note.scenario,
        note.variant,
        note.round,
        note.seconds,
        note.records,
        figures.join(", "),
    );
}

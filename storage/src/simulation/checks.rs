//! Holding the storage against the ledger: what it shows, what lies on its disk, what a second start finds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::RngExt;

use super::aftermath::{Recovered, ShownTopic};
use super::ledger::{Shown, Violation, ensure};
use super::{DATA_DIR, DECODE_BYTES, READ_BYTES, Simulation};
use crate::batch::BatchHeader;
use crate::disk::simulated::SECTOR_LEN;
use crate::error::ReadError;
use crate::record::decode_all;
use crate::{CONTROL_LOG, CONTROL_TOPIC, LogId};

impl Simulation {
    /// Everything that the running storage shows.
    pub(super) fn show(&mut self) -> Result<Recovered, Violation> {
        let engine = self.engine()?;
        let catalog = engine.catalog();
        let topics = catalog.topics().filter(|t| t.name != CONTROL_TOPIC);
        let topics: BTreeMap<_, _> = topics
            .map(|t| {
                let (name, logs, configs) = (t.name.clone(), t.partitions.clone(), t.configs.clone());
                (t.id, ShownTopic { name, logs, configs })
            })
            .collect();
        let epochs = catalog.epochs().map(|(name, epoch)| (name.to_owned(), epoch)).collect();
        let fenced: BTreeSet<LogId> = engine.health().fences.iter().map(|f| f.log).collect();
        let mut logs = BTreeMap::new();
        for log in topics.values().flat_map(|t| &t.logs) {
            if fenced.contains(log) {
                let refused = matches!(engine.read(*log, 0, 1), Err(ReadError::Fenced { .. }));
                ensure!(refused, "log {log} is fenced and can be read");
            } else {
                logs.insert(*log, self.show_log(*log)?);
            }
        }
        self.show_log(CONTROL_LOG)?;
        Ok(Recovered {
            topics,
            epochs,
            logs,
            fenced,
        })
    }

    fn show_log(&self, log: LogId) -> Result<Shown, Violation> {
        let engine = self.engine()?;
        let ends = engine.ends(log).ok_or_else(|| format!("log {log} has no ends"))?;
        let mut records = Vec::new();
        let mut headers = Vec::new();
        let mut from = ends.start;
        while from < ends.high_watermark {
            let fetched = engine.read(log, from, READ_BYTES);
            let fetched = fetched.map_err(|e| format!("log {log} cannot be read from {from}: {e}"))?;
            let decoded = decode_all(&fetched.data, from, DECODE_BYTES).map_err(|e| e.to_string())?;
            let more = decoded.records;
            let last = more
                .last()
                .ok_or_else(|| format!("log {log} shows nothing at {from}"))?;
            from = last.offset + 1;
            records.extend(more);
            let read = headers_of(&fetched.data)?.into_iter();
            headers.extend(read.filter(|header| header.last_offset() < from));
        }
        self.check_times(log, &headers)?;
        let (start, end, leader_epoch) = (ends.start, ends.high_watermark, ends.leader_epoch);
        Ok(Shown {
            start,
            end,
            leader_epoch,
            records,
        })
    }

    /// Nothing is pending: what is shown must be exactly what was promised.
    pub(super) fn check_running(&mut self, shown: &Recovered) -> Result<(), Violation> {
        if self.engine()?.health().poisoned.is_some() {
            return Ok(());
        }
        for (log, shown) in &shown.logs {
            self.ledger.check_log(*log, shown)?;
        }
        Ok(())
    }

    /// On the disk there is what the storage names, and nothing else.
    pub(super) fn check_files(&self, shown: &Recovered) -> Result<(), Violation> {
        let files = self.disk.paths();
        let logs = Path::new(DATA_DIR).join("logs");
        for path in files.keys() {
            let Ok(inner) = path.strip_prefix(&logs) else {
                continue;
            };
            let log = inner.iter().next().and_then(|d| d.to_str()?.parse::<LogId>().ok());
            let known =
                log.is_some_and(|l| l == CONTROL_LOG || shown.logs.contains_key(&l) || shown.fenced.contains(&l));
            ensure!(known, "{} belongs to no log", path.display());
        }
        let bytes_of = self.segments();
        let engine = self.engine()?;
        let state = engine.shared.state.read();
        for (id, log) in state.logs.iter().filter(|(_, log)| log.fence.is_none()) {
            let segments = log.segments.iter();
            let named: BTreeMap<PathBuf, u64> = segments.map(|s| (s.file.path.clone(), s.size_bytes)).collect();
            let inside = files.range(log.dir.clone()..);
            let inside = inside.take_while(|(path, _)| path.starts_with(&log.dir));
            for (path, size) in inside.filter(|(path, _)| path.extension().is_some_and(|e| e == "log")) {
                let expected = named.get(path);
                // Blocks end with zeros.
                let padded = expected.map(|bytes| bytes.next_multiple_of(SECTOR_LEN as u64));
                let behind = expected.and_then(|bytes| bytes_of.get(path)?.get(*bytes as usize..));
                let is_padding = padded >= Some(*size) && behind.is_some_and(|bytes| bytes.iter().all(|b| *b == 0));
                ensure!(
                    expected == Some(size) || is_padding,
                    "log {id}: {} has {size} bytes, {expected:?} are named",
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// A second start must find what the first one left, to the byte.
    pub(super) fn check_second_recovery(&mut self) -> Result<(), Violation> {
        let before = self.segments();
        self.engine = None;
        self.disk = if self.rng.random() {
            self.disk.cut_power(&mut self.rng)
        } else {
            self.disk.restart()
        };
        self.engine = Some(self.open().map_err(|e| format!("second start refused: {e}"))?);
        let after = self.segments();
        for (path, bytes) in &before {
            ensure!(
                after.get(path) == Some(bytes),
                "a second recovery changed {}",
                path.display()
            );
        }
        let shown = self.show()?;
        for path in after.keys().filter(|path| !before.contains_key(*path)) {
            // A removal may be undone by the power cut; in a fenced log nobody repeats it.
            let fenced = shown
                .fenced
                .iter()
                .any(|log| path.starts_with(format!("{DATA_DIR}/logs/{log}")));
            ensure!(fenced, "a second recovery added {}", path.display());
        }
        self.ledger.recovered(&shown)
    }

    pub(super) fn segments(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.disk.files(|path| path.extension().is_some_and(|e| e == "log"))
    }

    /// Look-ups by time and by epoch lead where walking all batches leads.
    fn check_times(&self, log: LogId, headers: &[BatchHeader]) -> Result<(), Violation> {
        let shared = &self.engine()?.shared;
        let state = shared.state.read();
        for header in headers {
            let epoch = state.logs.get(&log).and_then(|l| l.epoch_at(header.base_offset));
            let known = epoch.is_none_or(|e| e == header.leader_epoch);
            ensure!(known, "log {log} offset {}: leader epoch {epoch:?}", header.base_offset);
        }
        drop(state);
        let Some(latest) = headers.iter().map(|h| h.max_timestamp).max() else {
            return Ok(());
        };
        let some = headers[headers.len() / 2].max_timestamp;
        for timestamp_ms in [some + 1, latest + 1] {
            let expected = headers.iter().find(|h| h.max_timestamp >= timestamp_ms);
            let found = shared
                .batch_at_timestamp(log, timestamp_ms, 0)
                .map_err(|e| e.to_string())?;
            check_lookup(log, "at a timestamp", expected, found.as_deref())?;
        }
        let expected = headers.iter().find(|h| h.max_timestamp == latest);
        let found = shared.batch_of_max_timestamp(log, 0).map_err(|e| e.to_string())?;
        check_lookup(log, "with the largest timestamp", expected, found.as_deref())
    }
}

fn headers_of(mut data: &[u8]) -> Result<Vec<BatchHeader>, Violation> {
    let mut headers = Vec::new();
    while !data.is_empty() {
        let header = BatchHeader::parse(data).map_err(|e| e.to_string())?;
        data = &data[header.size_bytes()..];
        headers.push(header);
    }
    Ok(headers)
}

fn check_lookup(log: LogId, what: &str, expected: Option<&BatchHeader>, found: Option<&[u8]>) -> Result<(), Violation> {
    let found = found.map(BatchHeader::parse).transpose().map_err(|e| e.to_string())?;
    let (expected, found) = (expected.map(|h| h.base_offset), found.map(|h| h.base_offset));
    ensure!(
        expected == found,
        "log {log}: the batch {what} is {expected:?}, told is {found:?}"
    );
    Ok(())
}

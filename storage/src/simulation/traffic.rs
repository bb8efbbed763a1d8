//! The clients of a simulated run: what they send, drawn from the seed.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::rngs::SmallRng;
use uuid::Uuid;

use super::ledger::{Attempt, BatchId, Draft, Hope, Ledger, Violation};
use crate::LogId;
use crate::compression::Compression;
use crate::write_set::{Change, EpochCheck};

pub(crate) const JOB_STATE: &str = "__job_state";
const OFFSETS: &str = "__consumer_offsets";
/// Its frames have headers of exactly three sectors and batches of exactly one: torn writes of them
/// mix whole old and new batches.
pub(crate) const WIDE: &str = "wide";
const WIDE_PARTITIONS: u32 = 33;
const WIDE_VALUE_LEN: usize = 442;

/// An idempotent producer of one log.
struct Producer {
    id: i64,
    epoch: i16,
    log: LogId,
    next_sequence: i32,
    /// What it sent in its present epoch, in order.
    sent: Vec<BatchId>,
}

/// One instance of a job. Zombies are instances that do not know that they are.
struct JobInstance {
    name: &'static str,
    epoch: u64,
}

/// What a run does more often than others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    /// Frames of one shape, again and again in the same place.
    pub wide: bool,
    /// Creating, deleting, moving starts.
    pub churn: bool,
    /// Only these codecs cost much in debug builds.
    pub compress: bool,
}

pub(crate) struct Traffic {
    producers: Vec<Producer>,
    jobs: Vec<JobInstance>,
    names: u32,
    pub profile: Profile,
}

fn configs(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
}

impl Traffic {
    pub fn new(profile: Profile) -> Self {
        Self {
            producers: Vec::new(),
            jobs: Vec::new(),
            names: 0,
            profile,
        }
    }

    /// The topics that a run begins with.
    pub fn opening(&mut self, rng: &mut SmallRng) -> Vec<Attempt> {
        let mut names = vec![(JOB_STATE.to_owned(), 1), (OFFSETS.to_owned(), 1)];
        names.extend((0..2).map(|i| (format!("t{i}"), rng.random_range(1..4))));
        if self.profile.wide {
            names.push((WIDE.to_owned(), WIDE_PARTITIONS));
        }
        let kept = |name: String, partitions| {
            let segment = rng.random_range(300..6000_u32).to_string();
            let configs = configs(&[("retention.ms", "-1".into()), ("segment.bytes", segment)]);
            change(Change::CreateTopic {
                name,
                partitions,
                configs,
            })
        };
        let mut kept = kept;
        names
            .into_iter()
            .map(|(name, partitions)| kept(name, partitions))
            .collect()
    }

    /// The next write set.
    pub fn next(&mut self, rng: &mut SmallRng, ledger: &mut Ledger, now_ms: i64) -> Result<Option<Attempt>, Violation> {
        if self.profile.wide && rng.random_ratio(3, 4) {
            return self.wide(ledger, now_ms).map(Some);
        }
        match rng.random_range(0..20) {
            0..5 => self.plain(rng, ledger, now_ms),
            5..10 => self.idempotent(rng, ledger, now_ms),
            10..13 => self.repeat(rng, ledger),
            13..17 => self.job(rng, ledger, now_ms),
            17 => self.move_start(rng, ledger),
            _ if self.profile.churn || rng.random_ratio(1, 3) => self.catalog(rng, ledger),
            _ => self.plain(rng, ledger, now_ms),
        }
    }

    fn draft(&self, rng: &mut SmallRng, log: LogId, now_ms: i64) -> Draft {
        let count = if rng.random_ratio(1, 8) {
            rng.random_range(1..40)
        } else {
            rng.random_range(1..4)
        };
        let value_len = match rng.random_range(0..20) {
            0 if count < 4 => rng.random_range(12..1500),
            _ => rng.random_range(12..200),
        };
        let codec = Compression::ALL[rng.random_range(0..Compression::ALL.len())];
        let compressed = self.profile.compress && rng.random_ratio(1, 4);
        Draft {
            log,
            timestamps: (0..count).map(|_| now_ms - rng.random_range(0..5000)).collect(),
            value_len,
            producer: None,
            log_append_time: rng.random_ratio(1, 10),
            compression: if compressed { codec } else { Compression::None },
        }
    }

    fn any_log(&self, rng: &mut SmallRng, ledger: &Ledger) -> Option<LogId> {
        let user = ledger
            .logs
            .iter()
            .filter(|(_, l)| !l.topic.starts_with("__") && l.topic != WIDE);
        let logs: Vec<LogId> = user.map(|(log, _)| *log).collect();
        pick(rng, &logs)
    }

    fn log_of(ledger: &Ledger, topic: &str) -> Option<LogId> {
        ledger.logs.iter().find(|(_, l)| l.topic == topic).map(|(log, _)| *log)
    }

    fn plain(&mut self, rng: &mut SmallRng, ledger: &mut Ledger, now_ms: i64) -> Result<Option<Attempt>, Violation> {
        let mut batches = Vec::new();
        for _ in 0..rng.random_range(1..3) {
            let Some(log) = self.any_log(rng, ledger) else {
                return Ok(None);
            };
            batches.push(ledger.add_batch(self.draft(rng, log, now_ms))?);
        }
        Ok(Some(appends(batches)))
    }

    pub fn wide(&mut self, ledger: &mut Ledger, now_ms: i64) -> Result<Attempt, Violation> {
        let logs: Vec<LogId> = ledger
            .logs
            .iter()
            .filter(|(_, l)| l.topic == WIDE)
            .map(|(log, _)| *log)
            .collect();
        let mut batches = Vec::new();
        for log in logs {
            let draft = Draft {
                log,
                timestamps: vec![now_ms],
                value_len: WIDE_VALUE_LEN,
                producer: None,
                log_append_time: false,
                compression: Compression::None,
            };
            batches.push(ledger.add_batch(draft)?);
        }
        Ok(appends(batches))
    }

    fn idempotent(
        &mut self,
        rng: &mut SmallRng,
        ledger: &mut Ledger,
        now_ms: i64,
    ) -> Result<Option<Attempt>, Violation> {
        self.producers.retain(|p| ledger.logs.contains_key(&p.log));
        if self.producers.len() < 3 || rng.random_ratio(1, 20) {
            let Some(log) = self.any_log(rng, ledger) else {
                return Ok(None);
            };
            let id = self.producers.len() as i64 * 1000 + rng.random_range(0..1000);
            let next_sequence = if rng.random_ratio(1, 10) { i32::MAX - 5 } else { 0 };
            if self.producers.iter().all(|p| p.id != id || p.log != log) {
                self.producers.push(Producer {
                    id,
                    epoch: 0,
                    log,
                    next_sequence,
                    sent: Vec::new(),
                });
            }
        }
        let which = rng.random_range(0..self.producers.len());
        let (id, log) = (self.producers[which].id, self.producers[which].log);
        let mut draft = self.draft(rng, log, now_ms);
        let producer = &mut self.producers[which];
        if rng.random_ratio(1, 25) {
            // A gap that must be refused, unless the log does not know the producer yet.
            let known = producer.sent.iter().any(|b| ledger.batches[*b].hope != Hope::Dead);
            if known {
                let sequence = (producer.next_sequence & 0xff_ffff) + 7;
                draft.producer = Some((id, producer.epoch, sequence));
                let batch = ledger.add_batch(draft)?;
                ledger.batches[batch].hope = Hope::Dead;
                return Ok(Some(Attempt {
                    may_refuse: true,
                    ..appends(vec![batch])
                }));
            }
        }
        if rng.random_ratio(1, 40) {
            producer.epoch += 1;
            producer.next_sequence = 0;
            producer.sent.clear();
        }
        draft.producer = Some((id, producer.epoch, producer.next_sequence));
        let count = draft.timestamps.len() as i32;
        producer.next_sequence = producer.next_sequence.wrapping_add(count) & i32::MAX;
        let batch = ledger.add_batch(draft)?;
        producer.sent.push(batch);
        Ok(Some(appends(vec![batch])))
    }

    /// Sends one of a producer's last five batches again, answered or not.
    fn repeat(&mut self, rng: &mut SmallRng, ledger: &Ledger) -> Result<Option<Attempt>, Violation> {
        self.producers.retain(|p| ledger.logs.contains_key(&p.log));
        let Some(producer) = (!self.producers.is_empty()).then(|| rng.random_range(0..self.producers.len())) else {
            return Ok(None);
        };
        let sent = &self.producers[producer].sent;
        let recent = &sent[sent.len().saturating_sub(5)..];
        Ok(pick(rng, recent).map(|batch| appends(vec![batch])))
    }

    /// Every producer's remembered batches once more: each must be answered with its old offset.
    pub fn repeats(&self, ledger: &Ledger) -> Vec<Attempt> {
        let producers = self.producers.iter().filter(|p| ledger.logs.contains_key(&p.log));
        let recent = producers.flat_map(|p| &p.sent[p.sent.len().saturating_sub(5)..]);
        recent.map(|batch| appends(vec![*batch])).collect()
    }

    /// An epoch of a job: outputs, state and offsets, which stand or fall together.
    fn job(&mut self, rng: &mut SmallRng, ledger: &mut Ledger, now_ms: i64) -> Result<Option<Attempt>, Violation> {
        const NAMES: [&str; 2] = ["job/a", "job/b"];
        if self.jobs.len() < 2 || rng.random_ratio(1, 12) {
            let name = NAMES[rng.random_range(0..NAMES.len())];
            let open = ledger.attempts.iter().filter(|a| a.open).flat_map(|a| &a.changes);
            let claimed = open.filter_map(|c| match c {
                Change::SetEpoch { name: n, epoch } if n == name => Some(*epoch),
                _ => None,
            });
            let highest = claimed
                .max()
                .unwrap_or(0)
                .max(ledger.epochs.get(name).copied().unwrap_or(0));
            self.jobs.push(JobInstance {
                name,
                epoch: highest + 1,
            });
            return Ok(Some(change(Change::SetEpoch {
                name: name.into(),
                epoch: highest + 1,
            })));
        }
        let which = rng.random_range(0..self.jobs.len());
        let JobInstance { name, epoch } = self.jobs[which];
        let mut batches = Vec::new();
        for _ in 0..rng.random_range(0..3) {
            if let Some(log) = self.any_log(rng, ledger) {
                batches.push(ledger.add_batch(self.draft(rng, log, now_ms))?);
            }
        }
        let mut changes = Vec::new();
        for topic in [OFFSETS, JOB_STATE] {
            let Some(log) = Self::log_of(ledger, topic) else {
                return Ok(None);
            };
            batches.push(ledger.add_batch(self.draft(rng, log, now_ms))?);
            if topic == JOB_STATE && rng.random_ratio(1, 10) {
                changes.push(Change::MoveLogStartToAppend { log });
            }
        }
        let epochs = vec![EpochCheck {
            name: name.into(),
            epoch,
        }];
        Ok(Some(Attempt {
            batches,
            changes,
            epochs,
            may_refuse: true,
            open: true,
        }))
    }

    /// A write set with a part in the control log and parts elsewhere.
    pub fn snapshot(
        &mut self,
        rng: &mut SmallRng,
        ledger: &mut Ledger,
        now_ms: i64,
    ) -> Result<Option<Attempt>, Violation> {
        let logs: Vec<LogId> = ledger
            .logs
            .iter()
            .filter(|(_, l)| !l.fenced)
            .map(|(log, _)| *log)
            .collect();
        let Some(log) = pick(rng, &logs) else { return Ok(None) };
        let batch = ledger.add_batch(self.draft(rng, log, now_ms))?;
        let moved = change(Change::MoveLogStartToAppend { log });
        Ok(Some(Attempt {
            batches: vec![batch],
            ..moved
        }))
    }

    fn move_start(&mut self, rng: &mut SmallRng, ledger: &Ledger) -> Result<Option<Attempt>, Violation> {
        let logs: Vec<LogId> = ledger.logs.keys().copied().collect();
        let Some(log) = pick(rng, &logs) else { return Ok(None) };
        let model = &ledger.logs[&log];
        let offset = match rng.random_range(0..3) {
            0 => model.end,
            _ => rng.random_range(model.start..=model.end.max(model.start)),
        };
        Ok((offset <= model.end).then(|| change(Change::MoveLogStart { log, offset })))
    }

    fn catalog(&mut self, rng: &mut SmallRng, ledger: &Ledger) -> Result<Option<Attempt>, Violation> {
        let user = ledger
            .topics
            .iter()
            .filter(|(_, t)| !t.name.starts_with("__") && t.name != WIDE);
        let topics: Vec<Uuid> = user.map(|(id, _)| *id).collect();
        let chosen = pick(rng, &topics);
        let attempt = match (rng.random_range(0..8), chosen) {
            (0..2, Some(id)) if topics.len() > 1 => change(Change::DeleteTopic { id }),
            (2, Some(id)) => {
                let total = ledger.topics[&id].logs.len() as u32 + 1;
                if total > 6 {
                    return Ok(None);
                }
                change(Change::AddPartitions { id, total })
            }
            (3, Some(id)) => change(Change::SetConfigs {
                id,
                configs: some_configs(rng),
            }),
            (4, _) => change(Change::AllocateProducerIds { count: 10 }),
            _ if topics.len() > 5 => return Ok(None),
            _ => {
                // Deleted names come back: the same name, other logs.
                let name = format!("t{}", rng.random_range(0..4));
                let partitions = rng.random_range(1..4);
                change(Change::CreateTopic {
                    name,
                    partitions,
                    configs: some_configs(rng),
                })
            }
        };
        self.names += 1;
        // The catalog may be another one by the time this is judged.
        Ok(Some(Attempt {
            may_refuse: true,
            ..attempt
        }))
    }

    /// After a crash each producer goes on behind what it finds there, as clients that were told would.
    pub fn recovered(&mut self, ledger: &Ledger) {
        for producer in &mut self.producers {
            let lost = producer.sent.iter().position(|b| ledger.batches[*b].hope == Hope::Dead);
            if let Some(lost) = lost {
                let first = ledger.batches[producer.sent[lost]].producer;
                producer.next_sequence = first.map_or(0, |(_, _, sequence)| sequence);
                producer.sent.truncate(lost);
            }
        }
        self.producers
            .retain(|p| ledger.logs.get(&p.log).is_some_and(|l| !l.fenced));
        self.jobs
            .retain(|job| ledger.epochs.get(job.name).copied().unwrap_or(0) + 1 >= job.epoch);
    }

    /// A refused batch: what the producer sent after it will be refused too.
    pub fn forget(&mut self, batch: BatchId) {
        self.producers.retain(|p| !p.sent.contains(&batch));
    }
}

fn some_configs(rng: &mut SmallRng) -> BTreeMap<String, String> {
    let segment = ("segment.bytes", rng.random_range(200..4000_u32).to_string());
    match rng.random_range(0..3) {
        0 => configs(&[("retention.ms", rng.random_range(0..20_000_u32).to_string()), segment]),
        1 => {
            let bytes = rng.random_range(0..5000_u32).to_string();
            configs(&[("retention.ms", "-1".into()), ("retention.bytes", bytes), segment])
        }
        _ => configs(&[("retention.ms", "-1".into()), segment]),
    }
}

fn appends(batches: Vec<BatchId>) -> Attempt {
    Attempt {
        batches,
        changes: Vec::new(),
        epochs: Vec::new(),
        may_refuse: false,
        open: true,
    }
}

fn change(change: Change) -> Attempt {
    Attempt {
        batches: Vec::new(),
        changes: vec![change],
        epochs: Vec::new(),
        may_refuse: false,
        open: true,
    }
}

fn pick<T: Copy>(rng: &mut SmallRng, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| from[rng.random_range(0..from.len())])
}

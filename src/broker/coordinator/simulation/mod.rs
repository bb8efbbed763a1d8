//! Consumer groups under simulation: the real coordinator on the real storage, on a disk that may do all that a real one
//! may, with a virtual clock. One seed gives what members and tools ask, the interleaving of all steps, and the moments at
//! which process or machine stop. A [`ledger::Ledger`] knows what they were told.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod client;
mod ledger;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use riverlog_storage::clock::{Clock, ManualClock};
use riverlog_storage::disk::SimulatedDisk;
use riverlog_storage::engine::Engine;
use riverlog_storage::{Options, Step, Storage};
use tokio::runtime::Runtime;

use self::client::Client;
use self::ledger::{Key, Ledger, Sent};
use super::{CommitRequest, FetchedOffset, GroupCoordinator, GroupOptions, Wanted};
use crate::groups::{Committed, Error, Joined, Refused, Synced};

const START_MS: i64 = 1_710_000_000_000;
const TOPIC: &str = "read";
/// Two groups with members, and one that only tools commit to.
const GROUPS: [&str; 3] = ["first", "second", "tools"];
const CLIENTS_OF: [usize; 2] = [3, 2];
const PARTITIONS: i32 = 2;
const OFFSETS_PARTITIONS: u32 = 2;
const SESSION_MS: u64 = 6_000;

/// What a run was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Report {
    pub acknowledged: u64,
    pub refused: u64,
    pub assignments: u64,
    pub crashes: u64,
    pub power_cuts: u64,
    pub deletions: u64,
    pub history: u32,
}

/// Runs one seed to its end.
///
/// # Errors
/// What a client was told that does not fit to what others, or itself, were told before.
pub fn run(seed: u64) -> Result<Report, String> {
    let run = Simulation::new(seed).and_then(Simulation::run);
    run.map_err(|what| format!("seed {seed}: {what}"))
}

/// What a client is told.
enum Told {
    Joined(usize, Result<Joined, Refused>),
    Synced(usize, i32, Result<Synced, Error>),
    Committed(Sent, Result<(), Error>),
    Fetched(usize, Vec<Option<i64>>, Result<Vec<FetchedOffset>, Error>),
    Deleted(usize, i64, Result<(), Error>),
}

/// One incarnation of the coordinator. The runtime goes first, and with it everything that is under way.
struct Running {
    runtime: Runtime,
    groups: Arc<GroupCoordinator>,
    storage: Storage,
}

struct Simulation {
    rng: SmallRng,
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    options: Options,
    running: Option<Running>,
    clients: Vec<Client>,
    told: Arc<Mutex<Vec<Told>>>,
    ledger: Ledger,
    next_member: u64,
    report: Report,
    trace: bool,
}

impl Simulation {
    fn new(seed: u64) -> Result<Self, String> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let options = Options {
            journal_file_bytes: [256 << 10, 512 << 10][rng.random_range(0..2)],
            group_bytes: rng.random_range(1_000..40_000),
            seed: Some(seed),
            ..Options::new("/data")
        };
        let clients = CLIENTS_OF.iter().enumerate();
        let clients = clients.flat_map(|(group, count)| (0..*count).map(move |_| Client::new(group)));
        let mut simulation = Self {
            disk: SimulatedDisk::new(rng.random()),
            clock: Arc::new(ManualClock::new(START_MS)),
            options,
            running: None,
            clients: clients.collect(),
            told: Arc::default(),
            ledger: Ledger::default(),
            next_member: 0,
            report: Report::default(),
            trace: std::env::var_os("RIVERLOG_SEED").is_some(),
            rng,
        };
        simulation.start()?;
        Ok(simulation)
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("[{:>6}] {}", self.disk.operations(), what());
        }
    }

    fn running(&self) -> Result<&Running, String> {
        self.running.as_ref().ok_or_else(|| "no broker runs".to_owned())
    }

    fn start(&mut self) -> Result<(), String> {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let engine = Engine::open(Arc::new(self.disk.clone()), clock, self.options.clone());
        let storage = Storage::by_hand(engine.map_err(|error| format!("start refused: {error}"))?);
        let mut options = GroupOptions::default();
        options.group.initial_rebalance_delay_ms = 0;
        options.group.min_session_timeout_ms = SESSION_MS;
        // The upkeep comes when the simulation says so.
        options.upkeep_interval_ms = u64::from(u32::MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let groups = runtime.block_on(GroupCoordinator::open(storage.clone(), options, OFFSETS_PARTITIONS));
        let groups = Arc::new(groups.map_err(|error| format!("groups do not load: {error}"))?);
        if let [trouble, ..] = &groups.troubles()[..] {
            return Err(format!("nothing was damaged: {trouble}"));
        }
        self.running = Some(Running {
            runtime,
            groups,
            storage,
        });
        Ok(())
    }

    fn run(mut self) -> Result<Report, String> {
        // The first commit creates the topic; from then on requests take their places in the order in which they come.
        self.commit_as_tool()?;
        self.settle()?;
        for _ in 0..self.rng.random_range(100..400) {
            self.act()?;
            self.hear()?;
            if self.disk.has_crashed() || self.running()?.storage.health().poisoned.is_some() {
                self.crash()?;
            }
        }
        self.crash()?;
        self.report.acknowledged = self.ledger.acknowledged;
        self.report.refused = self.ledger.refused;
        self.report.history = self.disk.history();
        Ok(self.report)
    }

    fn act(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..100) {
            0..36 => {
                for _ in 0..self.rng.random_range(1..4) {
                    self.act_as_client()?;
                    self.hear()?;
                }
                Ok(())
            }
            36..60 => {
                for _ in 0..self.rng.random_range(1..5) {
                    self.running()?.storage.engine().commit_step();
                }
                Ok(())
            }
            60..66 => {
                let _ = self.running()?.storage.engine().checkpoint_step();
                Ok(())
            }
            66..74 => self.pass_time(),
            74..82 => {
                let group = self.rng.random_range(0..GROUPS.len());
                self.fetch(group)
            }
            82..90 => self.commit_as_tool(),
            90 => self.delete(),
            91 => self.keep_up(),
            92..94 => {
                let operations = self.rng.random_range(0..40);
                self.note(|| format!("the machine will stop after {operations} operations"));
                self.disk.crash_after(operations);
                Ok(())
            }
            94 => self.crash(),
            _ => {
                self.running()?.storage.engine().close_idle_step();
                Ok(())
            }
        }
    }

    /// Lets everything that can go on do so.
    fn breathe(&self) -> Result<(), String> {
        self.running()?.runtime.block_on(async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
        Ok(())
    }

    fn pass_time(&mut self) -> Result<(), String> {
        // Mostly so little that everybody is heard of in time.
        let most_ms = if self.rng.random_ratio(1, 6) { 9_000 } else { 1_500 };
        self.clock.advance_ms(self.rng.random_range(0..most_ms));
        if self.rng.random_ratio(1, 8) {
            let hours_ms = 12 * 60 * 60 * 1_000;
            let wall_ms = START_MS + self.rng.random_range(-hours_ms..hours_ms);
            self.clock.set_wall_ms(wall_ms);
        }
        self.running()?.groups.shared.tick_due();
        Ok(())
    }

    fn keep_up(&mut self) -> Result<(), String> {
        self.note(|| "upkeep".into());
        self.ledger.upkeep();
        let running = self.running()?;
        let groups = Arc::clone(&running.groups);
        running.runtime.spawn(async move { groups.shared.expire().await });
        Ok(())
    }

    /// Somebody asks, and is answered when the answer comes.
    fn ask<F>(&self, question: impl FnOnce(Arc<GroupCoordinator>) -> F) -> Result<(), String>
    where
        F: Future<Output = Told> + Send + 'static,
    {
        let running = self.running()?;
        let (question, told) = (question(Arc::clone(&running.groups)), Arc::clone(&self.told));
        running.runtime.spawn(async move {
            let answer = question.await;
            told.lock().push(answer);
        });
        // So that questions are put in this order.
        self.breathe()
    }

    fn commit_as_tool(&mut self) -> Result<(), String> {
        let group = if self.rng.random() {
            2
        } else {
            self.rng.random_range(0..GROUPS.len())
        };
        self.commit(group, None)
    }

    /// Commits an offset, as a member or as a tool.
    fn commit(&mut self, group: usize, member: Option<(Arc<str>, i32)>) -> Result<(), String> {
        let key = (group, self.rng.random_range(0..PARTITIONS));
        let sent = self
            .ledger
            .send(key, member.as_ref().map(|(_, generation)| *generation));
        self.note(|| format!("commit {} to {key:?} by {member:?}, stale: {}", sent.value, sent.stale));
        let (member_id, generation) = member.unwrap_or_else(|| ("".into(), -1));
        let committed = Committed {
            offset: sent.value,
            leader_epoch: -1,
            metadata: "".into(),
            commit_time_ms: self.clock.now_ms(),
            expire_time_ms: None,
            topic_id: uuid::Uuid::nil(),
        };
        let request = CommitRequest {
            member_id,
            instance_id: None,
            generation,
            offsets: vec![(TOPIC.into(), key.1, committed)],
        };
        self.ask(|groups| async move { Told::Committed(sent, groups.commit(GROUPS[group], request).await) })
    }

    fn fetch(&mut self, group: usize) -> Result<(), String> {
        let floors = (0..PARTITIONS).map(|partition| self.ledger.floor((group, partition)));
        let floors = floors.collect();
        let wanted = Wanted::Some(vec![(TOPIC.into(), (0..PARTITIONS).collect())]);
        self.ask(|groups| async move { Told::Fetched(group, floors, groups.fetch(GROUPS[group], wanted).await) })
    }

    fn delete(&mut self) -> Result<(), String> {
        let group = self.rng.random_range(0..GROUPS.len());
        let below = self.ledger.delete(group);
        self.note(|| format!("delete {group} below {below}"));
        self.ask(|groups| async move { Told::Deleted(group, below, groups.delete(GROUPS[group]).await) })
    }

    /// Takes note of answers. What a stopped machine would still say, nobody hears.
    fn hear(&mut self) -> Result<(), String> {
        self.breathe()?;
        let told = std::mem::take(&mut *self.told.lock());
        if self.disk.has_crashed() {
            return Ok(());
        }
        let poisoned = self.running()?.storage.health().poisoned.is_some();
        for told in told {
            match told {
                Told::Joined(client, outcome) => self.joined(client, outcome)?,
                Told::Synced(client, generation, outcome) => self.synced(client, generation, outcome)?,
                Told::Committed(sent, outcome) => {
                    self.note(|| format!("commit {}: {outcome:?}", sent.value));
                    self.ledger.committed(sent, &outcome)?;
                }
                Told::Fetched(group, floors, Ok(found)) => {
                    let key = |partition: i32| -> Key { (group, partition) };
                    for ((_, partition, committed), floor) in found.into_iter().zip(floors) {
                        let value = committed.map(|committed| committed.offset);
                        self.note(|| format!("read {:?}: {value:?}, at least {floor:?}", key(partition)));
                        self.ledger.read(key(partition), floor, value)?;
                    }
                }
                // Only a commit in doubt excuses it.
                Told::Fetched(_, _, Err(Error::NotAvailable(_))) if poisoned => {}
                Told::Fetched(group, _, Err(error)) => return Err(format!("group {group} is not read: {error}")),
                Told::Deleted(group, below, outcome) => {
                    self.note(|| format!("deletion of {group}: {outcome:?}"));
                    self.report.deletions += u64::from(outcome.is_ok());
                    self.ledger.deleted(group, below, &outcome);
                }
            }
        }
        Ok(())
    }

    /// Lets everything that was asked come to its end, but for what waits for other members.
    fn settle(&mut self) -> Result<(), String> {
        loop {
            self.hear()?;
            if self.disk.has_crashed() || self.running()?.storage.engine().commit_step() != Step::Worked {
                return self.hear();
            }
        }
    }

    /// The process is gone, often the page cache too. What was told must still be so.
    fn crash(&mut self) -> Result<(), String> {
        let power = self.rng.random_ratio(2, 3);
        self.note(|| if power { "power cut".into() } else { "restart".into() });
        self.report.crashes += 1;
        self.report.power_cuts += u64::from(power);
        self.running = None;
        self.told.lock().clear();
        self.disk = match power {
            true => self.disk.cut_power(&mut self.rng),
            false => self.disk.restart(),
        };
        self.start()?;
        self.members_go_on()?;
        for group in 0..GROUPS.len() {
            self.fetch(group)?;
        }
        self.settle()
    }
}

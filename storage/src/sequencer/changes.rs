//! Changes of the catalog and of log starts: checked against assigned state, turned into control records.

use std::collections::{BTreeMap, HashMap};

use rand::RngExt;
use uuid::Uuid;

use super::Sequencer;
use super::assigned::AssignedLog;
use crate::batch::{BatchBuilder, CheckedBatches};
use crate::catalog::{ControlRecord, Topic};
use crate::config::LogConfig;
use crate::error::WriteError;
use crate::producers::ProducerTable;
use crate::record::Record;
use crate::write_set::{Change, Receipt, WriteSet};
use crate::{CONTROL_LOG, LogId, MAX_PARTITIONS};

/// Changes are checked like appends, and become control records with ids.
impl Sequencer {
    fn topic(&self, id: Uuid) -> Result<&Topic, WriteError> {
        self.catalog
            .topic_by_id(id)
            .map(|topic| &**topic)
            .ok_or(WriteError::UnknownTopic)
    }

    pub(super) fn check_changes(&self, ws: &WriteSet) -> Result<(), WriteError> {
        for change in &ws.changes {
            match change {
                Change::CreateTopic {
                    name,
                    partitions,
                    configs,
                } => {
                    if self.catalog.topic(name).is_some() {
                        return Err(WriteError::TopicExists(name.clone()));
                    }
                    check_partitions(*partitions, 0)?;
                    LogConfig::parse(configs).map_err(WriteError::InvalidConfig)?;
                }
                Change::DeleteTopic { id } => {
                    if self.topic(*id)?.partitions.contains(&CONTROL_LOG) {
                        return Err(WriteError::UnknownTopic);
                    }
                }
                Change::AddPartitions { id, total } => {
                    check_partitions(*total, self.topic(*id)?.partitions.len() as u32)?;
                }
                Change::SetConfigs { id, configs } => {
                    self.topic(*id)?;
                    LogConfig::parse(configs).map_err(WriteError::InvalidConfig)?;
                }
                Change::MoveLogStart { log, offset } => {
                    let assigned = self.log(*log)?;
                    if *offset < 0 || *offset > assigned.end {
                        let (start, end) = (assigned.start, assigned.end);
                        return Err(WriteError::OffsetOutOfRange {
                            log: *log,
                            offset: *offset,
                            start,
                            end,
                        });
                    }
                }
                Change::MoveLogStartToAppend { log } => {
                    self.log(*log)?;
                    if !ws.appends.iter().any(|append| append.log == *log) {
                        return Err(WriteError::UnknownLog(*log));
                    }
                }
                Change::SetEpoch { name, epoch } => {
                    let current = self.catalog.epoch(name).unwrap_or(0);
                    if *epoch <= current {
                        return Err(WriteError::StaleEpoch {
                            name: name.clone(),
                            current,
                            got: *epoch,
                        });
                    }
                }
                Change::RemoveEpoch { .. } | Change::AllocateProducerIds { .. } => {}
            }
        }
        Ok(())
    }

    /// Turns changes into control records with ids.
    pub(super) fn resolve(
        &mut self,
        changes: &[Change],
        firsts: &HashMap<LogId, i64>,
        receipt: &mut Receipt,
    ) -> Vec<ControlRecord> {
        let mut next_log_id = self.catalog.next_log_id;
        let mut next_producer_id = self.catalog.next_producer_id;
        let mut leader_epoch = self.catalog.leader_epoch;
        let mut take_logs = |count: u32| {
            let first = next_log_id;
            next_log_id += u64::from(count);
            leader_epoch += 1;
            ((first..next_log_id).collect::<Vec<LogId>>(), leader_epoch)
        };
        let mut controls = Vec::with_capacity(changes.len());
        for change in changes {
            controls.push(match change {
                Change::CreateTopic {
                    name,
                    partitions,
                    configs,
                } => {
                    let (logs, leader_epoch) = take_logs(*partitions);
                    let id = uuid::Builder::from_random_bytes(self.rng.random()).into_uuid();
                    let topic = Topic {
                        name: name.clone(),
                        id,
                        partitions: logs,
                        configs: configs.clone(),
                    };
                    receipt.created = Some(topic.clone().into());
                    ControlRecord::TopicCreated { topic, leader_epoch }
                }
                Change::DeleteTopic { id } => ControlRecord::TopicDeleted { id: *id },
                Change::AddPartitions { id, total } => {
                    let grown = self.catalog.topic_by_id(*id).map(|topic| Topic::clone(topic));
                    let have = grown.as_ref().map_or(0, |topic| topic.partitions.len() as u32);
                    let (logs, leader_epoch) = take_logs(total.saturating_sub(have));
                    receipt.created = grown.map(|mut topic| {
                        topic.partitions.extend_from_slice(&logs);
                        topic.into()
                    });
                    ControlRecord::PartitionsAdded {
                        id: *id,
                        logs,
                        leader_epoch,
                    }
                }
                Change::SetConfigs { id, configs } => ControlRecord::ConfigsSet {
                    id: *id,
                    configs: configs.clone(),
                },
                Change::MoveLogStart { log, offset } => ControlRecord::LogStartMoved {
                    log: *log,
                    offset: *offset,
                },
                Change::MoveLogStartToAppend { log } => {
                    let offset = firsts.get(log).copied().unwrap_or(0);
                    ControlRecord::LogStartMoved { log: *log, offset }
                }
                Change::SetEpoch { name, epoch } => ControlRecord::EpochSet {
                    name: name.clone(),
                    epoch: *epoch,
                },
                Change::RemoveEpoch { name } => ControlRecord::EpochRemoved { name: name.clone() },
                Change::AllocateProducerIds { count } => {
                    receipt.first_producer_id = Some(next_producer_id);
                    next_producer_id += i64::from(*count);
                    ControlRecord::ProducerIdsAllocated { next: next_producer_id }
                }
            });
        }
        controls
    }

    pub(super) fn apply_control(&mut self, control: &ControlRecord) {
        match control {
            ControlRecord::TopicCreated { topic, leader_epoch } => {
                self.add_logs(&topic.partitions, &topic.configs, *leader_epoch);
            }
            ControlRecord::PartitionsAdded { id, logs, leader_epoch } => {
                if let Some(topic) = self.catalog.topic_by_id(*id).cloned() {
                    self.add_logs(logs, &topic.configs, *leader_epoch);
                }
            }
            ControlRecord::TopicDeleted { id } => {
                for log in self.catalog.topic_by_id(*id).iter().flat_map(|topic| &topic.partitions) {
                    self.logs.remove(log);
                }
            }
            ControlRecord::ConfigsSet { id, configs } => {
                let config = LogConfig::parse(configs).unwrap_or_default();
                for log in self.catalog.topic_by_id(*id).iter().flat_map(|topic| &topic.partitions) {
                    if let Some(assigned) = self.logs.get_mut(log) {
                        assigned.config = config.clone();
                    }
                }
            }
            ControlRecord::LogStartMoved { log, offset } => {
                if let Some(assigned) = self.logs.get_mut(log) {
                    assigned.start = assigned.start.max(*offset);
                    // Nothing of the active segment is left: the next batch begins a new one, behind
                    // which the old one can go.
                    if assigned.start == assigned.end && assigned.segment_bytes > 0 {
                        assigned.roll();
                    }
                }
            }
            ControlRecord::EpochSet { .. }
            | ControlRecord::EpochRemoved { .. }
            | ControlRecord::ProducerIdsAllocated { .. } => {}
        }
        self.catalog.apply(control);
    }

    fn add_logs(&mut self, logs: &[LogId], configs: &BTreeMap<String, String>, leader_epoch: i32) {
        for log in logs {
            let assigned = AssignedLog {
                config: LogConfig::parse(configs).unwrap_or_default(),
                start: 0,
                end: 0,
                segment_base: 0,
                segment_bytes: 0,
                segment_first_ms: None,
                leader_epoch,
                producers: ProducerTable::default(),
                fence: None,
            };
            self.logs.insert(*log, assigned);
        }
    }
}

fn check_partitions(asked: u32, current: u32) -> Result<(), WriteError> {
    if asked > current && asked <= MAX_PARTITIONS {
        return Ok(());
    }
    Err(WriteError::InvalidPartitions {
        asked,
        current,
        max: MAX_PARTITIONS,
    })
}

/// Control records as batches of the control log.
pub(super) fn encode_controls(controls: &[ControlRecord], now_ms: i64) -> Result<Vec<CheckedBatches>, WriteError> {
    let failed = |error: &dyn std::fmt::Display| WriteError::InvalidConfig(error.to_string());
    controls
        .chunks(CONTROL_BATCH_RECORDS)
        .map(|chunk| {
            let mut builder = BatchBuilder::new();
            for control in chunk {
                let value = control.encode().map_err(|error| failed(&error))?;
                builder.push(Record {
                    key: None,
                    value: Some(value.into()),
                    headers: Vec::new(),
                    timestamp_ms: now_ms,
                });
            }
            builder.build().map_err(|error| failed(&error))
        })
        .collect()
}

const CONTROL_BATCH_RECORDS: usize = 1000;

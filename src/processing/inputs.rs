//! A job's topics: finding its input partitions and where to read on in each, and preparing its outputs.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    epoch::Frame,
    error::JobError,
    job::{Job, OnLostInput, Source, StartAt},
    log::{Ends, Log, TopicInfo},
    planted::{Bug, planted},
    processor::Processor,
    task::Input,
    watermark::{NO_WATERMARK_MS, PartitionWatermark},
};

/// Refuses a job whose input topics are not there.
pub fn require<L: Log, P: Processor>(log: &L, job: &Job<P>) -> Result<(), JobError> {
    match job.sources.iter().find(|source| log.topic(&source.topic).is_none()) {
        None => Ok(()),
        Some(source) => Err(JobError::MissingTopic {
            job: job.name.clone(),
            topic: source.topic.clone(),
        }),
    }
}

/// Finds or creates the topics that the job writes, in the order of [`Job::output_topics`].
pub fn ensure_outputs<L: Log, P: Processor>(log: &L, job: &Job<P>) -> Result<Vec<TopicInfo>, JobError> {
    let defaults = BTreeMap::new();
    let topics = job.output_topics();
    let ensured = topics.iter().enumerate().map(|(index, topic)| {
        let (partitions, configs) = match index < job.sinks.len() {
            true => (job.options.output_partitions, &job.options.output_configs),
            false => (Some(1), &defaults),
        };
        log.ensure_topic(topic, partitions, configs)
            .map_err(JobError::log(&job.name))
    });
    ensured.collect()
}

/// Refuses a job whose operators are not those that wrote its state.
pub fn check_operators<P: Processor>(job: &Job<P>, frame: &Frame) -> Result<(), JobError> {
    let operators = job.operators();
    let by_name = |operators: &[super::processor::Operator], name: &str| {
        let found = operators.iter().find(|operator| operator.name == name);
        found.map_or_else(
            || "not there".to_owned(),
            |operator| format!("'{}'", operator.fingerprint),
        )
    };
    for operator in frame.operators.iter().chain(&operators) {
        let before = by_name(&frame.operators, &operator.name);
        let now = by_name(&operators, &operator.name);
        if before != now {
            return Err(JobError::Changed {
                job: job.name.clone(),
                operator: operator.name.clone(),
                before,
                now,
            });
        }
    }
    Ok(())
}

fn lost<P: Processor>(job: &Job<P>, reason: String) -> JobError {
    JobError::LostInput {
        job: job.name.clone(),
        reason,
    }
}

/// Brings the list of input partitions up to date: those of a first look, those that were added since, and, if the job
/// may pass over what was lost, those of a recreated topic. Says whether a partition was replaced or went away: then the
/// numbers of the inputs may be others than before.
pub fn refresh<L: Log, P: Processor>(
    log: &L,
    job: &Job<P>,
    committed: Option<&Frame>,
    inputs: &mut Vec<Input>,
) -> Result<bool, JobError> {
    let mut replaced = false;
    for (index, source) in job.sources.iter().enumerate() {
        let topic = log.topic(&source.topic);
        let topic = topic.ok_or_else(|| lost(job, format!("its input topic '{}' was deleted", source.topic)))?;
        let known = inputs
            .iter()
            .filter(|input| input.source == index && input.topic_id == topic.id)
            .count();
        if known == topic.partitions.len() {
            continue;
        }
        for (partition, id) in topic.partitions.iter().enumerate() {
            let partition = u32::try_from(partition).unwrap_or(u32::MAX);
            let known = inputs
                .iter_mut()
                .find(|input| input.source == index && input.partition == partition);
            match known {
                Some(input) if input.topic_id == topic.id => {}
                Some(input) => {
                    recreated(job, &topic)?;
                    let start = ends_of(log, *id).map_or(0, |ends| ends.start);
                    (input.topic_id, input.id, input.position) = (topic.id, *id, start);
                    replaced = true;
                }
                None => {
                    let mut input = Input {
                        source: index,
                        topic: topic.name.clone(),
                        topic_id: topic.id,
                        partition,
                        id: *id,
                        position: 0,
                        watermark: PartitionWatermark::new(NO_WATERMARK_MS, disorder_ms(source)),
                    };
                    place(log, job, committed, source, &mut input)?;
                    inputs.push(input);
                }
            }
        }
        // The topic may have been created again with fewer partitions. Then the first one was replaced above, which the job
        // has allowed, and of the others there is nothing left to read.
        let before = inputs.len();
        inputs.retain(|input| input.source != index || input.topic_id == topic.id);
        replaced |= inputs.len() != before;
    }
    Ok(replaced)
}

fn disorder_ms<E>(source: &Source<E>) -> i64 {
    i64::try_from(source.max_disorder.as_millis()).unwrap_or(i64::MAX)
}

fn ends_of<L: Log>(log: &L, id: u64) -> Option<Ends> {
    log.ends(&[id]).first().copied().flatten()
}

/// Where a partition that is new to this start is read from.
fn place<L: Log, P: Processor>(
    log: &L,
    job: &Job<P>,
    committed: Option<&Frame>,
    source: &Source<P::Event>,
    input: &mut Input,
) -> Result<(), JobError> {
    let ends = ends_of(log, input.id).unwrap_or(Ends { start: 0, end: 0 });
    let known = committed.and_then(|frame| {
        frame
            .inputs
            .iter()
            .find(|known| known.topic == input.topic && known.partition == input.partition)
    });
    input.position = match known {
        Some(known) if Uuid::from_bytes(known.topic_id) == input.topic_id => {
            if !planted(Bug::ForgetWatermarks) {
                input.watermark = PartitionWatermark::new(known.watermark_ms, disorder_ms(source));
            }
            known.to
        }
        Some(known) => {
            let topic = TopicInfo {
                name: input.topic.clone(),
                id: input.topic_id,
                partitions: Vec::new(),
                max_batch_bytes: 0,
            };
            recreated(job, &topic)?;
            input.watermark = PartitionWatermark::new(known.watermark_ms, disorder_ms(source));
            ends.start
        }
        // A partition that appeared since the job first ran holds nothing that the job was told to skip.
        None if committed.is_some() => ends.start,
        None => match source.start_at {
            StartAt::Earliest => ends.start,
            StartAt::Latest => ends.end,
        },
    };
    Ok(())
}

fn recreated<P: Processor>(job: &Job<P>, topic: &TopicInfo) -> Result<(), JobError> {
    let reason = format!("its input topic '{}' was deleted and created again", topic.name);
    match job.options.on_lost_input {
        OnLostInput::Stop => Err(lost(job, reason)),
        OnLostInput::Earliest => {
            tracing::warn!(job = job.name, "{reason}; going on from its earliest record");
            Ok(())
        }
    }
}

/// Whether the next record to read is still there. If it is not, and the job may, the position moves to the earliest.
pub fn check_position<P: Processor>(job: &Job<P>, input: &mut Input, ends: Option<Ends>) -> Result<Ends, JobError> {
    let (topic, partition, position) = (&input.topic, input.partition, input.position);
    let ends = ends.ok_or_else(|| lost(job, format!("its input topic '{topic}' was deleted")))?;
    if (ends.start..=ends.end).contains(&position) {
        return Ok(ends);
    }
    let (start, end) = (ends.start, ends.end);
    let reason =
        format!("offset {position} of input {topic}/{partition} is gone: the partition holds {start} to {end}");
    if job.options.on_lost_input == OnLostInput::Stop {
        return Err(lost(job, reason));
    }
    tracing::warn!(job = job.name, "{reason}; going on from its earliest record");
    input.position = start;
    Ok(ends)
}

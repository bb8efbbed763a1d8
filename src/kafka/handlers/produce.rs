//! Produce: checked batches into partitions, answered when they are durable.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use riverlog_storage::batch::{BatchError, CheckLimits, CheckedBatches, check_produced};
use riverlog_storage::compression::Compression;
use riverlog_storage::{Appended, Topic};

use crate::broker::{Broker, BrokerError, PendingAppend, topic_config, topics};
use crate::kafka::{Context, HandlerError};

/// From this version on topics are named by id.
const TOPIC_IDS: i16 = 13;
/// From this version on a client knows zstd.
const ZSTD: i16 = 7;

/// Submits every partition's batch before it first waits, so that the caller may begin the next request meanwhile, and
/// answers when all are durable.
pub async fn handle(ctx: &Context, version: i16, request: ProduceRequest) -> Result<ProduceResponse, HandlerError> {
    let valid_acks = (-1..=1).contains(&request.acks);
    let transactional = request.transactional_id.is_some();
    let partitions: usize = request.topic_data.iter().map(|data| data.partition_data.len()).sum();
    let client_waits = ctx.client_waits && partitions == 1;
    let mut submitted = Vec::with_capacity(request.topic_data.len());
    for data in &request.topic_data {
        let topic = find_topic(&ctx.session.broker, version, data);
        let partitions: Vec<(i32, Result<Submitted, Refusal>)> = data
            .partition_data
            .iter()
            .map(|partition| {
                let outcome = if !valid_acks {
                    Err(Refusal::code(ResponseError::InvalidRequiredAcks))
                } else if transactional {
                    Err(Refusal::transactional())
                } else {
                    submit(&ctx.session.broker, version, topic.as_deref(), partition, client_waits)
                };
                (partition.index, outcome)
            })
            .collect();
        submitted.push((data, partitions));
    }
    let mut responses = Vec::with_capacity(submitted.len());
    let mut failure = None;
    for (data, partitions) in submitted {
        let mut answers = Vec::with_capacity(partitions.len());
        for (index, outcome) in partitions {
            let outcome = match outcome {
                Ok(submitted) => submitted.wait(ctx).await,
                Err(refusal) => Err(refusal),
            };
            answers.push(match outcome {
                Ok(appended) => accepted(index, &appended),
                Err(refusal) => {
                    let answer = refusal.answer(index);
                    failure = failure.or(Some(refusal));
                    answer
                }
            });
        }
        responses.push(
            TopicProduceResponse::default()
                .with_name(data.name.clone())
                .with_topic_id(data.topic_id)
                .with_partition_responses(answers),
        );
    }
    match (request.acks, failure) {
        (0, None) => Err(HandlerError::NoResponse),
        // Without a response, closing is the only way to tell the client that records were lost.
        (0, Some(refusal)) => Err(HandlerError::Close(format!("acks=0 and {}", refusal.message))),
        _ => Ok(ProduceResponse::default().with_responses(responses)),
    }
}

fn find_topic(broker: &Broker, version: i16, data: &TopicProduceData) -> Result<Arc<Topic>, Refusal> {
    let found = if version >= TOPIC_IDS {
        broker.topic_by_id(data.topic_id)
    } else {
        broker.topic(&data.name)
    };
    let topic = found.map_err(|error| Refusal::from(&error))?;
    if topics::is_internal(&topic.name) {
        return Err(Refusal::from(&BrokerError::InternalTopic(topic.name.clone())));
    }
    Ok(topic)
}

/// An append on its way, with what the metrics need of it.
struct Submitted {
    pending: PendingAppend,
    records: u64,
    bytes: u64,
}

impl Submitted {
    async fn wait(self, ctx: &Context) -> Result<Appended, Refusal> {
        let appended = self.pending.wait().await.map_err(|error| Refusal::from(&error))?;
        if !appended.duplicate {
            let traffic = &ctx.session.gate.metrics().kafka;
            traffic.records_in.inc_by(self.records);
            traffic.bytes_in.inc_by(self.bytes);
        }
        Ok(appended)
    }
}

fn submit(
    broker: &Broker,
    version: i16,
    topic: Result<&Topic, &Refusal>,
    data: &PartitionProduceData,
    client_waits: bool,
) -> Result<Submitted, Refusal> {
    let topic = topic.map_err(Refusal::clone)?;
    let partition = u32::try_from(data.index)
        .ok()
        .filter(|index| (*index as usize) < topic.partitions.len());
    let partition = partition.ok_or_else(|| {
        Refusal::from(&BrokerError::UnknownPartition {
            topic: topic.name.clone(),
            partition: data.index,
        })
    })?;
    let batches = check(broker, version, topic, data)?;
    let (records, bytes) = (batches.record_count(), batches.size_bytes() as u64);
    let pending = broker
        .start_append(topic, partition, batches, client_waits)
        .map_err(|error| Refusal::from(&error))?;
    Ok(Submitted {
        pending,
        records,
        bytes,
    })
}

fn check(broker: &Broker, version: i16, topic: &Topic, data: &PartitionProduceData) -> Result<CheckedBatches, Refusal> {
    let limits = CheckLimits {
        max_batch_bytes: topic_config::max_message_bytes(topic, broker.options()),
        max_decompressed_bytes: broker.options().max_decompressed_bytes,
        single_batch: true,
        require_keys: false,
    };
    let records = data.records.clone().unwrap_or_default();
    let batches = check_produced(records, &limits).map_err(|error| Refusal::batch(&error))?;
    for header in batches.headers() {
        if header.is_transactional() {
            return Err(Refusal::transactional());
        }
        if header.compression() == Compression::Zstd && version < ZSTD {
            return Err(Refusal {
                message: format!("Produce version {version} does not know zstd, version {ZSTD} does"),
                ..Refusal::code(ResponseError::UnsupportedCompressionType)
            });
        }
    }
    Ok(batches)
}

/// Why a partition's batch was not written.
#[derive(Clone)]
struct Refusal {
    error: ResponseError,
    message: String,
    /// Which record is to blame, if one is.
    record: Option<i32>,
}

impl Refusal {
    fn code(error: ResponseError) -> Self {
        Self {
            error,
            message: error.to_string(),
            record: None,
        }
    }

    fn transactional() -> Self {
        Self {
            message: "transactions are not implemented yet; unset transactional.id".to_string(),
            ..Self::code(ResponseError::InvalidRequest)
        }
    }

    fn from(error: &BrokerError) -> Self {
        Self {
            error: error.response_error(),
            message: error.to_string(),
            record: None,
        }
    }

    fn batch(error: &BatchError) -> Self {
        let record = match error {
            BatchError::BadRecord { index, .. } | BatchError::MissingKey { index } => Some(*index),
            _ => None,
        };
        Self {
            error: crate::kafka::error::batch_error(error),
            message: error.to_string(),
            record,
        }
    }

    fn answer(&self, index: i32) -> PartitionProduceResponse {
        let message = StrBytes::from_string(self.message.clone());
        let record_error = |record: i32| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(record)
                .with_batch_index_error_message(Some(message.clone()))
        };
        PartitionProduceResponse::default()
            .with_index(index)
            .with_error_code(self.error.code())
            .with_base_offset(-1)
            .with_record_errors(self.record.map(record_error).into_iter().collect())
            .with_error_message(Some(message))
    }
}

fn accepted(index: i32, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(appended.first_offset)
        .with_log_append_time_ms(appended.log_append_time_ms.unwrap_or(-1))
        .with_log_start_offset(appended.log_start)
}

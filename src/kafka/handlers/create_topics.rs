//! CreateTopics.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use crate::broker::topics::is_internal;
use crate::kafka::refusal::Refusal;
use crate::kafka::{Context, HandlerError, configs};

/// Creates topics, each for itself.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, HandlerError> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let mut results: Vec<CreatableTopicResult> = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        if results.iter().any(|result| result.name == topic.name) {
            continue;
        }
        let result = if times.get(&**topic.name).is_some_and(|times| *times > 1) {
            Err(Refusal::new(
                ResponseError::InvalidRequest,
                "the request names this topic more than once",
            ))
        } else {
            create(ctx, version, topic, request.validate_only).await
        };
        results.push(result.unwrap_or_else(|refusal| {
            CreatableTopicResult::default()
                .with_name(topic.name.clone())
                .with_error_code(refusal.code())
                .with_error_message(Some(refusal.message()))
        }));
    }
    Ok(CreateTopicsResponse::default().with_topics(results))
}

async fn create(
    ctx: &Context,
    version: i16,
    asked: &CreatableTopic,
    validate_only: bool,
) -> Result<CreatableTopicResult, Refusal> {
    let partitions = partition_count(ctx, asked)?;
    let mut given = BTreeMap::new();
    for config in &asked.configs {
        let Some(value) = &config.value else {
            let message = format!("topic config {} has no value", &*config.name);
            return Err(Refusal::new(ResponseError::InvalidConfig, message));
        };
        given.insert(config.name.to_string(), value.to_string());
    }
    if is_internal(&asked.name) {
        let message = "the broker creates this topic itself when it needs it";
        return Err(Refusal::new(ResponseError::InvalidTopicException, message));
    }
    let topic = ctx
        .session
        .broker
        .create_topic(&asked.name, partitions, given, validate_only)
        .await?;
    let count = partitions.unwrap_or(ctx.session.broker.options().default_partitions);
    let result = CreatableTopicResult::default()
        .with_name(asked.name.clone())
        .with_error_message(None);
    let result = if version >= 7 {
        result.with_topic_id(topic.id)
    } else {
        result
    };
    if version < 5 {
        return Ok(result);
    }
    Ok(result
        .with_num_partitions(i32::try_from(count).unwrap_or(i32::MAX))
        .with_replication_factor(1)
        .with_configs(Some(configs::created_topic(&topic, ctx.session.broker.options()))))
}

/// How many partitions; none for the broker's default.
fn partition_count(ctx: &Context, asked: &CreatableTopic) -> Result<Option<u32>, Refusal> {
    if !asked.assignments.is_empty() {
        if asked.num_partitions != -1 || asked.replication_factor != -1 {
            let message = "give either an assignment, or a number of partitions and a replication factor";
            return Err(Refusal::new(ResponseError::InvalidRequest, message));
        }
        return check_assignments(ctx, &asked.assignments).map(Some);
    }
    check_replication_factor(ctx, asked.replication_factor)?;
    match asked.num_partitions {
        -1 => Ok(None),
        count => match u32::try_from(count) {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => Err(Refusal::new(
                ResponseError::InvalidPartitions,
                "a topic needs at least one partition",
            )),
        },
    }
}

fn check_replication_factor(ctx: &Context, factor: i16) -> Result<(), Refusal> {
    let message = match factor {
        -1 | 1 => return Ok(()),
        factor if factor > 1 && ctx.session.broker.options().lenient_replication_factor => return Ok(()),
        factor if factor > 1 => format!("a replication factor of {factor} needs as many brokers, and there is one"),
        factor => format!("{factor} is not a replication factor"),
    };
    Err(Refusal::new(ResponseError::InvalidReplicationFactor, message))
}

fn check_assignments(ctx: &Context, assignments: &[CreatableReplicaAssignment]) -> Result<u32, Refusal> {
    let options = ctx.session.broker.options();
    let invalid = |message: &str| Refusal::new(ResponseError::InvalidReplicaAssignment, message);
    let mut numbers: Vec<i32> = assignments
        .iter()
        .map(|assignment| assignment.partition_index)
        .collect();
    numbers.sort_unstable();
    if !numbers.iter().copied().eq((0..).take(numbers.len())) {
        return Err(invalid("the partitions must be numbered from 0 without a gap"));
    }
    for assignment in assignments {
        let here = |id: &kafka_protocol::messages::BrokerId| id.0 == options.node_id;
        let fits = match assignment.broker_ids.as_slice() {
            [] => false,
            [one] => here(one),
            several => options.lenient_replication_factor && several.iter().any(here),
        };
        if !fits {
            return Err(invalid("a partition can be on this broker only: there is no other"));
        }
    }
    u32::try_from(numbers.len()).map_err(|_| invalid("too many partitions"))
}

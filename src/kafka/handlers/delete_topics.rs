//! DeleteTopics.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use riverlog_storage::Topic;

use crate::kafka::refusal::{Refusal, outcome};
use crate::kafka::text::wire_topic;
use crate::kafka::{Context, HandlerError};

/// Deletes topics by name, from version 6 on also by id, with the offsets that groups have committed for them.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: DeleteTopicsRequest,
) -> Result<DeleteTopicsResponse, HandlerError> {
    let asked = if version >= 6 {
        request.topics
    } else {
        request
            .topic_names
            .into_iter()
            .map(|name| DeleteTopicState::default().with_name(Some(name)))
            .collect()
    };
    let mut responses = Vec::with_capacity(asked.len());
    for topic in asked {
        responses.push(delete(ctx, version, topic).await);
    }
    Ok(DeleteTopicsResponse::default().with_responses(responses))
}

async fn delete(ctx: &Context, version: i16, asked: DeleteTopicState) -> DeletableTopicResult {
    let (found, result) = match find(ctx, &asked) {
        Ok(topic) => {
            let result = ctx.session.broker.delete_topic(topic.id).await.map_err(Refusal::from);
            (Some(topic), result)
        }
        Err(refusal) => (None, Err(refusal)),
    };
    let (code, message) = outcome(&result);
    let name = found.as_ref().map(|topic| wire_topic(&topic.name)).or(asked.name);
    let response = DeletableTopicResult::default().with_name(name).with_error_code(code);
    let response = if version >= 5 {
        response.with_error_message(message)
    } else {
        response
    };
    let id = found.map_or(asked.topic_id, |topic| topic.id);
    if version >= 6 {
        response.with_topic_id(id)
    } else {
        response
    }
}

fn find(ctx: &Context, asked: &DeleteTopicState) -> Result<Arc<Topic>, Refusal> {
    match &asked.name {
        Some(_) if !asked.topic_id.is_nil() => Err(Refusal::new(
            ResponseError::InvalidRequest,
            "name a topic by its name or by its id, not by both",
        )),
        Some(name) => Ok(ctx.session.broker.topic(name)?),
        None => Ok(ctx.session.broker.topic_by_id(asked.topic_id)?),
    }
}

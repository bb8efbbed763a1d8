//! AlterConfigs: replaces all configs of a topic. Older clients know nothing finer.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::incremental_alter_configs::{ALTERING, check_resource};
use crate::kafka::refusal::{Refusal, outcome};
use crate::kafka::{Context, HandlerError};

/// Alters topics, each for itself. What is not named goes back to its default.
pub async fn handle(
    ctx: &Context,
    _version: i16,
    request: AlterConfigsRequest,
) -> Result<AlterConfigsResponse, HandlerError> {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let (code, message) = outcome(&alter(ctx, &resource, request.validate_only).await);
        responses.push(
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name),
        );
    }
    Ok(AlterConfigsResponse::default().with_responses(responses))
}

async fn alter(ctx: &Context, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    check_resource(resource.resource_type)?;
    let mut given = BTreeMap::new();
    for config in &resource.configs {
        let Some(value) = &config.value else {
            let message = format!("topic config {} has no value", &*config.name);
            return Err(Refusal::new(ResponseError::InvalidConfig, message));
        };
        given.insert(config.name.to_string(), value.to_string());
    }
    let _one_at_a_time = ALTERING.lock().await;
    Ok(ctx
        .session
        .broker
        .set_configs(&resource.resource_name, given, validate_only)
        .await?)
}

//! IncrementalAlterConfigs: sets, deletes, appends to and subtracts from single configs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::describe_configs::unknown_type;
use crate::broker::BrokerOptions;
use crate::broker::topic_config::{Kind, TopicConfigDef};
use crate::kafka::refusal::{Refusal, outcome};
use crate::kafka::{Context, HandlerError, configs};

/// Configs are read, changed and written back: one alteration at a time, or one of two would be lost.
pub(super) static ALTERING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Alters topics, each for itself.
pub async fn handle(
    ctx: &Context,
    _version: i16,
    request: IncrementalAlterConfigsRequest,
) -> Result<IncrementalAlterConfigsResponse, HandlerError> {
    let mut seen = HashSet::new();
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let result = if seen.insert((resource.resource_type, resource.resource_name.clone())) {
            alter(ctx, &resource, request.validate_only).await
        } else {
            Err(Refusal::new(
                ResponseError::InvalidRequest,
                "the request names this resource more than once",
            ))
        };
        let (code, message) = outcome(&result);
        responses.push(
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name),
        );
    }
    Ok(IncrementalAlterConfigsResponse::default().with_responses(responses))
}

async fn alter(ctx: &Context, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    check_resource(resource.resource_type)?;
    let _one_at_a_time = ALTERING.lock().await;
    let topic = ctx.session.broker.topic(&resource.resource_name)?;
    let mut altered = topic.configs.clone();
    let mut names = BTreeSet::new();
    for config in &resource.configs {
        if !names.insert(&*config.name) {
            let message = format!("the request names {} more than once", &*config.name);
            return Err(Refusal::new(ResponseError::InvalidRequest, message));
        }
        apply(&mut altered, config, ctx.session.broker.options())?;
    }
    Ok(ctx
        .session
        .broker
        .set_configs(&topic.name, altered, validate_only)
        .await?)
}

/// Only topics can be altered.
pub(super) fn check_resource(resource_type: i8) -> Result<(), Refusal> {
    match resource_type {
        configs::TOPIC => Ok(()),
        configs::BROKER | configs::BROKER_LOGGER => {
            let message = "the broker's own settings come from its config file and need a restart";
            Err(Refusal::new(ResponseError::InvalidRequest, message))
        }
        other => Err(unknown_type(other)),
    }
}

fn apply(
    altered: &mut BTreeMap<String, String>,
    config: &AlterableConfig,
    options: &BrokerOptions,
) -> Result<(), Refusal> {
    let name: &str = &config.name;
    let invalid = |message: String| Refusal::new(ResponseError::InvalidConfig, message);
    let Some(def) = TopicConfigDef::find(name) else {
        return Err(invalid(format!(
            "topic config {name}: there is no such topic config here"
        )));
    };
    let value = || {
        config
            .value
            .as_deref()
            .ok_or_else(|| invalid(format!("topic config {name} has no value")))
    };
    match config.config_operation {
        SET => {
            altered.insert(name.to_owned(), value()?.to_owned());
        }
        DELETE => {
            altered.remove(name);
        }
        APPEND | SUBTRACT if def.kind != Kind::List => {
            return Err(invalid(format!("topic config {name} is not a list")));
        }
        operation @ (APPEND | SUBTRACT) => {
            let current = altered.get(name).cloned().unwrap_or_else(|| def.default_value(options));
            let mut words: Vec<&str> = current
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .collect();
            let given = value()?;
            for word in given.split(',').map(str::trim) {
                match operation {
                    APPEND if !words.contains(&word) => words.push(word),
                    APPEND => {}
                    _ => words.retain(|present| *present != word),
                }
            }
            altered.insert(name.to_owned(), words.join(","));
        }
        other => {
            let message = format!("there is no operation {other} on configs");
            return Err(Refusal::new(ResponseError::InvalidRequest, message));
        }
    }
    Ok(())
}

//! DescribeConfigs.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use crate::broker::topics::check_name;
use crate::kafka::configs::{self, Detail};
use crate::kafka::refusal::{Refusal, outcome};
use crate::kafka::{Context, HandlerError};

/// The configs of topics and of the broker.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, HandlerError> {
    let detail = Detail {
        version,
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let results = request.resources.into_iter().map(|resource| {
        let found = describe(ctx, &resource, detail);
        let (code, message) = outcome(&found);
        let mut configs = found.unwrap_or_default();
        // Absent and empty both mean all.
        if let Some(wanted) = resource.configuration_keys.filter(|keys| !keys.is_empty()) {
            configs.retain(|config| wanted.contains(&config.name));
        }
        DescribeConfigsResult::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_configs(configs)
    });
    Ok(DescribeConfigsResponse::default().with_results(results.collect()))
}

fn describe(
    ctx: &Context,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name: &str = &resource.resource_name;
    match resource.resource_type {
        configs::TOPIC => {
            check_name(name)?;
            let topic = ctx.session.broker.topic(name)?;
            Ok(configs::topic(&topic, ctx.session.broker.options(), detail))
        }
        // No broker is named: settings for all of them, changed over the wire. There are none.
        configs::BROKER if name.is_empty() => Ok(Vec::new()),
        configs::BROKER if name == ctx.session.broker.options().node_id.to_string() => {
            Ok(configs::broker(&ctx.session.broker, detail))
        }
        configs::BROKER => {
            let message = format!(
                "this is broker {}, and there is no other",
                ctx.session.broker.options().node_id
            );
            Err(Refusal::new(ResponseError::InvalidRequest, message))
        }
        // Groups and client metrics can have configs in Kafka; here none has been set, since none can be.
        configs::GROUP | configs::CLIENT_METRICS => Ok(Vec::new()),
        other => Err(unknown_type(other)),
    }
}

/// A resource that has no configs here.
pub(super) fn unknown_type(resource_type: i8) -> Refusal {
    let message = format!("resources of type {resource_type} have no configs here");
    Refusal::new(ResponseError::InvalidRequest, message)
}

//! ListConfigResources: what has configs.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use crate::kafka::text::wire;
use crate::kafka::{Context, HandlerError, configs};

const ALL: &[i8] = &[
    configs::TOPIC,
    configs::BROKER,
    configs::BROKER_LOGGER,
    configs::CLIENT_METRICS,
    configs::GROUP,
];

/// Topics and the broker. Version 0 asks for client metrics only, of which there are none.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: ListConfigResourcesRequest,
) -> Result<ListConfigResourcesResponse, HandlerError> {
    if version == 0 {
        return Ok(ListConfigResourcesResponse::default());
    }
    let wanted: &[i8] = if request.resource_types.is_empty() {
        ALL
    } else {
        &request.resource_types
    };
    if wanted.iter().any(|kind| !ALL.contains(kind)) {
        return Ok(ListConfigResourcesResponse::default().with_error_code(ResponseError::UnsupportedVersion.code()));
    }
    let mut resources = Vec::new();
    let mut add = |name: String, kind: i8| {
        resources.push(
            ConfigResource::default()
                .with_resource_name(wire(name))
                .with_resource_type(kind),
        );
    };
    if wanted.contains(&configs::TOPIC) {
        ctx.session
            .broker
            .catalog()
            .topics()
            .for_each(|topic| add(topic.name.clone(), configs::TOPIC));
    }
    if wanted.contains(&configs::BROKER) {
        add(ctx.session.broker.options().node_id.to_string(), configs::BROKER);
    }
    Ok(ListConfigResourcesResponse::default().with_config_resources(resources))
}

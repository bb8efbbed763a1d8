//! FindCoordinator: there is one broker, so it coordinates every group.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::kafka::text::wire;
use crate::kafka::{Context, HandlerError};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Answers for one key, or from version 4 on for each of several.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: FindCoordinatorRequest,
) -> Result<FindCoordinatorResponse, HandlerError> {
    if version >= 4 {
        let coordinators = request
            .coordinator_keys
            .into_iter()
            .map(|key| find(ctx, request.key_type, key));
        return Ok(FindCoordinatorResponse::default().with_coordinators(coordinators.collect()));
    }
    let found = find(ctx, request.key_type, request.key);
    let response = FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port);
    Ok(if version >= 1 {
        response.with_error_message(found.error_message)
    } else {
        response
    })
}

fn find(ctx: &Context, key_type: i8, key: StrBytes) -> Coordinator {
    let refused = match key_type {
        GROUP => ctx
            .session
            .broker
            .groups()
            .check_available(&key)
            .err()
            .map(|error| (error.response_error(), error.to_string())),
        TRANSACTION => Some((
            ResponseError::InvalidRequest,
            "transactions are not supported yet; unset transactional.id".to_owned(),
        )),
        other => Some((
            ResponseError::InvalidRequest,
            format!("there are no coordinators of type {other} here"),
        )),
    };
    match refused {
        Some((error, message)) => Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message(Some(wire(message))),
        None => Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(ctx.session.broker.options().node_id))
            .with_host(wire(&ctx.session.listener.advertised_host))
            .with_port(i32::from(ctx.session.listener.advertised_port))
            .with_error_message(None),
    }
}

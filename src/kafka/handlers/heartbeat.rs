//! Heartbeat.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::kafka::group_error::{check_group_id, code_of};
use crate::kafka::text::shared_option;
use crate::kafka::{Context, HandlerError};

/// The member lives; it learns whether it has to join again.
pub async fn handle(
    ctx: &Context,
    _version: i16,
    request: HeartbeatRequest,
) -> Result<HeartbeatResponse, HandlerError> {
    let instance_id = shared_option(request.group_instance_id.as_ref());
    let result = check_group_id(&request.group_id).and_then(|()| {
        let groups = ctx.session.broker.groups();
        groups.heartbeat(
            &request.group_id,
            &request.member_id,
            instance_id.as_deref(),
            request.generation_id,
        )
    });
    Ok(HeartbeatResponse::default().with_error_code(code_of(&result)))
}

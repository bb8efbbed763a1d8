//! SyncGroup.

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::groups::{Error, SyncRequest};
use crate::kafka::group_error::check_group_id;
use crate::kafka::text::{shared, shared_option, wire};
use crate::kafka::{Context, HandlerError};

/// Waits for the leader's assignment to be durable, then answers with the member's part.
pub async fn handle(ctx: &Context, version: i16, request: SyncGroupRequest) -> Result<SyncGroupResponse, HandlerError> {
    let group = shared(&request.group_id);
    if let Err(error) = check_group_id(&group) {
        return Ok(SyncGroupResponse::default().with_error_code(error.code()));
    }
    let assignments = request
        .assignments
        .into_iter()
        // A slice would keep the whole request in memory, for as long as the member lives.
        .map(|part| (shared(&part.member_id), Bytes::copy_from_slice(&part.assignment)));
    let sync = SyncRequest {
        member_id: shared(&request.member_id),
        instance_id: shared_option(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(|text| shared(text)),
        protocol: request.protocol_name.as_ref().map(|text| shared(text)),
        assignments: assignments.collect(),
    };
    let result = tokio::select! {
        result = ctx.session.broker.groups().sync(&group, sync) => result,
        // The leader may take its time; a broker that stops does not wait for it.
        () = ctx.session.token.requested() => Err(Error::not_available("the broker is shutting down")),
    };
    match result {
        Err(error) => Ok(SyncGroupResponse::default().with_error_code(error.code())),
        Ok(synced) => {
            let response = SyncGroupResponse::default().with_assignment(synced.assignment);
            if version < 5 {
                return Ok(response);
            }
            Ok(response
                .with_protocol_type(synced.protocol_type.map(wire))
                .with_protocol_name(synced.protocol.map(wire)))
        }
    }
}

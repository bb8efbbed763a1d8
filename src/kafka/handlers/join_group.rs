//! JoinGroup.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use uuid::Uuid;

use crate::groups::{Error, JoinRequest, Joined, Protocol, Refused};
use crate::kafka::group_error::check_group_id;
use crate::kafka::text::{shared, shared_option, wire};
use crate::kafka::{Context, HandlerError};

/// How much of a client's name goes into the ids of its members.
const ID_PREFIX_CHARS: usize = 200;

/// Waits for the rebalance to end, then answers.
pub async fn handle(ctx: &Context, version: i16, request: JoinGroupRequest) -> Result<JoinGroupResponse, HandlerError> {
    let group = shared(&request.group_id);
    let member_id = shared(&request.member_id);
    if let Err(error) = check_group_id(&group) {
        return Ok(refusal(version, Refused { error, member_id }));
    }
    let request = join_request(ctx, version, request);
    // All of it was copied, and the others may take minutes to join. What groups keep has a bound of its own.
    ctx.request_is_done_with();
    let result = tokio::select! {
        result = ctx.session.broker.groups().join(&group, request) => result,
        // A rebalance may take minutes; a broker that stops does not wait for it.
        () = ctx.session.token.requested() => {
            Err(Refused { error: Error::not_available("the broker is shutting down"), member_id })
        }
    };
    Ok(match result {
        Ok(joined) => answer(version, joined),
        Err(refused) => refusal(version, refused),
    })
}

fn join_request(ctx: &Context, version: i16, request: JoinGroupRequest) -> JoinRequest {
    let milliseconds = |value: i32| u64::try_from(value).unwrap_or(0);
    let instance_id = shared_option(request.group_instance_id.as_ref());
    let client_id: Arc<str> = shared(ctx.client_id.as_deref().unwrap_or(""));
    let prefix: String = instance_id
        .as_ref()
        .unwrap_or(&client_id)
        .chars()
        .take(ID_PREFIX_CHARS)
        .collect();
    let protocols = request.protocols.iter().map(|protocol| Protocol {
        name: shared(&protocol.name),
        // A slice would keep the whole request in memory, for as long as the member lives.
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    });
    JoinRequest {
        member_id: shared(&request.member_id),
        client_host: format!("/{}", ctx.session.peer.ip()).into(),
        session_timeout_ms: milliseconds(request.session_timeout_ms),
        // Version 0 knew one timeout only.
        rebalance_timeout_ms: if request.rebalance_timeout_ms < 0 {
            milliseconds(request.session_timeout_ms)
        } else {
            milliseconds(request.rebalance_timeout_ms)
        },
        protocol_type: shared(&request.protocol_type),
        protocols: protocols.collect(),
        require_known_id: version >= 4 && instance_id.is_none(),
        can_skip_assignment: version >= 9,
        fresh_id: format!("{prefix}-{}", Uuid::new_v4()).into(),
        client_id,
        instance_id,
    }
}

fn answer(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        let answer = JoinGroupResponseMember::default()
            .with_member_id(wire(&member.id))
            .with_metadata(member.metadata);
        if version >= 5 {
            answer.with_group_instance_id(member.instance_id.map(wire))
        } else {
            answer
        }
    });
    let response = JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(Some(wire(joined.protocol.as_deref().unwrap_or(""))))
        .with_leader(wire(&joined.leader))
        .with_member_id(wire(&joined.member_id))
        .with_members(members.collect());
    let response = if version >= 7 {
        response.with_protocol_type(joined.protocol_type.map(wire))
    } else {
        response
    };
    if version >= 9 {
        response.with_skip_assignment(joined.skip_assignment)
    } else {
        response
    }
}

fn refusal(version: i16, refused: Refused) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(refused.error.code())
        .with_generation_id(-1)
        .with_protocol_name((version < 7).then(|| wire("")))
        .with_member_id(wire(&refused.member_id))
}

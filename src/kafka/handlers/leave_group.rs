//! LeaveGroup.

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::kafka::group_error::{check_group_id, code_of};
use crate::kafka::text::shared_option;
use crate::kafka::{Context, HandlerError};

/// One member leaves, or from version 3 on several, each with its own result.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: LeaveGroupRequest,
) -> Result<LeaveGroupResponse, HandlerError> {
    let groups = ctx.session.broker.groups();
    if let Err(error) = check_group_id(&request.group_id) {
        return Ok(LeaveGroupResponse::default().with_error_code(error.code()));
    }
    if version < 3 {
        let result = groups.leave(&request.group_id, &request.member_id, None);
        return Ok(LeaveGroupResponse::default().with_error_code(code_of(&result)));
    }
    let members = request.members.into_iter().map(|member| {
        let instance_id = shared_option(member.group_instance_id.as_ref());
        let result = groups.leave(&request.group_id, &member.member_id, instance_id.as_deref());
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code_of(&result))
    });
    Ok(LeaveGroupResponse::default().with_members(members.collect()))
}

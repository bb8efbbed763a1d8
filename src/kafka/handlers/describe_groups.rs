//! DescribeGroups.

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use crate::broker::coordinator::DescribedMember;
use crate::groups::Error;
use crate::kafka::group_error::check_group_id;
use crate::kafka::operations;
use crate::kafka::text::wire;
use crate::kafka::{Context, HandlerError};

/// Each group with its members.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, HandlerError> {
    let operations = operations::if_asked(request.include_authorized_operations, operations::GROUP);
    let groups = request.groups.into_iter().map(|group| {
        let described = describe(ctx, version, group);
        if version >= 3 {
            described.with_authorized_operations(operations)
        } else {
            described
        }
    });
    Ok(DescribeGroupsResponse::default().with_groups(groups.collect()))
}

fn describe(ctx: &Context, version: i16, group_id: GroupId) -> DescribedGroup {
    let found = check_group_id(&group_id).and_then(|()| ctx.session.broker.groups().describe(&group_id));
    let answer = DescribedGroup::default().with_group_id(group_id);
    match found {
        Ok(group) => answer
            .with_group_state(wire(group.state.name()))
            .with_protocol_type(wire(&group.protocol_type))
            .with_protocol_data(wire(&group.protocol))
            .with_members(
                group
                    .members
                    .into_iter()
                    .map(|member| describe_member(version, member))
                    .collect(),
            ),
        // Up to version 5 a group that does not exist is described as dead.
        Err(Error::NotFound) if version < 6 => answer.with_group_state(wire("Dead")),
        Err(Error::NotFound) => answer
            .with_group_state(wire("Dead"))
            .with_error_code(Error::NotFound.code())
            .with_error_message(Some(wire(Error::NotFound.to_string()))),
        Err(error) => {
            let answer = answer.with_error_code(error.code());
            if version >= 6 {
                answer.with_error_message(Some(wire(error.to_string())))
            } else {
                answer
            }
        }
    }
}

fn describe_member(version: i16, member: DescribedMember) -> DescribedGroupMember {
    let answer = DescribedGroupMember::default()
        .with_member_id(wire(&member.id))
        .with_client_id(wire(&member.client_id))
        .with_client_host(wire(&member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment);
    if version >= 4 {
        answer.with_group_instance_id(member.instance_id.map(wire))
    } else {
        answer
    }
}

//! ListGroups.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use crate::kafka::text::{wire, wire_group};
use crate::kafka::{Context, HandlerError};

/// The one type of group that there is.
const TYPE: &str = "classic";

/// All groups, or those in some states or of some types.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: ListGroupsRequest,
) -> Result<ListGroupsResponse, HandlerError> {
    let types = &request.types_filter;
    let of_type = types.is_empty() || types.iter().any(|wanted| wanted.eq_ignore_ascii_case(TYPE));
    let states = &request.states_filter;
    let in_state = |name: &str| states.is_empty() || states.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
    let groups = ctx
        .session
        .broker
        .groups()
        .list()
        .into_iter()
        .filter(|group| of_type && in_state(group.state.name()));
    let groups = groups.map(|group| {
        let mut listed = ListedGroup::default()
            .with_group_id(wire_group(&group.id))
            .with_protocol_type(wire(&group.protocol_type));
        if version >= 4 {
            listed = listed.with_group_state(wire(group.state.name()));
        }
        if version >= 5 {
            listed = listed.with_group_type(wire(TYPE));
        }
        listed
    });
    Ok(ListGroupsResponse::default().with_groups(groups.collect()))
}

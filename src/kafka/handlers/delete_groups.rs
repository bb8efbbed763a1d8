//! DeleteGroups.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::kafka::group_error::{check_group_id, code_of};
use crate::kafka::{Context, HandlerError};

/// Deletes groups without members, with their offsets.
pub async fn handle(
    ctx: &Context,
    _version: i16,
    request: DeleteGroupsRequest,
) -> Result<DeleteGroupsResponse, HandlerError> {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let result = match check_group_id(&group) {
            Ok(()) => ctx.session.broker.groups().delete(&group).await,
            Err(error) => Err(error),
        };
        results.push(
            DeletableGroupResult::default()
                .with_error_code(code_of(&result))
                .with_group_id(group),
        );
    }
    Ok(DeleteGroupsResponse::default().with_results(results))
}

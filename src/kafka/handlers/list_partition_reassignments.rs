//! ListPartitionReassignments: with one broker nothing is ever on its way to another.

use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::kafka::{Context, HandlerError};

/// None.
pub async fn handle(
    _ctx: &Context,
    _version: i16,
    _request: ListPartitionReassignmentsRequest,
) -> Result<ListPartitionReassignmentsResponse, HandlerError> {
    Ok(ListPartitionReassignmentsResponse::default().with_error_message(None))
}

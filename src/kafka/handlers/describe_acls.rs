//! DescribeAcls: there is no authorizer, and tools want to be told so.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};

use crate::kafka::text::wire;
use crate::kafka::{Context, HandlerError};

/// SECURITY_DISABLED.
pub async fn handle(
    _ctx: &Context,
    _version: i16,
    _request: DescribeAclsRequest,
) -> Result<DescribeAclsResponse, HandlerError> {
    Ok(DescribeAclsResponse::default()
        .with_error_code(ResponseError::SecurityDisabled.code())
        .with_error_message(Some(wire("this broker has no access control"))))
}

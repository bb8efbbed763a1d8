//! DescribeCluster.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use crate::kafka::operations;
use crate::kafka::text::wire;
use crate::kafka::{Context, HandlerError};

/// The number of the endpoints that brokers listen on; controllers have another.
const BROKERS: i8 = 1;

/// One broker, which is the controller too.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: DescribeClusterRequest,
) -> Result<DescribeClusterResponse, HandlerError> {
    let asked = request.include_cluster_authorized_operations;
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(wire(&ctx.session.broker.catalog().cluster_id))
        .with_cluster_authorized_operations(operations::if_asked(asked, operations::CLUSTER));
    if version >= 1 {
        response = response.with_endpoint_type(BROKERS);
        if request.endpoint_type != BROKERS {
            return Ok(response
                .with_error_code(ResponseError::MismatchedEndpointType.code())
                .with_error_message(Some(wire("this is a broker's endpoint; there is none for controllers"))));
        }
    }
    let node_id = BrokerId(ctx.session.broker.options().node_id);
    let broker = DescribeClusterBroker::default()
        .with_broker_id(node_id)
        .with_host(wire(&ctx.session.listener.advertised_host))
        .with_port(i32::from(ctx.session.listener.advertised_port));
    Ok(response.with_controller_id(node_id).with_brokers(vec![broker]))
}

//! InitProducerId: ids for idempotent producers, which is what Java's producers are by default.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::kafka::{Context, HandlerError};

/// Gives a new id with epoch 0. An idempotent producer that asks again, with the id it has, gets a new one too, as in Kafka.
pub async fn handle(
    ctx: &Context,
    _version: i16,
    request: InitProducerIdRequest,
) -> Result<InitProducerIdResponse, HandlerError> {
    let refused = |error: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if let Some(id) = &request.transactional_id {
        if id.is_empty() {
            return Ok(refused(ResponseError::InvalidRequest));
        }
        // Clients report this code as it is and stop; an authorization error or a retriable one would mislead them.
        return Ok(refused(ResponseError::UnsupportedVersion));
    }
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return Ok(refused(ResponseError::InvalidRequest));
    }
    Ok(match ctx.session.broker.next_producer_id().await {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        Err(error) => {
            tracing::warn!(%error, "cannot allocate producer ids");
            // Every client asks again after this one.
            refused(ResponseError::CoordinatorLoadInProgress)
        }
    })
}

//! Producer ids, handed out from blocks that are durable before the first id of them is used.

use riverlog_storage::{Change, WriteSet};
use tokio::sync::Mutex;

use super::{Broker, BrokerError};

/// As Kafka's block. What a crash leaves unused of a block is lost, which harms nobody.
const BLOCK: u32 = 1000;

/// The block in use: the next id, and how many are left.
#[derive(Default)]
pub(super) struct ProducerIds(Mutex<(i64, u32)>);

impl ProducerIds {
    pub(super) async fn next(&self, broker: &Broker) -> Result<i64, BrokerError> {
        let mut block = self.0.lock().await;
        if block.1 == 0 {
            let receipt = broker
                .write(WriteSet {
                    changes: vec![Change::AllocateProducerIds { count: BLOCK }],
                    ..WriteSet::default()
                })
                .await?;
            *block = (receipt.first_producer_id.ok_or(BrokerError::Abandoned)?, BLOCK);
        }
        let id = block.0;
        *block = (id + 1, block.1 - 1);
        Ok(id)
    }
}

//! What a replay reads back from topics that anybody may write to, as fuzzers see it.

use bytes::Bytes;
use riverlog_client::StoredRecord;

use crate::claim::Claim;
use crate::tail::{HEADER, source_offset};

/// A claim, and the header of a replayed record.
pub fn records(data: &[u8]) {
    if let Ok(claim) = serde_json::from_slice::<Claim>(data) {
        let ids = (claim.source_id.clone(), claim.destination_id.clone());
        let _ = claim.check("name", &claim.range, &claim.destination, &ids);
        let _ = claim.filter.admits(5);
    }
    let record = StoredRecord {
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: None,
        headers: vec![(Bytes::from(HEADER), Some(Bytes::copy_from_slice(data)))],
    };
    let _ = source_offset(&record, "night", 3);
}

/// Good input to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        b"night/3/42".to_vec(),
        br#"{"version":1,"range":{"topic":"t","partition":null,"from":"earliest","to":"latest"},"destination":"d",
            "source_id":"a","destination_id":"b","spans":[{"partition":0,"from":0,"to":5}],
            "filter":{"from_ms":null,"to_ms":null},"producer_ids":[7],"destination_starts":[0],"same_partitions":true}"#
            .to_vec(),
    ]
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_and_bent_input_does_not_abort(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            seed in any::<prop::sample::Index>(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            super::records(&bytes);
            let seeds = super::seeds();
            let mut bent = seeds[seed.index(seeds.len())].clone();
            for (at, to) in &changes {
                let at = at.index(bent.len());
                bent[at] = *to;
            }
            super::records(&bent);
        }
    }
}

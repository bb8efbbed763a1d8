//! What brokers answer, as fuzzers see it: bytes in, no abort, memory in proportion.

use bytes::Bytes;
use kafka_protocol::messages::*;

use crate::api::Api;
use crate::connection::decode;
use crate::groups::parse_assignment;
use crate::record_set::{self, Aborted};

/// A response of the API that the first byte picks (after it, 0 is its lowest version), or record batches as
/// a fetch response has them, or an assignment of a group's member.
pub fn response(data: &[u8]) {
    let Some(([api, version], body)) = data.split_first_chunk() else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    macro_rules! pick {
        ($($request:ident),*) => {{
            let decoders: &[fn(Bytes, i16)] = &[$(any::<$request>),*];
            if let Some(decoder) = decoders.get(usize::from(*api)) {
                decoder(body.clone(), i16::from(*version));
            }
        }};
    }
    pick!(
        ApiVersionsRequest,
        MetadataRequest,
        ProduceRequest,
        FetchRequest,
        ListOffsetsRequest,
        InitProducerIdRequest,
        CreateTopicsRequest,
        DeleteTopicsRequest,
        CreatePartitionsRequest,
        DeleteRecordsRequest,
        DescribeConfigsRequest,
        IncrementalAlterConfigsRequest,
        FindCoordinatorRequest,
        OffsetCommitRequest,
        OffsetFetchRequest,
        ListGroupsRequest,
        DescribeGroupsRequest,
        DeleteGroupsRequest
    );
    if *api == u8::MAX {
        let aborted = vec![Aborted {
            producer_id: 7,
            first_offset: i64::from(*version),
        }];
        let _ = record_set::decode("t/0", &body, 1, aborted);
        let _ = parse_assignment(body);
    }
}

/// APIs that [`response`] picks from.
const APIS: u8 = 18;

fn any<R: Api>(body: Bytes, version: i16) {
    let version = R::MIN + version % (R::MAX - R::MIN + 1);
    let _ = decode::<R>("broker", body, version);
}

/// Good input to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..APIS).map(|api| [&[api, 0][..], &[0; 40]].concat()).collect();
    // Metadata: throttle, one broker, cluster id, controller, one topic with one partition.
    let mut metadata = vec![1, 0, 0, 0, 0, 1, 0];
    metadata.extend(b"\0\0\0\0\x02\0\0\0\x01\x02h\0\0\x23\x84\0\0\x02c\0\0\0\x01\x02\0\0\x02t");
    metadata.extend([0; 17]);
    metadata.extend(b"\x02\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\x01\x01\x01\0\0\0\0\0\0\0");
    seeds.push(metadata);
    seeds.push(b"\xff\0\0\0\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x01".to_vec());
    let mut builder = riverlog_storage::batch::BatchBuilder::new().producer(7, 0, 0);
    builder.push(riverlog_storage::record::Record::default());
    let batch = builder.build().map(|batch| batch.bytes().to_vec());
    seeds.push([&[0xff, 0][..], &batch.unwrap_or_default()].concat());
    seeds
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop, proptest};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        #[test]
        fn bent_input_does_not_abort(
            seed in any::<prop::sample::Index>(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = super::seeds()[seed.index(super::seeds().len())].clone();
            for (at, to) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *to;
            }
            super::response(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            super::response(&bytes);
        }
    }
}

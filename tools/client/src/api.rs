//! The requests this client sends: name, versions, and the shape of the response. Only flexible
//! versions, which every broker since Kafka 3.0 offers.

use kafka_protocol::messages as m;
use kafka_protocol::protocol::Request;

use crate::walker::Shape::{self, Array, Fixed, Since, Tags, Text};
use crate::walker::TAGS;

/// A request that this client knows how to send.
pub(crate) trait Api: Request {
    /// The name, for errors.
    const NAME: &'static str;
    /// The lowest version whose fields this client fills.
    const MIN: i16;
    /// The highest version whose answer this client understands.
    const MAX: i16;
    /// The response's body.
    const SHAPE: &'static [Shape];
}

macro_rules! api {
    ($request:ident, $name:literal, $min:literal..=$max:literal, [$($shape:expr),* $(,)?]) => {
        impl Api for m::$request {
            const NAME: &'static str = $name;
            const MIN: i16 = $min;
            const MAX: i16 = $max;
            const SHAPE: &'static [Shape] = &[$($shape),*];
        }
    };
}

const INT32_ARRAY: Shape = Array(&[Fixed(4)]);
const FEATURES: &[Shape] = &[Array(&[Text, Fixed(4), TAGS])];

api!(
    ApiVersionsRequest,
    "ApiVersions",
    3..=3,
    [
        Fixed(2),
        Array(&[Fixed(6), TAGS]),
        Fixed(4),
        Tags(&[(0, FEATURES), (1, &[Fixed(8)]), (2, FEATURES), (3, &[Fixed(1)])]),
    ]
);

api!(
    MetadataRequest,
    "Metadata",
    11..=12,
    [
        Fixed(4),
        Array(&[Fixed(4), Text, Fixed(4), Text, TAGS]),
        Text,
        Fixed(4),
        Array(&[
            Fixed(2),
            Text,
            Fixed(17),
            Array(&[Fixed(14), INT32_ARRAY, INT32_ARRAY, INT32_ARRAY, TAGS]),
            Fixed(4),
            TAGS,
        ]),
        TAGS,
    ]
);

api!(
    ProduceRequest,
    "Produce",
    9..=9,
    [
        Array(&[
            Text,
            Array(&[Fixed(30), Array(&[Fixed(4), Text, TAGS]), Text, TAGS]),
            TAGS,
        ]),
        Fixed(4),
        TAGS,
    ]
);

api!(
    FetchRequest,
    "Fetch",
    12..=12,
    [
        Fixed(10),
        Array(&[
            Text,
            Array(&[
                Fixed(30),
                Array(&[Fixed(16), TAGS]),
                Fixed(4),
                Text,
                Tags(&[(0, &[Fixed(12), TAGS]), (1, &[Fixed(8), TAGS]), (2, &[Fixed(12), TAGS]),]),
            ]),
            TAGS,
        ]),
        TAGS,
    ]
);

api!(
    ListOffsetsRequest,
    "ListOffsets",
    7..=8,
    [Fixed(4), Array(&[Text, Array(&[Fixed(26), TAGS]), TAGS]), TAGS,]
);

api!(InitProducerIdRequest, "InitProducerId", 3..=4, [Fixed(16), TAGS]);

api!(
    CreateTopicsRequest,
    "CreateTopics",
    7..=7,
    [
        Fixed(4),
        Array(&[
            Text,
            Fixed(18),
            Text,
            Fixed(6),
            Array(&[Text, Text, Fixed(3), TAGS]),
            Tags(&[(0, &[Fixed(2)])]),
        ]),
        TAGS,
    ]
);

api!(
    DeleteTopicsRequest,
    "DeleteTopics",
    6..=6,
    [Fixed(4), Array(&[Text, Fixed(18), Text, TAGS]), TAGS,]
);

api!(
    CreatePartitionsRequest,
    "CreatePartitions",
    2..=3,
    [Fixed(4), Array(&[Text, Fixed(2), Text, TAGS]), TAGS,]
);

api!(
    DeleteRecordsRequest,
    "DeleteRecords",
    2..=2,
    [Fixed(4), Array(&[Text, Array(&[Fixed(14), TAGS]), TAGS]), TAGS,]
);

api!(
    DescribeConfigsRequest,
    "DescribeConfigs",
    4..=4,
    [
        Fixed(4),
        Array(&[
            Fixed(2),
            Text,
            Fixed(1),
            Text,
            Array(&[
                Text,
                Text,
                Fixed(3),
                Array(&[Text, Text, Fixed(1), TAGS]),
                Fixed(1),
                Text,
                TAGS,
            ]),
            TAGS,
        ]),
        TAGS,
    ]
);

api!(
    IncrementalAlterConfigsRequest,
    "IncrementalAlterConfigs",
    1..=1,
    [Fixed(4), Array(&[Fixed(2), Text, Fixed(1), Text, TAGS]), TAGS,]
);

api!(
    FindCoordinatorRequest,
    "FindCoordinator",
    4..=4,
    [Fixed(4), Array(&[Text, Fixed(4), Text, Fixed(6), Text, TAGS]), TAGS,]
);

api!(
    OffsetCommitRequest,
    "OffsetCommit",
    8..=8,
    [Fixed(4), Array(&[Text, Array(&[Fixed(6), TAGS]), TAGS]), TAGS,]
);

api!(
    OffsetFetchRequest,
    "OffsetFetch",
    8..=8,
    [
        Fixed(4),
        Array(&[
            Text,
            Array(&[Text, Array(&[Fixed(16), Text, Fixed(2), TAGS]), TAGS]),
            Fixed(2),
            TAGS,
        ]),
        TAGS,
    ]
);

api!(
    ListGroupsRequest,
    "ListGroups",
    4..=5,
    [Fixed(6), Array(&[Text, Text, Text, Since(5, &Text), TAGS]), TAGS,]
);

api!(
    DescribeGroupsRequest,
    "DescribeGroups",
    5..=5,
    [
        Fixed(4),
        Array(&[
            Fixed(2),
            Text,
            Text,
            Text,
            Text,
            Array(&[Text, Text, Text, Text, Text, Text, TAGS]),
            Fixed(4),
            TAGS,
        ]),
        TAGS,
    ]
);

api!(
    DeleteGroupsRequest,
    "DeleteGroups",
    2..=2,
    [Fixed(4), Array(&[Text, Fixed(2), TAGS]), TAGS,]
);

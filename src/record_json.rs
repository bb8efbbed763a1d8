//! A record as JSON, as it is read over HTTP and on the command line. The members are those that are published
//! (`src/http/publish/record.rs`), so that what was read can be published again.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use riverlog_storage::record::StoredRecord;
use serde::Serialize;

/// Text stands as `key` and `value`, bytes that are not UTF-8 as `key_base64` and `value_base64`, nothing as null.
#[derive(Serialize)]
pub struct RecordJson<'a> {
    partition: i32,
    offset: i64,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderJson<'a>>,
}

#[derive(Serialize)]
struct HeaderJson<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl<'a> RecordJson<'a> {
    /// The record, as it stands in this partition.
    #[must_use]
    pub fn new(partition: i32, record: &'a StoredRecord) -> Self {
        let (key, key_base64) = text_or_base64(record.key.as_ref());
        let (value, value_base64) = text_or_base64(record.value.as_ref());
        Self {
            partition,
            offset: record.offset,
            timestamp: record.timestamp_ms,
            key,
            key_base64,
            value,
            value_base64,
            headers: record.headers.iter().map(header).collect(),
        }
    }
}

fn header((name, value): &(Bytes, Option<Bytes>)) -> HeaderJson<'_> {
    let (value, value_base64) = text_or_base64(value.as_ref());
    HeaderJson {
        name: String::from_utf8_lossy(name),
        value,
        value_base64,
    }
}

/// What stands under the plain name, and what under the other.
fn text_or_base64(bytes: Option<&Bytes>) -> (Option<Option<&str>>, Option<String>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (Some(None), None),
        Some((_, Ok(text))) => (Some(Some(text)), None),
        Some((bytes, Err(_))) => (None, Some(STANDARD.encode(bytes))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_not_text() {
        let record = StoredRecord {
            offset: 7,
            timestamp_ms: 5,
            key: None,
            value: Some(Bytes::from_static(&[0xff, 0x00])),
            headers: vec![(Bytes::from("h"), None), (Bytes::from("é"), Some(Bytes::from("1")))],
        };
        let text = serde_json::to_string(&RecordJson::new(3, &record)).unwrap();
        let expected = r#"{"partition":3,"offset":7,"timestamp":5,"key":null,"value_base64":"/wA=","headers":[{"name":"h","value":null},{"name":"é","value":"1"}]}"#;
        assert_eq!(text, expected);
    }
}

//! A record as JSON, as it is read over HTTP and on the command line. The members are those that are published
//! (`src/http/publish/record.rs`), so that what was read can be published again.

use std::fmt::{self, Write};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use riverlog_storage::record::StoredRecord;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Text stands as `key` and `value`, bytes that are not UTF-8 as `key_base64` and `value_base64`, nothing as null.
/// All of it is written as it is met: of a large record nothing is held a second time.
pub struct RecordJson<'a> {
    partition: i32,
    record: &'a StoredRecord,
}

impl<'a> RecordJson<'a> {
    /// The record, as it stands in this partition.
    #[must_use]
    pub fn new(partition: i32, record: &'a StoredRecord) -> Self {
        Self { partition, record }
    }
}

impl Serialize for RecordJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { partition, record } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("partition", partition)?;
        map.serialize_entry("offset", &record.offset)?;
        map.serialize_entry("timestamp", &record.timestamp_ms)?;
        text_or_base64(&mut map, ["key", "key_base64"], record.key.as_ref())?;
        text_or_base64(&mut map, ["value", "value_base64"], record.value.as_ref())?;
        if !record.headers.is_empty() {
            map.serialize_entry("headers", &Headers(&record.headers))?;
        }
        map.end()
    }
}

struct Headers<'a>(&'a [(Bytes, Option<Bytes>)]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(name, value)| Header {
            name,
            value: value.as_ref(),
        }))
    }
}

struct Header<'a> {
    name: &'a [u8],
    value: Option<&'a Bytes>,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &Lossy(self.name))?;
        text_or_base64(&mut map, ["value", "value_base64"], self.value)?;
        map.end()
    }
}

/// Under the first name if it is text, or nothing, and under the second if it is not.
fn text_or_base64<M: SerializeMap>(map: &mut M, names: [&str; 2], bytes: Option<&Bytes>) -> Result<(), M::Error> {
    let [plain, base64] = names;
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => map.serialize_entry(plain, &()),
        Some((_, Ok(text))) => map.serialize_entry(plain, text),
        Some((bytes, Err(_))) => map.serialize_entry(base64, &Base64(bytes)),
    }
}

/// With U+FFFD for what is not UTF-8.
struct Lossy<'a>(&'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Lossy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
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
            headers: vec![
                (Bytes::from("h"), None),
                (Bytes::from("é"), Some(Bytes::from("1"))),
                (Bytes::from_static(b"a\xffb"), Some(Bytes::new())),
            ],
        };
        let text = serde_json::to_string(&RecordJson::new(3, &record)).unwrap();
        let expected = r#"{"partition":3,"offset":7,"timestamp":5,"key":null,"value_base64":"/wA=","headers":[{"name":"h","value":null},{"name":"é","value":"1"},{"name":"a�b","value":""}]}"#;
        assert_eq!(text, expected);
    }
}

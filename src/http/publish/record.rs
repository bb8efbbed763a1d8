//! A published record as JSON. What is read ([`RecordJson`](crate::record_json::RecordJson)) has the same members.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use riverlog_storage::record::Record;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Most records of one JSON document, which is held in memory as a whole.
pub const MAX_RECORDS: usize = 20_000;

/// A record to be published, and the partition it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// None lets the key decide.
    pub partition: Option<u32>,
    /// The record.
    pub record: Record,
}

/// What a record takes when it says nothing itself.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// From the query.
    pub partition: Option<u32>,
    /// The time of the request.
    pub timestamp_ms: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRecord<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "given")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
    #[serde(default)]
    partition: Option<u32>,
    #[serde(borrow, default)]
    headers: JsonHeaders<'a>,
    #[serde(default)]
    timestamp: Option<i64>,
    /// A record that was read says where it stood. It is taken as it is, and gets an offset of its own.
    #[serde(default, rename = "offset")]
    _offset: Option<u64>,
}

/// `null` is a value here, and not the same as nothing at all.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Either `{"name": value, …}` or `[{"name": …, "value": …}, …]`; names may repeat in both.
#[derive(Default)]
struct JsonHeaders<'a>(Vec<JsonHeader<'a>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonHeader<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "given")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonHeaders<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Headers;
        impl<'de> Visitor<'de> for Headers {
            type Value = JsonHeaders<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers as {\"name\": \"value\"} or [{\"name\": …, \"value\": …}]")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(JsonHeaders::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut headers = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &RawValue>()? {
                    headers.push(JsonHeader {
                        name,
                        value: Some(value),
                        value_base64: None,
                    });
                }
                Ok(JsonHeaders(headers))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut headers = Vec::new();
                while let Some(Object(header)) = seq.next_element()? {
                    headers.push(header);
                }
                Ok(JsonHeaders(headers))
            }
        }
        deserializer.deserialize_any(Headers)
    }
}

/// A `T` that is written as an object: a derived struct would take `[…]` as its fields in order, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A string that is borrowed from the input where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Turns parts of one input into bytes, without a copy where the part stands in the input as it is.
struct Input<'a>(&'a Bytes);

impl Input<'_> {
    fn text(&self, text: Cow<'_, str>) -> Bytes {
        match text {
            // The borrow is from this very input, unless a caller mixes up two of them.
            Cow::Borrowed(part) if self.0.as_ptr_range().contains(&part.as_ptr()) => self.0.slice_ref(part.as_bytes()),
            other => Bytes::from(other.into_owned()),
        }
    }

    /// A string is its text, null is nothing, and any other JSON is itself, byte for byte as it was sent.
    fn json(&self, raw: &RawValue) -> Result<Option<Bytes>, String> {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'n') => Ok(None),
            Some(b'"') => {
                let Text(string) = serde_json::from_str(text).map_err(|error| error.to_string())?;
                Ok(Some(self.text(string)))
            }
            _ => Ok(Some(self.text(Cow::Borrowed(text)))),
        }
    }

    fn field(
        &self,
        name: &str,
        json: Option<&RawValue>,
        base64: Option<Cow<'_, str>>,
    ) -> Result<Option<Option<Bytes>>, String> {
        match (json, base64) {
            (Some(_), Some(_)) => Err(format!("`{name}` and `{name}_base64` exclude each other")),
            (Some(raw), None) => self.json(raw).map(Some).map_err(|error| format!("`{name}`: {error}")),
            (None, Some(text)) => match STANDARD.decode(text.as_bytes()) {
                Ok(bytes) => Ok(Some(Some(Bytes::from(bytes)))),
                Err(error) => Err(format!("`{name}_base64` is not base 64: {error}")),
            },
            (None, None) => Ok(None),
        }
    }

    fn record(&self, json: JsonRecord<'_>, defaults: Defaults) -> Result<Publish, String> {
        let key = self.field("key", json.key, json.key_base64)?.flatten();
        let value = self
            .field("value", json.value, json.value_base64)?
            .ok_or("a record needs `value` (null deletes the key in a compacted topic) or `value_base64`")?;
        let mut headers = Vec::with_capacity(json.headers.0.len());
        for JsonHeader {
            name,
            value,
            value_base64,
        } in json.headers.0
        {
            let value = self
                .field("value", value, value_base64)
                .map_err(|error| format!("header {name:?}: {error}"))?;
            headers.push((self.text(name), value.flatten()));
        }
        let timestamp_ms = json.timestamp.unwrap_or(defaults.timestamp_ms);
        if timestamp_ms < 0 {
            return Err(format!(
                "`timestamp` is {timestamp_ms}, but counts milliseconds since 1970"
            ));
        }
        let record = Record {
            key,
            value,
            headers,
            timestamp_ms,
        };
        Ok(Publish {
            partition: json.partition.or(defaults.partition),
            record,
        })
    }
}

/// One record: a line of NDJSON.
///
/// # Errors
/// Says what is wrong with the line, for the one who wrote it.
pub fn parse_line(line: &Bytes, defaults: Defaults) -> Result<Publish, String> {
    let Object::<JsonRecord<'_>>(json) = serde_json::from_slice(line).map_err(|error| {
        let at = format!(" (column {})", error.column());
        describe(&error) + &at
    })?;
    Input(line).record(json, defaults)
}

/// A whole document `{"records": [record, …]}`.
///
/// # Errors
/// Says what is wrong with the document, and where.
pub fn parse_document(body: &Bytes, defaults: Defaults) -> Result<Vec<Publish>, String> {
    let Object::<Document<'_>>(document) = serde_json::from_slice(body).map_err(|error| {
        let at = format!(" (line {}, column {})", error.line(), error.column());
        describe(&error) + &at
    })?;
    let numbered = document.records.into_iter().enumerate();
    numbered
        .map(|(index, json)| {
            Input(body)
                .record(json, defaults)
                .map_err(|error| format!("record {index}: {error}"))
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(borrow, deserialize_with = "bounded")]
    records: Vec<JsonRecord<'a>>,
}

/// Stops at the limit, not behind it: a few bytes of JSON become a hundred in memory.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JsonRecord<'de>>, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<JsonRecord<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of records")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut records = Vec::new();
            while let Some(Object(record)) = seq.next_element()? {
                if records.len() == MAX_RECORDS {
                    return Err(A::Error::custom(format_args!(
                        "more than {MAX_RECORDS} records in one document; send application/x-ndjson, which is streamed"
                    )));
                }
                records.push(record);
            }
            Ok(records)
        }
    }
    deserializer.deserialize_seq(Bounded)
}

/// The parser's message without its "at line 1 column 7", and short even if it quotes the client.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    shorten(what).into_owned()
}

/// Client text that is quoted in an answer or a log stays short.
pub fn shorten(text: &str) -> Cow<'_, str> {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;

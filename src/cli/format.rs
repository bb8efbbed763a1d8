//! A record as a line of output.

use std::io::{self, Write};

use clap::ValueEnum;
use riverlog_client::StoredRecord;
use serde_json::{Map, Value, json};

use super::time;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The value.
    Text,
    /// Everything.
    Json,
}

impl Format {
    /// Writes the record and ends the line.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(self, out: &mut impl Write, partition: i32, record: &StoredRecord) -> io::Result<()> {
        match self {
            Self::Text => out.write_all(record.value.as_deref().unwrap_or_default())?,
            Self::Json => serde_json::to_writer(&mut *out, &record_json(partition, record))?,
        }
        out.write_all(b"\n")
    }
}

/// Key, value and headers as strings where they are UTF-8, else as `{"base16": "…"}`, so that nothing is
/// lost and nobody has to guess.
fn record_json(partition: i32, record: &StoredRecord) -> Value {
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| json!([bytes_json(Some(name)), bytes_json(value.as_deref())]))
        .collect();
    let mut line = Map::new();
    line.insert("partition".into(), partition.into());
    line.insert("offset".into(), record.offset.into());
    line.insert("timestamp".into(), record.timestamp_ms.into());
    line.insert("time".into(), time::format_ms(record.timestamp_ms).into());
    line.insert("key".into(), bytes_json(record.key.as_deref()));
    line.insert("value".into(), bytes_json(record.value.as_deref()));
    if !headers.is_empty() {
        line.insert("headers".into(), headers.into());
    }
    line.into()
}

fn bytes_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => text.into(),
        Some(Err(_)) => {
            let digits = bytes.unwrap_or_default().iter().map(|byte| format!("{byte:02x}"));
            json!({ "base16": digits.collect::<String>() })
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn keeps_what_is_not_text() {
        let record = StoredRecord {
            offset: 7,
            timestamp_ms: 0,
            key: None,
            value: Some(Bytes::from_static(&[0xff, 0x00])),
            headers: vec![(Bytes::from("h"), None)],
        };
        let line = record_json(3, &record).to_string();
        assert!(line.contains(r#""value":{"base16":"ff00"}"#), "{line}");
        assert!(line.contains(r#""headers":[["h",null]]"#), "{line}");
        assert!(line.contains(r#""key":null"#), "{line}");
    }
}

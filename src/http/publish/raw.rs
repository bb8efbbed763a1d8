//! A raw body is the value of one record; the rest of the record stands in the query or in headers.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use riverlog_storage::record::Record;

use super::PublishQuery;
use super::record::{Publish, shorten};
use crate::http::problem::Problem;

const KEY: &str = "riverlog-key";
const KEY_BASE64: &str = "riverlog-key-base64";
const PARTITION: &str = "riverlog-partition";
const TIMESTAMP: &str = "riverlog-timestamp";
/// `riverlog-header-trace-id: 7` becomes the record header `trace-id`.
const HEADER_PREFIX: &str = "riverlog-header-";

/// Everything of the record but its value.
pub fn record(query: PublishQuery, headers: &HeaderMap, now_ms: i64) -> Result<Publish, Problem> {
    let partition = one("partition", query.partition, number(headers, PARTITION)?)?;
    let timestamp = one("timestamp", query.timestamp, number(headers, TIMESTAMP)?)?;
    let text = one("key", query.key.map(Bytes::from), bytes(headers, KEY)?)?;
    let base64 = one(
        "key_base64",
        query.key_base64.map(Bytes::from),
        bytes(headers, KEY_BASE64)?,
    )?;
    let base64 = base64.map(|text| decode(&text)).transpose()?;
    let key = one("key", text, base64)?;
    let timestamp_ms = timestamp.unwrap_or(now_ms);
    if timestamp_ms < 0 {
        return Err(Problem::bad_request(format!(
            "timestamp {timestamp_ms} is negative; it counts milliseconds since 1970"
        )));
    }
    let named = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(HEADER_PREFIX)?;
        Some((
            Bytes::copy_from_slice(name.as_bytes()),
            Some(Bytes::copy_from_slice(value.as_bytes())),
        ))
    });
    let record = Record {
        key,
        value: None,
        headers: named.collect(),
        timestamp_ms,
    };
    Ok(Publish { partition, record })
}

/// A thing that may be said in two places must be said in one.
fn one<T>(name: &str, here: Option<T>, there: Option<T>) -> Result<Option<T>, Problem> {
    match (here, there) {
        (Some(_), Some(_)) => Err(Problem::bad_request(format!("`{name}` is given twice"))),
        (here, there) => Ok(here.or(there)),
    }
}

fn bytes(headers: &HeaderMap, name: &str) -> Result<Option<Bytes>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Problem::bad_request(format!("header `{name}` is given twice")));
    }
    Ok(first.map(|value| Bytes::copy_from_slice(value.as_bytes())))
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Result<Option<T>, Problem> {
    let Some(text) = bytes(headers, name)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&text);
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Problem::bad_request(format!(
            "header `{name}` is {:?}, but must be a whole number",
            shorten(&text)
        ))),
    }
}

fn decode(text: &[u8]) -> Result<Bytes, Problem> {
    STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(|error| Problem::bad_request(format!("the key is not base 64: {error}")))
}

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use riverlog_storage::record::StoredRecord;
use serde_json::{Value, json};

use super::*;
use crate::record_json::RecordJson;

const DEFAULTS: Defaults = Defaults {
    partition: None,
    timestamp_ms: 1_000,
};

fn line(text: &str) -> Result<Publish, String> {
    parse_line(&Bytes::copy_from_slice(text.as_bytes()), DEFAULTS)
}

fn value_of(text: &str) -> Option<Bytes> {
    line(text).unwrap().record.value
}

#[test]
fn text_null_and_other_json_become_bytes() {
    assert_eq!(value_of(r#"{"value":"caf\u00e9"}"#).unwrap(), "café");
    assert_eq!(value_of(r#"{"value":null}"#), None);
    assert_eq!(value_of(r#"{"value":""}"#).unwrap(), "");
    // Numbers keep every digit and objects their order: the text is passed on, not a reading of it.
    assert_eq!(
        value_of(r#"{"value":{"z":1.00000000000000000001, "a":[1e400]}}"#).unwrap(),
        r#"{"z":1.00000000000000000001, "a":[1e400]}"#
    );
    assert_eq!(value_of(r#"{"value":false}"#).unwrap(), "false");
    assert_eq!(value_of(r#"{"value_base64":"AP8="}"#).unwrap(), &[0, 255][..]);
}

#[test]
fn all_parts_of_a_record_can_be_given() {
    let publish = line(
        r#"{"key":"k","value":1,"partition":3,"timestamp":42,"headers":[{"name":"a","value":"x"},{"name":"a","value_base64":"/w=="},{"name":"n","value":null}]}"#,
    )
    .unwrap();
    assert_eq!(publish.partition, Some(3));
    assert_eq!(publish.record.key.unwrap(), "k");
    assert_eq!(publish.record.timestamp_ms, 42);
    let headers = publish.record.headers;
    assert_eq!(headers[0], (Bytes::from("a"), Some(Bytes::from("x"))));
    assert_eq!(headers[1], (Bytes::from("a"), Some(Bytes::from_static(&[255]))));
    assert_eq!(headers[2], (Bytes::from("n"), None));
    let headers = line(r#"{"value":1,"headers":{"b":"2","a":{"x":1},"b":null}}"#)
        .unwrap()
        .record
        .headers;
    assert_eq!(headers.len(), 3, "order and repetition stay");
    assert_eq!(headers[1].1.as_ref().unwrap(), r#"{"x":1}"#);
}

#[test]
fn what_was_read_can_be_published_again() {
    let stored = StoredRecord {
        offset: 9,
        timestamp_ms: 42,
        key: Some(Bytes::from_static(&[255])),
        value: None,
        headers: vec![(Bytes::from("a"), Some(Bytes::from("\"é"))), (Bytes::from("b"), None)],
    };
    let text = serde_json::to_string(&RecordJson::new(3, &stored)).unwrap();
    let Publish { partition, record } = line(&text).unwrap();
    assert_eq!(partition, Some(3));
    assert_eq!((record.key, record.value), (stored.key, stored.value));
    assert_eq!((record.headers, record.timestamp_ms), (stored.headers, 42));
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    for (text, expected) in [
        (r#"{"valeu":1}"#, "unknown field `valeu`"),
        (r#"{"key":"k"}"#, "a record needs `value`"),
        (r#"{"value":1,"value":2}"#, "duplicate field `value`"),
        (r#"{"value":1,"value_base64":"AA=="}"#, "exclude each other"),
        (r#"{"value_base64":"A"}"#, "is not base 64"),
        (r#"{"value":1,"timestamp":-1}"#, "counts milliseconds"),
        (r#"{"value":1,"partition":-1}"#, "invalid value"),
        (r#"{"value":1,"headers":"x"}"#, "headers as"),
        (r#"{"value":"\ud800"}"#, "value"),
        (r#"{"value":1} x"#, "trailing characters (column 13)"),
        (r#"["k",null,1]"#, "expected an object"),
        (r#"{"value":1,"headers":[["a",1]]}"#, "expected an object"),
        ("{\"value\":\"\u{1}\"}", "control character"),
    ] {
        let error = line(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = line(&format!("{{\"{}\":1}}", "x".repeat(100_000))).unwrap_err();
    assert!(
        error.len() < 300,
        "the client's text is not echoed at length: {}",
        error.len()
    );
    assert!(parse_line(&Bytes::from_static(b"{\"value\":\"\xff\"}"), DEFAULTS).is_err());
}

#[test]
fn documents_are_bounded_and_name_the_record_that_is_wrong() {
    let parse = |text: &str| parse_document(&Bytes::copy_from_slice(text.as_bytes()), DEFAULTS);
    assert_eq!(parse(r#"{"records":[{"value":1},{"value":2}]}"#).unwrap().len(), 2);
    let error = parse("{\"records\":[\n{\"value\":1},\n{\"value\":1,\"x\":2}]}").unwrap_err();
    assert!(
        error.contains("unknown field `x`") && error.contains("line 3"),
        "{error}"
    );
    assert!(
        parse(r#"{"records":[{"value":1},{"key":1}]}"#)
            .unwrap_err()
            .starts_with("record 1:")
    );
    let many = format!("{{\"records\":[{}]}}", vec!["{\"value\":1}"; MAX_RECORDS + 1].join(","));
    assert!(parse(&many).unwrap_err().contains("application/x-ndjson"));
    assert!(parse(r#"{"records":[]} {}"#).is_err());
    assert!(parse(r#"{"record":[]}"#).is_err());
    assert!(parse(r#"[[{"value":1}]]"#).is_err());
    assert!(parse(r#"{"records":[["k",null,1]]}"#).is_err());
}

proptest! {
    #[test]
    fn any_bytes_give_a_record_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = parse_line(&bytes, DEFAULTS);
        let _ = parse_document(&bytes, DEFAULTS);
    }

    #[test]
    fn bent_records_give_a_record_or_a_reason(at in 0_usize..90, with in any::<u8>(), cut in 0_usize..90) {
        let mut text = br#"{"key":"k\u0041","value":{"a":[1,null]},"headers":{"h":"x"},"partition":1,"timestamp":5}"#.to_vec();
        if let Some(byte) = text.get_mut(at) { *byte = with; }
        text.truncate(cut.max(at + 1));
        let _ = parse_line(&Bytes::from(text), DEFAULTS);
    }

    #[test]
    fn records_come_through_whole(
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        value in ".{0,60}",
        names in proptest::collection::vec(".{0,8}", 0..4),
        timestamp in 0_i64..i64::MAX,
    ) {
        let headers: Vec<Value> = names.iter().map(|name| json!({"name": name, "value": value})).collect();
        let mut record = json!({"value": value, "headers": headers, "timestamp": timestamp});
        if let Some(key) = &key {
            record["key_base64"] = json!(STANDARD.encode(key));
        }
        let publish = line(&record.to_string()).unwrap();
        prop_assert_eq!(publish.record.key.as_deref(), key.as_deref());
        prop_assert_eq!(publish.record.value.as_deref(), Some(value.as_bytes()));
        prop_assert_eq!(publish.record.timestamp_ms, timestamp);
        let got: Vec<_> = publish.record.headers.iter().map(|(name, _)| name.clone()).collect();
        prop_assert_eq!(got, names.iter().map(|name| Bytes::from(name.clone())).collect::<Vec<_>>());
    }
}

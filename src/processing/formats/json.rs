//! JSON values.

use riverlog_storage::record::StoredRecord;
use serde::de::DeserializeOwned;

/// Decodes the value as JSON. The error says where it does not fit.
pub fn json<T: DeserializeOwned>(record: &StoredRecord) -> Result<T, String> {
    let value = record.value.as_deref().ok_or("the record has no value")?;
    serde_json::from_slice(value).map_err(|e| format!("the value is not the expected JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_the_place() {
        let record = |value: Option<&'static str>| StoredRecord {
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: value.map(Into::into),
            headers: vec![],
        };
        assert_eq!(json::<Vec<u8>>(&record(Some("[1,2]"))), Ok(vec![1, 2]));
        let error = json::<Vec<u8>>(&record(Some("[1,\"x\"]"))).err().unwrap_or_default();
        assert!(error.contains("line 1 column"), "{error}");
        assert!(json::<u8>(&record(None)).is_err());
    }
}

//! The one way in which this crate turns values into bytes: a format version byte, then bincode with
//! fixed-width little-endian integers and a size limit. Golden tests pin the bytes.

use serde::{Serialize, de::DeserializeOwned};

/// The largest value that is read or written: a manifest with a million segments fits easily.
const LIMIT_BYTES: usize = 256 * 1024 * 1024;

/// Why bytes could not be read, or a value not be written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value's format version is not one that this program knows.
    #[error("format version {found} is not known here (this program knows {known})")]
    Version {
        /// The version byte that was read.
        found: u8,
        /// The version that this program writes.
        known: u8,
    },
    /// The bytes are not a value of this type.
    #[error("malformed: {0}")]
    Malformed(String),
}

fn config<const LIMIT: usize>() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_little_endian()
        .with_limit::<LIMIT>()
}

/// Encodes `value` behind the format byte `version`.
pub fn encode<T: Serialize>(version: u8, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![version];
    let body = bincode::serde::encode_to_vec(value, config::<LIMIT_BYTES>())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Decodes what [`encode`] wrote with this version or an earlier one. Values look the same in all of them so far: who changes
/// that must tell them apart here. Trailing bytes are an error: they would be silently lost.
pub fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, CodecError> {
    let (found, body) = bytes
        .split_first()
        .ok_or_else(|| CodecError::Malformed("empty".into()))?;
    if !(1..=version).contains(found) {
        return Err(CodecError::Version {
            found: *found,
            known: version,
        });
    }
    // bincode allocates for a length before it looks whether so many bytes are there. So a limit in proportion: a damaged
    // length in a few bytes must not ask for hundreds of megabytes.
    let decoded = match body.len() {
        0..=0x400 => decode_within::<T, { 64 << 10 }>(body),
        0x401..=0x8000 => decode_within::<T, { 2 << 20 }>(body),
        0x8001..=0x10_0000 => decode_within::<T, { 64 << 20 }>(body),
        _ => decode_within::<T, LIMIT_BYTES>(body),
    };
    let (value, read) = decoded.map_err(|error| CodecError::Malformed(error.to_string()))?;
    if read != body.len() {
        return Err(CodecError::Malformed(format!(
            "{} bytes behind the value",
            body.len() - read
        )));
    }
    Ok(value)
}

fn decode_within<T: DeserializeOwned, const LIMIT: usize>(
    body: &[u8],
) -> Result<(T, usize), bincode::error::DecodeError> {
    bincode::serde::decode_from_slice(body, config::<LIMIT>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_size_read_back() {
        for len in [0, 1, 1_000, 1_020, 40_000, 70_000, 3 << 20] {
            let value = vec![(String::from("x"), 7_u64); len / 17 + 1];
            assert_eq!(
                decode::<Vec<(String, u64)>>(1, &encode(1, &value).unwrap()).unwrap(),
                value
            );
            let text = "t".repeat(len);
            assert_eq!(decode::<String>(1, &encode(1, &text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn a_length_that_lies_is_an_error_before_anything_is_allocated() {
        let mut bytes = encode(1, &"text").unwrap();
        bytes.splice(1..9, (200_u64 << 20).to_le_bytes());
        let refused = decode::<String>(1, &bytes).unwrap_err().to_string();
        assert!(
            refused.contains("LimitExceeded") || refused.contains("limit"),
            "{refused}"
        );
    }
}

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

fn config() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_little_endian()
        .with_limit::<LIMIT_BYTES>()
}

/// Encodes `value` behind the format byte `version`.
pub fn encode<T: Serialize>(version: u8, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![version];
    let body =
        bincode::serde::encode_to_vec(value, config()).map_err(|error| CodecError::Malformed(error.to_string()))?;
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Decodes what [`encode`] wrote. Trailing bytes are an error: they would be silently lost.
pub fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, CodecError> {
    let (found, body) = bytes
        .split_first()
        .ok_or_else(|| CodecError::Malformed("empty".into()))?;
    if *found != version {
        return Err(CodecError::Version {
            found: *found,
            known: version,
        });
    }
    let (value, read) =
        bincode::serde::decode_from_slice(body, config()).map_err(|error| CodecError::Malformed(error.to_string()))?;
    if read != body.len() {
        return Err(CodecError::Malformed(format!(
            "{} bytes behind the value",
            body.len() - read
        )));
    }
    Ok(value)
}

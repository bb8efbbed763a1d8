//! How the engine's durable values become bytes: one format byte, then bincode with fixed-size integers.
//!
//! Everything that a job keeps in `__job_state` passes through here, so that a value can never be read
//! by a reader of another format without being noticed, and never makes us allocate more than
//! [`LIMIT_BYTES`] on the word of a damaged length field.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Serialize, de::DeserializeOwned};

/// The format that this build writes; the first byte of every value.
pub const FORMAT: u8 = 1;

/// No single encoded value may be larger than this.
pub const LIMIT_BYTES: usize = 64 << 20;

fn config() -> Configuration<LittleEndian, Fixint, Limit<LIMIT_BYTES>> {
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<LIMIT_BYTES>()
}

/// Why bytes are not a value, or a value not bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value has no first byte.
    #[error("the value is empty: the format byte is missing")]
    Empty,
    /// Written by a newer build, or not by us.
    #[error("format {found} is not known to this build, which reads format {FORMAT}")]
    UnknownFormat {
        /// The format byte that was found.
        found: u8,
    },
    /// The bytes do not hold such a value.
    #[error("the bytes do not decode: {0}")]
    Decode(String),
    /// The value cannot be written.
    #[error("the value does not encode: {0}")]
    Encode(String),
    /// A value was read and bytes were left.
    #[error("{left} bytes are left behind the value")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
}

/// Encodes a value behind its format byte.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![FORMAT];
    bincode::serde::encode_into_std_write(value, &mut bytes, config()).map_err(|e| Error::Encode(e.to_string()))?;
    Ok(bytes)
}

/// Decodes what [`encode`] wrote, all of it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let (&found, body) = bytes.split_first().ok_or(Error::Empty)?;
    if found != FORMAT {
        return Err(Error::UnknownFormat { found });
    }
    let (value, read) = bincode::serde::decode_from_slice(body, config()).map_err(|e| Error::Decode(e.to_string()))?;
    match body.len() - read {
        0 => Ok(value),
        left => Err(Error::TrailingBytes { left }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_pinned() {
        let value: (u16, Option<i64>, String, Vec<u8>) = (7, Some(-1), "EWR".into(), vec![1, 2]);
        let expected = [
            &[FORMAT, 7, 0, 1][..],
            &[0xff; 8],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            b"EWR",
            &[2, 0, 0, 0, 0, 0, 0, 0, 1, 2],
        ]
        .concat();
        assert_eq!(encode(&value).unwrap(), expected);
        assert_eq!(decode::<(u16, Option<i64>, String, Vec<u8>)>(&expected).unwrap(), value);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert_eq!(decode::<u8>(&[]), Err(Error::Empty));
        assert_eq!(decode::<u8>(&[9, 1]), Err(Error::UnknownFormat { found: 9 }));
        assert_eq!(decode::<u8>(&[FORMAT, 1, 2]), Err(Error::TrailingBytes { left: 1 }));
        let lying_length = [&[FORMAT][..], &u64::MAX.to_le_bytes()].concat();
        assert!(matches!(decode::<Vec<u8>>(&lying_length), Err(Error::Decode(_))));
        let truncated = &encode("departure").unwrap()[..12];
        assert!(matches!(decode::<String>(truncated), Err(Error::Decode(_))));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_abort(bytes: Vec<u8>) {
            let _ = decode::<Vec<(String, Option<Vec<u8>>)>>(&bytes);
        }
    }
}

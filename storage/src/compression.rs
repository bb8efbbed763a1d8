//! The codecs of record batches. Decompression never gives, or holds, more than it was allowed.

use std::io::{self, Read, Write};

use thiserror::Error;

/// A codec, by its number in a batch's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Records stand as they are.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Blocks of raw snappy in xerial's framing, as the Java client writes it.
    Snappy = 2,
    /// LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

impl Compression {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec in the low three bits of a batch's attributes, if it is one that exists.
    pub fn from_attributes(attributes: i16) -> Option<Self> {
        match attributes & 0x07 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name that topic configs and clients use.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Why a payload could not be compressed or decompressed.
#[derive(Debug, Error)]
pub enum CompressionError {
    /// The data would decompress to more than the caller allows.
    #[error("decompresses to more than {max_bytes} bytes")]
    TooLarge {
        /// The limit.
        max_bytes: usize,
    },
    /// The data is not what the codec writes.
    #[error("is not valid {codec} data: {reason}")]
    Invalid {
        /// The codec's name.
        codec: &'static str,
        /// What the decoder said.
        reason: String,
    },
}

fn invalid(codec: Compression, reason: impl ToString) -> CompressionError {
    CompressionError::Invalid {
        codec: codec.name(),
        reason: reason.to_string(),
    }
}

/// Compresses with the codec's usual level.
pub fn compress(codec: Compression, data: &[u8]) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Compression::None => Ok(data.to_vec()),
        Compression::Gzip => gzip(data).map_err(|e| invalid(codec, e)),
        Compression::Snappy => snappy(data).map_err(|e| invalid(codec, e)),
        Compression::Lz4 => lz4(data).map_err(|e| invalid(codec, e)),
        Compression::Zstd => zstd::stream::encode_all(data, ZSTD_LEVEL).map_err(|e| invalid(codec, e)),
    }
}

/// Decompresses to at most `max_bytes`; more is [`CompressionError::TooLarge`].
pub fn decompress(codec: Compression, data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Compression::None if data.len() > max_bytes => Err(CompressionError::TooLarge { max_bytes }),
        Compression::None => Ok(data.to_vec()),
        Compression::Gzip => read_bounded(codec, flate2::bufread::MultiGzDecoder::new(data), max_bytes),
        Compression::Snappy => unsnappy(data, max_bytes),
        Compression::Lz4 => read_bounded(codec, lz4_flex::frame::FrameDecoder::new(data), max_bytes),
        Compression::Zstd => unzstd(data, max_bytes),
    }
}

/// Reads a decoder out, one byte further than allowed at most.
fn read_bounded(codec: Compression, decoder: impl Read, max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    let limit = (max_bytes as u64).saturating_add(1);
    decoder
        .take(limit)
        .read_to_end(&mut out)
        .map_err(|e| invalid(codec, e))?;
    if out.len() > max_bytes {
        return Err(CompressionError::TooLarge { max_bytes });
    }
    Ok(out)
}

fn gzip(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data)?;
    encoder.finish()
}

fn lz4(data: &[u8]) -> Result<Vec<u8>, lz4_flex::frame::Error> {
    // What Kafka's clients expect: independent blocks of at most 64 KiB, no checksums.
    let info = lz4_flex::frame::FrameInfo::new()
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .block_mode(lz4_flex::frame::BlockMode::Independent);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(data)?;
    encoder.finish()
}

const ZSTD_LEVEL: i32 = 3;

fn unzstd(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let codec = Compression::Zstd;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(data).map_err(|e| invalid(codec, e))?;
    // The frame names its window and the decoder allocates it. Levels up to 19 use at most 8 MiB.
    let needed = usize::BITS - max_bytes.saturating_sub(1).leading_zeros();
    decoder
        .window_log_max(needed.clamp(23, 27))
        .map_err(|e| invalid(codec, e))?;
    read_bounded(codec, decoder, max_bytes)
}

const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
/// Magic, version and the oldest version that can read it.
const XERIAL_HEADER_LEN: usize = 16;
const XERIAL_BLOCK_LEN: usize = 32 * 1024;

fn snappy(data: &[u8]) -> Result<Vec<u8>, snap::Error> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_LEN + data.len() / 2);
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in data.chunks(XERIAL_BLOCK_LEN) {
        let packed = encoder.compress_vec(block)?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

/// The Java client frames its blocks (and may concatenate framed streams); others send one raw block.
fn unsnappy(data: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    if !data.starts_with(XERIAL_MAGIC) {
        unsnappy_block(data, max_bytes, &mut out)?;
        return Ok(out);
    }
    let truncated = || invalid(Compression::Snappy, "truncated xerial frame");
    let mut rest = data;
    while !rest.is_empty() {
        if rest.starts_with(XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_LEN..).ok_or_else(truncated)?;
            continue;
        }
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(truncated)?;
        unsnappy_block(block, max_bytes, &mut out)?;
        rest = behind;
    }
    Ok(out)
}

/// Appends one raw block to `out`, which may grow to `max_bytes`.
fn unsnappy_block(block: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let codec = Compression::Snappy;
    let length = snap::raw::decompress_len(block).map_err(|e| invalid(codec, e))?;
    if length > max_bytes.saturating_sub(out.len()) {
        return Err(CompressionError::TooLarge { max_bytes });
    }
    // Three bytes of snappy give at most 64: a block that promises more lies, and is not believed
    // far enough to allocate for it.
    if length > block.len().saturating_mul(22) {
        return Err(invalid(
            codec,
            format!("{length} bytes from a block of {}", block.len()),
        ));
    }
    let start = out.len();
    out.resize(start + length, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new()
        .decompress(block, room)
        .map_err(|e| invalid(codec, e))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_too_large(result: Result<Vec<u8>, CompressionError>) -> bool {
        matches!(result, Err(CompressionError::TooLarge { .. }))
    }

    #[test]
    fn every_codec_returns_what_went_in_and_no_more_than_allowed() {
        let data: Vec<u8> = (0..100_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for codec in Compression::ALL {
            let packed = compress(codec, &data).unwrap();
            assert_eq!(decompress(codec, &packed, data.len()).unwrap(), data);
            assert!(is_too_large(decompress(codec, &packed, data.len() - 1)), "{codec:?}");
            assert_eq!(Compression::from_attributes(codec as i16), Some(codec));
        }
        assert_eq!(Compression::from_attributes(5), None);
    }

    #[test]
    fn empty_payloads_are_fine() {
        for codec in Compression::ALL {
            let packed = compress(codec, b"").unwrap();
            assert_eq!(decompress(codec, &packed, 0).unwrap(), b"");
        }
    }

    #[test]
    fn raw_snappy_and_concatenated_frames_are_read() {
        let raw = snap::raw::Encoder::new().compress_vec(b"raw block").unwrap();
        assert_eq!(decompress(Compression::Snappy, &raw, 100).unwrap(), b"raw block");
        let mut twice = compress(Compression::Snappy, b"one ").unwrap();
        twice.extend(compress(Compression::Snappy, b"two").unwrap());
        assert_eq!(decompress(Compression::Snappy, &twice, 100).unwrap(), b"one two");
    }

    #[test]
    fn bombs_are_refused_early() {
        let zeros = vec![0; 64 << 20];
        for codec in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let bomb = compress(codec, &zeros).unwrap();
            assert!(is_too_large(decompress(codec, &bomb, 1 << 20)), "{codec:?}");
        }
        // A snappy block that claims 1 MiB in five bytes.
        let liar = [0x80, 0x80, 0x40, 0x00, 0x61];
        assert!(matches!(
            decompress(Compression::Snappy, &liar, 1 << 30),
            Err(CompressionError::Invalid { .. })
        ));
    }

    #[test]
    fn lz4_frames_have_the_header_that_kafka_checks() {
        let packed = compress(Compression::Lz4, b"abc").unwrap();
        // Magic, version 1 with independent blocks, 64 KiB blocks, header checksum.
        assert_eq!(packed[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn round_trip(data in prop::collection::vec(any::<u8>(), 0..70_000)) {
            for codec in Compression::ALL {
                let packed = compress(codec, &data).unwrap();
                prop_assert_eq!(&decompress(codec, &packed, data.len()).unwrap(), &data);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            data in prop::collection::vec(any::<u8>(), 0..600),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            for codec in Compression::ALL {
                let _ = decompress(codec, &data, 4096);
                let mut packed = compress(codec, &data).unwrap();
                for (index, value) in &flips {
                    if !packed.is_empty() {
                        let at = index.index(packed.len());
                        packed[at] ^= value;
                    }
                }
                if let Ok(out) = decompress(codec, &packed, 4096) {
                    prop_assert!(out.len() <= 4096);
                }
            }
        }
    }
}

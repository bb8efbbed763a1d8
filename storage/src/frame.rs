//! The journal frame: one group of write sets that one sync makes durable. Bytes only, no I/O.
//!
//! A group is exactly one frame, so "all or nothing" is one checksum, and those of its extents. The layout, little-endian, is in
//! `docs/formats.md`; the fields that look redundant are each there because a simulated crash found
//! the hole that they close (`storage` contract, section 2).

use crate::batch::{self, BatchHeader};
use crate::planted::{Planted, planted};
use crate::{CONTROL_LOG, LogId, Lsn};

/// Frames begin on such boundaries, so that a scan finds them behind damage.
pub const BLOCK_BYTES: u64 = 4096;
const MAGIC: u32 = 0x4c56_4952; // "RIVL"
const FORMAT: u16 = 1;
const FIXED_BYTES: usize = 76;
const PART_BYTES: usize = 44;
const END_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;
/// What the body holds of an extent: its checksum.
const EXTENT_CRC_BYTES: usize = 4;
/// More parts than this in one group are not written and not believed.
pub const MAX_PARTS: usize = 1 << 17;
/// No body is larger than this, nor would be with all extents in it, as a start writes the last frame.
pub const MAX_BODY_BYTES: u64 = 96 << 20;

/// Random bytes of one incarnation (one start). Never shown to clients, who could forge frames.
pub type Salt = [u8; 16];

/// Where the batches of a part are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In the frame's body.
    Inline = 0,
    /// In the segment alone; the body has the CRC-32 of all their bytes. Read, not written.
    ExtentOfVersion2 = 1,
    /// In the segment alone; the body has the CRC-32 of their headers.
    Extent = 2,
}

/// Consecutive batches of one log in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The log.
    pub log: LogId,
    /// Offset of the first record.
    pub first_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// Bytes of the batches.
    pub length: u32,
    /// Where they are.
    pub kind: Kind,
    /// The segment's base offset.
    pub segment_base: i64,
    /// Where in the segment.
    pub position: u32,
}

/// Everything of a frame but its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHeader {
    /// The incarnation that wrote it.
    pub salt: Salt,
    /// Its number.
    pub lsn: Lsn,
    /// The journal file that it was written for.
    pub file: u64,
    /// The position that it was written for.
    pub position: u64,
    /// The last frame that was durable when this one was written.
    pub synced_lsn: Lsn,
    /// Wall clock when it was written, in milliseconds since 1970.
    pub time_ms: i64,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// What the body holds.
    pub parts: Vec<Part>,
    /// The ends that the logs of the frame before this one had behind it; empty where it had none.
    pub previous_ends: Vec<(LogId, i64)>,
}

/// Why bytes are not the frame that is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadFrame {
    /// No header of this incarnation is here.
    NoHeader,
    /// The header checks, the body does not.
    Body,
}

impl FrameHeader {
    /// Bytes of the encoded header with its checksums.
    pub fn encoded_len(parts: usize, previous_ends: usize) -> usize {
        FIXED_BYTES + parts * PART_BYTES + previous_ends * END_BYTES + CHECKSUM_BYTES
    }

    /// Writes the header into `frame`, which already holds the body behind a gap of
    /// [`Self::encoded_len`] bytes.
    pub fn seal(&self, frame: &mut [u8]) {
        let header_len = Self::encoded_len(self.parts.len(), self.previous_ends.len());
        if let Some((gap, body)) = frame.split_at_mut_checked(header_len) {
            gap.copy_from_slice(&self.encode([&*body]));
        }
    }

    /// The header, with the checksum of the body that is to stand behind it, in any number of pieces.
    pub fn encode<'a>(&self, body: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let header_len = Self::encoded_len(self.parts.len(), self.previous_ends.len());
        let mut out = Vec::with_capacity(header_len);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.lsn.to_le_bytes());
        out.extend_from_slice(&self.file.to_le_bytes());
        out.extend_from_slice(&(self.position / BLOCK_BYTES).to_le_bytes());
        out.extend_from_slice(&self.synced_lsn.to_le_bytes());
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        out.extend_from_slice(&(self.body_bytes as u32).to_le_bytes());
        out.extend_from_slice(&(self.parts.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.previous_ends.len() as u32).to_le_bytes());
        for part in &self.parts {
            out.extend_from_slice(&part.log.to_le_bytes());
            out.extend_from_slice(&part.first_offset.to_le_bytes());
            out.extend_from_slice(&part.last_offset.to_le_bytes());
            out.extend_from_slice(&part.length.to_le_bytes());
            out.extend_from_slice(&(part.kind as u16).to_le_bytes());
            out.extend_from_slice(&0u16.to_le_bytes());
            out.extend_from_slice(&part.segment_base.to_le_bytes());
            out.extend_from_slice(&part.position.to_le_bytes());
        }
        for (log, end) in &self.previous_ends {
            out.extend_from_slice(&log.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        let header_crc = crc32fast::hash(&out);
        out.extend_from_slice(&header_crc.to_le_bytes());
        let mut whole = crc32fast::Hasher::new();
        whole.update(&out);
        body.into_iter().for_each(|piece| whole.update(piece));
        out.extend_from_slice(&whole.finalize().to_le_bytes());
        out
    }

    /// Bytes that the header at the front of `bytes` claims, if it claims to be one of `salt`:
    /// enough to know how much to read before [`Self::decode`].
    pub fn claimed_len(bytes: &[u8], salt: &Salt) -> Option<(usize, u64)> {
        let mut fields = Fields(bytes);
        let (magic, format, _flags) = (fields.u32()?, fields.u16()?, fields.u16()?);
        if magic != MAGIC || format != FORMAT || fields.take(16)? != salt {
            return None;
        }
        fields.take(40)?;
        let body_bytes = u64::from(fields.u32()?);
        let (parts, ends) = (fields.u32()? as usize, fields.u32()? as usize);
        if parts > MAX_PARTS || ends > MAX_PARTS || body_bytes > MAX_BODY_BYTES {
            return None;
        }
        Some((Self::encoded_len(parts, ends), body_bytes))
    }

    /// Reads and checks a header. The body is not looked at.
    pub fn decode(bytes: &[u8], salt: &Salt) -> Option<Self> {
        let (header_len, _) = Self::claimed_len(bytes, salt)?;
        let header = bytes.get(..header_len)?;
        let covered = header.get(..header_len.checked_sub(CHECKSUM_BYTES)?)?;
        let mut fields = Fields(header.get(covered.len()..)?);
        if fields.u32()? != crc32fast::hash(covered) {
            return None;
        }
        let mut fields = Fields(covered);
        fields.take(24)?;
        let (lsn, file) = (fields.u64()?, fields.u64()?);
        let position = fields.u64()?.checked_mul(BLOCK_BYTES)?;
        let (synced_lsn, time_ms) = (fields.u64()?, fields.i64()?);
        if synced_lsn >= lsn {
            return None;
        }
        let body_bytes = u64::from(fields.u32()?);
        let (part_count, end_count) = (fields.u32()? as usize, fields.u32()? as usize);
        let mut parts = Vec::with_capacity(part_count);
        let mut batch_bytes = 0;
        for _ in 0..part_count {
            let (log, first_offset, last_offset) = (fields.u64()?, fields.i64()?, fields.i64()?);
            let (length, kind, _reserved) = (fields.u32()?, fields.u16()?, fields.u16()?);
            let (segment_base, position) = (fields.i64()?, fields.u32()?);
            let kind = match kind {
                0 => Kind::Inline,
                // Those of the catalog are needed first, and always inline.
                1 if log != CONTROL_LOG => Kind::ExtentOfVersion2,
                2 if log != CONTROL_LOG => Kind::Extent,
                _ => return None,
            };
            batch_bytes += u64::from(length);
            parts.push(Part {
                log,
                first_offset,
                last_offset,
                length,
                kind,
                segment_base,
                position,
            });
        }
        if batch_bytes > MAX_BODY_BYTES {
            return None;
        }
        let mut previous_ends = Vec::with_capacity(end_count);
        for _ in 0..end_count {
            previous_ends.push((fields.u64()?, fields.i64()?));
        }
        Some(Self {
            salt: *salt,
            lsn,
            file,
            position,
            synced_lsn,
            time_ms,
            body_bytes,
            parts,
            previous_ends,
        })
    }

    /// Bytes of the whole frame.
    pub fn frame_bytes(&self) -> u64 {
        Self::encoded_len(self.parts.len(), self.previous_ends.len()) as u64 + self.body_bytes
    }

    /// Checks the body of the frame that this header was decoded from: the checksum over header and
    /// body, and that the batches are those that the header lists, so that a new header over an old
    /// body never passes. Extents are not looked at: they are elsewhere.
    pub fn check_body(&self, frame: &[u8]) -> Result<(), BadFrame> {
        let header_len = Self::encoded_len(self.parts.len(), self.previous_ends.len());
        let body_end = header_len + self.body_bytes as usize;
        let covered = frame.get(..header_len - 4).ok_or(BadFrame::Body)?;
        let body = frame.get(header_len..body_end).ok_or(BadFrame::Body)?;
        let stored = frame
            .get(header_len - 4..header_len)
            .map(Fields)
            .and_then(|mut fields| fields.u32());
        let mut whole = crc32fast::Hasher::new();
        whole.update(covered);
        whole.update(body);
        if stored != Some(whole.finalize()) && !planted(Planted::BodyUnchecked) {
            return Err(BadFrame::Body);
        }
        let mut rest = body;
        for part in &self.parts {
            let (held, behind) = rest.split_at_checked(part.body_bytes()).ok_or(BadFrame::Body)?;
            if part.kind == Kind::Inline {
                part.batches(held).ok_or(BadFrame::Body)?;
            }
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(BadFrame::Body) }
    }
}

impl Part {
    /// What the frame's body holds for it.
    pub fn body_bytes(&self) -> usize {
        match self.kind {
            Kind::Inline => self.length as usize,
            _ => EXTENT_CRC_BYTES,
        }
    }

    /// The headers of the part's batches, with their bytes; none if they are not exactly the offsets
    /// that the part claims.
    pub fn batches(&self, mut run: &[u8]) -> Option<Vec<BatchHeader>> {
        let mut headers = Vec::new();
        let mut next = self.first_offset;
        while !run.is_empty() {
            let header = batch::verify(run).ok()?;
            if header.base_offset != next && !planted(Planted::BodyUnchecked) {
                return None;
            }
            next = header.last_offset().checked_add(1)?;
            run = run.get(header.size_bytes()..)?;
            headers.push(header);
        }
        let complete = next == self.last_offset.checked_add(1)? || planted(Planted::BodyUnchecked);
        complete.then_some(headers)
    }
}

/// What a frame's body has for a part.
pub(crate) enum Held<'f> {
    Batches(&'f [u8]),
    /// Of an extent.
    Checksum(u32),
}

/// The parts of a frame with what its body holds for them.
pub(crate) fn parts_of<'f>(header: &'f FrameHeader, frame: &'f [u8]) -> impl Iterator<Item = (&'f Part, Held<'f>)> {
    let header_len = FrameHeader::encoded_len(header.parts.len(), header.previous_ends.len());
    let mut rest = frame.get(header_len..).unwrap_or_default();
    header.parts.iter().map_while(move |part| {
        let (held, behind) = rest.split_at_checked(part.body_bytes())?;
        rest = behind;
        let held = match part.kind {
            Kind::Inline => Held::Batches(held),
            _ => Held::Checksum(u32::from_le_bytes(held.try_into().ok()?)),
        };
        Some((part, held))
    })
}

/// Reads little-endian fields from the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::BatchBuilder;
    use crate::record::Record;

    const SALT: Salt = *b"0123456789abcdef";

    fn frame_of(value: &'static str) -> (FrameHeader, Vec<u8>) {
        let mut builder = BatchBuilder::new();
        builder.push(Record {
            key: None,
            value: Some(value.into()),
            headers: vec![],
            timestamp_ms: 1_700_000_000_000,
        });
        let body = builder.build().unwrap().bytes().clone();
        let part = Part {
            log: 3,
            first_offset: 0,
            last_offset: 0,
            length: body.len() as u32,
            kind: Kind::Inline,
            segment_base: 0,
            position: 128,
        };
        let header = FrameHeader {
            salt: SALT,
            lsn: 9,
            file: 2,
            position: 8192,
            synced_lsn: 8,
            time_ms: 1_700_000_000_123,
            body_bytes: body.len() as u64,
            parts: vec![part],
            previous_ends: vec![(1, 40), (3, 0)],
        };
        let mut frame = vec![0; FrameHeader::encoded_len(1, 2)];
        frame.extend_from_slice(&body);
        header.seal(&mut frame);
        (header, frame)
    }

    #[test]
    fn a_frame_has_these_bytes() {
        let (header, frame) = frame_of("v");
        assert_eq!(frame.len() as u64, header.frame_bytes());
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../tests/golden/frame.hex").trim());
    }

    #[test]
    fn a_frame_that_stands_for_an_extent_has_these_bytes() {
        let (mut header, inline) = frame_of("v");
        let body = &inline[inline.len() - header.body_bytes as usize..];
        header.parts[0].kind = Kind::Extent;
        header.body_bytes = 4;
        let mut frame = vec![0; FrameHeader::encoded_len(1, 2)];
        frame.extend(crc32fast::hash(&body[..batch::HEADER_LEN]).to_le_bytes());
        header.seal(&mut frame);
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../tests/golden/frame-extent.hex").trim());
        assert_eq!(FrameHeader::decode(&frame, &SALT), Some(header.clone()));
        assert_eq!(header.check_body(&frame), Ok(()));
    }

    #[test]
    fn a_frame_reads_back() {
        let (header, frame) = frame_of("v");
        assert_eq!(FrameHeader::decode(&frame, &SALT), Some(header.clone()));
        assert_eq!(header.check_body(&frame), Ok(()));
        assert_eq!(FrameHeader::decode(&frame, b"another-salt-000"), None);
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let (header, frame) = frame_of("value");
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let whole = FrameHeader::decode(&bad, &SALT).is_some_and(|read| read.check_body(&bad).is_ok());
            assert!(!whole, "bit {bit}");
        }
        for len in 0..frame.len() {
            let cut = &frame[..len];
            assert!(FrameHeader::decode(cut, &SALT).is_none_or(|read| read.check_body(cut).is_err()));
        }
        let mut mixed = frame.clone();
        let header_len = frame.len() - header.body_bytes as usize;
        mixed[header_len..].copy_from_slice(&frame_of("other").1[header_len..]);
        assert!(header.check_body(&mixed).is_err(), "a new header over an old body");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_frame(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), real in any::<bool>()) {
            if real && bytes.len() >= 24 {
                // Past the first checks, so that lengths are believed until the checksum.
                bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
                bytes[4..6].copy_from_slice(&FORMAT.to_le_bytes());
                bytes[8..24].copy_from_slice(&SALT);
            }
            prop_assert_eq!(FrameHeader::decode(&bytes, &SALT), None);
        }
    }
}

//! The decoders of this crate as fuzzers see them: bytes in, no abort, memory in proportion.
//!
//! `tools/fuzz` has a target for each [`Door`]; the property tests below push arbitrary and bent bytes through
//! the same doors in every test run. Checksums would keep a fuzzer out, so the doors try the bytes once
//! as they come and once with their checksums mended.

mod recovery;

use std::path::Path;

use bytes::Bytes;

pub use self::recovery::RECOVERY;
use crate::batch::{self, BatchBuilder, CheckLimits, HEADER_LEN, check_produced};
use crate::catalog::{Catalog, ControlRecord, Topic};
use crate::codec;
use crate::compression::{Compression, compress, decompress};
use crate::disk::{Disk, Open, SimulatedDisk};
use crate::frame::{FrameHeader, Kind, Part, Salt};
use crate::index::{ENTRY_BYTES, Index, IndexEntry};
use crate::manifest::{FORMAT_VERSION, Manifest, StoredSegment};
use crate::producer_snapshot::load_producers;
use crate::producers::ProducerTable;
use crate::record::{Record, decode_all, decode_batch};
use crate::segment::{Segment, SegmentWalk};
use crate::stream::check_segment;

/// A decoder of untrusted bytes.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// The name of its fuzz target.
    pub name: &'static str,
    /// Decodes; anything but a return is a find.
    pub run: fn(&[u8]),
    /// Good input to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every door of this crate.
pub const DOORS: [Door; 6] = [BATCHES, COMPRESSION, FRAMES, STORED, SEGMENTS, RECOVERY];

/// Record batches, as clients send them and as they are read back.
pub const BATCHES: Door = Door {
    name: "batches",
    run: |data| {
        each_way(data, mend_batches, batches);
    },
    seeds: seed_batches,
};

/// The payloads of compressed batches. The first byte names the codec.
pub const COMPRESSION: Door = Door {
    name: "compression",
    run: |data| {
        let Some((codec, data)) = data.split_first() else {
            return;
        };
        let codec = Compression::from_attributes(i16::from(codec % 5)).unwrap_or_default();
        if let Ok(out) = decompress(codec, data, MOST_UNPACKED) {
            assert!(out.len() <= MOST_UNPACKED);
        }
    },
    seeds: || {
        let text = b"to be or not to be, that is the question ".repeat(20);
        let packed = Compression::ALL.map(|codec| {
            let mut seed = vec![codec as u8];
            seed.extend(compress(codec, &text).unwrap_or_default());
            seed
        });
        let raw = snap::raw::Encoder::new().compress_vec(&text).unwrap_or_default();
        packed
            .into_iter()
            .chain([[&[Compression::Snappy as u8][..], &raw].concat()])
            .collect()
    },
};

/// Journal frames.
pub const FRAMES: Door = Door {
    name: "frames",
    run: |data| {
        each_way(data, |bytes| mend_frame(bytes, &SALT), frame);
    },
    seeds: || vec![seed_frame(&[b"one"]), seed_frame(&[b"one", b"two"])],
};

/// What is stored beside the journal and the segments: manifest, control records, producer snapshots, index
/// entries. The first byte says which.
pub const STORED: Door = Door {
    name: "stored",
    run: |data| {
        let Some((kind, data)) = data.split_first() else { return };
        match kind % 4 {
            0 => each_way(data, mend_manifest, |bytes| {
                if let Ok(manifest) = Manifest::decode(bytes) {
                    assert!(manifest.encode().is_ok());
                    Catalog::from_stored(manifest.catalog);
                }
            }),
            1 => {
                if let Ok(record) = ControlRecord::decode(data) {
                    let mut catalog = Catalog::new("AAAAAAAAAAAAAAAAAAAAAA".into(), uuid::Uuid::nil());
                    catalog.apply(&record);
                    assert!(record.encode().is_ok());
                }
            }
            2 => each_way(data, mend_snapshot, producers),
            _ => index(data),
        }
    },
    seeds: seed_stored,
};

/// Segment files, walked from their front, and as they come in a stream.
pub const SEGMENTS: Door = Door {
    name: "segments",
    run: |data| {
        each_way(data, mend_batches, segment);
    },
    seeds: seed_batches,
};

/// Small, so that a fuzzer can pass it.
const MOST_UNPACKED: usize = 1 << 20;
const LIMITS: CheckLimits = CheckLimits {
    max_batch_bytes: MOST_UNPACKED,
    max_decompressed_bytes: MOST_UNPACKED,
    single_batch: false,
    require_keys: false,
};
const SALT: Salt = *b"0123456789abcdef";

/// Runs with the bytes as they are, then with their checksums mended.
fn each_way(data: &[u8], mend: impl FnOnce(&mut [u8]), run: impl Fn(&[u8])) {
    run(data);
    let mut mended = data.to_vec();
    mend(&mut mended);
    run(&mended);
}

fn batches(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let _ = batch::verify(data);
    let _ = decode_batch(&bytes, MOST_UNPACKED);
    let _ = decode_all(&bytes, 3, MOST_UNPACKED);
    if let Ok(checked) = check_produced(bytes.clone(), &LIMITS) {
        // What is let in can be read back, all of it.
        let records = checked.iter().map(|(_, batch)| decode_batch(&batch, MOST_UNPACKED));
        let count: usize = records.map(|records| records.map_or(0, |records| records.len())).sum();
        assert_eq!(count as u64, checked.record_count());
    }
}

/// Makes batches of bytes: plausible magic and lengths, and right checksums.
fn mend_batches(bytes: &mut [u8]) {
    let mut rest: &mut [u8] = bytes;
    while rest.len() >= HEADER_LEN {
        let longest = (rest.len() - 12) as u32;
        let claimed = u32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]);
        let length = if (49..=longest).contains(&claimed) {
            claimed
        } else {
            longest
        };
        let (batch, behind) = rest.split_at_mut(length as usize + 12);
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        let crc = crc_fast::crc32_iscsi(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        rest = behind;
    }
}

fn seed_batches() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Compression::ALL
        .into_iter()
        .map(|codec| batch_of(codec, &[b"a", b"bc"]))
        .collect();
    let mut second = batch_of(Compression::None, &[b"d"]);
    second[..8].copy_from_slice(&2i64.to_be_bytes());
    seeds.push([batch_of(Compression::None, &[b"a", b"bc"]), second].concat());
    seeds
}

fn batch_of(codec: Compression, values: &[&'static [u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new().compression(codec).producer(7, 0, 0);
    for (index, value) in values.iter().enumerate() {
        builder.push(Record {
            key: (index % 2 == 0).then(|| Bytes::from_static(b"key")),
            value: Some(Bytes::from_static(value)),
            headers: vec![(Bytes::from_static(b"h"), None)],
            timestamp_ms: 1_700_000_000_000 + index as i64,
        });
    }
    builder.build().map(|batch| batch.bytes().to_vec()).unwrap_or_default()
}

fn frame(data: &[u8]) {
    let _ = FrameHeader::claimed_len(data, &SALT);
    if let Some(header) = FrameHeader::decode(data, &SALT)
        && header.check_body(data).is_ok()
    {
        let listed: u64 = header.parts.iter().map(|part| part.body_bytes() as u64).sum();
        assert_eq!(listed, header.body_bytes);
    }
}

/// Makes a frame of bytes: magic, salt, body length and both checksums; its batches as well.
fn mend_frame(bytes: &mut [u8], salt: &Salt) {
    const FIXED: usize = 76;
    if bytes.len() < FIXED {
        return;
    }
    bytes[..8].copy_from_slice(b"RIVL\x01\0\0\0");
    bytes[8..24].copy_from_slice(salt);
    let Some((header_len, body_bytes)) = FrameHeader::claimed_len(bytes, salt) else {
        return;
    };
    if header_len > bytes.len() {
        return;
    }
    let body_bytes = (body_bytes as usize).min(bytes.len() - header_len);
    bytes[64..68].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    let mut body = bytes[header_len..][..body_bytes].to_vec();
    mend_batches(&mut body);
    bytes[header_len..][..body_bytes].copy_from_slice(&body);
    let crc = crc32fast::hash(&bytes[..header_len - 8]);
    bytes[header_len - 8..header_len - 4].copy_from_slice(&crc.to_le_bytes());
    let mut whole = crc32fast::Hasher::new();
    whole.update(&bytes[..header_len - 4]);
    whole.update(&body);
    bytes[header_len - 4..header_len].copy_from_slice(&whole.finalize().to_le_bytes());
}

fn seed_frame(values: &[&'static [u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut parts = Vec::new();
    for (log, value) in (1..).zip(values) {
        let batch = batch_of(Compression::None, &[value]);
        parts.push(Part {
            log,
            first_offset: 0,
            last_offset: 0,
            length: batch.len() as u32,
            kind: Kind::Inline,
            segment_base: 0,
            position: 0,
        });
        body.extend(batch);
    }
    let header = FrameHeader {
        salt: SALT,
        lsn: 9,
        file: 2,
        position: 8192,
        synced_lsn: 8,
        time_ms: 1_700_000_000_000,
        body_bytes: body.len() as u64,
        parts,
        previous_ends: vec![(1, 40)],
    };
    let mut frame = vec![0; FrameHeader::encoded_len(header.parts.len(), 1)];
    frame.extend(body);
    header.seal(&mut frame);
    frame
}

/// Puts magic, length and checksum in front of a manifest's body.
fn mend_manifest(bytes: &mut [u8]) {
    if bytes.len() > 20 {
        bytes[20] = FORMAT_VERSION;
        let (len, crc) = ((bytes.len() - 20) as u64, crc32fast::hash(&bytes[20..]));
        bytes[..8].copy_from_slice(b"RIVERMAN");
        bytes[8..16].copy_from_slice(&len.to_le_bytes());
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    }
}

fn mend_snapshot(bytes: &mut [u8]) {
    if bytes.len() > 4 {
        bytes[4] = FORMAT_VERSION;
        let crc = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A disk with one file.
fn disk_with(path: &Path, bytes: &[u8]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    if let Ok(file) = disk.open(path, Open::CreateNew) {
        let _ = file.write_at(bytes, 0);
    }
    disk
}

fn producers(data: &[u8]) {
    let path = Path::new("/snapshot");
    // Behind the checksum and the version: asked for is what is there, or nothing would be looked at.
    let lsn = data
        .get(5..13)
        .and_then(|lsn| Some(u64::from_le_bytes(lsn.try_into().ok()?)));
    if let Ok(mut table) = load_producers(&disk_with(path, data), path, lsn.unwrap_or_default()) {
        let header = batch::BatchHeader::parse(&batch_of(Compression::None, &[b"x"]));
        if let Ok(header) = header {
            let _ = table.check(&header, 1_700_000_000_000);
            table.note(&header, 1_700_000_000_000);
        }
        table.expire(i64::MAX);
    }
}

fn index(data: &[u8]) {
    let entries = data
        .as_chunks::<ENTRY_BYTES>()
        .0
        .iter()
        .map(IndexEntry::decode)
        .collect();
    let mut index = Index::from_entries(entries, 7);
    for wanted in [0, 1, 1 << 20, u32::MAX] {
        let _ = index.by_offset(wanted);
        let _ = index.by_timestamp(i64::from(wanted));
    }
    index.note(5, 5, 5);
}

fn seed_stored() -> Vec<Vec<u8>> {
    let topic = Topic {
        name: "flights".into(),
        id: uuid::Uuid::from_u128(2),
        partitions: vec![1, 2],
        configs: [("retention.ms".into(), "-1".into())].into(),
    };
    let created = ControlRecord::TopicCreated { topic, leader_epoch: 4 };
    let mut catalog = Catalog::new("AAAAAAAAAAAAAAAAAAAAAA".into(), uuid::Uuid::from_u128(1));
    catalog.apply(&created);
    let manifest = Manifest {
        generation: 5,
        checkpoint_lsn: 42,
        salt: SALT,
        journal_file: 3,
        journal_position: 4096,
        catalog: catalog.to_stored(),
        logs: Vec::new(),
        fences: Vec::new(),
    };
    let mut table = ProducerTable::default();
    if let Ok(header) = batch::BatchHeader::parse(&batch_of(Compression::None, &[b"x"])) {
        table.note(&header, 1_700_000_000_000);
    }
    let mut snapshot = vec![0; 4];
    snapshot.extend(codec::encode(FORMAT_VERSION, &table).unwrap_or_default());
    let entry = IndexEntry {
        relative_offset: 7,
        position: 4096,
        max_timestamp_before: 5,
    };
    let kinds = [
        manifest.encode().unwrap_or_default(),
        created.encode().unwrap_or_default(),
        snapshot,
        entry.encode().repeat(3),
    ];
    (0..)
        .zip(kinds)
        .map(|(kind, bytes)| [&[kind][..], &bytes].concat())
        .collect()
}

fn segment(data: &[u8]) {
    let dir = Path::new("/");
    let stored = StoredSegment {
        base: 0,
        size_bytes: data.len() as u64 + 100,
        max_timestamp: 0,
        index_entries: 0,
        index_crc: 0,
    };
    let segment = Segment::from_stored(&stored, dir);
    let disk = disk_with(&segment.file.path, data);
    if let Ok(loaded) = segment.load_index(&disk) {
        let _ = loaded.index.by_offset(1);
    }
    let mut streamed = data;
    let good = check_segment("0/00000000000000000000.log", &mut streamed, &mut |_| {});
    assert!(streamed.is_empty() && good.is_ok_and(|good| good as usize <= data.len() / HEADER_LEN));
    let Ok(file) = segment.file.reader(&disk) else { return };
    let mut walk = SegmentWalk::new(file, stored.size_bytes, 0, 0, 0);
    while let Ok(Some((header, bytes))) = walk.next() {
        assert_eq!(header.size_bytes(), bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_input_goes_through() {
        for door in DOORS {
            for seed in (door.seeds)() {
                assert!(!seed.is_empty(), "{}", door.name);
                (door.run)(&seed);
            }
        }
        assert!(check_produced(Bytes::from(seed_batches().remove(0)), &LIMITS).is_ok());
        assert!(FrameHeader::decode(&seed_frame(&[b"one"]), &SALT).is_some());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_abort(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for door in DOORS {
                (door.run)(&bytes);
            }
        }

        #[test]
        fn bent_input_does_not_abort(
            seed in any::<prop::sample::Index>(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            for door in DOORS {
                let seeds = (door.seeds)();
                let mut bytes = seeds[seed.index(seeds.len())].clone();
                for (at, to) in &changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *to;
                }
                (door.run)(&bytes);
                bytes.truncate(cut.index(bytes.len()));
                (door.run)(&bytes);
            }
        }
    }
}

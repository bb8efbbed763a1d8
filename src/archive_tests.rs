//! Archives that were bent, cut, or made by somebody who means no good.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use riverlog_storage::batch::BatchBuilder;
use riverlog_storage::record::Record;
use riverlog_storage::{Append, Change, Options, Restore, Storage, WriteSet};

use super::*;

/// A small backup, as it is sent.
fn example() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(Options::new(dir.path().join("data"))).unwrap();
    let create = Change::CreateTopic {
        name: "t".into(),
        partitions: 2,
        configs: Default::default(),
    };
    let created = storage.submit_wait(WriteSet {
        changes: vec![create],
        ..WriteSet::default()
    });
    let mut builder = BatchBuilder::new().producer(1, 0, 0);
    builder.push(Record {
        value: Some("hello".into()),
        ..Record::default()
    });
    let append = Append {
        log: created.unwrap().created.unwrap().partitions[0],
        batches: builder.build().unwrap(),
        log_append_time: false,
    };
    let ws = WriteSet {
        appends: vec![append],
        ..WriteSet::default()
    };
    storage.submit_wait(ws).unwrap();
    let mut bytes = Vec::new();
    write(&storage.backup().unwrap(), vec!["one\nline".into()], &mut bytes).unwrap();
    bytes
}

fn drain(_: &str, bytes: &mut dyn Read) -> anyhow::Result<()> {
    copy(bytes, |_| Ok(()))
}

fn refused(bytes: &[u8]) -> String {
    format!("{:#}", read(bytes, drain).unwrap_err())
}

#[test]
fn what_is_written_is_read() {
    let bytes = example();
    let mut paths = Vec::new();
    let contents = read(&bytes[..], |path, source| {
        paths.push(path.to_owned());
        copy(source, |_| Ok(()))
    });
    let contents = contents.unwrap();
    assert_eq!(contents.files as usize, paths.len() + 1);
    assert_eq!(contents.notes, ["one line"]);
    assert!(contents.lsn > 0 && !contents.manifest.is_empty());
    assert!(
        paths.contains(&"logs/1/00000000000000000000.log".to_owned()),
        "{paths:?}"
    );
    assert!(paths.iter().all(|path| is_restorable(path)), "{paths:?}");
}

#[test]
fn a_flipped_byte_is_named_or_lies_between_entries() {
    let bytes = example();
    // What the archive says, without the bytes that only fill blocks up.
    let told = |bytes: &[u8]| -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        let contents = read(bytes, |path, source| {
            let mut all = Vec::new();
            copy(source, |piece| {
                all.extend_from_slice(piece);
                Ok(())
            })?;
            files.push((path.to_owned(), all));
            Ok(())
        })?;
        files.push((MANIFEST.into(), contents.manifest));
        Ok(files)
    };
    let whole = told(&bytes).unwrap();
    let mut named = 0;
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 0x10;
        match told(&bent) {
            Ok(found) => assert!(found == whole, "byte {at}"),
            Err(_) => named += 1,
        }
    }
    assert!(named > 3000, "{named}");
    let mut bent = bytes.clone();
    let at = bytes.windows(5).position(|window| window == b"hello").unwrap();
    bent[at] ^= 1;
    let what = refused(&bent);
    assert!(
        what.contains("logs/1/00000000000000000000.log in the archive is damaged"),
        "{what}"
    );
}

#[test]
fn an_archive_that_was_cut_is_refused() {
    let bytes = example();
    // Two empty blocks end it, and before them the list is filled up.
    let list = bytes
        .windows(LIST.len())
        .rposition(|window| window == LIST.as_bytes())
        .unwrap();
    for len in (0..list + 512).chain([list + 520]) {
        refused(&bytes[..len]);
    }
    assert!(
        refused(&bytes[..list]).contains("list of checksums"),
        "{}",
        refused(&bytes[..list])
    );
}

#[test]
fn what_is_no_backup_is_refused_in_plain_words() {
    let garbage: Vec<u8> = (0..4000_u32).map(|number| (number * 7 % 256) as u8).collect();
    for other in [&garbage[..], b"hello", &[b'x'; 512]] {
        let what = refused(other);
        assert!(
            what.starts_with("this is no riverlog backup") && what.len() < 200,
            "{what}"
        );
        assert!(!what.contains(|c: char| c.is_control() || !c.is_ascii()), "{what:?}");
    }
    for empty in [&[][..], &[0; 2048]] {
        assert!(refused(empty).contains("nothing in it"));
    }
    // Behind a good entry, what the reader says is told, but escaped.
    let mut bytes = example();
    let size = tar::Header::from_byte_slice(&bytes[..512]).entry_size().unwrap() as usize;
    let second = 512 + size.next_multiple_of(512);
    bytes[second..second + 512].fill(0xff);
    let what = refused(&bytes);
    assert!(what.contains("damaged or cut behind logs/"), "{what}");
    assert!(!what.contains(|c: char| c.is_control() || !c.is_ascii()), "{what:?}");
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let mut bytes = example();
    bytes.extend_from_slice(&[0; 10_240]);
    read(&bytes[..], drain).unwrap();
    bytes.push(1);
    assert!(refused(&bytes).contains("behind the end"), "{}", refused(&bytes));
}

#[test]
fn a_batch_that_the_server_has_damaged_is_told_by_entry_and_position() {
    let bytes = example();
    let (contents, batches) = verify(&bytes[..]).unwrap();
    assert_eq!((contents.notes.len(), batches.bad), (1, 0));
    assert!(batches.good >= 2 && batches.segments >= 2, "{batches:?}");
    // The server copies what its disk gives, and its list agrees with it.
    let mut rotten = Vec::new();
    let mut list = format!("{FIRST_LINE}\nlsn 7\n");
    let mut archive = tar::Builder::new(&mut rotten);
    let mut manifest = Vec::new();
    let contents = read(&bytes[..], |path, source| {
        let mut all = Vec::new();
        copy(source, |piece| {
            all.extend_from_slice(piece);
            Ok(())
        })?;
        if let Some(at) = all.windows(5).position(|window| window == b"hello") {
            all[at] ^= 1;
        }
        let mut rest = &all[..];
        append(&mut archive, &mut list, path, all.len() as u64, |buffer| {
            rest.read(buffer)
        })?;
        Ok(())
    });
    manifest.extend_from_slice(&contents.unwrap().manifest);
    let mut rest = &manifest[..];
    append(&mut archive, &mut list, MANIFEST, manifest.len() as u64, |buffer| {
        rest.read(buffer)
    })
    .unwrap();
    seal(&mut list);
    archive
        .append(&header(LIST, list.len() as u64).unwrap(), list.as_bytes())
        .unwrap();
    archive.finish().unwrap();
    drop(archive);
    let (_, found) = verify(&rotten[..]).unwrap();
    assert_eq!((found.bad, found.good), (1, batches.good - 1));
    let place = &found.places[0];
    assert!(
        place.starts_with("logs/1/00000000000000000000.log position 0 (offset 0): the batch's CRC-32C"),
        "{place}"
    );
}

/// An archive of one entry, as somebody may have made it who does not use our writer.
fn hostile(path: &[u8], kind: tar::EntryType, claimed: u64, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.set_entry_type(kind);
    header.set_size(claimed);
    header.set_link_name(link).unwrap();
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(&[0; 2048]);
    bytes
}

#[test]
fn hostile_entries_are_refused_and_leave_nothing() {
    use tar::EntryType;
    let outside = tempfile::tempdir().unwrap();
    let inside = outside.path().join("a/b");
    let segment = b"logs/1/00000000000000000000.log";
    for (path, kind, claimed) in [
        (&b"../x"[..], EntryType::Regular, 4),
        (b"/tmp/riverlog-x", EntryType::Regular, 4),
        (b"logs/../../x", EntryType::Regular, 4),
        (b"logs/1/../../../x", EntryType::Regular, 4),
        (b"lock", EntryType::Regular, 4),
        (b"journal/0000000001.journal", EntryType::Regular, 4),
        (b"logs/1/\xff0000000000000000000.log", EntryType::Regular, 4),
        (segment, EntryType::Symlink, 0),
        (segment, EntryType::Link, 0),
        (segment, EntryType::Fifo, 0),
        (segment, EntryType::Directory, 0),
        (segment, EntryType::GNUSparse, 4),
        (segment, EntryType::GNULongName, 1 << 40),
        (segment, EntryType::XHeader, 1 << 40),
        (segment, EntryType::Regular, 1 << 60),
        (segment, EntryType::Regular, u64::MAX),
        (b"manifest", EntryType::Regular, 1 << 40),
        (b"checksums", EntryType::Regular, 1 << 40),
        (b"checksums", EntryType::Regular, 4),
    ] {
        let bytes = hostile(path, kind, claimed, "/etc/passwd");
        let _ = std::fs::remove_dir_all(outside.path().join("a"));
        std::fs::create_dir_all(&inside).unwrap();
        let mut restore = Restore::begin(&inside).unwrap();
        let read = read(&bytes[..], |path, source| {
            let mut target = restore.file(path)?;
            copy(source, |bytes| Ok(target.write(bytes)?))
        });
        let what = format!("{:#}", read.unwrap_err());
        assert!(!what.is_empty());
        let left: Vec<_> = std::fs::read_dir(outside.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{what}");
        assert_eq!(
            std::fs::read_dir(outside.path().join("a")).unwrap().count(),
            1,
            "{what}"
        );
        assert!(!Path::new("/tmp/riverlog-x").exists());
    }
}

#[test]
fn an_entry_that_comes_twice_is_refused() {
    let bytes = example();
    let mut twice = Vec::new();
    // The first entry: its header says how long it is.
    let size = tar::Header::from_byte_slice(&bytes[..512]).entry_size().unwrap() as usize;
    let entry = 512 + size.next_multiple_of(512);
    twice.extend_from_slice(&bytes[..entry]);
    twice.extend_from_slice(&bytes);
    assert!(refused(&twice).contains("twice"));
    assert!(
        refused(&bytes[entry..]).contains("lacks"),
        "{}",
        refused(&bytes[entry..])
    );
}

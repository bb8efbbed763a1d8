//! The records of `__consumer_offsets`, byte for byte as Kafka 4.2 writes them, so that its tools can read ours.
//!
//! A key begins with its type: 0 and 1 are offset commits, 2 is a group. A value begins with its version; Kafka
//! writes version 4 for offsets (1 when the client set an expiry of its own) and 3 for groups, and so do we. Older
//! versions are read. A key without a value (a tombstone) ends what the key names.

mod encode;

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::Committed;
use super::member::MemberId;

pub use encode::{EncodeError, group_key, group_value, offset_key, offset_value};

const OFFSET_KEY: i16 = 1;
const OFFSET_KEY_LEGACY: i16 = 0;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 4;
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE: i16 = 3;
const TOPIC_ID_TAG: u64 = 0;

/// A record that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is damaged: {reason}")]
pub struct DecodeError {
    what: &'static str,
    reason: &'static str,
}

/// What a record of `__consumer_offsets` is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The committed offset of one partition.
    Offset {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// The group's membership.
    Group {
        /// The group.
        group: Arc<str>,
    },
    /// Something that this version does not know.
    Other(i16),
}

/// A group's membership, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// "consumer", "connect", …; empty for a group that never had members.
    pub protocol_type: Arc<str>,
    /// The generation.
    pub generation: i32,
    /// The protocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// The member that assigns.
    pub leader: Option<MemberId>,
    /// Wall-clock time since when the group has been in its state.
    pub state_since_ms: Option<i64>,
    /// The members with their assignments.
    pub members: Vec<MemberMetadata>,
}

/// A member, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    /// The member's id.
    pub id: MemberId,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client's own name.
    pub client_id: Arc<str>,
    /// The address the client joined from.
    pub client_host: Arc<str>,
    /// How long a rebalance waits for the member.
    pub rebalance_timeout_ms: u64,
    /// How long the member may be silent.
    pub session_timeout_ms: u64,
    /// What it wants assigned.
    pub subscription: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

/// Reads a key.
pub fn decode_key(bytes: &Bytes) -> Result<Key, DecodeError> {
    let mut input = Input {
        bytes: bytes.clone(),
        what: "the key of a group record",
        flexible: false,
    };
    let key = match input.i16()? {
        OFFSET_KEY_LEGACY | OFFSET_KEY => Key::Offset {
            group: input.string()?,
            topic: input.string()?,
            partition: input.i32()?,
        },
        GROUP_KEY => Key::Group { group: input.string()? },
        other => return Ok(Key::Other(other)),
    };
    input.end()?;
    Ok(key)
}

/// Reads the value of a committed offset.
pub fn decode_offset(bytes: &Bytes) -> Result<Committed, DecodeError> {
    let mut input = Input {
        bytes: bytes.clone(),
        what: "a committed offset",
        flexible: false,
    };
    let version = input.i16()?;
    if !(0..=4).contains(&version) {
        return Err(input.error("it has a version that is not known"));
    }
    input.flexible = version >= 4;
    let offset = input.i64()?;
    let leader_epoch = if version >= 3 { input.i32()? } else { -1 };
    let metadata = input.string()?;
    let commit_time_ms = input.i64()?;
    let expire_time_ms = if version == 1 {
        Some(input.i64()?).filter(|time| *time >= 0)
    } else {
        None
    };
    let mut topic_id = Uuid::nil();
    input.tags(|tag, value| {
        if tag == TOPIC_ID_TAG
            && let Ok(id) = Uuid::from_slice(value)
        {
            topic_id = id;
        }
    })?;
    input.end()?;
    Ok(Committed {
        offset,
        leader_epoch,
        metadata,
        commit_time_ms,
        expire_time_ms,
        topic_id,
    })
}

/// Reads the value of a group's membership.
pub fn decode_group(bytes: &Bytes) -> Result<GroupMetadata, DecodeError> {
    let mut input = Input {
        bytes: bytes.clone(),
        what: "a group's membership",
        flexible: false,
    };
    let version = input.i16()?;
    if !(0..=4).contains(&version) {
        return Err(input.error("it has a version that is not known"));
    }
    input.flexible = version >= 4;
    let protocol_type = input.string()?;
    let generation = input.i32()?;
    let protocol = input.nullable_string()?;
    let leader = input.nullable_string()?;
    let state_since_ms = if version >= 2 {
        Some(input.i64()?).filter(|time| *time >= 0)
    } else {
        None
    };
    let count = input.count()?;
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(decode_member(&mut input, version)?);
    }
    input.tags(|_, _| {})?;
    input.end()?;
    Ok(GroupMetadata {
        protocol_type,
        generation,
        protocol,
        leader,
        state_since_ms,
        members,
    })
}

fn decode_member(input: &mut Input, version: i16) -> Result<MemberMetadata, DecodeError> {
    let id = input.string()?;
    let instance_id = if version >= 3 { input.nullable_string()? } else { None };
    let client_id = input.string()?;
    let client_host = input.string()?;
    let rebalance_timeout = if version >= 1 { Some(input.i32()?) } else { None };
    let session_timeout = input.i32()?;
    let subscription = input.byte_string()?;
    let assignment = input.byte_string()?;
    input.tags(|_, _| {})?;
    Ok(MemberMetadata {
        id,
        instance_id,
        client_id,
        client_host,
        // Version 0 knew one timeout only.
        rebalance_timeout_ms: to_u64(rebalance_timeout.unwrap_or(session_timeout)),
        session_timeout_ms: to_u64(session_timeout),
        subscription,
        assignment,
    })
}

fn to_u64(ms: i32) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

/// Reads the fields of a record, never past its end.
struct Input {
    bytes: Bytes,
    what: &'static str,
    flexible: bool,
}

impl Input {
    fn error(&self, reason: &'static str) -> DecodeError {
        DecodeError {
            what: self.what,
            reason,
        }
    }

    fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.bytes.len() {
            return Err(self.error("it ends too early"));
        }
        Ok(self.bytes.split_to(len))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(&*bytes).map_err(|_| self.error("it ends too early"))
    }

    fn i16(&mut self) -> Result<i16, DecodeError> {
        self.fixed().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.fixed().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        self.fixed().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed::<1>()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("a number in it is too long"))
    }

    /// A length: `None` stands for null.
    fn length(&mut self, wide: bool) -> Result<Option<usize>, DecodeError> {
        let length = match (self.flexible, wide) {
            (true, _) => self.varint()? as i64 - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| self.error("a length in it is negative")),
        }
    }

    fn nullable_string(&mut self) -> Result<Option<Arc<str>>, DecodeError> {
        let Some(length) = self.length(false)? else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| self.error("a string in it is not UTF-8"))?;
        Ok(Some(text.into()))
    }

    fn string(&mut self) -> Result<Arc<str>, DecodeError> {
        self.nullable_string()?
            .ok_or_else(|| self.error("a string in it is missing"))
    }

    fn byte_string(&mut self) -> Result<Bytes, DecodeError> {
        let length = self
            .length(true)?
            .ok_or_else(|| self.error("bytes in it are missing"))?;
        // A slice would keep all that was read with it in memory, for as long as the member lives.
        self.take(length).map(|bytes| Bytes::copy_from_slice(&bytes))
    }

    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self
            .length(true)?
            .ok_or_else(|| self.error("a list in it is missing"))?;
        // The smallest member takes more than ten bytes: a count that cannot be true is not worth a try.
        if count > self.bytes.len() / 10 + 1 {
            return Err(self.error("a count in it is larger than the record"));
        }
        Ok(count)
    }

    fn tags(&mut self, mut each: impl FnMut(u64, &[u8])) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()? as usize;
            let value = self.take(length)?;
            each(tag, &value);
        }
        Ok(())
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(self.error("it goes on after its end"))
        }
    }
}

//! Writing the records. Strings stand with a length of 16 bits. A longer one is refused: written with a length that does not
//! fit, it would make a record that nobody can read again.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Committed, GROUP_KEY, GROUP_VALUE, GroupMetadata, Key, OFFSET_KEY, OFFSET_VALUE, OFFSET_VALUE_WITH_EXPIRY,
    TOPIC_ID_TAG,
};

/// A string that is too long for a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a string of {length_bytes} bytes does not fit into a group's record, which holds {} at most",
    i16::MAX
)]
pub struct EncodeError {
    length_bytes: usize,
}

impl Key {
    /// The key as it stands in the log.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        match self {
            Self::Offset {
                group,
                topic,
                partition,
            } => offset_key(group, topic, *partition),
            Self::Group { group } => group_key(group),
            Self::Other(kind) => Ok(Bytes::copy_from_slice(&kind.to_be_bytes())),
        }
    }
}

/// The key of a committed offset.
pub fn offset_key(group: &str, topic: &str, partition: i32) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::with_capacity(10 + group.len() + topic.len());
    out.put_i16(OFFSET_KEY);
    put_string(&mut out, group)?;
    put_string(&mut out, topic)?;
    out.put_i32(partition);
    Ok(out.freeze())
}

/// The key of a group's membership.
pub fn group_key(group: &str) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::with_capacity(4 + group.len());
    out.put_i16(GROUP_KEY);
    put_string(&mut out, group)?;
    Ok(out.freeze())
}

/// The value of a committed offset.
pub fn offset_value(committed: &Committed) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::with_capacity(48 + committed.metadata.len());
    if let Some(expire_time_ms) = committed.expire_time_ms {
        out.put_i16(OFFSET_VALUE_WITH_EXPIRY);
        out.put_i64(committed.offset);
        put_string(&mut out, &committed.metadata)?;
        out.put_i64(committed.commit_time_ms);
        out.put_i64(expire_time_ms);
        return Ok(out.freeze());
    }
    out.put_i16(OFFSET_VALUE);
    out.put_i64(committed.offset);
    out.put_i32(committed.leader_epoch);
    let metadata_bytes = string_bytes(&committed.metadata)?;
    put_varint(&mut out, u64::from(metadata_bytes.unsigned_abs()) + 1);
    out.put_slice(committed.metadata.as_bytes());
    out.put_i64(committed.commit_time_ms);
    if committed.topic_id.is_nil() {
        put_varint(&mut out, 0);
    } else {
        put_varint(&mut out, 1);
        put_varint(&mut out, TOPIC_ID_TAG);
        put_varint(&mut out, 16);
        out.put_slice(committed.topic_id.as_bytes());
    }
    Ok(out.freeze())
}

/// The value of a group's membership.
pub fn group_value(group: &GroupMetadata) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::with_capacity(256);
    out.put_i16(GROUP_VALUE);
    put_string(&mut out, &group.protocol_type)?;
    out.put_i32(group.generation);
    put_nullable_string(&mut out, group.protocol.as_deref())?;
    put_nullable_string(&mut out, group.leader.as_deref())?;
    out.put_i64(group.state_since_ms.unwrap_or(-1));
    out.put_i32(group.members.len() as i32);
    for member in &group.members {
        put_string(&mut out, &member.id)?;
        put_nullable_string(&mut out, member.instance_id.as_deref())?;
        put_string(&mut out, &member.client_id)?;
        put_string(&mut out, &member.client_host)?;
        out.put_i32(to_i32(member.rebalance_timeout_ms));
        out.put_i32(to_i32(member.session_timeout_ms));
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    Ok(out.freeze())
}

fn to_i32(ms: u64) -> i32 {
    i32::try_from(ms).unwrap_or(i32::MAX)
}

fn string_bytes(text: &str) -> Result<i16, EncodeError> {
    i16::try_from(text.len()).map_err(|_| EncodeError {
        length_bytes: text.len(),
    })
}

fn put_string(out: &mut BytesMut, text: &str) -> Result<(), EncodeError> {
    out.put_i16(string_bytes(text)?);
    out.put_slice(text.as_bytes());
    Ok(())
}

fn put_nullable_string(out: &mut BytesMut, text: Option<&str>) -> Result<(), EncodeError> {
    match text {
        Some(text) => put_string(out, text),
        None => {
            out.put_i16(-1);
            Ok(())
        }
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &Bytes) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

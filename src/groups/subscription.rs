//! The one look into a member's metadata: which topics a consumer subscribes to. Only the deletion of offsets asks.

use std::collections::BTreeSet;

/// The topics of a subscription in the consumer protocol's encoding: version, then a list of names. None if it is
/// not one; clients put what they like there.
pub fn subscribed_topics(metadata: &[u8]) -> Option<BTreeSet<String>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = BTreeSet::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (name, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_refuses_lies() {
        let metadata = b"\x00\x01\x00\x00\x00\x02\x00\x01a\x00\x02bc\xff\xff\xff\xff";
        let topics = subscribed_topics(metadata);
        assert_eq!(topics, Some(["a".to_owned(), "bc".to_owned()].into()));
        assert_eq!(subscribed_topics(b"\x00\x01\xff\xff\xff\xff\x00\x01a"), None);
        assert_eq!(subscribed_topics(b""), None);
    }
}

//! Where the records of a stream landed, told shortly.

use std::collections::HashMap;

use crate::broker::append::Position;

/// More ranges than this are not listed one by one.
const MAX_RANGES: usize = 1024;

/// Runs of consecutive offsets, by partition.
#[derive(Debug, Default)]
pub struct Ranges {
    list: Vec<Range>,
    /// The last range of each partition.
    last: HashMap<u32, usize>,
}

/// Records of one stream in one partition. If `records` is less than the offsets from first to last, other
/// producers wrote in between; that happens only behind the first [`MAX_RANGES`] ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Range {
    partition: u32,
    first_offset: i64,
    last_offset: i64,
    records: u64,
}

impl Ranges {
    /// Adds a record, later in its partition than those before it.
    pub fn add(&mut self, Position { partition, offset }: Position) {
        let full = self.list.len() >= MAX_RANGES;
        let last = self.last.get(&partition).and_then(|index| self.list.get_mut(*index));
        match last {
            Some(range) if full || range.last_offset + 1 == offset => {
                range.last_offset = offset;
                range.records += 1;
            }
            _ => {
                self.last.insert(partition, self.list.len());
                self.list.push(Range {
                    partition,
                    first_offset: offset,
                    last_offset: offset,
                    records: 1,
                });
            }
        }
    }

    /// All of them, in the order in which they began.
    pub fn list(&self) -> &[Range] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn consecutive_offsets_are_one_range_and_the_list_is_bounded() {
        let mut ranges = Ranges::default();
        for (partition, offset) in [(0, 5), (1, 9), (0, 6), (0, 8)] {
            ranges.add(Position { partition, offset });
        }
        let list: Vec<_> = ranges
            .list()
            .iter()
            .map(|r| (r.partition, r.first_offset, r.last_offset, r.records))
            .collect();
        assert_eq!(list, [(0, 5, 6, 2), (1, 9, 9, 1), (0, 8, 8, 1)]);
        for n in 0..100_000 {
            ranges.add(Position {
                partition: 1,
                offset: 10 + 2 * n,
            });
        }
        assert_eq!(ranges.list().len(), MAX_RANGES);
        assert_eq!(ranges.list().iter().map(|range| range.records).sum::<u64>(), 100_004);
    }
}

//! The memory that the members of all groups take: it stays taken for as long as they say, so there is a bound to it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Shared, SlotState};
use crate::groups::Error;

/// Room for what a request brings, held until [`Shared::account`] has counted what the group kept of it.
pub(super) struct Room<'a> {
    held_bytes: &'a AtomicUsize,
    bytes: usize,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Shared {
    /// Finds room for so many bytes more. Clients are told to try again, because the room comes back when members leave; those
    /// who bring no more than they hold already are never turned away.
    pub(super) fn find_room(&self, bytes: usize) -> Result<Room<'_>, Error> {
        let held_bytes = &self.members_bytes;
        let max_bytes = self.options.max_members_bytes;
        let grown = |held: usize| held.checked_add(bytes).filter(|sum| bytes == 0 || *sum <= max_bytes);
        match held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown) {
            Ok(_) => Ok(Room { held_bytes, bytes }),
            Err(held) => {
                tracing::warn!(held_bytes = held, bytes, max_bytes, "no room for a member of a group");
                Err(Error::not_available(format_args!(
                    "the members of all groups hold {held} bytes, and {max_bytes} is the most"
                )))
            }
        }
    }

    /// Counts anew what the members of a group hold. Called under its lock, after everything that can change it.
    pub(super) fn account(&self, state: &mut SlotState) {
        let before = std::mem::replace(&mut state.members_bytes, state.group.held_bytes());
        self.members_bytes.fetch_add(state.members_bytes, Ordering::Relaxed);
        self.members_bytes.fetch_sub(before, Ordering::Relaxed);
    }
}

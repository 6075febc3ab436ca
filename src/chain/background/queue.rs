//! The blocks that wait for the index in memory, bounded in number and in bytes. One that finds no
//! room is read again from the store: the index looks there before it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::super::index::build::Indexable;

/// Blocks that wait at most.
const BLOCKS: usize = 64;
/// Bytes of their bodies, unless a single one has more. Decoded they take some three times as much.
const BYTES: u64 = 64 << 20;

/// The end where blocks are handed over.
#[derive(Debug)]
pub(super) struct IndexQueue {
    sender: SyncSender<Indexable>,
    rooms: Rooms,
}

/// Nobody takes blocks any more.
#[derive(Debug)]
pub(super) struct Ended;

impl IndexQueue {
    pub(super) fn new() -> (Self, Receiver<Indexable>) {
        let (sender, receiver) = sync_channel(BLOCKS);
        (Self { sender, rooms: Rooms::default() }, receiver)
    }

    /// Hands a block over, or leaves it to be found in the store.
    pub(super) fn offer(&self, mut block: Indexable) -> Result<(), Ended> {
        block.room = self.rooms.take(block.block.block.header.body_bytes.into());
        if block.room.is_none() {
            return Ok(());
        }
        match self.sender.try_send(block) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Ended),
        }
    }
}

/// The bytes that are taken.
#[derive(Debug, Default)]
struct Rooms(Arc<AtomicU64>);

impl Rooms {
    fn take(&self, bytes: u64) -> Option<Room> {
        let taken = self.0.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { taken: Arc::clone(&self.0), bytes };
        (taken == 0 || taken.saturating_add(bytes) <= BYTES).then_some(room)
    }
}

/// What a block takes of the room until it is dropped, which is when it was indexed.
#[derive(Debug)]
pub(in super::super) struct Room {
    taken: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_bytes_and_for_one_block_of_any_size() {
        let rooms = Rooms::default();
        let (half, other) = (rooms.take(BYTES / 2).unwrap(), rooms.take(BYTES / 2).unwrap());
        assert!(rooms.take(1).is_none() && rooms.take(1).is_none());
        drop(half);
        let half = rooms.take(BYTES / 2).unwrap();
        drop((half, other));
        let large = rooms.take(2 * BYTES).unwrap();
        assert!(rooms.take(1).is_none());
        drop(large);
        assert_eq!(rooms.0.load(Ordering::Relaxed), 0);
    }
}

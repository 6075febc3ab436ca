//! Room for answers to peers: what was read for a peer lies in memory until the peer has taken it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{ANSWERS_MIB_MAX, HOST_ANSWERS_MIB_MAX};
use crate::peer::Host;

/// Mebibytes that an answer is expected to take, until it is known.
const ANSWER_MIB: u32 = 5;
/// Hosts whose rooms are remembered before those that hold nothing are forgotten.
const HOSTS_MAX: usize = 1_024;

/// Room for the answers of all connections that are read or written. One host has a quarter of it
/// at most: whoever takes nothing keeps nothing from others.
#[derive(Debug, Clone)]
pub(super) struct AnswersRoom {
    all: Arc<Semaphore>,
    hosts: Arc<Mutex<HashMap<Host, Arc<Semaphore>>>>,
}

/// The room of one answer, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    all: OwnedSemaphorePermit,
    host: OwnedSemaphorePermit,
}

impl Default for AnswersRoom {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ANSWERS_MIB_MAX)), hosts: Arc::default() }
    }
}

impl AnswersRoom {
    fn of(&self, host: Host) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS_MAX {
            // Whoever waits or holds something has it, too.
            hosts.retain(|_, room| Arc::strong_count(room) > 1);
        }
        let new = || Arc::new(Semaphore::new(HOST_ANSWERS_MIB_MAX));
        Arc::clone(hosts.entry(host).or_insert_with(new))
    }

    /// Waits for room for an answer to a peer at this host.
    pub(super) async fn enter(&self, host: Host) -> Option<Room> {
        // Its own first: who waits for that holds nothing of the others'.
        let host = self.of(host).acquire_many_owned(ANSWER_MIB).await.ok()?;
        let all = Arc::clone(&self.all).acquire_many_owned(ANSWER_MIB).await.ok()?;
        Some(Room { all, host })
    }
}

impl Room {
    /// Room for this many bytes, if there is as much.
    pub(super) fn fit(mut self, bytes: usize) -> Option<Self> {
        let more = u32::try_from(bytes >> 20).ok()?.saturating_sub(ANSWER_MIB);
        for permit in [&mut self.host, &mut self.all] {
            let room = Arc::clone(permit.semaphore());
            permit.merge(room.try_acquire_many_owned(more).ok()?);
        }
        Some(self)
    }
}

/// What one connection was answered.
#[derive(Debug, Default)]
pub(super) struct Given {
    bytes: AtomicU64,
    held_bytes: AtomicU64,
    untaken: AtomicU64,
}

/// An answer that is being written.
pub(super) struct Giving<'a>(&'a Given, u64);

impl Given {
    pub(super) fn begin(&self, bytes: usize) -> Giving<'_> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        Giving(self, bytes)
    }

    pub(super) fn note_untaken(&self) {
        self.untaken.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes in all, bytes in memory now, and answers that were not taken in time.
    pub(super) fn read(&self) -> (u64, u64, u64) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (read(&self.bytes), read(&self.held_bytes), read(&self.untaken))
    }
}

impl Drop for Giving<'_> {
    fn drop(&mut self) {
        self.0.held_bytes.fetch_sub(self.1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn enter_now(room: &AnswersRoom, host: &str) -> Option<Room> {
        let entering = std::pin::pin!(room.enter(Host::of(host)));
        match entering.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(room) => room,
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_host_has_a_quarter_and_all_have_the_whole() {
        let room = AnswersRoom::default();
        let mut held = Vec::new();
        for host in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"] {
            let before = held.len();
            while let Some(one) = enter_now(&room, host) {
                held.push(one);
            }
            let (each, left) = (HOST_ANSWERS_MIB_MAX / 5, ANSWERS_MIB_MAX / 5 - before);
            assert_eq!(held.len() - before, each.min(left), "{host}");
        }
        assert_eq!(held.len(), ANSWERS_MIB_MAX / 5);
        held.truncate(1);
        assert!(enter_now(&room, "192.0.2.9").is_some());
    }

    #[test]
    fn a_longer_answer_takes_more_or_is_not_given() {
        let room = AnswersRoom::default();
        let first = enter_now(&room, "192.0.2.1").unwrap().fit(37 << 20).unwrap();
        assert_eq!(room.all.available_permits(), ANSWERS_MIB_MAX - 37);
        assert!(enter_now(&room, "192.0.2.1").unwrap().fit(37 << 20).is_none());
        drop(first);
        assert_eq!(room.all.available_permits(), ANSWERS_MIB_MAX);
    }

    #[test]
    fn hosts_that_hold_nothing_are_forgotten() {
        let room = AnswersRoom::default();
        let held = enter_now(&room, "192.0.2.1").unwrap();
        for n in 0..2 * HOSTS_MAX {
            assert!(enter_now(&room, &format!("host-{n}")).is_some());
        }
        let hosts = room.hosts.lock().unwrap();
        assert!(hosts.len() <= HOSTS_MAX && hosts.contains_key(&Host::of("192.0.2.1")));
        drop(held);
    }
}

//! A sender's entries in the order of their nonces.
//!
//! Mostly there is one, which lies beside what else is known of the sender: no memory is taken
//! and given back for it, and none further away is read. Those that leave are mostly the first.

use std::collections::VecDeque;

use ait_engine::types::Nonce;

use super::queue::Entry;

/// Entries by nonce, each nonce once.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The one with the smallest nonce; none if there is none at all.
    first: Option<Entry>,
    rest: VecDeque<Entry>,
}

impl Entries {
    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Where the entry of this nonce is, or belongs.
    pub(super) fn place(&self, nonce: Nonce) -> Result<usize, usize> {
        match &self.first {
            Some(first) if nonce == first.nonce() => Ok(0),
            Some(first) if nonce > first.nonce() => {
                let found = self.rest.binary_search_by_key(&nonce, Entry::nonce);
                found.map(|at| at + 1).map_err(|at| at + 1)
            }
            _ => Err(0),
        }
    }

    pub(super) fn get(&self, place: usize) -> Option<&Entry> {
        match place.checked_sub(1) {
            None => self.first.as_ref(),
            Some(place) => self.rest.get(place),
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.first.iter().chain(&self.rest)
    }

    pub(super) fn last(&self) -> Option<&Entry> {
        self.rest.back().or(self.first.as_ref())
    }

    /// Puts an entry where [`Entries::place`] says.
    pub(super) fn insert(&mut self, place: usize, entry: Entry) {
        match place.checked_sub(1) {
            None => {
                let second = self.first.replace(entry);
                second.into_iter().for_each(|second| self.rest.push_front(second));
            }
            Some(place) => self.rest.insert(place, entry),
        }
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<Entry> {
        match place.checked_sub(1) {
            None => std::mem::replace(&mut self.first, self.rest.pop_front()),
            Some(place) => self.rest.remove(place),
        }
    }
}

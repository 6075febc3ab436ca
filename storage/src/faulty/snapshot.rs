//! Reads that fail on request.
//!
//! A snapshot outlives no crash of the handle it came from.

use std::sync::Arc;

use crate::{
    Direction, Entry, EntryIterator, KeyRange, Operation, Snapshot, StorageError, Table, Value,
};

use super::{FaultMoment, Injection, State};

pub(super) struct FaultySnapshot {
    inner: Box<dyn Snapshot>,
    state: Arc<State>,
}

impl FaultySnapshot {
    pub(super) fn new(inner: Box<dyn Snapshot>, state: Arc<State>) -> Self {
        Self { inner, state }
    }
}

impl Snapshot for FaultySnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Value>, StorageError> {
        let injection = self.state.begin(Operation::Get)?;
        self.state.around(injection, || self.inner.get(table, key))
    }

    fn range(
        &self,
        table: Table,
        range: KeyRange,
        direction: Direction,
    ) -> Result<EntryIterator<'_>, StorageError> {
        let injection = self.state.begin(Operation::Range)?;
        let inside = injection.filter(|injection| injection.moment == FaultMoment::Inside);
        let outside = injection.filter(|_| inside.is_none());
        let rest = self.state.around(outside, || self.inner.range(table, range, direction))?;
        Ok(Box::new(FaultyScan {
            rest: Some(rest),
            state: &self.state,
            injection: inside,
            yielded: 0,
        }))
    }
}

struct FaultyScan<'a> {
    rest: Option<EntryIterator<'a>>,
    state: &'a State,
    injection: Option<Injection>,
    yielded: u64,
}

impl FaultyScan<'_> {
    fn failure(&self) -> Option<StorageError> {
        if self.state.lock().crashed {
            return Some(StorageError::Crashed);
        }
        let injection = self.injection.filter(|_| self.yielded > 0)?;
        Some(self.state.strike(injection))
    }
}

impl Iterator for FaultyScan<'_> {
    type Item = Result<Entry, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest.as_ref()?;
        if let Some(failure) = self.failure() {
            self.rest = None;
            return Some(Err(failure));
        }
        self.yielded += 1;
        self.rest.as_mut()?.next()
    }
}

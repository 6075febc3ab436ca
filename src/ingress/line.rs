//! A bounded line of jobs for several threads.
//!
//! Whoever pushes never waits; whoever takes gets what is there, at least one.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use metrics::gauge;

use super::SubmitError;

#[derive(Debug)]
struct State<T> {
    jobs: VecDeque<T>,
    is_closed: bool,
}

#[derive(Debug)]
pub(super) struct Line<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

impl<T> Line<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let state = State { jobs: VecDeque::new(), is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity: capacity.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    pub(super) fn push(&self, job: T) -> Result<(), SubmitError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(SubmitError::Stopping);
        }
        if state.jobs.len() >= self.capacity {
            return Err(SubmitError::Busy);
        }
        state.jobs.push_back(job);
        show(state.jobs.len());
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes up to `count_max`; none when closed and empty.
    pub(super) fn take(&self, count_max: usize) -> Option<Vec<T>> {
        let is_idle = |state: &mut State<T>| state.jobs.is_empty() && !state.is_closed;
        let waited = self.changed.wait_while(self.lock(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let count = state.jobs.len().min(count_max);
        let jobs: Vec<T> = state.jobs.drain(..count).collect();
        show(state.jobs.len());
        (!jobs.is_empty()).then_some(jobs)
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}

fn show(length: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!("ingress_queue_length").set(length as f64);
}

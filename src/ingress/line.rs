//! A bounded line of jobs for several threads.
//!
//! Whoever pushes never waits; whoever takes gets what is there, at least one.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use metrics::gauge;

use super::SubmitError;

/// A batch of less than this part of the greatest is a small one.
const FEW: usize = 8;

#[derive(Debug)]
struct State<T> {
    jobs: VecDeque<T>,
    is_closed: bool,
    /// Threads that wait for jobs: only they are woken, which costs a system call.
    waiting: usize,
}

#[derive(Debug)]
pub(super) struct Line<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

impl<T> Line<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let state = State { jobs: VecDeque::new(), is_closed: false, waiting: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity: capacity.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Appends jobs as far as there is room.
    ///
    /// # Errors
    /// How many it took, and why not the others.
    pub(super) fn push(&self, jobs: Vec<T>) -> Result<(), (usize, SubmitError)> {
        let mut state = self.lock();
        if state.is_closed {
            return Err((0, SubmitError::Stopping));
        }
        let count = jobs.len();
        let room = self.capacity.saturating_sub(state.jobs.len());
        let taken = count.min(room);
        state.jobs.extend(jobs.into_iter().take(taken));
        let is_awaited = state.waiting > 0;
        drop(state);
        match taken {
            1 if is_awaited => self.changed.notify_one(),
            2.. if is_awaited => self.changed.notify_all(),
            _ => {}
        }
        if taken < count { Err((taken, SubmitError::Busy)) } else { Ok(()) }
    }

    /// Waits for jobs and takes up to `count_max`; none when closed and empty.
    pub(super) fn take(&self, count_max: usize) -> Option<Vec<T>> {
        let mut state = self.lock();
        loop {
            while state.jobs.is_empty() && !state.is_closed {
                state.waiting += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
            }
            // Few signatures cost more each than many. On busy cores those who push come
            // first for a moment; on others this takes no time.
            if state.jobs.len() < count_max / FEW && !state.is_closed {
                drop(state);
                std::thread::yield_now();
                state = self.lock();
            }
            let count = state.jobs.len().min(count_max);
            if count == 0 && !state.is_closed {
                // Another thread was faster.
                continue;
            }
            let jobs: Vec<T> = state.jobs.drain(..count).collect();
            show(state.jobs.len());
            return (!jobs.is_empty()).then_some(jobs);
        }
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

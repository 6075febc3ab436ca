//! A bounded line of jobs for several threads, each job of one transaction or more.
//!
//! Whoever pushes never waits; whoever takes gets what is there, at least one, and waits no
//! longer than the processor has others to run who push more.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use metrics::gauge;

use super::SubmitError;

/// A batch of less than this part of the greatest is a small one.
const FEW: usize = 2;

#[derive(Debug)]
struct State<T> {
    /// Jobs, each with how many transactions it has.
    jobs: VecDeque<(usize, T)>,
    /// Transactions of all jobs, and those for which room is kept.
    count: usize,
    is_closed: bool,
    /// Threads that wait for jobs: only they are woken, which costs a system call.
    waiting: usize,
    /// Whether a thread is about to take: it may have been woken long before it has a processor,
    /// and takes what comes until then. No other is woken meanwhile.
    is_attended: bool,
}

#[derive(Debug)]
pub(super) struct Line<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

impl<T> State<T> {
    /// Keeps room for up to `wanted` transactions of `capacity`.
    fn reserve(&mut self, wanted: usize, capacity: usize) -> Result<usize, SubmitError> {
        if self.is_closed {
            return Err(SubmitError::Stopping);
        }
        let room = wanted.min(capacity.saturating_sub(self.count));
        if room == 0 && wanted > 0 {
            return Err(SubmitError::Busy);
        }
        self.count = self.count.saturating_add(room);
        Ok(room)
    }
}

impl<T> Line<T> {
    /// A line with room for this many transactions.
    pub(super) fn new(capacity: usize) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            count: 0,
            is_closed: false,
            waiting: 0,
            is_attended: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity: capacity.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many transactions wait.
    pub(super) fn len(&self) -> usize {
        self.lock().count
    }

    /// Keeps room for up to `wanted` transactions, which must be pushed next; gives for how many.
    ///
    /// # Errors
    /// Why there is no room for any.
    pub(super) fn reserve(&self, wanted: usize) -> Result<usize, SubmitError> {
        self.lock().reserve(wanted, self.capacity)
    }

    /// Appends a job of one transaction.
    ///
    /// # Errors
    /// Why there is no room for it.
    pub(super) fn offer(&self, job: T) -> Result<(), SubmitError> {
        let mut state = self.lock();
        state.reserve(1, self.capacity)?;
        state.jobs.push_back((1, job));
        self.call(state);
        Ok(())
    }

    /// Appends jobs for which room is kept. When closed meanwhile, they are dropped.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = (usize, T)>) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        state.jobs.extend(jobs);
        self.call(state);
    }

    /// Wakes a thread if there is something to take and nobody is about to.
    fn call(&self, mut state: MutexGuard<'_, State<T>>) {
        if state.waiting > 0 && !state.is_attended && !state.jobs.is_empty() {
            state.is_attended = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Waits for jobs and takes some of up to `count_max` transactions, or one; none when closed
    /// and empty.
    pub(super) fn take(&self, count_max: usize) -> Option<Vec<T>> {
        let mut state = self.lock();
        loop {
            while state.jobs.is_empty() && !state.is_closed {
                state.waiting = state.waiting.saturating_add(1);
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting = state.waiting.saturating_sub(1);
            }
            state.is_attended = true;
            // Few signatures cost more each than many. On busy cores those who push come first as
            // long as it doubles what is there; on others this takes no time.
            let mut enough = 1;
            while (enough..count_max / FEW).contains(&state.count) && !state.is_closed {
                enough = state.count.saturating_mul(2);
                drop(state);
                std::thread::yield_now();
                state = self.lock();
            }
            state.is_attended = false;
            if state.jobs.is_empty() && !state.is_closed {
                // Another thread was faster.
                continue;
            }
            let (mut jobs, mut taken) = (Vec::new(), 0);
            while let Some((count, job)) = state
                .jobs
                .pop_front_if(|(count, _)| taken == 0 || count.saturating_add(taken) <= count_max)
            {
                taken = count.saturating_add(taken);
                jobs.push(job);
            }
            state.count = state.count.saturating_sub(taken);
            show(state.count);
            // What is left is for another, who calls the next.
            self.call(state);
            return (!jobs.is_empty()).then_some(jobs);
        }
    }

    /// Threads that wait for jobs.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
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

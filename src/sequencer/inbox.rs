//! The queue before the sequencer's thread: bounded, with a bell for the mempool.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::port::Input;

/// The queue is full: the input comes back.
#[derive(Debug, thiserror::Error)]
#[error("the sequencer has too much to do")]
pub struct Full(pub Box<Input>);

#[derive(Debug, Default)]
struct Queue {
    inputs: VecDeque<Input>,
    is_rung: bool,
}

/// Inputs that wait for the sequencer's thread.
#[derive(Debug)]
pub struct Inbox {
    queue: Mutex<Queue>,
    changed: Condvar,
    count_max: usize,
}

impl Inbox {
    /// An inbox of at most `count_max` inputs.
    #[must_use]
    pub fn new(count_max: usize) -> Self {
        Self { queue: Mutex::default(), changed: Condvar::new(), count_max }
    }

    /// Adds an input.
    ///
    /// # Errors
    /// [`Full`] with the input; nothing was added.
    pub fn push(&self, input: Input) -> Result<(), Full> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.inputs.len() >= self.count_max {
            return Err(Full(Box::new(input)));
        }
        queue.inputs.push_back(input);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    /// Wakes the thread without an input.
    pub fn ring(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut queue.is_rung, true) {
            drop(queue);
            self.changed.notify_one();
        }
    }

    /// The next input; [`Input::Tick`] when rung, or after `timeout`.
    #[must_use]
    pub fn next(&self, timeout: Duration) -> Input {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(queue, timeout, |queue| queue.inputs.is_empty() && !queue.is_rung);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.inputs.pop_front().unwrap_or_else(|| {
            queue.is_rung = false;
            Input::Tick
        })
    }
}

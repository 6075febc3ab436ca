//! The work behind the writer without threads: a step at a time, when the caller says so, so
//! that the simulator decides how far each part is when something goes wrong.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::{Board, Checkpoint, Indexable, Inner, Listing, catch_up, finish, store, take};
use crate::chain::{ChainError, CheckpointPolicy};

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write the block that was handed over to the store.
    Blocks,
    /// Bring the index up to the newest block.
    Index,
    /// Begin a checkpoint that is due, or write one that was begun.
    Checkpoint,
}

/// How far the work is.
#[derive(Debug)]
pub(super) struct Steps {
    inner: Arc<Inner>,
    /// What is to be indexed; none if nothing is, or not any more.
    waiting: Option<Receiver<Indexable>>,
    listing: Option<Listing>,
    /// None if no checkpoint is written any more.
    policy: Option<CheckpointPolicy>,
    under_way: Option<Checkpoint>,
}

impl Steps {
    pub(super) const fn new(
        inner: Arc<Inner>,
        waiting: Option<Receiver<Indexable>>,
        policy: CheckpointPolicy,
    ) -> Self {
        Self { inner, waiting, listing: None, policy: Some(policy), under_way: None }
    }

    /// Does a step. After a fault, which the board is told, that part of the work has ended.
    pub(super) fn step(&mut self, board: &Board, step: Step) {
        let done = match step {
            Step::Blocks => store(&self.inner, board),
            Step::Index => self.index(board),
            Step::Checkpoint => self.checkpoint(board),
        };
        let Err(error) = done else { return };
        tracing::debug!(?step, %error, "a step behind the writer failed");
        match step {
            Step::Blocks => {}
            Step::Index => self.waiting = None,
            Step::Checkpoint => self.policy = None,
        }
        board.fail(&error);
    }

    fn index(&mut self, board: &Board) -> Result<(), ChainError> {
        let Some(waiting) = &self.waiting else { return Ok(()) };
        let inner = &self.inner;
        if self.listing.is_none() {
            self.listing = Listing::open(inner, &|| false, false)?;
        }
        let Some(listing) = &mut self.listing else { return Ok(()) };
        store(inner, board)?;
        while let Ok(first) = waiting.try_recv() {
            take(inner, board, listing, (first, waiting), Duration::ZERO)?;
        }
        catch_up(inner, board, listing)?;
        while listing.rest().is_some() {
            listing.step(inner, &|| false)?;
        }
        board.change(|progress| progress.indexed = *inner.indexed.borrow());
        Ok(())
    }

    fn checkpoint(&mut self, board: &Board) -> Result<(), ChainError> {
        let Some(policy) = &self.policy else { return Ok(()) };
        if let Some(checkpoint) = self.under_way.take() {
            store(&self.inner, board)?;
            finish(&self.inner, &checkpoint)?;
            board.change(|progress| progress.checkpoint_running = false);
        } else if board.lock().checkpoint_wanted {
            self.under_way = self.inner.state.begin_checkpoint(policy);
            board.change(|progress| {
                progress.checkpoint_wanted = false;
                progress.checkpoint_running = self.under_way.is_some();
            });
        }
        Ok(())
    }
}

//! The two threads behind the writer: one indexes committed blocks and makes them
//! known, one writes checkpoints. A fault of either stops the writer.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use ait_engine::types::Height;

use super::index_build::Indexable;
use super::read::{Head, Inner};
use super::{ChainError, CheckpointPolicy};

/// Committed blocks that may wait for the index.
const QUEUE_BLOCKS: usize = 64;
/// Blocks indexed in one batch at most.
const BATCH_BLOCKS: usize = 64;

/// How far the threads are.
#[derive(Debug, Default)]
struct Progress {
    indexed: Height,
    checkpoint_wanted: bool,
    checkpoint_running: bool,
    closing: bool,
    failed: Option<String>,
}

/// The progress that the threads and the writer wait on.
#[derive(Debug, Default)]
struct Board {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Board {
    // A poisoned lock means that a thread panicked; its fault is noted by its guard.
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait_while(&self, condition: impl FnMut(&mut Progress) -> bool) -> MutexGuard<'_, Progress> {
        self.changed.wait_while(self.lock(), condition).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handles of the two threads.
#[derive(Debug)]
pub(super) struct Background {
    queue: Option<SyncSender<Indexable>>,
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    pub(super) fn start(inner: &Arc<Inner>, policy: CheckpointPolicy) -> Result<Self, ChainError> {
        let (queue, waiting) = sync_channel(QUEUE_BLOCKS);
        let board = Arc::new(Board::default());
        board.change(|progress| progress.indexed = inner.head.borrow().height);
        let spawn = |name: &str, work: Box<dyn FnOnce() -> Result<(), ChainError> + Send>| {
            let board = Arc::clone(&board);
            let name = name.to_owned();
            Builder::new().name(name.clone()).spawn(move || {
                let guard = FailOnPanic(&board, &name);
                if let Err(error) = work() {
                    tracing::error!(thread = name, %error, "a chain thread failed");
                    board.change(|p| p.failed = Some(error.to_string()));
                }
                std::mem::forget(guard);
            })
        };
        let for_index = (Arc::clone(inner), Arc::clone(&board));
        let for_checkpoints = (Arc::clone(inner), Arc::clone(&board));
        let threads = [
            spawn("index", Box::new(move || index(&for_index.0, &for_index.1, &waiting))),
            spawn(
                "checkpoint",
                Box::new(move || checkpoints(&for_checkpoints.0, &for_checkpoints.1, policy)),
            ),
        ];
        let threads: Result<Vec<_>, _> = threads.into_iter().collect();
        let threads = threads.map_err(|_| ChainError::Stopped { what: "the start of a thread" })?;
        Ok(Self { queue: Some(queue), board, threads })
    }

    /// Hands a committed block over; waits while too many are queued.
    pub(super) fn index(&self, block: Indexable) -> Result<(), ChainError> {
        let stopped = || ChainError::Stopped { what: "the index" };
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(block).map_err(|_| stopped())
    }

    /// Asks for a checkpoint if one is due. Waits while one is running and memory holds
    /// twice what a checkpoint should: `crowded` says so.
    pub(super) fn checkpoint(&self, crowded: bool) -> Result<(), ChainError> {
        self.board.change(|progress| progress.checkpoint_wanted = true);
        let progress = self.board.wait_while(|p| {
            p.failed.is_none() && crowded && (p.checkpoint_running || p.checkpoint_wanted)
        });
        match progress.failed {
            Some(_) => Err(ChainError::Stopped { what: "a thread of the chain" }),
            None => Ok(()),
        }
    }

    /// Waits until every block handed over is indexed.
    pub(super) fn wait_for(&self, height: Height) -> Result<(), ChainError> {
        let progress = self.board.wait_while(|p| p.failed.is_none() && p.indexed < height);
        match progress.failed {
            Some(_) => Err(ChainError::Stopped { what: "a thread of the chain" }),
            None => Ok(()),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.queue = None;
        self.board.change(|progress| progress.closing = true);
        for thread in self.threads.drain(..) {
            // A panic was noted by the thread's guard.
            let _ = thread.join();
        }
    }
}

/// Notes a panic of a thread, so that nobody waits for it.
struct FailOnPanic<'a>(&'a Board, &'a str);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        self.0.change(|progress| progress.failed = Some(format!("the thread {} panicked", self.1)));
    }
}

fn index(inner: &Inner, board: &Board, waiting: &Receiver<Indexable>) -> Result<(), ChainError> {
    while let Ok(first) = waiting.recv() {
        let mut blocks = vec![first];
        while blocks.len() < BATCH_BLOCKS {
            match waiting.try_recv() {
                Ok(next) => blocks.push(next),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        inner.index.add(&blocks)?;
        let mut total = inner.head.borrow().transaction_total;
        for Indexable { block, .. } in blocks {
            let height = block.height();
            total += block.tx_hashes.len() as u64;
            inner.head.send_replace(Head {
                height,
                block_id: block.id,
                header: Arc::new(block.block.header.clone()),
                transaction_total: total,
            });
            // Without subscribers there is nobody to tell.
            let _ = inner.events.send(block);
            board.change(|progress| progress.indexed = height);
        }
    }
    Ok(())
}

fn checkpoints(inner: &Inner, board: &Board, policy: CheckpointPolicy) -> Result<(), ChainError> {
    loop {
        let mut progress = board.wait_while(|p| !p.checkpoint_wanted && !p.closing);
        if progress.closing {
            return Ok(());
        }
        progress.checkpoint_wanted = false;
        progress.checkpoint_running = true;
        drop(progress);
        if let Some(checkpoint) = inner.state.begin_checkpoint(&policy) {
            // The index must not fall behind the state on disk: blocks up to there are not replayed.
            let height = checkpoint.height();
            let progress =
                board.wait_while(|p| p.indexed < height && !p.closing && p.failed.is_none());
            if progress.indexed < height {
                return Ok(());
            }
            drop(progress);
            inner.state.finish_checkpoint(&checkpoint)?;
            tracing::debug!(%height, "checkpoint written");
        }
        board.change(|progress| progress.checkpoint_running = false);
    }
}

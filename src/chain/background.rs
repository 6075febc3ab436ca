//! The threads behind the writer: one writes blocks that the log of consensus has to the store,
//! one indexes committed blocks, one writes checkpoints. The first is waited for before the next
//! block is committed, and by the other two, which never have on disk what the store lacks. These
//! are not waited for: the index may fall behind, also over a restart,
//! and then reads what it missed from the store of blocks. A fault of any stops the
//! writer. Their work can be done without them, in steps whose times another decides
//! ([`steps`]).

mod queue;
mod steps;

use std::io::ErrorKind;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use ait_engine::types::Height;

use super::checkpoint::Checkpoint;
use super::index::Listing;
use super::index::build::Indexable;
use super::read::Inner;
use super::{ChainError, ChainOptions, CheckpointPolicy};
use crate::disk::{Shortage, want_of_room};
use crate::telemetry::Stage;

use queue::IndexQueue;
pub(super) use queue::Room;
pub use steps::Step;
use steps::Steps;

/// Transactions after which a batch of the index is written; bounds the time to stop. An
/// index that is behind writes large batches: its keys are spread over all of it, and the
/// more of them are sorted and written together, the fewer pages are written for each.
const BATCH_TRANSACTIONS: usize = 200_000;
/// Transactions that wait while a chain is busy: a batch of some more blocks costs less for each,
/// and is merged less often.
const BUSY_TRANSACTIONS: usize = 1_000;
/// How long a batch of a busy chain waits for more blocks.
const PATIENCE: Duration = Duration::from_millis(200);
/// Blocks that an index may be behind before the log says so, as after it was switched on.
const FAR_BEHIND: u64 = 1_000;
/// How long the index sleeps at once.
const REST_MAX: Duration = Duration::from_secs(1);
/// How often the log says how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Blocks in a batch at most, and bytes of their bodies unless one has more.
const BATCH_BLOCKS: usize = 256;
const BATCH_BYTES: u64 = 64 << 20;

/// How far the threads are.
#[derive(Debug, Default)]
struct Progress {
    /// Height of the newest block in the store.
    stored: Height,
    /// Whether a block was handed over that the store does not have.
    store_wanted: bool,
    /// Nothing is written to the store of blocks any more.
    store_ended: bool,
    /// Height up to which the index goes, once its list of accounts has begun.
    indexed: Height,
    checkpoint_wanted: bool,
    checkpoint_running: bool,
    closing: bool,
    /// Whether somebody waits for the list of accounts, so that it takes no pauses.
    hurried: bool,
    failed: Option<Failure>,
}

/// Why a thread ended.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// Nothing could be written: this is what the system said.
    NoRoom(std::io::ErrorKind),
    /// Anything else; the log says what.
    Other,
}

impl From<Failure> for ChainError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoRoom(kind) => Self::NoRoom { source: kind.into() },
            Failure::Other => Self::Stopped { what: "a thread of the chain" },
        }
    }
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

    /// Notes why a part of the work has ended.
    fn fail(&self, error: &ChainError) {
        let failure = match want_of_room(error) {
            Some(Shortage::FULL) => Failure::NoRoom(ErrorKind::StorageFull),
            Some(_) => Failure::NoRoom(ErrorKind::ReadOnlyFilesystem),
            None => Failure::Other,
        };
        self.change(|progress| progress.failed = Some(failure));
    }

    /// Notes that the store has the block of this height.
    fn stored(&self, height: Height) {
        self.change(|progress| progress.stored = height);
        crate::telemetry::metrics::stored(height.get());
    }

    /// Waits until the store has the block of this height; what failed meanwhile.
    fn wait_until_stored(&self, height: Height) -> Result<(), ChainError> {
        let waits = |p: &mut Progress| p.failed.is_none() && !p.store_ended && p.stored < height;
        let progress = self.wait_while(waits);
        match progress.failed {
            Some(failure) => Err(failure.into()),
            None if progress.stored < height => {
                Err(ChainError::Stopped { what: "the store of blocks" })
            }
            None => Ok(()),
        }
    }

    fn wait_while(&self, condition: impl FnMut(&mut Progress) -> bool) -> MutexGuard<'_, Progress> {
        self.changed.wait_while(self.lock(), condition).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handles of the threads, or their work.
#[derive(Debug)]
pub(super) struct Background {
    /// None if nothing is indexed.
    queue: Option<IndexQueue>,
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
    steps: Option<Mutex<Steps>>,
}

impl Background {
    pub(super) fn start(inner: &Arc<Inner>, options: &ChainOptions) -> Result<Self, ChainError> {
        let policy = options.checkpoints;
        let (queue, waiting) = IndexQueue::new();
        let board = Arc::new(Board::default());
        board.stored(inner.head.borrow().height);
        let queue = options.index.then_some(queue);
        if options.in_steps {
            let steps = Steps::new(Arc::clone(inner), options.index.then_some(waiting), policy);
            return Ok(Self { queue, board, threads: Vec::new(), steps: Some(Mutex::new(steps)) });
        }
        let spawn = |name: &str, work: Box<dyn FnOnce() -> Result<(), ChainError> + Send>| {
            let board = Arc::clone(&board);
            let name = name.to_owned();
            Builder::new().name(name.clone()).spawn(move || {
                let guard = FailOnPanic(&board, &name);
                if let Err(error) = work() {
                    tracing::error!(thread = name, %error, "a chain thread failed");
                    board.fail(&error);
                }
                std::mem::forget(guard);
            })
        };
        let for_index = (Arc::clone(inner), Arc::clone(&board));
        let for_checkpoints = (Arc::clone(inner), Arc::clone(&board));
        let for_blocks = (Arc::clone(inner), Arc::clone(&board));
        let mut threads = vec![
            spawn("blocks", Box::new(move || blocks(&for_blocks.0, &for_blocks.1))),
            spawn(
                "checkpoint",
                Box::new(move || checkpoints(&for_checkpoints.0, &for_checkpoints.1, policy)),
            ),
        ];
        if options.index {
            let work = move || index(&for_index.0, &for_index.1, &waiting);
            threads.push(spawn("index", Box::new(work)));
        }
        let threads: Result<Vec<_>, _> = threads.into_iter().collect();
        let threads = threads.map_err(|_| ChainError::Stopped { what: "the start of a thread" })?;
        Ok(Self { queue, board, threads, steps: None })
    }

    /// The store has the block of this height.
    pub(super) fn stored(&self, height: Height) {
        self.board.stored(height);
    }

    /// Has the block written that the store was handed over.
    pub(super) fn store(&self) {
        self.board.change(|progress| progress.store_wanted = true);
    }

    /// Waits until the store has the block of this height.
    pub(super) fn wait_until_stored(&self, height: Height) -> Result<(), ChainError> {
        if self.board.lock().stored < height {
            self.store();
            self.step(Step::Blocks);
        }
        self.board.wait_until_stored(height)
    }

    /// Has the list of accounts move on without pauses from now on.
    pub(super) fn hurry(&self) {
        self.board.change(|progress| progress.hurried = true);
    }

    /// What failed, if anything did.
    pub(super) fn check(&self) -> Result<(), ChainError> {
        let failed = self.board.lock().failed;
        failed.map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Hands a committed block over. If the index is behind it is told no more: it will
    /// find the block in the store.
    pub(super) fn index(&self, block: Indexable) -> Result<(), ChainError> {
        let Some(queue) = &self.queue else { return Ok(()) };
        queue.offer(block).map_err(|queue::Ended| {
            let failed = self.board.lock().failed;
            failed.map_or(ChainError::Stopped { what: "the index" }, Into::into)
        })
    }

    /// Asks for a checkpoint if one is due. Waits while one is running and memory holds
    /// twice what a checkpoint should: `crowded` says so.
    pub(super) fn checkpoint(&self) -> Result<(), ChainError> {
        self.board.change(|progress| progress.checkpoint_wanted = true);
        self.check()
    }

    /// Has one written if one is due, and waits for it.
    pub(super) fn wait_for_new_checkpoint(&self) -> Result<(), ChainError> {
        self.checkpoint()?;
        self.wait_for_checkpoint()
    }

    /// Waits while a checkpoint is being written.
    pub(super) fn wait_for_checkpoint(&self) -> Result<(), ChainError> {
        let is_at_work =
            |p: &mut Progress| p.failed.is_none() && (p.checkpoint_running || p.checkpoint_wanted);
        while self.steps.is_some() && is_at_work(&mut self.board.lock()) {
            self.step(Step::Checkpoint);
        }
        let progress = self.board.wait_while(is_at_work);
        match progress.failed {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    /// Does a step of the work, unless it is that of threads.
    pub(super) fn step(&self, step: Step) {
        if let Some(steps) = &self.steps {
            // Who panicked in a step ended with it.
            steps.lock().unwrap_or_else(PoisonError::into_inner).step(&self.board, step);
        }
    }

    /// Waits until the index has this block, if there is an index.
    pub(super) fn wait_for(&self, height: Height) -> Result<(), ChainError> {
        self.step(Step::Index);
        let is_indexing = self.queue.is_some();
        let is_behind = |p: &mut Progress| is_indexing && p.failed.is_none() && p.indexed < height;
        let progress = self.board.wait_while(is_behind);
        match progress.failed {
            Some(failure) => Err(failure.into()),
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
        tracing::error!(thread = self.1, "a chain thread panicked");
        self.0.change(|progress| progress.failed = Some(Failure::Other));
    }
}

/// Indexes everything up to the newest block, then whatever is committed.
fn index(inner: &Inner, board: &Board, waiting: &Receiver<Indexable>) -> Result<(), ChainError> {
    let is_stopping = || board.lock().closing;
    let Some(mut listing) = Listing::open(inner, &is_stopping, true)? else { return Ok(()) };
    catch_up(inner, board, &mut listing)?;
    // A crash may have come between the blocks and the beginning of the list.
    if listing.rest().is_some_and(|rest| rest.is_zero()) {
        Stage::Index.time(|| listing.step(inner, &is_stopping))?;
    }
    board.change(|progress| progress.indexed = *inner.indexed.borrow());
    while !is_stopping() {
        // What was handed over costs less than what is read again.
        if let Ok(first) = waiting.try_recv() {
            take(inner, board, &mut listing, (first, waiting), PATIENCE)?;
            continue;
        }
        catch_up(inner, board, &mut listing)?;
        // All is indexed that was committed before the queue was looked at.
        let received = match listing.rest() {
            Some(_) if board.lock().hurried => Err(RecvTimeoutError::Timeout),
            Some(rest) => waiting.recv_timeout(rest.min(REST_MAX)),
            None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(first) => take(inner, board, &mut listing, (first, waiting), PATIENCE)?,
            // Not all of the pause: somebody may have begun to wait.
            Err(RecvTimeoutError::Timeout)
                if !board.lock().hurried && listing.rest().is_some_and(|rest| !rest.is_zero()) => {}
            Err(RecvTimeoutError::Timeout) => {
                Stage::Index.time(|| listing.step(inner, &is_stopping))?;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(())
}

/// Indexes what was handed over, as far as it follows what is in the index. Of a busy chain it
/// waits for more, at most as long as `patience`.
fn take(
    inner: &Inner,
    board: &Board,
    listing: &mut Listing,
    (first, waiting): (Indexable, &Receiver<Indexable>),
    patience: Duration,
) -> Result<(), ChainError> {
    let mut next = inner.index.next_height()?;
    let mut batch = Vec::new();
    let mut has_gap = false;
    let began = Instant::now();
    let mut candidate = Some(first);
    while let Some(indexable) = candidate {
        let height = indexable.block.height();
        has_gap = height > next;
        if has_gap {
            break;
        }
        if height == next {
            next = height.next().unwrap_or(height);
            batch.push(indexable);
        }
        let patience = match transactions(&batch) >= BUSY_TRANSACTIONS {
            true => patience.saturating_sub(began.elapsed()),
            false => Duration::ZERO,
        };
        candidate = if is_full(&batch) { None } else { waiting.recv_timeout(patience).ok() };
    }
    write(inner, board, listing, &batch)?;
    // Blocks between were not handed over: they are read again.
    if has_gap { catch_up(inner, board, listing) } else { Ok(()) }
}

/// Indexes what is committed and was not handed over, read from the store of blocks.
fn catch_up(inner: &Inner, board: &Board, listing: &mut Listing) -> Result<(), ChainError> {
    let mut told = None;
    loop {
        let next = inner.index.next_height()?;
        // Not the store of blocks: a block is there before the state has taken it over, and what
        // its accounts hold is read from the state.
        let head = inner.state.head().0;
        if next > head || board.lock().closing {
            if told.is_some() {
                tracing::info!(%next, "the index has caught up, or the node stops");
            }
            return Ok(());
        }
        let behind = head.get().saturating_sub(next.get());
        if behind >= FAR_BEHIND && told.is_none_or(|told: Instant| told.elapsed() >= TOLD_EVERY) {
            tracing::info!(behind, %next, %head, "the index is behind and reads blocks again");
            told = Some(Instant::now());
        }
        let mut batch = Vec::new();
        for height in next.get()..=head.get() {
            batch.push(Indexable::read(inner, Height::saturating(height))?);
            if is_full(&batch) {
                break;
            }
        }
        write(inner, board, listing, &batch)?;
    }
}

fn is_full(batch: &[Indexable]) -> bool {
    let bytes = |indexable: &Indexable| u64::from(indexable.block.block.header.body_bytes);
    transactions(batch) >= BATCH_TRANSACTIONS
        || batch.len() >= BATCH_BLOCKS
        || batch.iter().map(bytes).sum::<u64>() >= BATCH_BYTES
}

fn transactions(batch: &[Indexable]) -> usize {
    batch.iter().map(|indexable| indexable.block.tx_hashes.len()).sum()
}

fn write(
    inner: &Inner,
    board: &Board,
    listing: &mut Listing,
    batch: &[Indexable],
) -> Result<(), ChainError> {
    let Some(last) = batch.last() else { return Ok(()) };
    let height = last.block.height();
    board.wait_until_stored(height)?;
    let is_level = height >= inner.state.head().0;
    Stage::Index.time(|| inner.index.add(inner, batch, listing, is_level))?;
    if listing.rest().is_some_and(|rest| rest.is_zero()) {
        Stage::Index.time(|| listing.step(inner, &|| board.lock().closing))?;
    }
    inner.indexed.send_replace(height);
    crate::telemetry::metrics::indexed(height.get());
    board.change(|progress| progress.indexed = height);
    Ok(())
}

/// Writes what is handed over, also what was when it is told to end.
fn blocks(inner: &Inner, board: &Board) -> Result<(), ChainError> {
    loop {
        let mut progress = board.wait_while(|p| !p.store_wanted && !p.closing);
        if !std::mem::take(&mut progress.store_wanted) {
            // A block that was never to be written is waited for by nobody.
            progress.store_ended = true;
            drop(progress);
            board.changed.notify_all();
            return Ok(());
        }
        drop(progress);
        store(inner, board)?;
    }
}

fn store(inner: &Inner, board: &Board) -> Result<(), ChainError> {
    if let Some(height) = inner.blocks.write()? {
        board.stored(height);
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
            board.wait_until_stored(checkpoint.height())?;
            finish(inner, &checkpoint)?;
        }
        board.change(|progress| progress.checkpoint_running = false);
    }
}

fn finish(inner: &Inner, checkpoint: &Checkpoint) -> Result<(), ChainError> {
    let height = checkpoint.height();
    Stage::Checkpoint.time(|| inner.state.finish_checkpoint(checkpoint))?;
    tracing::debug!(%height, "checkpoint written");
    Ok(())
}

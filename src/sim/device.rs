//! What a node writes and signs as the simulation makes it fail: when a write is struck, what is
//! not synced yet, and what a power cut leaves of a file.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ait_storage::FaultMoment;
use fastrand::Rng;

/// Bytes that a disk writes at once.
const SECTOR_BYTES: usize = 512;
/// How long a slow signer takes at most, in milliseconds.
const SLOW_MS_MAX: u64 = 600;
/// Moments of a commit.
pub(super) const MOMENTS: [FaultMoment; 3] =
    [FaultMoment::Before, FaultMoment::Inside, FaultMoment::After];

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The log or the signer's record.
    Log,
    /// The store of blocks.
    Blocks,
    /// The store of state, behind the writer.
    State,
    /// The index, behind the writer.
    Index,
}

/// Which writes are counted until one is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// Those that voting waits for: of the log, the record and the blocks.
    Waited,
    /// Commits of blocks.
    Blocks,
    /// Commits of the state.
    State,
    /// Commits of the index.
    Index,
}

/// What a write meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strike {
    /// The power is cut while it is written.
    Torn,
    /// The power is cut at this moment of a commit.
    Cut(FaultMoment),
    /// Some of it is written, and an error comes back.
    Short,
    /// There is no room.
    Full,
    /// The process was struck before: nothing is done.
    Gone,
}

impl Strike {
    /// When in a commit.
    pub(super) fn moment(self, device: &Device) -> FaultMoment {
        match self {
            Self::Cut(moment) => moment,
            Self::Torn => MOMENTS[device.below(MOMENTS.len())],
            Self::Short | Self::Full => FaultMoment::Inside,
            Self::Gone => FaultMoment::Before,
        }
    }

    /// Whether a process that met this may end for such a reason: of the fault itself, or because
    /// the work behind the writer has ended by it.
    pub(super) fn explains(self, reason: &str) -> bool {
        let said: &[&str] = match self {
            Self::Torn | Self::Cut(_) => &["the power was cut", "crashed by request", "is gone"],
            Self::Short => &["input/output error"],
            Self::Full => &["no space left", "No space left", "no storage space"],
            Self::Gone => &[],
        };
        let is_behind = reason.contains("a thread of the chain has stopped");
        is_behind || said.iter().any(|said| reason.contains(said))
    }

    const fn is_power_cut(self) -> bool {
        matches!(self, Self::Torn | Self::Cut(_))
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Torn | Self::Cut(_) => "the power was cut",
            Self::Short => "input/output error",
            Self::Full => "no space left on device",
            Self::Gone => "the process is gone",
        }
        .to_owned()
    }
}

#[derive(Debug)]
struct State {
    rng: Rng,
    /// Writes of each [`Count`] until one meets this.
    next: [Option<(u64, Strike)>; 4],
    is_full: bool,
    is_slow: bool,
    /// What ended the process: nothing is written after it.
    ended: Option<Strike>,
    /// What ended the work behind the writer, which ends the process at its next commit.
    behind: Option<Strike>,
    waited_ms: u64,
    /// The journal cannot be written, though the disk has room.
    is_journal_broken: bool,
    /// The log as far as it was synced.
    log: Vec<u8>,
    /// Bytes of the journal that were synced.
    journal: u64,
    is_log_dirty: bool,
    is_record_dirty: bool,
    /// What was done too early, if anything was.
    broken_barrier: Option<&'static str>,
}

impl State {
    /// Counts a write; what it meets.
    fn count(&mut self, count: Count) -> Option<Strike> {
        let next = &mut self.next[count as usize];
        match next {
            Some((0, strike)) => {
                let strike = *strike;
                *next = None;
                Some(strike)
            }
            Some((writes, _)) => {
                *writes -= 1;
                None
            }
            None => None,
        }
    }
}

/// The disk and the signer of a node; clones are one.
#[derive(Debug, Clone)]
pub(super) struct Device(Arc<Mutex<State>>);

impl Device {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: Rng::with_seed(seed),
            next: [None; 4],
            is_full: false,
            is_slow: false,
            ended: None,
            behind: None,
            waited_ms: 0,
            is_journal_broken: false,
            log: Vec::new(),
            journal: 0,
            is_log_dirty: false,
            is_record_dirty: false,
            broken_barrier: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a write from now on meet this.
    pub(super) fn strike_in(&self, count: Count, writes: u64, strike: Strike) {
        self.lock().next[count as usize] = Some((writes, strike));
    }

    pub(super) fn set_full(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().is_full
    }

    pub(super) fn set_slow(&self, is_slow: bool) {
        self.lock().is_slow = is_slow;
    }

    /// All is well again.
    pub(super) fn repair(&self) {
        let mut state = self.lock();
        (state.next, state.is_full, state.is_slow) = ([None; 4], false, false);
        state.is_journal_broken = false;
    }

    pub(super) fn break_journal(&self) {
        self.lock().is_journal_broken = true;
    }

    /// What a write of the journal meets.
    pub(super) fn journal_strike(&self) -> Option<Strike> {
        let state = self.lock();
        let broken = state.is_journal_broken.then_some(Strike::Short);
        state.is_full.then_some(Strike::Full).or(broken)
    }

    /// What ended the process, for which this is the last question.
    pub(super) fn take_end(&self) -> Option<Strike> {
        let mut state = self.lock();
        let behind = state.behind.take();
        state.is_journal_broken = false;
        state.ended.take().or(behind)
    }

    /// What ends the process at once, if anything does.
    pub(super) fn ended(&self) -> Option<Strike> {
        self.lock().ended
    }

    /// Whether the work behind the writer has ended.
    pub(super) fn is_behind(&self) -> bool {
        self.lock().behind.is_some()
    }

    /// How long the signer took since the last question.
    pub(super) fn take_wait(&self) -> u64 {
        std::mem::take(&mut self.lock().waited_ms)
    }

    pub(super) fn broken_barrier(&self) -> Option<&'static str> {
        self.lock().broken_barrier
    }

    /// A process opened the log: what it read stays.
    pub(super) fn opened(&self, log: &Path) {
        let mut state = self.lock();
        state.log = fs::read(log).unwrap_or_default();
        (state.is_log_dirty, state.is_record_dirty) = (false, false);
    }

    /// Something was appended to the log.
    pub(super) fn appends(&self) {
        self.lock().is_log_dirty = true;
    }

    /// The log was synced.
    pub(super) fn log_synced(&self, log: &Path) -> std::io::Result<()> {
        let mut state = self.lock();
        state.log = fs::read(log)?;
        state.is_log_dirty = false;
        Ok(())
    }

    /// The journal says that it was synced.
    pub(super) fn journal_flushed(&self, path: &Path, is_synced: bool) {
        let mut state = self.lock();
        state.journal = fs::metadata(path).map_or(0, |meta| meta.len());
        if !is_synced {
            state.broken_barrier = Some("takes its journal for synced, which is not");
        }
    }

    /// What a write meets.
    pub(super) fn write(&self, part: Part) -> Option<Strike> {
        let mut state = self.lock();
        if state.ended.is_some() {
            return Some(Strike::Gone);
        }
        let strike = match part {
            Part::Log => state.count(Count::Waited),
            Part::Blocks => {
                let (any, blocks) = (state.count(Count::Waited), state.count(Count::Blocks));
                any.or(blocks)
            }
            Part::State => state.count(Count::State),
            Part::Index => state.count(Count::Index),
        };
        let strike = strike.or(state.is_full.then_some(Strike::Full))?;
        match part {
            Part::State | Part::Index if !strike.is_power_cut() => state.behind = Some(strike),
            _ => state.ended = Some(strike),
        }
        Some(strike)
    }

    pub(super) fn below(&self, bound: usize) -> usize {
        self.lock().rng.usize(0..bound.max(1))
    }

    pub(super) fn up_to(&self, bound: u64) -> u64 {
        self.lock().rng.u64(0..=bound)
    }

    pub(super) fn seed(&self) -> u64 {
        self.lock().rng.u64(..)
    }

    /// Something is signed.
    pub(super) fn signs(&self) {
        let mut state = self.lock();
        state.is_record_dirty = true;
        if state.is_slow {
            state.waited_ms += state.rng.u64(1..SLOW_MS_MAX);
        }
    }

    /// The record goes on: the log must have what it is of.
    pub(super) fn records(&self) {
        let mut state = self.lock();
        if state.is_log_dirty {
            state.broken_barrier = Some("recorded what it signed before the log was synced");
        }
    }

    /// The record was synced.
    pub(super) fn record_synced(&self) {
        self.lock().is_record_dirty = false;
    }

    /// A message leaves: all that it rests on must be synced.
    pub(super) fn publishes(&self) {
        let mut state = self.lock();
        match (state.is_log_dirty, state.is_record_dirty) {
            (true, _) => state.broken_barrier = Some("voted before its log was synced"),
            (_, true) => state.broken_barrier = Some("voted before its record was synced"),
            _ => {}
        }
    }

    /// Leaves of the log and the journal what a power cut might.
    pub(super) fn cut_power(&self, directory: &Path) -> std::io::Result<()> {
        let (log, journal) = (directory.join("consensus.log"), directory.join("mempool.journal"));
        let (synced, journal_synced) = {
            let state = self.lock();
            (state.log.clone(), usize::try_from(state.journal).unwrap_or(usize::MAX))
        };
        if log.exists() {
            let now = fs::read(&log)?;
            let left = if self.below(3) == 0 { synced } else { self.overwritten(&synced, &now) };
            fs::write(&log, left)?;
        }
        if journal.exists() {
            let now = fs::read(&journal)?;
            let left = self.torn(&now, journal_synced.min(now.len()));
            self.lock().journal = left.len() as u64;
            fs::write(&journal, left)?;
        }
        Ok(())
    }

    /// A file of which only the beginning was synced: the rest is cut somewhere, or zeros
    /// from there on, where the length was written before the bytes.
    fn torn(&self, now: &[u8], synced: usize) -> Vec<u8> {
        let end = synced + self.below(now.len() - synced + 1);
        let mut left = now.get(..end).unwrap_or_default().to_vec();
        if self.below(3) == 0 {
            left.resize(now.len(), 0);
        }
        left
    }

    /// A file that was written over: new bytes up to anywhere and old ones behind, or old sectors
    /// and new ones behind, or zeros where the length was written before the bytes.
    pub(super) fn overwritten(&self, old: &[u8], new: &[u8]) -> Vec<u8> {
        let at = self.below(old.len().max(new.len()) + 1);
        let (first, then, at) = match self.below(3) {
            0 => (old, new, at / SECTOR_BYTES * SECTOR_BYTES),
            _ => (new, old, at),
        };
        let mut left = first.to_vec();
        left.resize(at, 0);
        left.extend(then.get(at..).unwrap_or_default());
        if self.below(3) == 0 {
            left.resize(new.len().max(left.len()), 0);
        }
        left
    }

    /// What a short write leaves at the end of a file.
    pub(super) fn shorten(&self, path: &Path, before: u64) -> std::io::Result<()> {
        let file = fs::OpenOptions::new().write(true).open(path)?;
        let grown = file.metadata()?.len().saturating_sub(before);
        let grown = usize::try_from(grown).unwrap_or(usize::MAX);
        file.set_len(before + self.below(grown) as u64)
    }
}

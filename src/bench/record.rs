//! What is noted while transactions are under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ait_engine::types::TxHash;
use hdrhistogram::Histogram;

/// Greatest latency that is told from greater ones, in microseconds.
const LATENCY_MAX: u64 = 600_000_000;

/// Latencies of many transactions, in microseconds with three digits.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "bounds that the library takes")]
        Self(Histogram::new_with_max(LATENCY_MAX, 3).expect("bounds are constants"))
    }
}

impl Latencies {
    fn add(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this share, from 0 to 1, stays within, in milliseconds.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let micros = self.0.value_at_quantile(share) as f64;
        micros / 1_000.0
    }
}

/// One second of the measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Second {
    /// Transactions that became final.
    pub finals: u64,
    /// Half of them were final within this many milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were.
    pub p99_ms: f64,
}

/// What a measurement gave.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// From handing over to final.
    pub finals: Latencies,
    /// From handing over to the answer.
    pub answers: Latencies,
    /// Final within the time of the measurement.
    pub final_count: u64,
    /// Blocks that held them.
    pub blocks: u64,
    /// Refusals by code.
    pub refused: BTreeMap<String, u64>,
    /// Answers that asked to try again.
    pub tried_again: u64,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// When the last of them became final.
    pub last: Option<Instant>,
}

struct State {
    pending: HashMap<TxHash, Instant>,
    record: Record,
    second: Latencies,
}

/// Notes from several tasks.
pub(super) struct Recorder {
    began: Instant,
    /// When the time of the measurement is over.
    ends: Instant,
    state: Mutex<State>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("began", &self.began).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A measurement that begins now and lasts this long.
    #[must_use]
    pub(super) fn new(duration: Duration) -> Self {
        let began = Instant::now();
        let state = State {
            pending: HashMap::new(),
            record: Record::default(),
            second: Latencies::default(),
        };
        Self { began, ends: began + duration, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it began.
    #[must_use]
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// These are handed over, and count from `since`.
    pub(super) fn submitted(&self, hashes: &[TxHash], since: Instant) {
        let mut state = self.lock();
        state.pending.extend(hashes.iter().map(|hash| (*hash, since)));
    }

    /// One was answered.
    pub(super) fn answered(&self, since: Instant) {
        self.lock().record.answers.add(since.elapsed());
    }

    /// One was refused for good.
    pub(super) fn refused(&self, hash: &TxHash, code: &str) {
        let mut state = self.lock();
        state.pending.remove(hash);
        *state.record.refused.entry(code.to_owned()).or_default() += 1;
    }

    /// One is to be sent again.
    pub(super) fn try_again(&self) {
        self.lock().record.tried_again += 1;
    }

    /// A block became final; gives how many of ours it holds.
    pub(super) fn finalised(&self, hashes: &[TxHash], at: Instant) -> usize {
        let mut state = self.lock();
        let State { pending, record, second } = &mut *state;
        let mut ours = 0;
        for hash in hashes {
            let Some(since) = pending.remove(hash) else { continue };
            ours += 1;
            let latency = at.saturating_duration_since(since);
            record.finals.add(latency);
            second.add(latency);
            record.final_count += u64::from(at <= self.ends);
        }
        if ours > 0 {
            record.last = Some(at);
            record.blocks += u64::from(at <= self.ends);
        }
        ours
    }

    /// Closes a second of the series, to be called once a second; gives it.
    pub(super) fn tick(&self) -> Second {
        let mut state = self.lock();
        let latencies = std::mem::take(&mut state.second);
        let second = Second {
            finals: latencies.count(),
            p50_ms: latencies.quantile_ms(0.5),
            p99_ms: latencies.quantile_ms(0.99),
        };
        state.record.seconds.push(second);
        second
    }

    /// How many are under way.
    #[must_use]
    pub(super) fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    /// One that is under way.
    pub(super) fn any_pending(&self) -> Option<TxHash> {
        self.lock().pending.keys().next().copied()
    }

    /// What was noted until now.
    #[must_use]
    pub(super) fn record(&self) -> Record {
        self.lock().record.clone()
    }
}

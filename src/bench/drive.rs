//! Sends prepared transactions in a closed or an open loop, and notes what becomes of them.
//!
//! In a closed loop as many are under way as allowed: that finds the greatest throughput. In
//! an open loop they are sent at a fixed rate whatever the node does, and each counts from
//! the moment when it was due, so that a node that stalls is charged for everybody who would
//! have come meanwhile.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ait_engine::types::TxHash;
use tokio::sync::Semaphore;

use super::BenchError;
use super::record::{Record, Recorder, Second};
use super::target::{FinalBlock, Refused, Target};
use super::workload::Signed;

/// Wait before a transaction that a busy node turned away is sent again.
const RETRY: Duration = Duration::from_millis(5);
/// How long after the end may pass until everything is final.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// How long the system takes to wake a thread, mostly.
const WAKING: Duration = Duration::from_micros(80);
/// Hand-overs a second up to which their moment is waited for to the microsecond, which takes two
/// hundredths of a core at most.
const RARE: f64 = 250.0;
/// How late a timer of the runtime may be.
const TIMER: Duration = Duration::from_millis(2);

/// How it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Drive {
    /// For how long.
    pub duration: Duration,
    /// Transactions a second; as many as possible if none.
    pub rate: Option<f64>,
    /// Most that are under way.
    pub in_flight: usize,
    /// Handed over at once.
    pub batch: usize,
    /// Tasks that hand over.
    pub connections: usize,
}

impl Drive {
    /// Time between two hand-overs, if there is a rate.
    pub(super) fn pause(&self) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let seconds = self.rate.map(|rate| self.batch as f64 / rate);
        Some(Duration::try_from_secs_f64(seconds?).unwrap_or(Duration::MAX))
    }
}

/// What a drive gave.
#[derive(Debug)]
pub(super) struct Driven {
    /// What was noted.
    pub(super) record: Record,
    /// How long it was measured.
    pub(super) seconds: f64,
    /// Seconds that each stage worked meanwhile.
    pub(super) stages: BTreeMap<String, f64>,
    /// How long after the end the last one was final, or why one never was.
    pub(super) drained: Result<Duration, String>,
    /// What was not sent.
    pub(super) rest: Vec<Signed>,
}

struct Shared {
    target: Arc<Target>,
    recorder: Recorder,
    waiting: Mutex<std::vec::IntoIter<Signed>>,
    permits: Semaphore,
    taken: AtomicU64,
    stops: AtomicBool,
    drive: Drive,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The next batch, and when it is due.
    fn next(&self) -> (Vec<Signed>, Instant) {
        let mut waiting = lock(&self.waiting);
        let batch: Vec<Signed> = waiting.by_ref().take(self.drive.batch).collect();
        let before = self.taken.fetch_add(batch.len() as u64, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let due = self.drive.rate.map(|rate| Duration::from_secs_f64(before as f64 / rate));
        let due = due.map_or_else(Instant::now, |after| self.recorder.began() + after);
        (batch, due)
    }
}

/// Sends these transactions; `each_second` is told of every second that passed.
///
/// # Errors
/// [`BenchError`] if the node cannot be subscribed to.
pub(super) async fn drive(
    target: &Arc<Target>,
    transactions: Vec<Signed>,
    drive: Drive,
    mut each_second: impl FnMut(Second, usize),
) -> Result<Driven, BenchError> {
    let mut finals = target.finals().await?;
    let stages_before = target.stages().await;
    let shared = Arc::new(Shared {
        target: Arc::clone(target),
        recorder: Recorder::new(drive.duration),
        waiting: Mutex::new(transactions.into_iter()),
        permits: Semaphore::new(drive.in_flight),
        taken: AtomicU64::new(0),
        stops: AtomicBool::new(false),
        drive,
    });
    let senders: Vec<_> =
        (0..drive.connections).map(|at| tokio::spawn(send(Arc::clone(&shared), at))).collect();
    let noting = Arc::clone(&shared);
    let listener = tokio::spawn(async move {
        while let Some(FinalBlock { at, hashes }) = finals.recv().await {
            noting.permits.add_permits(noting.recorder.finalised(&hashes, at));
        }
    });
    let began = shared.recorder.began();
    let ends = began + drive.duration;
    let mut tick =
        tokio::time::interval_at((began + Duration::from_secs(1)).into(), Duration::from_secs(1));
    loop {
        let is_idle = || senders.iter().all(tokio::task::JoinHandle::is_finished);
        tokio::select! {
            () = tokio::time::sleep_until(ends.into()) => break,
            _ = tick.tick() => each_second(shared.recorder.tick(), shared.recorder.pending()),
        }
        if is_idle() && shared.recorder.pending() == 0 {
            break;
        }
    }
    let mut stages = target.stages().await;
    for (stage, seconds) in &mut stages {
        *seconds -= stages_before.get(stage).copied().unwrap_or_default();
    }
    let measured = began.elapsed().min(drive.duration);
    shared.stops.store(true, Ordering::Relaxed);
    // Whoever waits for a permit may go home.
    shared.permits.close();
    for sender in senders {
        // A task that panicked has sent less; what it had under way is missed below.
        let _ = sender.await;
    }
    let drained = match drain(&shared.recorder).await {
        None => Ok(ends.elapsed()),
        Some(lost) => Err(target.why(&lost).await),
    };
    // Gone before the node may be stopped, which it holds on to.
    listener.abort();
    let _ = listener.await;
    let record = shared.recorder.record();
    let last = record.last.map_or(measured, |last| last.saturating_duration_since(began));
    let seconds = measured.min(last.max(Duration::from_millis(1))).as_secs_f64();
    let rest = std::mem::take(&mut *lock(&shared.waiting)).collect();
    Ok(Driven { record, seconds, stages, drained, rest })
}

/// Waits until all are final; gives one that is not in time.
async fn drain(recorder: &Recorder) -> Option<TxHash> {
    let began = Instant::now();
    while let Some(pending) = recorder.any_pending() {
        if began.elapsed() > DRAIN_TIMEOUT {
            return Some(pending);
        }
        tokio::time::sleep(POLL).await;
    }
    None
}

/// Hands batches over until there are none, or the time is over.
async fn send(shared: Arc<Shared>, connection: usize) {
    let wanted = u32::try_from(shared.drive.batch).unwrap_or(u32::MAX);
    while !shared.stops.load(Ordering::Relaxed) {
        let Ok(permits) = shared.permits.acquire_many(wanted).await else { return };
        let (mut batch, due) = shared.next();
        if batch.is_empty() {
            return;
        }
        // Those of a shorter last batch go back.
        permits.forget();
        shared.permits.add_permits(shared.drive.batch - batch.len());
        let is_rare = shared.drive.rate.is_some_and(|rate| rate <= RARE * wanted as f64);
        wait_until(due, is_rare).await;
        let hashes: Vec<TxHash> = batch.iter().map(|one| one.hash).collect();
        shared.recorder.submitted(&hashes, due);
        while !batch.is_empty() {
            batch = hand_over(&shared, batch, due, connection).await;
            if !batch.is_empty() {
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Waits for an instant to some microseconds, where the timers of the runtime count
/// milliseconds: they would be part of every latency.
async fn wait_until(due: Instant, is_rare: bool) {
    let early = due.checked_sub(TIMER).unwrap_or(due);
    tokio::time::sleep_until(early.into()).await;
    // This thread sleeps: another one would have to wake it. The system may wake it 50 µs late
    // unless told otherwise; where it cannot be told, it is that late. To look at the clock until
    // then would take a core from the node if it were often.
    let clock = if is_rare { WAKING } else { Duration::ZERO };
    let left = due.saturating_duration_since(Instant::now()).saturating_sub(clock);
    if !left.is_zero() {
        tokio::task::block_in_place(|| {
            let _ = rustix::thread::set_current_timer_slack(NonZero::new(1));
            std::thread::sleep(left);
        });
    }
    while is_rare && Instant::now() < due {
        std::hint::spin_loop();
    }
}

/// Gives back those that are to be sent again.
async fn hand_over(
    shared: &Shared,
    batch: Vec<Signed>,
    due: Instant,
    connection: usize,
) -> Vec<Signed> {
    let transactions: Result<Vec<_>, _> = batch.iter().map(Signed::transaction).collect();
    let results = match transactions {
        Ok(transactions) => shared.target.submit(transactions, connection).await,
        Err(error) => {
            let refused = Refused { code: error.to_string(), is_temporary: false };
            vec![Err(refused); batch.len()]
        }
    };
    let mut again = Vec::new();
    for (one, result) in batch.into_iter().zip(results) {
        match result {
            Ok(()) => shared.recorder.answered(due),
            // Also after the end: a nonce that is left out would hold up what is sent later.
            Err(refused) if refused.is_temporary && due.elapsed() < DRAIN_TIMEOUT => {
                shared.recorder.try_again();
                again.push(one);
            }
            Err(refused) => {
                shared.recorder.refused(&one.hash, &refused.code);
                shared.permits.add_permits(1);
            }
        }
    }
    again
}

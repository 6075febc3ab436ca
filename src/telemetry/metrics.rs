//! What the node counts, for Prometheus. Names follow its conventions: units, `_total`,
//! labels of few values. The old node's names are emitted beside them if asked for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::{
    Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use warp::http::StatusCode;

use super::legacy;
use crate::chain::CommittedBlock;

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
static LEGACY: AtomicBool = AtomicBool::new(false);

const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const COUNTS: &[f64] = &[1.0, 10.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 20_000.0];

/// Starts counting, once a process, and gives the page.
///
/// # Errors
/// A sentence if another recorder was installed in this process.
pub fn install(legacy_names: bool) -> Result<PrometheusHandle, String> {
    if legacy_names {
        LEGACY.store(true, Ordering::Relaxed);
    }
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .and_then(|b| {
            b.set_buckets_for_metric(Matcher::Full("block_transactions".to_owned()), COUNTS)
        })
        .map_err(|error| error.to_string())?;
    let handle = builder.install_recorder().map_err(|error| error.to_string())?;
    let handle = HANDLE.get_or_init(|| handle).clone();
    describe();
    if legacy_names {
        legacy::register();
    }
    Ok(handle)
}

fn describe() {
    describe_gauge!("chain_height", "Height of the newest committed block.");
    describe_gauge!(
        "chain_stored_height",
        "Height up to which the store has the blocks; one more may be in the log of consensus."
    );
    describe_gauge!("chain_indexed_height", "Height up to which the indexes go.");
    describe_gauge!("chain_last_block_timestamp_seconds", "Time of the newest block, since 1970.");
    describe_counter!("chain_blocks_total", "Blocks committed since the start.");
    describe_counter!("chain_transactions_total", "Transactions committed since the start.");
    describe_counter!(
        "chain_fees_total",
        "Base units of fees in committed blocks since the start."
    );
    describe_histogram!("block_transactions", "Transactions of a block.");
    describe_histogram!(
        "block_build_seconds",
        "Time to select and execute a block's transactions."
    );
    describe_histogram!(
        "pipeline_stage_seconds",
        "Time that each stage of the pipeline worked: verify, admit, execute, .."
    );
    describe_histogram!("block_commit_seconds", "Time to make a decided block durable.");
    describe_histogram!("block_interval_seconds", "Time between two blocks.");
    describe_gauge!("disk_free_bytes", "Bytes free on the disk of the data directory.");
    describe_gauge!("disk_paused", "1 while the node only reads, for want of room on its disk.");
    describe_gauge!("state_memory_bytes", "Bytes of the state that are in memory, about.");
    describe_gauge!("mempool_size", "Pending transactions.");
    describe_gauge!("mempool_bytes", "Bytes of pending transactions.");
    describe_counter!(
        "transactions_verified_total",
        "Transactions whose signatures were verified."
    );
    describe_counter!("mempool_added_total", "Transactions that became pending.");
    describe_counter!("mempool_refused_total", "Transactions that were refused, by code.");
    describe_counter!("mempool_evicted_total", "Pending transactions that made room for others.");
    describe_counter!("cross_site_polls_total", "Polls of other sites, by remote and result.");
    describe_counter!("cross_site_blocks_imported_total", "Blocks that came from other sites.");
    describe_gauge!("cross_site_height", "Height of a remote's newest block, as it says.");
    describe_counter!("rpc_requests_total", "Requests, by route and status.");
    describe_counter!("rpc_limited_total", "How often clients were limited, by offence.");
    describe_counter!("rpc_imports_total", "Blocks handed in over REST, by what became of them.");
    describe_histogram!("rpc_request_duration_seconds", "Time to answer a request, by route.");
}

#[expect(clippy::cast_precision_loss, reason = "a figure on a dashboard")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// The node looked at its disk.
pub fn disk(free_bytes: u64, is_paused: bool) {
    gauge!("disk_free_bytes").set(float(free_bytes));
    gauge!("disk_paused").set(f64::from(u8::from(is_paused)));
}

/// About so many bytes of the state are in memory.
pub fn state_memory(bytes: usize) {
    gauge!("state_memory_bytes").set(float(bytes as u64));
}

/// Keeps histograms small; to be called now and then.
pub fn upkeep() {
    if let Some(handle) = HANDLE.get() {
        handle.run_upkeep();
    }
}

/// A request was answered.
pub fn request(route: &'static str, status: StatusCode, took: Duration) {
    let with_legacy = LEGACY.load(Ordering::Relaxed);
    let count = |figures: &RequestFigures| {
        for counter in &figures.counters {
            counter.increment(1);
        }
        for histogram in &figures.histograms {
            histogram.record(took.as_secs_f64());
        }
    };
    // What is found before there is a recorder would count into nothing for ever.
    if HANDLE.get().is_none() {
        return count(&RequestFigures::find(route, status, with_legacy));
    }
    REQUESTS.with_borrow_mut(|known| {
        let key = (route, status, with_legacy);
        count(known.entry(key).or_insert_with(|| RequestFigures::find(route, status, with_legacy)));
    });
}

/// What one kind of answer counts into. Finding them by their names costs more than the rest
/// of a small request's bookkeeping, so that each thread remembers them.
struct RequestFigures {
    counters: Vec<Counter>,
    histograms: Vec<Histogram>,
}

thread_local! {
    static REQUESTS: RefCell<HashMap<(&'static str, StatusCode, bool), RequestFigures>> =
        RefCell::default();
}

impl RequestFigures {
    fn find(route: &'static str, status: StatusCode, with_legacy: bool) -> Self {
        let status_text = status.as_str().to_owned();
        let mut figures = Self {
            counters: vec![
                counter!("rpc_requests_total", "route" => route, "status" => status_text),
            ],
            histograms: vec![histogram!("rpc_request_duration_seconds", "route" => route)],
        };
        if with_legacy {
            let (counters, duration) = legacy::request(route, status);
            figures.counters.extend(counters);
            figures.histograms.extend(duration);
        }
        figures
    }
}

/// A block was handed in over REST: `imported`, `exists`, or the code of the refusal.
pub fn import(result: &'static str) {
    counter!("rpc_imports_total", "result" => result).increment(1);
    if LEGACY.load(Ordering::Relaxed) {
        legacy::import(result);
    }
}

/// A request was refused for its client's rate.
pub fn rate_limited() {
    counter!("rpc_rate_limited_total").increment(1);
}

/// A block was built.
pub fn built(took: Duration) {
    histogram!("block_build_seconds").record(took.as_secs_f64());
    if LEGACY.load(Ordering::Relaxed) {
        legacy::built(took);
    }
}

/// A block was committed; `since` is the time since the one before, if there was one.
pub fn committed(block: &CommittedBlock, since: Option<Duration>) {
    let header = &block.block.header;
    let count = u64::from(header.transaction_count);
    let fees = block.outcomes.iter().map(|outcome| outcome.fee.get());
    let fees = fees.fold(0_u64, u64::saturating_add);
    gauge!("chain_height").set(float(header.height.get()));
    gauge!("chain_last_block_timestamp_seconds").set(float(header.time.get()) / 1_000.0);
    counter!("chain_blocks_total").increment(1);
    counter!("chain_transactions_total").increment(count);
    counter!("chain_fees_total").increment(fees);
    histogram!("block_transactions").record(float(count));
    if let Some(since) = since {
        histogram!("block_interval_seconds").record(since.as_secs_f64());
    }
    if LEGACY.load(Ordering::Relaxed) {
        legacy::committed(header, fees, since);
    }
}

/// Making a decided block durable took this long.
pub fn commit_took(took: Duration) {
    histogram!("block_commit_seconds").record(took.as_secs_f64());
}

/// Consensus entered a round after the first of a height.
pub fn round() {
    counter!("consensus_rounds_total").increment(1);
}

/// The node opened its chain at this height.
pub fn opened(height: u64) {
    gauge!("chain_height").set(float(height));
    if LEGACY.load(Ordering::Relaxed) {
        legacy::opened(height);
    }
}

/// The store has the blocks up to this height.
pub fn stored(height: u64) {
    gauge!("chain_stored_height").set(float(height));
}

/// The indexes go up to this height.
pub fn indexed(height: u64) {
    gauge!("chain_indexed_height").set(float(height));
}

/// Signatures of so many transactions are verified.
pub fn verified(count: usize) {
    counter!("transactions_verified_total").increment(count as u64);
}

/// Transactions became pending, or left for others.
pub fn mempool(added: u64, evicted: u64, size: u64) {
    if LEGACY.load(Ordering::Relaxed) {
        legacy::mempool(added, evicted, size);
    }
}

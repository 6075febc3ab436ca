//! The load generator: drives a node of its own or running ones, and says how fast they are
//! and where the time goes.
//!
//! Everything is signed before the clock starts. Figures are ratios within one run: the
//! rate is compared with what the same cores verify in signatures alone.

mod bound;
mod drive;
mod page;
mod record;
mod remote;
mod report;
mod target;
mod workload;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ait_engine::codec::DecodeError;
use ait_engine::crypto::SecretKey;
use ait_engine::receipt::ReceiptError;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount};
use ait_net::rest::RestError;
use ait_net::wire::payload_to_json;

use crate::chain::{ChainError, StorageEngine};
use crate::node::NodeError;

pub use bound::{Bounds, SyncTimes};
pub use drive::Drive;
pub use page::html;
pub use record::{Latencies, Record, Second};
pub use report::Report;
pub use workload::Workload;

use remote::Remote;
use target::{Embedded, Target};
use workload::{Generator, Senders, Signed};

/// How long the bound is measured, and on how many transactions.
const BOUND_TIME: Duration = Duration::from_secs(2);
const BOUND_TRANSACTIONS: usize = 65_536;
/// Rate of a warm-up that is assumed before one was measured, and what is signed beyond
/// the rate that it then had.
const FIRST_GUESS: f64 = 20_000.0;
const MARGIN: f64 = 1.6;

/// A node in this process.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Accounts at genesis.
    pub accounts: u64,
    /// Where its files are.
    pub data_dir: PathBuf,
    /// Whether they are kept, so that the genesis document is wanted beside them.
    pub is_kept: bool,
    /// Whether the node keeps its indexes.
    pub index: bool,
    /// What they are.
    pub engine: StorageEngine,
    /// Page caches, in bytes.
    pub cache_bytes: usize,
    /// Least time between two blocks.
    pub block_interval: Duration,
    /// Most transactions of a block.
    pub block_transactions: usize,
    /// Transactions under way at most.
    pub in_flight: usize,
}

/// What is driven.
#[derive(Debug)]
pub enum Driver {
    /// A node in this process.
    Embedded(EmbeddedOptions),
    /// Running nodes.
    Remote {
        /// Their URLs.
        urls: Vec<String>,
        /// Whose account funds the senders.
        key: Box<SecretKey>,
        /// Who attests receipts.
        coordinator: Option<Box<SecretKey>>,
    },
}

/// A benchmark.
#[derive(Debug)]
pub struct BenchOptions {
    /// What is driven.
    pub driver: Driver,
    /// What is sent.
    pub workload: Workload,
    /// Accounts that send.
    pub senders: usize,
    /// How it is sent.
    pub drive: Drive,
    /// How long before the measurement.
    pub warm_up: Duration,
    /// Seed of everything random.
    pub seed: u64,
}

/// What happens, for whoever watches.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A phase begins.
    Phase(String),
    /// A second of the measurement passed.
    Second {
        /// What it gave.
        second: Second,
        /// Transactions under way.
        pending: usize,
    },
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The node in this process.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Its chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A running node.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// A receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// What was signed cannot be read again.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A file.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Nobody sends.
    #[error("there are no senders")]
    NoSenders,
    /// No URL.
    #[error("there is no node to drive")]
    NoNode,
    /// Only plain HTTP is spoken.
    #[error("{url} is no http:// URL; drive a node directly, not through a proxy")]
    NotHttp {
        /// What was given.
        url: String,
    },
    /// The nodes do not belong together.
    #[error("{url} is of another chain than the first node")]
    OtherChain {
        /// Which.
        url: String,
    },
    /// No blocks are heard of.
    #[error("the node's blocks cannot be subscribed to: {reason}")]
    Subscription {
        /// Why.
        reason: String,
    },
    /// A sender got nothing.
    #[error("the sender {address} was not funded in time: does the chain move?")]
    NotFunded {
        /// Which.
        address: Address,
    },
    /// Claims need an attestation.
    #[error("receipt claims need the coordinator's key: --coordinator-key")]
    NoCoordinator,
    /// The page cannot be drawn.
    #[error("the page cannot be drawn: {0}")]
    Page(String),
    /// Nothing became final.
    #[error("no transaction became final: {why}")]
    Nothing {
        /// Why one of them did not.
        why: String,
    },
}

/// Runs a benchmark.
///
/// # Errors
/// [`BenchError`]: why there is no figure.
pub async fn run(
    options: BenchOptions,
    mut progress: impl FnMut(Progress),
) -> Result<Report, BenchError> {
    let (target, mut generator) = prepare(&options, &mut progress).await?;
    let target = Arc::new(target);
    progress(Progress::Phase("signing a first part".to_owned()));
    let sample = generator.make(BOUND_TRANSACTIONS)?;
    progress(Progress::Phase("measuring the signature bounds".to_owned()));
    let signed: Vec<Transaction> =
        sample.iter().map(Signed::transaction).collect::<Result<_, _>>()?;
    let before = Bounds::measure(&signed, BOUND_TIME);
    let sync = match &*target {
        Target::Embedded(embedded) => {
            Some(SyncTimes::measure(embedded.data_dir(), options.drive.pause())?)
        }
        Target::Remote(_) => None,
    };
    let transactions =
        warm_up(&options, &target, &mut generator, sample, before.node, &mut progress).await?;
    progress(Progress::Phase("measuring".to_owned()));
    let driven = drive::drive(&target, transactions, options.drive, |second, pending| {
        progress(Progress::Second { second, pending });
    })
    .await?;
    let height = target.height().await;
    let (mut index_lag, mut disk_bytes) = (None, None);
    if let Some(Target::Embedded(embedded)) = Arc::into_inner(target) {
        progress(Progress::Phase("waiting for the indexes".to_owned()));
        index_lag = embedded.wait_for_indexes();
        disk_bytes = Some(report::disk_bytes(embedded.data_dir())?);
        embedded.stop()?;
    }
    progress(Progress::Phase("measuring the signature bounds again".to_owned()));
    // A machine's speed changes within a minute: the bound is the mean of before and after.
    let bounds = before.midpoint(Bounds::measure(&signed, BOUND_TIME));
    let mut report = Report::new(&options, driven, bounds, sync)?;
    (report.height, report.index_lag, report.disk_bytes) = (height, index_lag, disk_bytes);
    report.peak_memory_bytes = report::peak_memory();
    Ok(report)
}

/// Starts or reaches the target, and gets its senders ready.
async fn prepare(
    options: &BenchOptions,
    progress: &mut impl FnMut(Progress),
) -> Result<(Target, Generator), BenchError> {
    let now = crate::clock::system()().get() / 1_000;
    match &options.driver {
        Driver::Embedded(embedded) => {
            progress(Progress::Phase(format!("making {} keys", options.senders)));
            let senders = target::embedded_senders(options.senders);
            progress(Progress::Phase(format!("making a chain of {} accounts", embedded.accounts)));
            let node = Embedded::start(embedded, &senders)?;
            if embedded.index {
                progress(Progress::Phase("listing the accounts".to_owned()));
                node.wait_for_list(embedded.accounts)?;
            }
            let chain_id = target::embedded_chain()?;
            let mut generator = Generator::new(options.workload, senders, chain_id, options.seed);
            generator.now = now;
            generator.coordinator = Some(target::embedded_coordinator());
            generator.idle_accounts = embedded.accounts - options.senders as u64;
            Ok((Target::Embedded(Box::new(node)), generator))
        }
        Driver::Remote { urls, key, coordinator } => {
            let remote = Remote::connect(urls).await?;
            let seed = blake3::derive_key("ait-node bench: senders", key.seed().as_slice());
            let senders = Senders::new(&seed, options.senders);
            let mut generator =
                Generator::new(options.workload, senders, remote.chain_id(), options.seed);
            // Keys are not copied by accident; this one is needed twice.
            let again = |key: &SecretKey| SecretKey::from_seed(*key.seed());
            generator.coordinator = coordinator.as_deref().map(again);
            generator.now = now;
            let to = key.public_key().address();
            let transfer = Payload::Transfer { to, amount: Amount::saturating(1) };
            let fee = remote.fee("TRANSFER", payload_to_json(&transfer)).await?;
            generator.fees = (fee, fee);
            if options.workload.has_claims() {
                let claim = payload_to_json(&generator.example_claim(key)?);
                generator.fees.1 = remote.fee("RECEIPT_CLAIM", claim).await?;
            }
            progress(Progress::Phase(format!("funding {} senders", options.senders)));
            let tell = |done| tracing::info!(done, "senders are funded");
            remote.fund(key, generator.senders(), fee, tell).await?;
            Ok((Target::Remote(remote), generator))
        }
    }
}

/// Drives for a while what does not count, and signs what the measurement will need.
async fn warm_up(
    options: &BenchOptions,
    target: &Arc<Target>,
    generator: &mut Generator,
    sample: Vec<Signed>,
    bound: f64,
    progress: &mut impl FnMut(Progress),
) -> Result<Vec<Signed>, BenchError> {
    let mut unused = sample;
    let wanted = |rate: f64, time: Duration| as_count(options.drive.rate.unwrap_or(rate), time);
    let mut rate = FIRST_GUESS.min(bound);
    if !options.warm_up.is_zero() {
        let count = wanted(rate * MARGIN, options.warm_up);
        unused.extend(generator.make(count.saturating_sub(unused.len()))?);
        progress(Progress::Phase("warming up".to_owned()));
        let drive = Drive { duration: options.warm_up, ..options.drive };
        let driven = drive::drive(target, unused, drive, |_, _| {}).await?;
        rate = float(driven.record.final_count.max(1)) / driven.seconds;
        // In their order: each sender's nonces go on where they ended.
        unused = driven.rest;
    }
    let count = wanted(rate * MARGIN, options.drive.duration);
    progress(Progress::Phase(format!("signing {count} transactions")));
    unused.extend(generator.make(count.saturating_sub(unused.len()))?);
    Ok(unused)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// Transactions of this rate in this time.
fn as_count(rate: f64, time: Duration) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive size")]
    let count = (rate * time.as_secs_f64()).ceil() as usize;
    count.max(1)
}

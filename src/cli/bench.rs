//! `bench`: how fast a node is, and where the time goes.

use std::path::PathBuf;
use std::time::Duration;

use ait_net::rest::RestError;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::{CliError, Output};
use crate::bench::{
    self, BenchError, BenchOptions, Drive, Driver, EmbeddedOptions, Progress, Workload,
};
use crate::chain::StorageEngine;
use crate::keystore::{self, Passphrase};
use crate::telemetry::metrics;

const ACCOUNTS_MAX: u64 = 100_000_000;
/// Senders of running nodes: each is funded by a transfer first.
const REMOTE_SENDERS: usize = 1_000;
/// Transactions that a node takes in one request.
const REMOTE_BATCH_MAX: usize = 4_096;
/// Accounts that send at most, unless told otherwise; each key takes time to make.
const EMBEDDED_SENDERS: u64 = 1_000_000;

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "All transactions are distinct and signed before the clock starts. The rate is compared with
the signatures that the same cores verify in batches, doing nothing else: as the signature
library does (`signature_bound`, `ratio`), which is a yardstick of the machine alone, and
as this node does (`verify_bound`, `verify_ratio`), which nothing here can pass.

Without --rate as many are under way as --in-flight says (closed loop): the most that the
node can do. With --rate they come at that rate whatever the node does (open loop), and
each counts from when it was due: the latency that users see.

A running node needs a funded account (--key), which pays for the senders.

Examples:
  ait-node bench --embedded --accounts 1000000 --duration 60s --json
  ait-node bench --embedded --rate 100 --block-interval 1ms --duration 20s
  ait-node bench --embedded --workload zipf --html report.html
  ait-node bench --embedded --no-index --duration 60s
  ait-node bench --rpc http://127.0.0.1:8080 --key alice.key --duration 30s
  ait-node bench --rpc http://127.0.0.1:8080 --key alice.key --batch 500 --connections 4"
)]
pub struct BenchArgs {
    /// Drive a new node in this process [default, unless --rpc is given]
    #[arg(long, conflicts_with = "rpc")]
    pub embedded: bool,
    /// Drive the running node at this URL; may be repeated for several nodes of a chain
    #[arg(long, value_name = "URL", requires = "key")]
    pub rpc: Vec<String>,
    /// What is sent
    #[arg(long, value_enum, default_value = "uniform")]
    pub workload: Workload,
    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// How long to run before
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// Transactions a second (open loop) [default: as many as possible]
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Transactions under way at most [default: 40000 embedded, 2000 by REST]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub in_flight: Option<u32>,
    /// Transactions handed over at once, at most 4096 by REST [default: 1000; by REST or with
    /// --rate 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch: Option<u32>,
    /// Connections with running nodes [default: 64]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections: Option<u16>,
    /// Accounts that send [default: all, at most 1000000; 1000 by REST]
    #[arg(long, value_name = "COUNT")]
    pub senders: Option<u32>,
    /// Accounts of the embedded node's chain
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(2..=ACCOUNTS_MAX))]
    pub accounts: u64,
    /// Storage engine of the embedded node: redb, memory
    #[arg(long, default_value = "redb")]
    pub engine: StorageEngine,
    /// Page caches of the embedded node, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub cache: usize,
    /// Least time between two blocks of the embedded node
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = humantime::parse_duration)]
    pub block_interval: Duration,
    /// Most transactions of a block of the embedded node
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub block_transactions: usize,
    /// Keep no indexes in the embedded node, as one with storage.index off
    #[arg(long)]
    pub no_index: bool,
    /// Where the embedded node's files and its genesis document are, for export and replay
    /// [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Key of the account that funds the senders of running nodes
    #[arg(long, value_name = "FILE_OR_HEX")]
    pub key: Option<String>,
    /// Key that attests receipts on running nodes
    #[arg(long, value_name = "FILE_OR_HEX")]
    pub coordinator_key: Option<String>,
    /// File whose first line is the passphrase of the keys
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

fn rate(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.parse().ok().filter(|rate| (0.001..=1e7).contains(rate));
    value.ok_or_else(|| format!("{text:?} is not a number from 0.001 to 10000000"))
}

impl From<BenchError> for CliError {
    fn from(error: BenchError) -> Self {
        let hint = match &error {
            BenchError::Rest(RestError::Refused { body, .. })
                if body.code == "insufficient_funds" =>
            {
                "the account of --key pays for all senders: fund it, or lower --senders"
            }
            BenchError::Rest(RestError::Refused { body, .. }) => body.hint.as_str(),
            BenchError::Rest(_) => "is the node running, and is --rpc its URL?",
            BenchError::Node(_) | BenchError::Chain(_) => "--data-dir must be new or empty",
            BenchError::NotFunded { .. } => "look at the node's /readyz",
            _ => "",
        };
        Self::new(&error, hint)
    }
}

impl BenchArgs {
    fn driver(&self, data_dir: PathBuf, in_flight: usize) -> Result<Driver, CliError> {
        if self.rpc.is_empty() {
            return Ok(Driver::Embedded(EmbeddedOptions {
                accounts: self.accounts,
                data_dir,
                is_kept: self.data_dir.is_some(),
                index: !self.no_index,
                engine: self.engine,
                cache_bytes: self.cache << 20,
                block_interval: self.block_interval,
                block_transactions: self.block_transactions,
                in_flight,
            }));
        }
        let passphrase = Passphrase { file: self.passphrase_file.clone() };
        let key = self.key.as_deref().unwrap_or_default();
        let key = Box::new(keystore::resolve(key, &passphrase)?);
        let coordinator = self.coordinator_key.as_ref();
        let coordinator =
            coordinator.map(|key| keystore::resolve(key, &passphrase).map(Box::new)).transpose()?;
        Ok(Driver::Remote { urls: self.rpc.clone(), key, coordinator })
    }

    fn options(&self, data_dir: PathBuf) -> Result<BenchOptions, CliError> {
        let is_remote = !self.rpc.is_empty();
        let (few, many) = if is_remote { (2_000, 64) } else { (40_000, 2) };
        let in_flight = self.in_flight.map_or(few, |count| count as usize);
        let batch = match (is_remote, self.rate) {
            (true, _) | (false, Some(_)) => self.batch.map_or(1, |count| count as usize),
            (false, None) => self.batch.map_or(1_000, |count| count as usize),
        };
        let most = usize::try_from(self.accounts.min(EMBEDDED_SENDERS)).unwrap_or(usize::MAX);
        let senders = if is_remote { REMOTE_SENDERS } else { most };
        let senders = self.senders.map_or(senders, |count| count as usize);
        if senders == 0 || (!is_remote && senders as u64 > self.accounts) {
            let message = format!("{senders} senders of {} accounts", self.accounts);
            return Err(CliError::usage("bad_senders", message)
                .hint("--senders must be at least 1 and at most --accounts"));
        }
        if is_remote && batch > REMOTE_BATCH_MAX {
            let message = format!("a batch of {batch} by REST");
            return Err(CliError::usage("bad_batch", message)
                .hint("a node takes at most 4096 transactions a request"));
        }
        let drive = Drive {
            duration: self.duration.max(Duration::from_secs(1)),
            rate: self.rate,
            in_flight: in_flight.max(batch),
            batch,
            connections: self.connections.map_or(many, usize::from),
        };
        Ok(BenchOptions {
            driver: self.driver(data_dir, drive.in_flight)?,
            workload: self.workload,
            senders,
            drive,
            warm_up: self.warm_up,
            seed: self.seed,
        })
    }
}

/// Does it.
///
/// # Errors
/// [`CliError`] if the node fails, or something that it accepted never became final.
pub fn run(args: &BenchArgs, output: &Output) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::failed("bench_failed", error.to_string());
    let temporary = tempfile::tempdir().map_err(failed)?;
    let data_dir = args.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&data_dir).map_err(failed)?;
    let options = args.options(data_dir)?;
    metrics::install(false).map_err(|error| CliError::failed("bench_failed", error))?;
    // The node's own threads do the work; these hand over and listen.
    let threads = if args.rpc.is_empty() { 1 } else { options.drive.connections.min(2) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(failed)?;
    let shown = Shown::new(output);
    let report = runtime.block_on(bench::run(options, |progress| shown.show(progress)))?;
    shown.0.finish_and_clear();
    if let Some(path) = &args.html {
        let page = bench::html(&report)?;
        std::fs::write(path, page).map_err(|error| {
            CliError::failed("bench_failed", format!("{}: {error}", path.display()))
        })?;
        output.note(&format!("plots in {}", path.display()));
    }
    output.result(&report.object(), &report.lines())?;
    match report.drained {
        Ok(_) => Ok(()),
        // The refusals are shown; what follows of the same senders waits for them.
        Err(_) if !report.record.refused.is_empty() => {
            let message = "some transactions were refused, and others wait for their nonces";
            Err(CliError::failed("refused", message))
        }
        Err(why) => {
            let message = format!("a transaction was accepted and never became final: {why}");
            Err(CliError::failed("not_final", message).hint("look at the node's log"))
        }
    }
}

/// One line that changes, where a person looks.
struct Shown(ProgressBar);

impl Shown {
    fn new(output: &Output) -> Self {
        let target = match output.is_json() {
            true => ProgressDrawTarget::hidden(),
            // Hidden by itself where nobody looks.
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::new_spinner();
        bar.set_draw_target(target);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    fn show(&self, progress: Progress) {
        match progress {
            Progress::Phase(phase) => self.0.set_message(phase),
            Progress::Second { second, pending } => self.0.set_message(format!(
                "{} final a second, p50 {:.1} ms, p99 {:.1} ms, {pending} under way",
                second.finals, second.p50_ms, second.p99_ms
            )),
        }
    }
}

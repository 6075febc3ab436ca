//! `simulate`: a whole cluster in one thread, with virtual time and a random seed.

use std::io::{IsTerminal, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::{CliError, Output};
use crate::sim::{self, Bug, FaultCounts, FaultKind, Faults, SimFailure, SimOptions, SimReport};

/// How many validators if nothing says so.
const VALIDATORS: u16 = 4;
/// Most seeds of one call.
const SEEDS_MAX: u64 = 10_000_000;
/// Most runs that look for a smaller one that fails.
const SMALLER_RUNS_MAX: usize = 60;

/// Arguments of `simulate`.
#[derive(Debug, Args)]
#[command(
    after_help = "The nodes are what ships: protocol, consensus with its log and signer, mempool, chain,
half of them on redb, half in memory. Simulated are the clock, the links, the
clients, and what goes wrong. The same seed gives the same run.

At every block: one a height, a certificate that holds, a state with its root, no token
more or less, balances those of a model. All the time: no vote twice, nothing said before it
is synced. At every start: nothing final lost. Now and then all is mended but who lies, and
blocks must come within few rounds; at the end everything accepted is final on every node.

Exit code 0 if every promise was kept, 1 if not, with the command that shows it again, and
one that shows it with less.

Examples:
  ait-node simulate --seed 7
  ait-node simulate --seeds 0..200 --faults crash,partition --heights 20
  ait-node simulate --seeds 0..1000000 --for 2m --json
  ait-node simulate --seeds 0..50 --validators 4 --weights 50,30,15,5"
)]
pub struct SimulateArgs {
    /// The seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Seeds from A up to, not including, B, one run each
    #[arg(long, value_name = "A..B", value_parser = seeds, conflicts_with = "seed")]
    pub seeds: Option<Range<u64>>,
    /// Begin no further seed after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub time: Option<Duration>,
    /// How many validators [default: as many as weights, or 4]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=20))]
    pub validators: Option<u16>,
    /// Voting power of each validator [default: all the same]
    #[arg(long, value_delimiter = ',', value_name = "POWER,..")]
    pub weights: Vec<u64>,
    /// How many nodes that follow
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=20))]
    pub followers: u16,
    /// Heights to reach while things go wrong, or 4 virtual seconds each
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub heights: u64,
    /// What goes wrong: all, none, or some of loss, duplication, reordering, partition,
    /// one-way, slow, crash, power-cut, crash-all, clock, torn, short-write, disk-full,
    /// slow-signer, byzantine, hostile
    #[arg(long, default_value = "all", value_name = "KIND,..")]
    pub faults: Faults,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let bounds = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    let range = bounds
        .filter(|range: &Range<u64>| !range.is_empty() && range.end - range.start <= SEEDS_MAX);
    range.ok_or_else(|| format!("{text:?} is not A..B with A below B, at most {SEEDS_MAX} seeds"))
}

impl SimulateArgs {
    fn options(&self) -> Result<SimOptions, CliError> {
        let wrong = |message| CliError::usage("bad_weights", message);
        let weights = match (self.weights.as_slice(), self.validators) {
            ([], count) => vec![1; usize::from(count.unwrap_or(VALIDATORS))],
            (weights, Some(count)) if weights.len() != usize::from(count) => {
                let message = format!("{} weights for {count} validators", weights.len());
                return Err(wrong(message).hint("give each validator a weight"));
            }
            (weights, _) => weights.to_vec(),
        };
        let (followers, heights) = (usize::from(self.followers), self.heights);
        let options =
            SimOptions { weights, followers, heights, faults: self.faults, bug: planted() };
        let checked = options.check().map_err(|error| wrong(error.to_string()));
        checked.map_err(|error| error.hint("give each validator some power"))?;
        Ok(options)
    }
}

/// A bug to plant, for tests of this command: only a debug build looks whether there is one.
fn planted() -> Option<Bug> {
    let name = std::env::var("AIT_SIMULATE_BUG").ok().filter(|_| cfg!(debug_assertions))?;
    Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
}

/// The command that repeats a run.
fn again(seed: u64, options: &SimOptions) -> String {
    let weights: Vec<String> = options.weights.iter().map(u64::to_string).collect();
    let SimOptions { followers, heights, faults, .. } = options;
    format!(
        "ait-node simulate --seed {seed} --weights {} --followers {followers} --heights {heights} --faults {faults}",
        weights.join(",")
    )
}

#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    failed: Vec<u64>,
    virtual_ms: u64,
    heights: u64,
    transactions: u64,
    faults: FaultCounts,
}

/// Does it.
///
/// # Errors
/// [`CliError`] if a promise was broken, or the options are no chain.
pub fn run(args: &SimulateArgs, output: &Output) -> Result<(), CliError> {
    let options = args.options()?;
    let seeds = args.seeds.clone().unwrap_or(args.seed..args.seed.saturating_add(1));
    let is_one = seeds.end - seeds.start == 1;
    let mut sum = Sum::default();
    let began = Instant::now();
    for seed in seeds.clone() {
        if args.time.is_some_and(|time| began.elapsed() >= time) {
            break;
        }
        let result = sim::run(seed, &options);
        sum.seeds += 1;
        match result {
            Ok(report) => {
                sum.virtual_ms += report.virtual_ms;
                sum.heights += report.height;
                sum.transactions += report.transactions;
                sum.faults += report.faults;
                if is_one {
                    return output.result(&object(&report), &text(&report));
                }
            }
            Err(failure) => {
                sum.failed.push(seed);
                sum.virtual_ms += failure.virtual_ms;
                sum.faults += failure.faults;
                show(&failure, &again(seed, &options));
                // The first is made smaller: one is enough to begin with.
                if let [_] = sum.failed[..]
                    && let Some((smaller, failure)) = sim::shrink(seed, &options, SMALLER_RUNS_MAX)
                {
                    show(&failure, &again(seed, &smaller));
                }
            }
        }
        progress(&sum, &seeds);
    }
    if std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr());
    }
    finish(&sum, &options, output)
}

fn finish(sum: &Sum, options: &SimOptions, output: &Output) -> Result<(), CliError> {
    let seconds = sum.virtual_ms / 1_000;
    let object = json!({
        "seeds": sum.seeds,
        "failed": sum.failed,
        "virtual_seconds": seconds,
        "heights": sum.heights,
        "transactions": sum.transactions,
        "faults": sum.faults.total(),
        "faults_by_kind": counts(&sum.faults),
    });
    let lines = vec![format!(
        "{} seeds, {} failed; {seconds} virtual seconds, {} heights, {} transactions, {} faults",
        sum.seeds,
        sum.failed.len(),
        sum.heights,
        sum.transactions,
        sum.faults.total()
    )];
    output.result(&object, &lines)?;
    match sum.failed.first() {
        None => Ok(()),
        Some(seed) => {
            let message = format!("{} of {} seeds failed", sum.failed.len(), sum.seeds);
            Err(CliError::failed("simulation_failed", message).hint(again(*seed, options)))
        }
    }
}

/// A failure with what led to it, on standard error.
fn show(failure: &SimFailure, again: &str) {
    let mut errors = std::io::stderr().lock();
    // Nobody may be listening.
    let _ = writeln!(errors, "{failure}, after {} virtual ms", failure.virtual_ms);
    for line in &failure.trace {
        let _ = writeln!(errors, "  {line}");
    }
    let _ = writeln!(errors, "again: {again}");
}

fn progress(sum: &Sum, seeds: &Range<u64>) {
    let mut errors = std::io::stderr().lock();
    if errors.is_terminal() {
        let (done, all) = (sum.seeds, seeds.end - seeds.start);
        let _ = write!(errors, "\r{done} of {all} seeds, {} failed ", sum.failed.len());
    }
}

fn counts(faults: &FaultCounts) -> serde_json::Value {
    FaultKind::ALL.into_iter().map(|kind| (kind.name(), faults.of(kind))).collect()
}

fn object(report: &SimReport) -> serde_json::Value {
    json!({
        "seeds": 1,
        "failed": [],
        "seed": report.seed,
        "virtual_seconds": report.virtual_ms / 1_000,
        "heights": report.height,
        "transactions": report.transactions,
        "extra_rounds": report.extra_rounds,
        "healed_round": report.healed_round,
        "mended": report.mended,
        "events": report.events,
        "faults": report.faults.total(),
        "faults_by_kind": counts(&report.faults),
        "trace": report.trace,
    })
}

fn text(report: &SimReport) -> Vec<String> {
    let kinds = FaultKind::ALL.into_iter().filter(|kind| report.faults.of(*kind) > 0);
    let faults: Vec<_> =
        kinds.map(|kind| format!("{} {}", report.faults.of(kind), kind.name())).collect();
    vec![
        format!("seed {}: every promise was kept", report.seed),
        format!(
            "  height        {}, {} rounds more than one each",
            report.height, report.extra_rounds
        ),
        format!("  transactions  {}, all final on every node", report.transactions),
        format!("  virtual time  {} s, {} events", report.virtual_ms / 1_000, report.events),
        format!(
            "  faults        {}",
            if faults.is_empty() { "none".to_owned() } else { faults.join(", ") }
        ),
        format!("  trace         {}", report.trace),
    ]
}

//! A cluster of real nodes under disturbance: four validators and two followers, each a
//! process in a network namespace of its own, under load. `specs/testing.md` says what is
//! done and what must hold.
//!
//! `cargo test --test cluster -- [SCENARIO..] [--long] [--json] [--rate N] [--seed N] [--keep]`
//!
//! With `--measure [--validators N] [--delay MS]` nothing is disturbed, and figures are taken.

#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub, reason = "a test program")]

mod attack;
mod byzantine;
mod checks;
mod cluster;
mod load;
mod measure;
mod net;
mod scenarios;

use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use serde_json::json;

use crate::checks::{Ledger, settle};
use crate::cluster::{Cluster, SIZE, VALIDATORS};
use crate::load::Load;
use crate::measure::Setting;
use crate::scenarios::{Row, SCENARIOS, Scenario, World};

/// Set in the copy of this program that runs in namespaces of its own.
pub const INSIDE: &str = "AIT_CLUSTER_INSIDE";
/// Says that it is known that this machine gives no namespaces.
pub const MAY_SKIP: &str = "AIT_CLUSTER_MAY_SKIP";
/// Transfers a second.
const RATE: u32 = 120;

/// First argument of the program that breaks the rules.
pub const BYZANTINE: &str = "byzantine-validator";

struct Options {
    names: Vec<String>,
    is_long: bool,
    is_json: bool,
    keeps: bool,
    rate: u32,
    seed: u64,
    measures: bool,
    setting: Setting,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        names: Vec::new(),
        is_long: false,
        is_json: false,
        keeps: false,
        rate: RATE,
        seed: 7,
        measures: false,
        setting: Setting { validators: VALIDATORS, delay: Duration::ZERO },
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse().ok());
            value.ok_or_else(|| format!("{word} needs a number"))
        };
        match word.as_str() {
            "--long" => options.is_long = true,
            "--json" => options.is_json = true,
            "--keep" => options.keeps = true,
            "--measure" => options.measures = true,
            "--validators" => options.setting.validators = number()? as usize,
            "--delay" => options.setting.delay = Duration::from_millis(number()?),
            "--rate" => options.rate = u32::try_from(number()?).unwrap_or(RATE).max(1),
            "--seed" => options.seed = number()?,
            name if SCENARIOS.iter().any(|scenario| scenario.name == name) => {
                options.names.push(word);
            }
            _ => {
                let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
                return Err(format!("{word} is no scenario; there are {}", names.join(", ")));
            }
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == BYZANTINE) {
        runtime().block_on(byzantine::run(&words[1..]));
        return ExitCode::SUCCESS;
    }
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            println!("{error}");
            return ExitCode::from(2);
        }
    };
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    runtime().block_on(run(options))
}

/// Runs this program again in namespaces of its own, so that interfaces, addresses, mounts
/// and processes are gone with it however it ends.
fn enter() -> ExitCode {
    let allowed = |extra: &[&str]| {
        let tried = Command::new("unshare").args(extra).args(["--net", "--mount", "true"]).output();
        tried.is_ok_and(|out| out.status.success())
    };
    let as_user: &[&str] = &["--user", "--map-root-user"];
    let extra = [&[][..], as_user].into_iter().find(|extra| allowed(extra));
    let has_device = std::path::Path::new("/dev/net/tun").exists();
    let (Some(extra), true) = (extra, has_device) else {
        let may_skip = std::env::var_os(MAY_SKIP).is_some();
        println!("cluster: network namespaces or /dev/net/tun are not to be had here");
        println!("cluster: {}", if may_skip { "skipped, as this is known" } else { "failed" });
        return ExitCode::from(u8::from(!may_skip));
    };
    let mut command = Command::new("unshare");
    command
        .args(extra)
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args().skip(1))
        .env(INSIDE, "1");
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    let error = command.exec();
    println!("cluster: unshare does not start: {error}");
    ExitCode::FAILURE
}

async fn run(options: Options) -> ExitCode {
    // `ip netns` keeps its names here; nobody else sees this mount.
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).status();
    assert!(mounted.is_ok_and(|status| status.success()), "no tmpfs on /run");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    if options.keeps {
        println!("data and logs stay in {}", directory.keep().display());
    }
    if options.measures {
        measure::run(&path, options.seed, options.setting).await;
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let mut cluster = Cluster::prepare(&path, options.seed, SIZE);
    for at in 0..cluster.nodes.len() {
        cluster.start(at);
    }
    cluster.wait_until_served().await;
    println!("{} nodes serve after {:.1} s", cluster.nodes.len(), began.elapsed().as_secs_f64());
    let load = Load::new(&cluster, options.rate);
    let times = if options.is_long { 5 } else { 1 };
    let mut world = World { cluster, load, ledger: Ledger::default(), times };
    settle(&mut world.cluster, &mut world.ledger, &world.load.book).await;
    let mut rows = Vec::new();
    let chosen = |scenario: &&Scenario| {
        options.names.is_empty() || options.names.iter().any(|name| name == scenario.name)
    };
    for scenario in SCENARIOS.iter().filter(chosen) {
        let ran = AssertUnwindSafe(world.run(scenario)).catch_unwind().await;
        let Ok(row) = ran else {
            println!("\n{} FAILED\n{}", scenario.name, world.cluster.complaints());
            return ExitCode::FAILURE;
        };
        println!("{}", line(&row));
        rows.push(row);
    }
    report(&rows, &world, began.elapsed(), options.is_json);
    ExitCode::SUCCESS
}

const HEAD: &str = "| scenario | first block, s | all level, s | blocks | acknowledged | tx/s | final after load, s | note |
|---|---|---|---|---|---|---|---|";

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
}

fn line(row: &Row) -> String {
    format!(
        "| {} | {} | {} | {} | {} | {:.0} | {} | {} |",
        row.name,
        seconds(row.measured.first_block),
        seconds(row.measured.caught_up),
        row.blocks,
        row.transactions,
        row.per_second,
        seconds(Some(row.settled)),
        row.measured.note,
    )
}

fn report(rows: &[Row], world: &World, took: Duration, is_json: bool) {
    let (refused, unanswered) = world.load.book.failures();
    println!("\n{HEAD}");
    for row in rows {
        println!("{}", line(row));
    }
    println!(
        "\n{} blocks, {} transactions, {} of them acknowledged, none lost; {refused} refusals and \
         {unanswered} requests without answer were tried again; one block and one root per height \
         on every node; {:.0} s",
        world.ledger.height(),
        world.ledger.transaction_count(),
        world.load.book.count(),
        took.as_secs_f64(),
    );
    if is_json {
        for row in rows {
            let milliseconds = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
            let object = json!({
                "scenario": row.name,
                "first_block_ms": milliseconds(row.measured.first_block),
                "all_level_ms": milliseconds(row.measured.caught_up),
                "blocks": row.blocks,
                "acknowledged": row.transactions,
                "tx_per_second": row.per_second,
                "settled_ms": milliseconds(Some(row.settled)),
                "note": row.measured.note,
            });
            println!("{object}");
        }
    }
}

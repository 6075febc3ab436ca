//! A node that is killed at any instant, and whose files then look as after a power cut.
//!
//! `AIT_KILL_ROUNDS` and `AIT_KILL_SEED` say how often and from which seed, `AIT_KILL_PROGRAM`
//! which program: `.ci/e2e/kill.sh` kills an optimised one, fifty times.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ait_engine::types::Height;
use ait_node::consensus::FileLog;
use common::{Devnet, height};
use serde_json::{Value, json};

/// Bytes of the record of a transfer in the journal at least.
const RECORD_BYTES_MIN: u64 = 150;
/// Rounds after which the chain is checked and executed again.
const ROUNDS_CHECKED: u64 = 25;

fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

fn program() -> Command {
    let own = env!("CARGO_BIN_EXE_ait-node").to_owned();
    let mut command = Command::new(std::env::var("AIT_KILL_PROGRAM").unwrap_or(own));
    for steering in ["AIT_KILL_ROUNDS", "AIT_KILL_SEED", "AIT_KILL_PROGRAM"] {
        command.env_remove(steering);
    }
    // Checkpoints all the time, and little of the state in memory.
    let settings = [
        ("AIT_STORAGE_CHECKPOINT_BLOCKS", "7"),
        ("AIT_STORAGE_CHECKPOINT_ENTRIES", "150"),
        ("AIT_STORAGE_STATE_BYTES", "1048576"),
        ("AIT_LOG_LEVEL", "error"),
    ];
    command.envs(settings);
    command
}

fn node(directory: &Path) -> Command {
    let mut command = program();
    command
        .args(["dev", "--json", "--rpc", "127.0.0.1:0", "--coordinator", "127.0.0.1:0"])
        .args(["--block-interval", "3ms", "--data-dir"])
        .arg(directory);
    command
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Zeros or garbage.
    fn bytes(&mut self, count: u64) -> Vec<u8> {
        let is_zero = self.below(2) == 0;
        (0..count).map(|_| if is_zero { 0 } else { self.below(256) as u8 }).collect()
    }
}

#[derive(Default)]
struct Counts {
    kills: u64,
    in_start: u64,
    torn_logs: u64,
    cut_journals: u64,
    longer_databases: u64,
    /// Acknowledged transactions whose records were cut off, or may have been.
    cut_off: u64,
    /// Acknowledged transactions that are gone otherwise.
    lost: u64,
    checks: u64,
    /// Blocks that became final under load and were there after the kill.
    under_load: u64,
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// A flush of the log that did not end: some of it over what is behind the last whole frame, and
/// of what is there how much is chance.
fn tear_log(path: &Path, random: &mut Random) {
    let Some(seen) = FileLog::inspect(path, Height::ZERO).unwrap() else { return };
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(seen.whole_bytes + random.below(seen.other_bytes + 1)).unwrap();
    let count = 1 + random.below(300);
    // A log that was just begun has no bytes yet: those that a file system makes are zeros.
    let is_begun = seen.logged.is_some();
    let bytes = if is_begun { random.bytes(count) } else { vec![0; count as usize] };
    file.write_all_at(&bytes, seen.whole_bytes).unwrap();
}

/// What a power cut may leave of what was not synced: a part of the next record of a log, a
/// database that was being made longer, a journal without its newest records. How many records of
/// the journal may be gone.
fn damage(directory: &Path, random: &mut Random, counts: &mut Counts) -> u64 {
    if random.below(2) == 0 {
        let count = 1 + random.below(300);
        append(&directory.join("mempool.journal"), &random.bytes(count));
        tear_log(&directory.join("consensus.log"), random);
        counts.torn_logs += 1;
    }
    if random.below(4) == 0 {
        let name = ["blocks", "state", "index"][usize::try_from(random.below(3)).unwrap()];
        let count = 4_096 * (1 + random.below(4));
        append(&directory.join("chain").join(format!("{name}.redb")), &random.bytes(count));
        counts.longer_databases += 1;
    }
    let mut cut_bytes = 0;
    if random.below(4) == 0 {
        let journal = OpenOptions::new().write(true).open(directory.join("mempool.journal"));
        let journal: File = journal.unwrap();
        let length = journal.metadata().unwrap().len();
        cut_bytes = 1 + random.below(2_000);
        journal.set_len(length.saturating_sub(cut_bytes).max(8)).unwrap();
        counts.cut_journals += 1;
    }
    cut_bytes.div_ceil(RECORD_BYTES_MIN)
}

fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
}

/// Starts the node and kills it before it is ready.
fn kill_in_start(directory: &Path, random: &mut Random) {
    let mut command = node(directory);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(random.below(80)));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn run(words: &[&str]) -> Value {
    let output = program().args(words).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{words:?}: {} {said}",
        String::from_utf8_lossy(&output.stdout)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every file is whole, and executing the chain again gives the same root.
fn check(directory: &Path) {
    let data = directory.to_str().unwrap();
    let whole = run(&["db", "check", "--data-dir", data]);
    assert_eq!(whole["ok"], true, "{whole}");
    let archive = directory.join("chain.ait");
    let archive = archive.to_str().unwrap();
    run(&["export", "--data-dir", data, "--out", archive, "--force"]);
    let replayed = run(&["replay", archive]);
    let found = (&replayed["ok"], &replayed["state_root"], &replayed["final_height"]);
    assert_eq!(found, (&json!(true), &whole["state_root"], &whole["height"]));
    fs::remove_file(archive).unwrap();
}

/// Whether a transaction is in a block. The index, by which it is found, may be some blocks behind.
fn is_in_a_block(devnet: &Devnet, hash: &str) -> bool {
    let mut is_found = false;
    common::until("the index has every block", || {
        is_found = devnet.get(&format!("/rpc/tx/{hash}")).0 == 200;
        let why = || devnet.get(&format!("/rpc/tx/{hash}/why")).1;
        is_found || !why()["detail"].as_str().unwrap().contains("ask again")
    });
    is_found
}

/// Heights and ids of the heads that a node tells of until it is gone.
fn heads(devnet: &Devnet) -> Vec<(u64, Value)> {
    let mut told: Vec<(u64, Value)> = Vec::new();
    while let Some((200, head)) = devnet.request("GET", "/rpc/head", "") {
        let height = head["height"].as_u64().unwrap();
        if told.last().is_none_or(|(last, _)| *last < height) {
            told.push((height, head["hash"].clone()));
        }
    }
    told
}

#[test]
fn a_kill_at_any_instant_loses_nothing_that_was_final_or_acknowledged() {
    let rounds = number("AIT_KILL_ROUNDS").unwrap_or(10);
    let fresh = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let seed = number("AIT_KILL_SEED").unwrap_or_else(fresh);
    println!("AIT_KILL_SEED={seed}");
    let (mut random, mut counts) = (Random(seed), Counts::default());
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut blocks: Vec<Value> = Vec::new();
    // What was answered with 200 and is in a block, or must get into one.
    let mut accepted: Vec<String> = Vec::new();
    let mut last_sent: Vec<String> = Vec::new();
    let (mut nonce, mut cut_records) = (0, 0);
    // Heads that the node told of under load, until the kill: they are final.
    let mut told: Vec<(u64, Value)> = Vec::new();
    for round in 0..rounds {
        if !blocks.is_empty() && random.below(5) == 0 {
            kill_in_start(directory, &mut random);
            counts.in_start += 1;
        }
        let devnet = Devnet::announced_by(node(directory));
        assert!(devnet.nonce("alice") >= nonce, "round {round}: a final transaction is gone");
        let head = height(&devnet);
        assert!(head + 1 >= blocks.len() as u64, "round {round}: a final block is gone");
        for (at, hash) in told.drain(..) {
            let found = devnet.get(&format!("/rpc/blocks/{at}")).1;
            assert_eq!(found["hash"], hash, "round {round}: a final block is gone at {at}");
            counts.under_load += 1;
        }
        // The newest of them all, and a sample of the older ones.
        let newest = blocks.len().saturating_sub(64);
        let sample = (0..newest).step_by(newest / 64 + 1).chain(newest..blocks.len());
        for (at, block) in sample.map(|at| (at, &blocks[at])) {
            let found = devnet.get(&format!("/rpc/blocks/{at}")).1;
            assert_eq!(found["hash"], *block, "round {round}: another block at {at}");
        }
        // What was acknowledged and not final gets into a block, unless its record is gone.
        common::until("nothing is pending", || {
            devnet.get("/rpc/info").1["pending_transactions"] == 0
        });
        let (kept, gone) = std::mem::take(&mut last_sent)
            .into_iter()
            .partition::<Vec<_>, _>(|hash| is_in_a_block(&devnet, hash));
        accepted.extend(kept);
        counts.cut_off += (gone.len() as u64).min(cut_records);
        counts.lost += (gone.len() as u64).saturating_sub(cut_records);
        for at in blocks.len() as u64..=height(&devnet) {
            blocks.push(devnet.get(&format!("/rpc/blocks/{at}")).1["hash"].clone());
        }
        nonce = devnet.nonce("alice");
        // Senders that only stop when the node is gone, and a kill while they are at it.
        let after = Duration::from_millis(10 + random.below(150));
        let shared = &devnet;
        last_sent = std::thread::scope(|scope| {
            let senders = [0, 1].map(|sender| {
                scope.spawn(move || {
                    let mut hashes = Vec::new();
                    while let Some((200, answer)) = shared.send(&format!("to-{round}-{sender}"), 1)
                    {
                        hashes.push(answer["tx_hash"].as_str().unwrap().to_owned());
                    }
                    hashes
                })
            });
            let watcher = scope.spawn(move || heads(shared));
            std::thread::sleep(after);
            kill(shared.child.id());
            told = watcher.join().unwrap();
            senders.map(|sender| sender.join().unwrap()).concat()
        });
        counts.kills += 1;
        devnet.kill();
        cut_records = damage(directory, &mut random, &mut counts);
        if (round + 1) % ROUNDS_CHECKED == 0 || round + 1 == rounds {
            // Checked in the state that the kill left, and once more afterwards.
            check(directory);
            counts.checks += 1;
        }
    }
    assert!(accepted.len() as u64 > rounds, "{} transactions in {rounds} rounds", accepted.len());
    let devnet = Devnet::announced_by(node(directory));
    counts.lost += accepted.iter().filter(|hash| !is_in_a_block(&devnet, hash)).count() as u64;
    let figures = json!({
        "seed": seed, "rounds": rounds, "kills": counts.kills, "kills_in_start": counts.in_start,
        "torn_logs": counts.torn_logs, "cut_journals": counts.cut_journals,
        "longer_databases": counts.longer_databases, "checks": counts.checks,
        "blocks": blocks.len() - 1, "transactions": accepted.len(), "cut_off": counts.cut_off,
        "lost": counts.lost, "final_under_load": counts.under_load,
    });
    println!("{figures}");
    assert_eq!(counts.lost, 0);
    assert!(counts.under_load > rounds / 4, "{} blocks became final under load", counts.under_load);
}

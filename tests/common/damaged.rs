//! Data directories of stopped nodes, to be damaged.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::Devnet;

/// Runs the program; its exit code and what it said as JSON.
pub fn ask(words: &[&str], directory: &Path) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    let out = command.args(words).args(["--json", "--data-dir"]).arg(directory).output().unwrap();
    let parse = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().rev().find_map(|line| serde_json::from_str(line).ok())
    };
    let said: Option<Value> = parse(&out.stdout).or_else(|| parse(&out.stderr));
    let said = said.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&out.stderr)));
    (out.status.code().unwrap(), said)
}

/// A stopped devnet with a few blocks, a claimed receipt and pending transactions.
pub fn stopped(directory: &Path) {
    let devnet = Devnet::start(directory);
    devnet.fill();
    let send = |amount| devnet.send(&format!("name-{amount}"), amount).unwrap().1;
    let sent: Vec<Value> = (1..30).map(send).collect();
    // In the index, and so in the store of blocks, not only in the log.
    devnet.committed(sent[28]["tx_hash"].as_str().unwrap());
    devnet.wait_for_nonce("alice", 31);
    // Not stopped in order: there is something to execute again, and logs that are not empty.
    devnet.kill();
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << (at % 8);
    fs::write(path, bytes).unwrap();
}

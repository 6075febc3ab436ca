//! The file of blocks with its header or its length altered, which no checksum covers: its blocks
//! are all there, and `db repair` gets them back.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/damaged.rs"]
mod damaged;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ait_storage::{Batch, Durability, KeyRange, RedbOptions, RedbStorage, Storage as _, Table};
use common::Devnet;
use damaged::{ask, copy};
use serde_json::json;

const BLOCKS: &str = "chain/blocks.redb";

/// A killed devnet of some blocks, which are all in the index.
fn killed(directory: &Path, variables: &[(&str, &str)]) {
    let devnet = Devnet::start_with(directory, variables);
    for amount in 1..15 {
        let sent = devnet.send(&format!("name-{amount}"), amount).unwrap().1;
        // A block for each.
        devnet.committed(sent["tx_hash"].as_str().unwrap());
    }
    devnet.kill();
}

type Change = fn(&mut Vec<u8>);

fn alter(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// A start that must fail.
fn start(directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    command.args(["dev", "--rpc", "127.0.0.1:0", "--coordinator", "127.0.0.1:0", "--data-dir"]);
    command.arg(directory).output().unwrap()
}

/// The flag that says which of two commits is the newest: the last block is hidden.
#[test]
fn blocks_that_end_before_what_was_made_of_them_are_found_and_got_back() {
    for (checkpoints, part) in [("1000", "index"), ("1", "state")] {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        killed(directory, &[("AIT_STORAGE_CHECKPOINT_BLOCKS", checkpoints)]);
        let copied = folder.path().join("copy");
        copy(&directory.join("chain"), &copied.join("chain"));
        fs::copy(directory.join("genesis.json"), copied.join("genesis.json")).unwrap();
        let (code, whole) = ask(&["db", "check"], &copied);
        assert_eq!(code, 0, "{whole}");
        alter(&directory.join(BLOCKS), |bytes| bytes[9] ^= 1);
        let altered = fs::read(directory.join(BLOCKS)).unwrap();

        let (code, said) = ask(&["db", "check"], directory);
        let finding = &said["findings"][0];
        assert_eq!((code, &finding["file"]), (1, &json!(BLOCKS)), "{said}");
        let what = finding["what"].as_str().unwrap();
        assert!(what.contains("blocks are missing at the end") && what.contains(part), "{said}");
        let started = start(directory);
        let words = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(!started.status.success() && words.contains("blocks are missing"), "{words}");
        assert!(fs::read(directory.join(BLOCKS)).unwrap() == altered, "it was written to");

        let (code, said) = ask(&["db", "repair", "--yes"], directory);
        assert_eq!((code, &said["ok"]), (0, &json!(true)), "{said}");
        let kept = said["kept"].as_array().unwrap();
        assert_eq!(kept.len(), 1, "a good file was moved: {said}");
        assert!(kept[0].as_str().unwrap().ends_with("blocks.redb.damaged"), "{said}");
        let (code, now) = ask(&["db", "check"], directory);
        assert_eq!((code, &now["height"]), (0, &whole["height"]), "{now}");
        assert_eq!(now["state_root"], whole["state_root"]);
    }
}

#[test]
fn a_header_or_length_that_does_not_fit_costs_no_block() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    killed(&good, &[]);
    let (_, whole) = ask(&["db", "check"], &good);
    let changes: [(&str, Change); 4] = [
        ("cut", |bytes| bytes.truncate(bytes.len() - 1)),
        ("longer", |bytes| bytes.extend([0; 100])),
        ("size of a page", |bytes| bytes[12] ^= 1),
        ("magic", |bytes| bytes[2] ^= 1),
    ];
    for (name, change) in changes {
        let bad = folder.path().join(name);
        copy(&good, &bad);
        alter(&bad.join(BLOCKS), change);
        let (code, said) = ask(&["db", "check"], &bad);
        assert_eq!((code, &said["findings"][0]["file"]), (1, &json!(BLOCKS)), "{name}: {said}");
        let (code, said) = ask(&["db", "repair", "--yes"], &bad);
        assert_eq!((code, &said["height"]), (0, &whole["height"]), "{name}: {said}");
        assert_eq!(said["kept"].as_array().unwrap().len(), 1, "{name}: {said}");
        let devnet = Devnet::start(&bad);
        assert_eq!(json!(common::height(&devnet)), whole["height"], "{name}");
    }
}

#[test]
fn a_repair_that_keeps_nothing_is_none() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), &[]);
    alter(&folder.path().join(BLOCKS), |bytes| bytes.fill(7));
    let (code, said) = ask(&["db", "repair", "--yes"], folder.path());
    assert_eq!((code, &said["ok"]), (1, &json!(false)), "{said}");
    let aside = said["kept"][0].as_str().unwrap();
    assert!(aside.ends_with("chain.damaged") && Path::new(aside).exists(), "{said}");
    assert!(said["repaired"].to_string().contains("what read it ended with"), "{said}");
    // The chain has one validator: what it lost it must not sign again.
    let (code, said) = ask(&["db", "check"], folder.path());
    assert_eq!((code, &said["findings"][0]["file"]), (1, &json!(BLOCKS)), "{said}");
    // Once more it is the same, and nothing is moved.
    let (code, said) = ask(&["db", "repair", "--yes"], folder.path());
    assert_eq!((code, &said["kept"]), (1, &json!([])), "{said}");
}

#[test]
fn a_row_of_the_blocks_that_is_missing_is_found_and_the_blocks_before_it_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    killed(&good, &[]);
    let (_, whole) = ask(&["db", "check"], &good);
    for table in ["blocks", "bodies"] {
        let bad = folder.path().join(table);
        copy(&good, &bad);
        let store = RedbStorage::open(bad.join(BLOCKS), &RedbOptions::default()).unwrap();
        let rows = Table::new(table);
        let fifth = store.snapshot().unwrap().first(rows, KeyRange::after(4_u64.to_be_bytes()));
        // A row of bodies is named by its height and its block.
        let key = match table {
            "blocks" => 5_u64.to_be_bytes().to_vec(),
            _ => fifth.unwrap().unwrap().0.to_vec(),
        };
        // Twice, because the file keeps the commit before the last.
        for _ in 0..2 {
            let mut batch = Batch::new();
            batch.delete(rows, key.clone());
            batch.put(Table::new("other"), *b"x", *b"y");
            store.commit(batch, Durability::Immediate).unwrap();
        }
        drop(store);
        let (code, said) = ask(&["db", "check"], &bad);
        assert_eq!((code, &said["findings"][0]["file"]), (1, &json!(BLOCKS)), "{table}: {said}");
        let (code, said) = ask(&["db", "repair", "--yes"], &bad);
        let kept = if table == "blocks" { 4 } else { said["height"].as_u64().unwrap() };
        assert_eq!(said["height"], json!(kept), "{table}: {said}");
        assert!(kept < whole["height"].as_u64().unwrap());
        // Its only validator has signed more: nobody else has the others.
        assert_eq!((code, &said["ok"]), (1, &json!(false)), "{table}: {said}");
        assert_eq!(said["findings"][0]["file"], json!(BLOCKS), "{table}: {said}");
    }
}

#[test]
fn an_altered_genesis_document_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let genesis = folder.path().join("genesis.json");
    killed(folder.path(), &[]);
    // A digit of a balance: it is a genesis document still.
    let text = fs::read_to_string(&genesis).unwrap();
    let at = text.find("\"balance\"").unwrap();
    let digit = at + text[at..].find(|c: char| c.is_ascii_digit()).unwrap();
    alter(&genesis, |bytes| bytes[digit] ^= 2);
    let (code, said) = ask(&["db", "check"], folder.path());
    let finding = &said["findings"][0];
    assert_eq!((code, &finding["file"]), (1, &json!("genesis.json")), "{said}");
    assert!(finding["what"].as_str().unwrap().contains("not the text that this chain"), "{said}");
    let (code, said) = ask(&["db", "repair", "--yes"], folder.path());
    assert_eq!((code, &said["code"]), (1, &json!("genesis_missing")), "{said}");
    let words = String::from_utf8_lossy(&start(folder.path()).stderr).into_owned();
    assert!(words.contains("belongs to another chain") && !words.contains("reset"), "{words}");
}

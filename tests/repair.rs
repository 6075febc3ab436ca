//! Damaged files of a stopped node: what `db check` finds of a flipped bit, and what
//! `db repair` makes of it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common;
#[path = "common/damaged.rs"]
mod damaged;

use std::fs;
use std::path::Path;

use ait_engine::codec::Canonical;
use ait_engine::genesis::GenesisDocument;
use ait_engine::state::Key;
use ait_engine::types::{Amount, Height};
use ait_node::chain::{
    self, ChainError, ChainOptions, GenesisSource, StorageEngine, Stores, StoresOptions,
};
use ait_node::consensus::{FileLog, WriteAheadLog as _};
use ait_storage::{
    Batch, Direction, Durability, KeyRange, RedbOptions, RedbStorage, Storage as _, Table,
};
use common::{Devnet, height, init, make_block, run, until, validator_key};
use damaged::{ask, copy, flip, stopped};
use serde_json::json;

/// Places of a file that hold something, spread over it by a seed. Zeros and ones are mostly
/// pages without content and maps of them.
fn places(bytes: &[u8], count: usize, seed: u64) -> Vec<usize> {
    let used: Vec<usize> = (0..bytes.len()).filter(|at| !matches!(bytes[*at], 0 | 255)).collect();
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            used[usize::try_from(state >> 33).unwrap() % used.len()]
        })
        .collect()
}

/// All that a chain answers: blocks, certificates, where transactions are, accounts with proofs.
fn answers_of(directory: &Path) -> Vec<u8> {
    let engine = StorageEngine::Redb;
    let options = StoresOptions {
        engine,
        directory: directory.join("chain"),
        cache_bytes: 8 << 20,
        verify: false,
    };
    let stores = Stores::open(&options).unwrap();
    let text = fs::read_to_string(directory.join("genesis.json")).unwrap();
    let build = || Ok::<_, ChainError>(GenesisDocument::parse(&text)?.build()?);
    let fingerprint = GenesisSource::fingerprint(text.as_bytes());
    let source = GenesisSource { fingerprint, build: &build };
    let writer = chain::open(&stores, &source, &ChainOptions::default(), &mut |_| {}).unwrap();
    writer.wait_until_indexed().unwrap();
    let (chain, mut answers) = (writer.chain(), Vec::new());
    for height in 0..=writer.height().get() {
        let block = chain.block(Height::saturating(height)).unwrap().unwrap();
        answers.extend(block.block.encode());
        answers.extend(block.certificate.iter().flat_map(Canonical::encode));
        answers.extend(block.outcomes.iter().flat_map(Canonical::encode));
        for hash in &block.tx_hashes {
            let place = chain.index().transaction(hash).unwrap().unwrap();
            answers.extend(place.height.get().to_le_bytes());
            answers.extend(place.index.to_le_bytes());
        }
    }
    for (address, balance) in chain.index().richest(Amount::ZERO, None, usize::MAX).unwrap() {
        answers.extend(address.0);
        answers.extend(balance.get().to_le_bytes());
        let proven = chain.prove(&Key::account(&address)).unwrap();
        answers.extend(proven.header.encode());
        answers.extend(proven.proof.encode());
    }
    answers
}

/// Leaves a log of the height after the newest, with three flushes in it; that of a node which
/// stopped is of a height that is over, and nothing reads it.
fn log_under_way(directory: &Path) {
    let (code, said) = ask(&["db", "check"], directory);
    assert_eq!(code, 0, "{said}");
    let next = Height::saturating(said["height"].as_u64().unwrap() + 1);
    let (log, _) = FileLog::open(&directory.join("consensus.log"), next).unwrap();
    let mut log = log.into_writer(None);
    log.begin(next).unwrap();
    for length in [300, 200, 20] {
        log.append(&vec![7; length]).unwrap();
        log.flush().unwrap();
    }
}

#[test]
fn a_flipped_bit_of_any_file_is_found_or_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    stopped(&good);
    // Brought to rest once, so that every check looks at the same.
    assert_eq!(ask(&["db", "compact"], &good).0, 0);
    log_under_way(&good);
    let (code, whole) = ask(&["db", "check"], &good);
    assert_eq!((code, &whole["ok"]), (0, &json!(true)), "{whole}");
    let answers = answers_of(&good);
    let mut table = Vec::new();
    for (file, count, least) in [
        ("chain/blocks.redb", 24, 20),
        ("chain/state.redb", 24, 10),
        ("chain/index.redb", 24, 12),
        ("genesis.json", 6, 5),
        ("signer.record", 6, 5),
        ("consensus.log", 8, 6),
        ("mempool.journal", 6, 4),
    ] {
        let bytes = fs::read(good.join(file)).unwrap();
        let mut found = 0;
        for at in places(&bytes, count, 7) {
            let _ = fs::remove_dir_all(&bad);
            copy(&good, &bad);
            flip(&bad.join(file), at);
            let (code, said) = ask(&["db", "check"], &bad);
            let notes = said["notes"].as_array().map_or(0, Vec::len);
            if code == 0 && notes == 0 {
                for what in ["state_root", "height", "transactions", "state_entries"] {
                    assert_eq!(said[what], whole[what], "{file} at {at}: {what}");
                }
                assert!(answers_of(&bad) == answers, "{file} at {at}: other answers");
                continue;
            }
            found += 1;
            let named = said["findings"].as_array().is_some_and(|findings| {
                findings.iter().all(|one| one["file"] == file && one["mend"].is_string())
            });
            let noted = said["notes"].to_string().contains(file);
            assert!(named || noted, "{file} at {at}: {said}");
        }
        table.push(format!("{file}: {found} of {count} found, the others changed nothing"));
        assert!(found >= least, "{table:?}");
    }
    println!("{}", table.join("\n"));
}

/// What stands together in a page of each table: a long value, two keys, or a key and its value.
fn parts_of_tables(path: &Path) -> Vec<(String, Vec<u8>)> {
    let store = RedbStorage::open(path, &RedbOptions::default()).unwrap();
    let snapshot = store.snapshot().unwrap();
    let names = store.stats().unwrap().into_iter().map(|stats| stats.name);
    let part_of = |name: String| {
        let table = Table::new(name.clone().leak());
        let mut rows = snapshot.range(table, KeyRange::all(), Direction::Forward).unwrap();
        let (key, value) = rows.next()?.unwrap();
        if value.len() >= 64 {
            return Some((name, value.to_vec()));
        }
        let next = rows.next().map_or(value.to_vec(), |next| next.unwrap().0.to_vec());
        Some((name, [key.to_vec(), next].concat()))
    };
    names.filter_map(part_of).collect()
}

/// Where these bytes stand in the others. Older copies of a page have them, too.
fn positions(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(part.len()).enumerate();
    windows.filter(|(_, window)| *window == part).map(|(at, _)| at).collect()
}

#[test]
fn a_flipped_bit_of_each_table_is_found_and_the_table_named() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    stopped(&good);
    assert_eq!(ask(&["db", "compact"], &good).0, 0);
    let mut tables = Vec::new();
    let mut places = Vec::new();
    for file in ["chain/blocks.redb", "chain/state.redb", "chain/index.redb"] {
        let bytes = fs::read(good.join(file)).unwrap();
        for (table, part) in parts_of_tables(&good.join(file)) {
            let named = positions(&bytes, &part).into_iter().rev().take(64).find(|at| {
                let _ = fs::remove_dir_all(&bad);
                copy(&good, &bad);
                flip(&bad.join(file), at + part.len() / 2);
                let (_, said) = ask(&["db", "check"], &bad);
                let finding = &said["findings"][0];
                finding["file"] == file
                    && finding["what"]
                        .as_str()
                        .unwrap()
                        .ends_with(&format!("bad pages in: {table}"))
            });
            let at = named.unwrap_or_else(|| panic!("no flipped bit is told of {file}, {table}"));
            places.push((file, table.clone(), at + part.len() / 2));
            tables.push(table);
        }
    }
    assert!(tables.len() >= 15, "{tables:?}");
    // Several of one file, the whole file read once more for each.
    let _ = fs::remove_dir_all(&bad);
    copy(&good, &bad);
    let all = ["block_heights", "receipts", "richest"];
    for (file, _, at) in places.iter().filter(|(_, table, _)| all.contains(&table.as_str())) {
        flip(&bad.join(file), *at);
    }
    let said = ask(&["db", "check"], &bad).1.to_string();
    assert!(said.contains(&format!("bad pages in: {}\"", all.join(", "))), "{said}");
}

/// What no checksum of a page shows: a row that is gone, in order.
#[test]
fn a_row_that_is_missing_is_found_and_its_table_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    stopped(&good);
    assert_eq!(ask(&["db", "check"], &good).0, 0);
    for (file, table) in [
        ("chain/state.redb", "keys"),
        ("chain/index.redb", "richest"),
        ("chain/index.redb", "block_heights"),
        ("chain/index.redb", "tx_location_runs"),
    ] {
        let bad = folder.path().join(table);
        copy(&good, &bad);
        let store = RedbStorage::open(bad.join(file), &RedbOptions::default()).unwrap();
        let last = store.snapshot().unwrap().last(Table::new(table), KeyRange::all()).unwrap();
        let mut batch = Batch::new();
        batch.delete(Table::new(table), last.unwrap().0.to_vec());
        store.commit(batch, Durability::Immediate).unwrap();
        drop(store);
        let (code, said) = ask(&["db", "check"], &bad);
        let finding = &said["findings"][0];
        assert_eq!((code, &finding["file"]), (1, &json!(file)), "{table}: {said}");
        assert!(said["findings"].to_string().contains(table), "{said}");
        assert_eq!(ask(&["db", "repair", "--yes"], &bad).0, 0);
        assert_eq!(ask(&["db", "check"], &bad).0, 0, "{table}");
    }
}

/// Flips bits of a file until a check finds it damaged.
fn damage(directory: &Path, file: &str) {
    let path = directory.join(file);
    let bytes = fs::read(&path).unwrap();
    for at in places(&bytes, 200, 11) {
        flip(&path, at);
        let (code, said) = ask(&["db", "check"], directory);
        if code != 0 {
            assert!(said["findings"].as_array().unwrap().iter().any(|one| one["file"] == file));
            return;
        }
        fs::write(&path, &bytes).unwrap();
    }
    panic!("no flipped bit of {file} is found");
}

#[test]
fn every_damaged_file_is_repaired_as_far_as_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    stopped(&good);
    let (_, whole) = ask(&["db", "check"], &good);
    assert_eq!(ask(&["db", "repair"], &good).1["repaired"], json!([]));
    for file in ["chain/index.redb", "chain/state.redb", "chain/blocks.redb"] {
        let bad = folder.path().join(file.replace('/', "-"));
        copy(&good, &bad);
        damage(&bad, file);
        let (code, said) = ask(&["db", "repair"], &bad);
        assert_eq!((code, &said["code"]), (2, &json!("not_confirmed")), "{said}");
        let (code, said) = ask(&["db", "repair", "--yes"], &bad);
        assert!(Path::new(said["kept"][0].as_str().unwrap()).exists(), "{said}");
        let (checked, now) = ask(&["db", "check"], &bad);
        // What the repair says of the end is what a check says.
        assert_eq!((code, &said["ok"]), (checked, &now["ok"]), "{file}: {said}");
        if file == "chain/blocks.redb" {
            // A block more, if the kill came between the two writes of a commit that is whole.
            let most = whole["height"].as_u64().unwrap() + 1;
            assert!(now["height"].as_u64().unwrap() <= most, "{now}");
        } else {
            assert_eq!((code, &now["state_root"]), (0, &whole["state_root"]), "{file}");
        }
    }
    // Both at once, and missing altogether.
    let bad = folder.path().join("missing");
    copy(&good, &bad);
    fs::remove_file(bad.join("chain/state.redb")).unwrap();
    fs::remove_file(bad.join("chain/index.redb")).unwrap();
    assert_eq!(ask(&["db", "check"], &bad).1["findings"].as_array().unwrap().len(), 2);
    assert_eq!(ask(&["db", "repair", "--yes"], &bad).0, 0);
    assert_eq!(ask(&["db", "check"], &bad).1["state_root"], whole["state_root"]);
    // What a key signed is nobody's to make up.
    let bad = folder.path().join("record");
    copy(&good, &bad);
    fs::write(bad.join("signer.record"), [7; 192]).unwrap();
    let (code, said) = ask(&["db", "repair", "--yes"], &bad);
    assert_eq!((code, &said["ok"]), (1, &json!(false)), "{said}");
    assert_eq!(fs::read(bad.join("signer.record")).unwrap(), [7; 192]);
}

#[test]
fn repairing_a_node_that_keeps_no_index_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let devnet = Devnet::start_with(folder.path(), &[("AIT_STORAGE_INDEX", "false")]);
    devnet.send("bob", 7).unwrap();
    devnet.wait_for_nonce("alice", 1);
    devnet.terminate();
    assert!(devnet.ended().status.success());
    let (_, whole) = ask(&["db", "check"], folder.path());
    damage(folder.path(), "chain/state.redb");
    let (code, said) = ask(&["db", "repair", "--yes"], folder.path());
    assert_eq!(code, 0, "{said}");
    let (code, now) = ask(&["db", "check"], folder.path());
    assert_eq!((code, &now["state_root"]), (0, &whole["state_root"]), "{now}");
    let index = folder.path().join("chain/index.redb");
    let index = RedbStorage::open(&index, &RedbOptions::default()).unwrap();
    assert!(index.stats().unwrap().iter().all(|table| table.entries == 0));
}

#[test]
fn a_follower_with_damaged_blocks_gets_the_rest_from_its_peer() {
    let folder = tempfile::tempdir().unwrap();
    let (at_a, at_b) = (folder.path().join("a"), folder.path().join("b"));
    init(&at_a, &["--new-chain", "my-chain", "--no-passphrase"]);
    let a = run(&at_a, &["--block-interval", "1ms"]);
    let key = validator_key(&at_a);
    for _ in 0..40 {
        make_block(&a, &key);
    }
    init(&at_b, &["--genesis", &at_a.join("genesis.json").display().to_string()]);
    let peer = a.announced["p2p"].as_str().unwrap();
    let follow = ["--follow", "--peer", peer];
    let b = run(&at_b, &follow);
    until("b follows", || height(&b) == 40);
    b.kill();
    damage(&at_b, "chain/blocks.redb");
    let (code, said) = ask(&["db", "repair", "--yes"], &at_b);
    // Whether any block is left depends on which page was hit.
    assert_eq!(code == 0, said["height"] != 0, "{said}");
    make_block(&a, &key);
    let b = run(&at_b, &follow);
    until("b is level again", || height(&b) == 41);
    assert_eq!(a.get("/rpc/head").1["hash"], b.get("/rpc/head").1["hash"]);
    b.kill();
    assert_eq!(ask(&["db", "check"], &at_b).0, 0);
}

/// Damage before what is whole, which no crash leaves: it is said where, and what is whole is kept.
#[test]
fn damaged_logs_are_found_with_their_place_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    stopped(&good);
    // The header of the log of consensus, its first entry, the first record of the journal.
    for (name, file, at) in [
        ("header", "consensus.log", 18),
        ("entry", "consensus.log", 40),
        ("record", "mempool.journal", 30),
    ] {
        let bad = folder.path().join(name);
        copy(&good, &bad);
        if file == "consensus.log" {
            log_under_way(&bad);
        }
        flip(&bad.join(file), at);
        let (code, said) = ask(&["db", "check"], &bad);
        let finding = &said["findings"][0];
        assert_eq!((code, &finding["file"]), (1, &json!(file)), "{name}: {said}");
        assert!(finding["what"].as_str().unwrap().contains("byte "), "{name}: {said}");
        assert_eq!(ask(&["db", "repair", "--yes"], &bad).0, 0, "{name}");
        let (code, said) = ask(&["db", "check"], &bad);
        assert_eq!((code, &said["ok"]), (0, &json!(true)), "{name}: {said}");
        let devnet = Devnet::start(&bad);
        assert!(devnet.nonce("alice") >= 31, "{name}");
    }
}

//! An index whose rows were altered: what it leads to is compared with what was asked for.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use ait_storage::{
    Batch, Direction, Durability, KeyRange, RedbOptions, RedbStorage, Storage as _, Table,
};
use common::Devnet;
use serde_json::json;

/// Alters the rows of a table, each given as key and value.
fn alter(directory: &Path, table: &'static str, change: impl Fn(&mut Vec<u8>, &mut Vec<u8>)) {
    let path = directory.join("chain/index.redb");
    let store = RedbStorage::open(path, &RedbOptions::default()).unwrap();
    let (table, snapshot) = (Table::new(table), store.snapshot().unwrap());
    let mut batch = Batch::new();
    for row in snapshot.range(table, KeyRange::all(), Direction::Forward).unwrap() {
        let (key, value) = row.unwrap();
        let (mut to, mut altered) = (key.to_vec(), value.to_vec());
        change(&mut to, &mut altered);
        if to[..] != key[..] {
            batch.delete(table, key.to_vec());
        }
        batch.put(table, to, altered);
    }
    drop(snapshot);
    store.commit(batch, Durability::Immediate).unwrap();
}

#[test]
fn an_altered_index_is_found_out_and_never_answered_with() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let hashes = devnet.fill();
    let richest = devnet.get("/rpc/addresses?limit=1").1["addresses"][0]["balance"].clone();
    let block = devnet.committed(&hashes[0])["block_hash"].as_str().unwrap().to_owned();
    devnet.terminate();
    devnet.ended();

    let hash = |at: usize| hex::decode(hashes[at].trim_start_matches("0x")).unwrap();
    let (first, claim) = (hash(0), hash(2));
    let place = |record: &[u8]| record.windows(32).position(|bytes| bytes == first);
    // The first transfer stands where the claim does.
    let at = std::cell::RefCell::new(Vec::new());
    alter(directory.path(), "tx_location_runs", |_, records| {
        let found = records.windows(32).position(|bytes| bytes == claim);
        found.inspect(|found| *at.borrow_mut() = records[found + 32..found + 44].to_vec());
    });
    let at = at.into_inner();
    assert_eq!(at.len(), 12);
    alter(directory.path(), "tx_location_runs", |_, records| {
        if let Some(found) = place(records) {
            records[found + 32..found + 44].copy_from_slice(&at);
        }
    });
    // Whoever was on the sending side of something was so of the claim, and a receipt is a transfer.
    alter(directory.path(), "account_tx_runs", |_, records| {
        records.chunks_mut(45).for_each(|record| record[33..].copy_from_slice(&at));
    });
    alter(directory.path(), "receipts", |_, location| location.copy_from_slice(&[0; 12]));
    // The block's hash leads to another height.
    alter(directory.path(), "block_heights", |_, height| height.copy_from_slice(&[0; 8]));
    // Everybody stands in the list with a unit more.
    alter(directory.path(), "richest", |key, _| {
        let place = u64::from_be_bytes(key[..8].try_into().unwrap());
        key[..8].copy_from_slice(&(place - 1).to_be_bytes());
    });

    let devnet = Devnet::start(directory.path());
    for path in [
        format!("/rpc/tx/{}", hashes[0]),
        format!("/rpc/getTx/{}", hashes[0]),
        format!("/rpc/proof/transaction/{}", hashes[0]),
        format!("/rpc/blocks/{block}"),
        "/rpc/address/alice".to_owned(),
        "/rpc/receipts/r%2F1".to_owned(),
    ] {
        let (status, answer) = devnet.get(&path);
        assert_eq!(
            (status, &answer["code"]),
            (503, &json!("database_corrupt")),
            "{path}: {answer}"
        );
    }
    assert_eq!(devnet.get(&format!("/rpc/tx/{}", hashes[2])).0, 200);
    let (status, list) = devnet.get("/rpc/addresses?limit=1");
    assert_eq!((status, &list["addresses"][0]["balance"]), (200, &richest), "not the state's");
}

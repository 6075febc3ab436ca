//! A node that keeps no index: what answers, and what says which setting it needs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Devnet;
use serde_json::json;

#[test]
fn without_an_index_what_needs_it_says_what_to_switch_on() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start_with(directory.path(), &[("AIT_STORAGE_INDEX", "false")]);
    let hash = devnet.send("bob", 7).unwrap().1["tx_hash"].as_str().unwrap().to_owned();
    devnet.wait_for_nonce("alice", 1);
    let id = devnet.get("/rpc/head").1["hash"].as_str().unwrap().to_owned();
    for path in [
        format!("/rpc/tx/{hash}"),
        format!("/rpc/tx/{hash}/why"),
        format!("/rpc/getTx/{hash}"),
        format!("/rpc/proof/transaction/{hash}"),
        format!("/rpc/blocks/{id}"),
        "/rpc/transactions".to_owned(),
        "/rpc/address/alice".to_owned(),
        "/rpc/addresses".to_owned(),
        "/rpc/receipts".to_owned(),
    ] {
        // Pending until its block is taken note of.
        common::until(&path, || devnet.get(&path).0 == 503);
        let body = devnet.get(&path).1;
        assert_eq!(body["code"], "index_disabled", "{path}: {body}");
        assert!(body["hint"].as_str().unwrap().contains("storage.index"), "{path}: {body}");
    }
    assert_eq!(devnet.get("/rpc/getBalance/alice").0, 200);
    assert_eq!(devnet.get("/rpc/blocks/1").0, 200);
    assert_eq!(devnet.get("/readyz").0, 200);
    let metrics = devnet.exchange("GET", "/metrics", &[], "").unwrap().2;
    assert!(!metrics.lines().any(|line| line.starts_with("chain_indexed_height ")), "{metrics}");
    // What waits for its block finds it among the newest.
    let mint = json!({"address": "zoe", "amount": 5});
    let (status, minted) = devnet.post("/rpc/admin/mintFaucet", &mint);
    assert_eq!((status, &minted["address"]), (200, &json!("zoe")), "{minted}");
    devnet.terminate();
    assert!(devnet.ended().status.success());
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_ait-node"))
        .args(["db", "check", "--json", "--data-dir"])
        .arg(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{said}");
}

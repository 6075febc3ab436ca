//! The release of everything together: the real binary as a devnet, over HTTP, killed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::Devnet;
use serde_json::{Value, json};

#[test]
fn serves_what_old_scripts_ask_for() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    assert_eq!(devnet.announced["chain_id"], "ait-devnet");
    assert_eq!(devnet.announced["accounts"][0]["secret_key"].as_str().unwrap().len(), 64);
    let (status, head) = devnet.get("/rpc/head");
    assert_eq!((status, head["height"].as_u64()), (200, Some(0)));
    let (status, minted) =
        devnet.post("/rpc/admin/mintFaucet", &json!({"address": "ait1zoe", "amount": "50"}));
    assert_eq!((status, minted["balance"].as_u64()), (200, Some(50)));
    let (status, sent) = devnet.send("ait1zoe", 7).unwrap();
    assert_eq!(status, 200);
    devnet.wait_for_nonce("alice", 1);
    let hash = sent["tx_hash"].as_str().unwrap();
    let began = Instant::now();
    let transaction = loop {
        let (status, transaction) = devnet.get(&format!("/rpc/tx/{hash}"));
        if status == 200 {
            break transaction;
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    };
    assert_eq!(transaction["payload"]["amount"], 7);
    let height = transaction["block_height"].as_u64().unwrap();
    let (_, block) = devnet.get(&format!("/rpc/blocks/{height}"));
    assert_eq!(block["transactions"][0]["tx_hash"], hash);
    assert!(block["certificate"].is_object());
    let by_hash = devnet.get(&format!("/rpc/blocks/{}", block["hash"].as_str().unwrap())).1;
    assert_eq!(by_hash, block);
    assert_eq!(devnet.get("/rpc/getBalance/ait1zoe").1["balance"], 57);
    assert_eq!(devnet.get(&format!("/rpc/tx/{hash}/why")).1["status"], "committed");
    assert_eq!(devnet.get("/rpc/proof/account/alice").1["exists"], true);
    assert_eq!(devnet.get("/rpc/proof/account/nobody").1["exists"], false);
}

#[test]
fn answers_bad_input_with_a_code_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let root = devnet.get("/rpc/head").1["state_root"].clone();
    let transfer = |to: Value, amount: Value, fee: Value| {
        json!({"type": "TRANSFER", "sender": "alice", "nonce": 0, "fee": fee,
            "payload": {"to": to, "amount": amount}})
        .to_string()
    };
    let deep = "[".repeat(10_000);
    let big = format!("{{\"x\":\"{}\"}}", "x".repeat(1_100_000));
    let unknown = r#"{"type":"FOO","sender":"alice","nonce":0,"fee":0,"payload":{}}"#;
    let stranger = transfer(json!("bob"), json!(1), json!(0)).replace("alice", "ait1qqqq/");
    let cases = [
        ("{\"type\":", 422, "json_invalid"),
        ("[]", 422, "json_invalid"),
        (deep.as_str(), 422, "json_invalid"),
        (big.as_str(), 413, "body_too_large"),
        (&transfer(json!("bob"), json!(-1), json!(0)), 422, "payload_invalid"),
        (&transfer(json!("bob"), json!(1.5), json!(0)), 422, "payload_invalid"),
        (&transfer(json!("bob"), json!(1_u64 << 63), json!(0)), 422, "payload_invalid"),
        (&transfer(json!("bob"), json!("x"), json!(0)), 422, "payload_invalid"),
        (&transfer(json!("bob"), json!(1), json!(-1)), 422, "integer_invalid"),
        (&transfer(json!("bob"), json!(i64::MAX), json!(i64::MAX)), 400, "amount_overflow"),
        (&transfer(json!("bob"), json!(i64::MAX), json!(0)), 400, "insufficient_funds"),
        (&transfer(json!("alice"), json!(1), json!(0)), 400, "self_transfer"),
        (&transfer(json!("bob"), json!(0), json!(0)), 400, "amount_zero"),
        (unknown, 422, "type_unsupported"),
        (&stranger, 422, "unsigned_transaction"),
    ];
    for (body, status, code) in cases {
        let (found, answer) = devnet.request("POST", "/rpc/sendTx", body).unwrap();
        let shown: String = body.chars().take(80).collect();
        assert_eq!((found, answer["code"].as_str()), (status, Some(code)), "{shown}: {answer}");
        assert!(answer["detail"].is_string());
    }
    for (path, status) in [
        ("/rpc/nothing", 404),
        ("/rpc/blocks/99", 404),
        ("/rpc/blocks/-1", 404),
        ("/rpc/blocks/x", 422),
        ("/rpc/tx/0x12", 422),
        ("/rpc/tx/0xGG", 422),
        ("/rpc/getBalance/ait1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s3gpr4x", 422),
    ] {
        assert_eq!(devnet.get(path).0, status, "{path}");
    }
    assert_eq!(devnet.request("POST", "/rpc/head", "").unwrap().0, 405);
    assert_eq!(devnet.get("/rpc/head").1["state_root"], root);
}

#[test]
fn says_what_to_do_about_a_port_in_use_and_wrong_usage() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run =
        |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_ait-node")).args(args).output().unwrap();
    let output = run(&["dev", "--rpc", &address, "--coordinator", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&address) && error.contains("--rpc"), "{error}");
    let open = run(&["dev", "--rpc", "0.0.0.0:0", "--coordinator", "127.0.0.1:0"]);
    assert!(String::from_utf8(open.stderr).unwrap().contains("loopback"));
    assert_eq!(run(&["dev", "--nonsense"]).status.code(), Some(2));
}

#[test]
fn a_signal_stops_it_cleanly() {
    let directory = tempfile::tempdir().unwrap();
    let mut devnet = Devnet::start(directory.path());
    devnet.send("bob", 1).unwrap();
    let id = devnet.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(devnet.child.wait().unwrap().code(), Some(0));
    let devnet = Devnet::start(directory.path());
    devnet.wait_for_nonce("alice", 1);
}

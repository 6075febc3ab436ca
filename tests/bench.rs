//! The load generator as a person runs it: against a node of its own and a running one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::process::{Command, Output};

use common::Devnet;
use serde_json::Value;

fn bench(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ait-node")).arg("bench").args(words).output().unwrap()
}

/// The last line that a successful run printed.
fn figures(out: &Output) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    serde_json::from_str(text(&out.stdout).lines().last().unwrap()).unwrap()
}

fn check(figures: &Value) {
    let number = |name: &str| {
        let value = figures[name].as_f64();
        value.unwrap_or_else(|| panic!("{name} is missing: {figures}"))
    };
    assert!(number("final_txs") > 0.0);
    let tps = number("final_txs") / number("seconds");
    assert!((number("tps") - tps).abs() < tps / 100.0, "{figures}");
    let ratio = number("tps") / number("signature_bound");
    assert!((number("ratio") - ratio).abs() < 0.002, "{figures}");
    let ratio = number("tps") / number("verify_bound");
    assert!((number("verify_ratio") - ratio).abs() < 0.002, "{figures}");
    assert!(number("p50_ms") > 0.0 && number("p50_ms") <= number("p99_ms"), "{figures}");
    assert!(number("answer_p50_ms") <= number("p99_ms"), "{figures}");
    assert_eq!(figures["refused"], serde_json::json!({}), "{figures}");
    for stage in ["verify", "admit", "execute", "commit_tree", "encode", "persist", "index"] {
        let seconds = figures["stages"][stage]["seconds"].as_f64().unwrap();
        // A few small blocks on a busy machine take less than the millisecond that is shown.
        let may_be_short = ["execute", "encode"].contains(&stage);
        assert!(seconds > 0.0 || may_be_short, "{stage}: {figures}");
    }
    let shares = figures["stages"].as_object().unwrap().values();
    let sum: f64 = shares.map(|stage| stage["share"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 0.02, "{figures}");
}

#[test]
fn a_node_of_its_own_is_driven_in_every_workload() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let size = ["--embedded", "--accounts", "3000", "--senders", "200", "--json"];
    let time = ["--duration", "2s", "--warm-up", "1s"];
    for workload in ["uniform", "zipf", "hot", "claims", "mixed"] {
        let what = ["--workload", workload, "--html", page.to_str().unwrap()];
        let out = bench(&[&size[..], &time, &what].concat());
        let figures = figures(&out);
        check(&figures);
        assert_eq!(figures["accounts"], 3_000);
        assert_eq!(figures["setting"]["workload"], workload);
        assert!(figures["disk_bytes"].as_u64().unwrap() > 0);
        let page = std::fs::read_to_string(&page).unwrap();
        assert!(page.matches("<svg").count() == 3 && page.contains("commit_tree"));
        assert!(
            !page.contains("http://") || page.matches("http://").all(|_| page.contains("w3.org"))
        );
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let words = ["--embedded", "--accounts", "500", "--engine", "memory", "--json"];
    let time = ["--duration", "3s", "--warm-up", "0s", "--rate", "150"];
    let figures = figures(&bench(&[&words[..], &time].concat()));
    let sent = figures["final_txs"].as_u64().unwrap();
    assert!((400..=455).contains(&sent), "{figures}");
    assert_eq!(figures["setting"]["loop"], "open");
}

#[test]
fn running_nodes_are_driven_from_a_funded_account() {
    let folder = tempfile::tempdir().unwrap();
    let node = Devnet::start(folder.path());
    let rpc =
        format!("http://{}", node.announced["rpc"].as_str().unwrap().trim_start_matches("http://"));
    let keys = node.announced["accounts"].clone();
    let alice = keys.as_array().unwrap().iter().find(|account| account["name"] == "alice").unwrap();
    let key = alice["secret_key"].as_str().unwrap();
    let words = ["--rpc", &rpc, "--key", key, "--senders", "40", "--in-flight", "100", "--json"];
    let time = ["--duration", "2s", "--warm-up", "1s", "--connections", "8"];
    check(&figures(&bench(&[&words[..], &time].concat())));
    // Again, with senders that have used nonces.
    check(&figures(&bench(&[&words[..], &time, &["--seed", "2"]].concat())));
    // Many in a request.
    let batches = ["--seed", "3", "--batch", "20"];
    check(&figures(&bench(&[&words[..], &time, &batches].concat())));
    // Who pays has nothing.
    let poor = "22".repeat(32);
    let words = ["--rpc", &rpc, "--key", &poor, "--senders", "40", "--seed", "4"];
    let out = bench(&words);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("fund it, or lower --senders"), "{said}");
}

#[test]
fn what_is_wrong_is_said_with_advice() {
    let failed = |words: &[&str], code: i32, part: &str| {
        let out = bench(words);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert!(said.contains(part), "{said}");
    };
    failed(&["--rpc", "http://127.0.0.1:1"], 2, "--key");
    let key = "11".repeat(32);
    failed(&["--rpc", "http://127.0.0.1:1", "--key", &key], 1, "is the node running");
    failed(&["--rpc", "https://127.0.0.1:1", "--key", &key], 1, "directly");
    failed(&["--embedded", "--accounts", "10", "--senders", "11"], 2, "at most --accounts");
    let batch = ["--rpc", "http://127.0.0.1:1", "--key", &key, "--batch", "4097"];
    failed(&batch, 2, "at most 4096");
    failed(&["--rate", "0"], 2, "not a number from");
}

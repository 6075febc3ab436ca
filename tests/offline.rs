//! What an operator does with a stopped node, and what a node says to damaged, foreign,
//! locked and full storage: the real binary on real files.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::Devnet;
use serde_json::{Value, json};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ait-node")).args(args).output().unwrap()
}

/// Exit code and the JSON that was said.
fn ask(args: &[&str]) -> (i32, Value) {
    let output = run(&[args, &["--json"]].concat());
    let text = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    let line = String::from_utf8_lossy(text).lines().next().unwrap_or_default().to_owned();
    (output.status.code().unwrap(), serde_json::from_str(&line).unwrap_or(json!(line)))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A stopped devnet with some blocks; gives its newest head.
fn stopped(directory: &Path) -> Value {
    let mut devnet = Devnet::start(directory);
    for n in 0..20 {
        devnet.send(&format!("to-{n}"), 1).unwrap();
    }
    let claim = json!({"sender": "miner-0", "nonce": 0, "fee": 0, "payload": {
        "receipt_id": "r-1", "job_id": "job_1", "miner_addr": "miner-0",
        "compute_units": 2500, "price": 50000}});
    let (status, answer) = devnet.post("/rpc/submitReceipt", &claim);
    assert_eq!(status, 200, "{answer}");
    devnet.wait_for_nonce("alice", 20);
    devnet.committed(answer["tx_hash"].as_str().unwrap());
    let head = devnet.get("/rpc/head").1;
    let id = devnet.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(devnet.child.wait().unwrap().success());
    head
}

#[test]
fn an_export_replays_to_the_same_root_on_every_engine() {
    let directory = tempfile::tempdir().unwrap();
    let head = stopped(directory.path());
    let archive = directory.path().join("chain.ait");
    let export = ["export", "--data-dir", text(directory.path()), "--out", text(&archive)];
    let (code, said) = ask(&export);
    assert_eq!((code, &said["blocks"]), (0, &head["height"]), "{said}");
    assert_eq!(ask(&export).1["code"], "file_exists");
    let ways = [
        &["--engine", "memory"][..],
        &["--engine", "redb"],
        &["--engine", "redb", "--trust-signatures"],
        &["--diff", "redb,memory"],
    ];
    for engine in ways {
        let (code, said) = ask(&[&["replay", text(&archive)], engine].concat());
        assert_eq!((code, &said["ok"]), (0, &json!(true)), "{said}");
        assert_eq!((&said["state_root"], &said["transactions"]), (&head["state_root"], &json!(21)));
    }
    assert_eq!(ask(&["replay", text(&archive), "--diff", "redb"]).0, 2);
    assert_eq!(ask(&["replay", text(&archive), "--engine", "nonsense"]).0, 2);

    // A changed amount is a difference, and its place is named.
    let late = directory.path().join("late.ait");
    let part = [&export[..3], &["--out", text(&late), "--from", "2"]].concat();
    assert_eq!(ask(&part).0, 0);
    let (code, said) = ask(&["replay", text(&late)]);
    assert_eq!((code, &said["code"]), (1, &json!("not_from_genesis")));
    let mut cut = fs::read(&archive).unwrap();
    cut.truncate(cut.len() - 100);
    fs::write(&archive, cut).unwrap();
    let (code, said) = ask(&["replay", text(&archive)]);
    assert_eq!(code, 1);
    assert!(said["message"].as_str().unwrap().contains("breaks off"), "{said}");
    assert_eq!(ask(&["replay", text(directory.path())]).0, 1);
    assert_eq!(ask(&["replay", "nowhere.ait"]).1["code"], "file_io");
}

#[test]
fn a_replay_names_the_first_difference() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/blocks/golden.ait");
    let mut reader =
        ait_node::archive::ArchiveReader::begin(fs::File::open(golden).unwrap()).unwrap();
    // The same chain but for one account's balance at genesis.
    let genesis = reader.genesis().replacen("1000000", "1000001", 1);
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut writer =
        ait_node::archive::ArchiveWriter::begin(out.as_file(), &genesis, reader.first()).unwrap();
    while let Some((block, certificate)) = reader.next_block().unwrap() {
        writer.add(&block, &certificate).unwrap();
    }
    writer.end().unwrap();
    let (code, said) = ask(&["replay", text(out.path()), "--engine", "memory"]);
    assert_eq!((code, &said["ok"]), (1, &json!(false)));
    let difference = &said["first_difference"];
    assert_eq!((&difference["height"], &difference["engine"]), (&json!(1), &json!("memory")));
    assert!(difference["what"].as_str().unwrap().contains("parent"), "{difference}");
}

#[test]
fn a_replay_finds_a_changed_transaction_whether_or_not_signatures_are_verified() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/blocks/golden.ait");
    let mut reader =
        ait_node::archive::ArchiveReader::begin(fs::File::open(golden).unwrap()).unwrap();
    let genesis = reader.genesis().to_owned();
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut writer =
        ait_node::archive::ArchiveWriter::begin(out.as_file(), &genesis, reader.first()).unwrap();
    let mut changed = None;
    while let Some((mut block, certificate)) = reader.next_block().unwrap() {
        if changed.is_none() && block.header.height.get() > 2 {
            let last = block.transactions.last_mut().unwrap();
            last.signature.0[1] ^= 1;
            changed = Some(block.header.height.get());
        }
        writer.add(&block, &certificate).unwrap();
    }
    writer.end().unwrap();
    for (more, what) in [(&[][..], "signature"), (&["--trust-signatures"], "transactions_root")] {
        let (code, said) = ask(&[&["replay", text(out.path())], more].concat());
        assert_eq!((code, &said["ok"]), (1, &json!(false)));
        let difference = &said["first_difference"];
        assert_eq!(difference["height"].as_u64(), changed);
        assert!(difference["what"].as_str().unwrap().contains(what), "{difference}");
    }
}

#[test]
fn databases_are_checked_measured_and_reset() {
    let directory = tempfile::tempdir().unwrap();
    let head = stopped(directory.path());
    let data = ["--data-dir", text(directory.path())];
    let (code, said) = ask(&[&["db", "check"], &data[..]].concat());
    assert_eq!((code, &said["ok"], &said["state_root"]), (0, &json!(true), &head["state_root"]));
    assert_eq!(said["transactions"], 21);
    let (code, said) = ask(&[&["db", "stats"], &data[..]].concat());
    assert_eq!(code, 0);
    let tables = said["blocks"]["tables"].as_array().unwrap();
    let blocks = tables.iter().find(|table| table["table"] == "blocks").unwrap();
    assert_eq!(blocks["entries"].as_u64(), Some(head["height"].as_u64().unwrap() + 1));
    let (code, said) = ask(&[&["db", "compact"], &data[..]].concat());
    let bytes = |key: &str| said["blocks"][key].as_u64().unwrap();
    assert!(code == 0 && bytes("bytes") < bytes("bytes_before"), "{said}");
    assert_eq!(ask(&[&["db", "check"], &data[..]].concat()).1["state_root"], head["state_root"]);
    assert_eq!(ask(&[&["db", "reset"], &data[..]].concat()).1["code"], "not_confirmed");
    assert_eq!(ask(&[&["db", "reset", "--yes"], &data[..]].concat()).0, 0);
    assert_eq!(ask(&[&["db", "check"], &data[..]].concat()).1["code"], "no_chain");
    // Its key signed what is gone: it does not sign those heights again unless told to forget.
    let dev = ["dev", "--rpc", "127.0.0.1:0", "--coordinator", "127.0.0.1:0"];
    let (code, said) = ask(&[&dev[..], &data[..]].concat());
    assert_eq!((code, &said["code"]), (1, &json!("signed_ahead")));
    assert!(said["hint"].as_str().unwrap().contains("--forget-signer"), "{said}");
    let (code, said) = ask(&[&["db", "reset", "--yes", "--forget-signer"], &data[..]].concat());
    assert_eq!(code, 0, "{said}");
    let devnet = Devnet::start(directory.path());
    assert_eq!(devnet.get("/rpc/head").1["height"], 0);
    devnet.send("bob", 1).unwrap();
    devnet.wait_for_nonce("alice", 1);
    // Now it runs, and its databases are its own.
    for command in
        [&["db", "check"][..], &["db", "stats"], &["db", "compact"], &["db", "reset", "--yes"]]
    {
        let (code, said) = ask(&[command, &data[..]].concat());
        assert_eq!(code, 1);
        assert!(said["hint"].as_str().unwrap().contains("another node runs"), "{said}");
    }
}

#[test]
fn a_damaged_database_is_refused_with_a_way_on() {
    let directory = tempfile::tempdir().unwrap();
    stopped(directory.path());
    let data = ["--data-dir", text(directory.path())];
    for name in ["blocks.redb", "state.redb"] {
        let path = directory.path().join("chain").join(name);
        let whole = fs::read(&path).unwrap();
        for length in [0, 100, whole.len() / 3, whole.len() - 4096] {
            fs::write(&path, &whole[..length]).unwrap();
            for command in [
                &["db", "check"][..],
                &["dev", "--rpc", "127.0.0.1:0", "--coordinator", "127.0.0.1:0"],
            ] {
                let (code, said) = ask(&[command, &data[..]].concat());
                assert_eq!(code, 1, "{name} of {length} bytes: {said}");
                assert!(said.to_string().contains(name), "{said}");
                let mend = &said["findings"][0]["mend"];
                assert!(said["hint"].is_string() || mend.is_string(), "{said}");
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(ask(&[&["db", "check"], &data[..]].concat()).0, 0);
}

#[test]
fn a_database_of_another_chain_is_not_touched() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let head = stopped(one.path());
    stopped(other.path());
    let genesis = other.path().join("genesis.json");
    let args = ["--data-dir", text(one.path()), "--genesis", text(&genesis)];
    let (code, said) = ask(&[&["db", "check"], &args[..]].concat());
    assert_eq!((code, &said["code"]), (1, &json!("database_of_other_chain")), "{said}");
    let (code, said) = ask(&["db", "check", "--data-dir", text(one.path())]);
    assert_eq!((code, &said["height"]), (0, &head["height"]));
}

#[test]
fn a_full_disk_stops_the_node_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let before = stopped(directory.path());
    let largest = fs::read_dir(directory.path().join("chain"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .max()
        .unwrap();
    // No file may grow beyond what the largest has, as on a full disk.
    let limit = largest / 512;
    let script = format!(
        "trap '' XFSZ; ulimit -f {limit}; exec \"$0\" dev --json --rpc 127.0.0.1:0 \
         --coordinator 127.0.0.1:0 --block-interval 5ms --data-dir \"$1\""
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_ait-node"), text(directory.path())]);
    let devnet = Devnet::announced_by(command);
    let (mut accepted, mut committed) = (20, 20);
    // Until it refuses or ends.
    for n in 0..20_000 {
        match devnet.send(&format!("full-{n}"), 1) {
            Some((200, _)) => accepted += 1,
            _ => break,
        }
        if let Some((200, account)) = devnet.request("GET", "/rpc/getBalance/alice", "") {
            committed = account["nonce"].as_u64().unwrap();
        }
    }
    let output = devnet.ended();
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("no space left") || error.contains("File too large"), "{error}");
    let devnet = Devnet::start(directory.path());
    assert!(devnet.get("/rpc/head").1["height"].as_u64() >= before["height"].as_u64());
    let nonce = devnet.nonce("alice");
    assert!((committed..=accepted).contains(&nonce), "{committed} <= {nonce} <= {accepted}");
    assert!(committed > 20, "nothing was committed before the disk was full");
    devnet.send("bob", 1).unwrap();
    devnet.wait_for_nonce("alice", nonce + 1);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let (code, said) = ask(&["dev", "--rpc", "127.0.0.1:0", "--data-dir", "/proc/no-such-place"]);
    assert_eq!(code, 1);
    assert!(said["message"].as_str().unwrap().contains("/proc/no-such-place"), "{said}");
    let directory = tempfile::tempdir().unwrap();
    let (code, said) = ask(&["run", "--data-dir", text(directory.path())]);
    assert_eq!((code, &said["code"]), (1, &json!("genesis_missing")));
    assert!(said["hint"].as_str().unwrap().contains("ait-node init"), "{said}");
}

#[test]
fn init_and_run_make_a_node_of_its_own_chain() {
    let directory = tempfile::tempdir().unwrap();
    let data = text(directory.path());
    let init = ["init", "--data-dir", data, "--new-chain", "my-chain", "--no-passphrase"];
    assert_eq!(ask(&init).0, 0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    command.args(["run", "--json", "--data-dir", data, "--rpc", "127.0.0.1:0"]);
    command.args(["--block-interval", "20ms"]);
    let node = Devnet::announced_by(command);
    assert_eq!(node.announced["chain_id"], "my-chain");
    assert!(node.announced.get("admin_token").is_none(), "a secret was printed");
    assert_eq!(node.get("/rpc/info").1["dev"], false);
    assert_eq!(node.get("/rpc/getBalance/alice").0, 422);
    let unsigned = json!({"type": "TRANSFER", "sender": "alice", "nonce": 0, "fee": 0,
        "payload": {"to": "bob", "amount": 1}});
    let (status, answer) = node.post("/rpc/sendTx", &unsigned);
    assert_eq!((status, &answer["code"]), (422, &json!("unsigned_transaction")));
    let (status, answer) =
        node.post("/rpc/admin/mintFaucet", &json!({"address": "ait1x", "amount": 1}));
    assert_eq!((status, &answer["code"]), (403, &json!("faucet_closed")));
    // Its validator owns everything, pays fees, governs, and may bind a provider's name.
    let (url, key) =
        (node.announced["rpc"].as_str().unwrap(), directory.path().join("validator.key"));
    let to = "ait1vv37f6fvgh709sdaxa4s8lc506x6m03p63a3qyv3hlfsqhvqvkasxcu6ky";
    for command in [
        &["tx", "transfer", "--to", to, "--amount", "5"][..],
        &["tx", "param-set", "--param", "mint_per_unit=7"],
        &["tx", "bind-provider", "--name", "rig-1"],
    ] {
        let (code, said) = ask(&[command, &["--key", text(&key), "--rpc", url, "--wait"]].concat());
        assert_eq!((code, &said["status"]), (0, &json!("committed")), "{said}");
    }
    assert_eq!(node.get("/rpc/params").1["params"]["mint_per_unit"], 7);
    assert_eq!(node.get(&format!("/rpc/getBalance/{to}")).1["balance"], 5);
    let (code, said) = ask(&["tx", "param-set", "--key", text(&key), "--rpc", url]);
    assert_eq!((code, &said["code"]), (2, &json!("no_change")));
    // Another node does not share its directory.
    let (code, said) = ask(&["run", "--data-dir", data, "--rpc", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert!(said["hint"].as_str().unwrap().contains("another node runs"), "{said}");
}

#[test]
fn nothing_that_attests_or_signs_for_anybody_listens_to_others_by_mistake() {
    let key = "07".repeat(32);
    let (code, said) = ask(&["coordinator", "--bind", "0.0.0.0:0", "--key", &key]);
    assert_eq!((code, &said["code"]), (2, &json!("not_loopback")));
    let (code, said) = ask(&["dev", "--rpc", "127.0.0.1:0", "--coordinator", "0.0.0.0:0"]);
    assert_eq!((code, &said["code"]), (1, &json!("not_loopback")));
    let (code, said) = ask(&["dev", "--rpc", "0.0.0.0:0", "--coordinator", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert!(said["message"].as_str().unwrap().contains("loopback"), "{said}");
    // A mistyped secret is not repeated.
    let mistyped = format!("{}x", "07".repeat(31));
    let output = run(&["coordinator", "--bind", "127.0.0.1:0", "--key", &mistyped]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!error.contains("0707") && error.contains("64 hex digits"), "{error}");
    for bad in [["--nonce", "18446744073709551616"], ["--expires-at", "0"], ["--expires-at", "-1"]]
    {
        let transfer = ["tx", "transfer", "--key", &key, "--to"];
        let to = "ait1vv37f6fvgh709sdaxa4s8lc506x6m03p63a3qyv3hlfsqhvqvkasxcu6ky";
        let (code, said) = ask(&[&transfer[..], &[to, "--amount", "1"], &bad].concat());
        assert_eq!(code, 2, "{bad:?}: {said}");
    }
}

#[test]
fn the_coordinator_runs_on_its_own() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    command.args(["coordinator", "--json", "--bind", "127.0.0.1:0", "--key", &"07".repeat(32)]);
    let mut mock = Devnet::announced_by(command);
    mock.announced["rpc"] = mock.announced["coordinator"].clone();
    assert_eq!(mock.get("/health").1, json!({"status": "ok"}));
    let (status, answer) = mock.post("/attest/receipt", &json!({"job_id": "job_2"}));
    assert_eq!((status, &answer["quote"]["compute_units"]), (200, &json!(1200)));
    let order = json!({"units": 3, "price": 5});
    let (status, job) = mock.post("/v1/jobs", &order);
    assert_eq!(status, 201, "{job}");
    let foreign = [("origin", "https://example.org")];
    let answer = mock.exchange("POST", "/v1/jobs", &foreign, &order.to_string()).unwrap();
    assert_eq!(answer.0, 403, "{}", answer.2);
    let directory = tempfile::tempdir().unwrap();
    let receipt = directory.path().join("receipt.json");
    let (receipt, id) = (text(&receipt), job["job_id"].as_str().unwrap());
    let key = "08".repeat(32);
    let sign = ["receipt", "sign", "--key", &key, "--job-id", id, "--client", "c", "--price", "5"];
    let (code, said) = ask(&[&sign[..], &["--units", "3", "--out", receipt]].concat());
    assert_eq!(code, 0, "{said}");
    let url = mock.announced["coordinator"].as_str().unwrap().to_owned();
    let (code, said) = ask(&["receipt", "attest", receipt, "--coordinator", &url]);
    assert_eq!((code, &said["attestations"]), (0, &json!(1)), "{said}");
    let id = mock.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(mock.child.wait().unwrap().success());
}

#[test]
fn a_node_is_configured_by_file_environment_and_old_names() {
    let directory = tempfile::tempdir().unwrap();
    let data = text(directory.path());
    let init = ["init", "--data-dir", data, "--new-chain", "mine", "--no-passphrase"];
    assert_eq!(ask(&init).0, 0);
    let config = directory.path().join("config.toml");
    let write = |body: &str| fs::write(&config, body).unwrap();
    write("[rpc]\nbind = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    // The old variable wins over the file's data directory, the file gives the rest.
    command.args(["run", "--json"]).env("DB_PATH", directory.path().join("chain.db"));
    let node = Devnet::announced_by(command);
    assert_eq!(node.announced["chain_id"], "mine");
    node.get("/rpc/head");
    let logged = node.stderr();
    let line: Value = serde_json::from_str(logged.lines().next().unwrap()).unwrap();
    assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    drop(node);
    for (body, wanted) in [
        ("[rpc]\nbnid = \"x\"\n", "rpc.bind"),
        ("[rpc]\nbind = \"nowhere\"\n", "127.0.0.1:8080"),
        ("[rpc\n", "config.toml"),
        ("[sequencer]\nblock_interval = \"-1s\"\n", "500ms"),
    ] {
        write(body);
        let (code, said) = ask(&["run", "--data-dir", data]);
        assert_eq!((code, &said["code"]), (2, &json!("config")), "{body}");
        assert!(said["message"].as_str().unwrap().contains(wanted), "{body}: {said}");
    }
}

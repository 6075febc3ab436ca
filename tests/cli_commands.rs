//! The real binary: usage, exit codes, keys, genesis, configuration files.
//!
//! No node is started here.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn ait(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ait-node"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("AIT_KEY_PASSPHRASE")
        .env_remove("AIT_RPC_URL")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(bytes)))
}

fn succeed(directory: &Path, arguments: &[&str]) -> Value {
    let output = ait(directory, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    json(&output.stdout)
}

fn fail(directory: &Path, arguments: &[&str], exit: i32) -> Value {
    let output = ait(directory, arguments);
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}");
    assert!(output.stdout.is_empty());
    json(&output.stderr)
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let output = ait(directory.path(), &["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for command in [
        "dev",
        "init",
        "key",
        "genesis",
        "tx",
        "receipt",
        "query",
        "explain",
        "simulate",
        "coordinator",
        "completions",
    ] {
        assert!(text.contains(&format!("\n  {command} ")), "{command} is not in the help");
    }
    assert!(text.contains("Exit codes: 0 success"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn wrong_usage_exits_with_2_in_text_and_json() {
    let directory = tempfile::tempdir().unwrap();
    let output = ait(directory.path(), &["tx", "transfer", "--amount", "1.5"]);
    assert_eq!(output.status.code(), Some(2));
    for arguments in [
        vec!["--json", "nonsense"],
        vec!["--json", "tx", "transfer", "--key", "00", "--to", "bob", "--amount", "1"],
        vec!["--json", "dev", "--block-interval", "soon"],
        vec!["--json", "dev", "--engine", "sqlite"],
    ] {
        let error = fail(directory.path(), &arguments, 2);
        assert_eq!(error["code"], "usage", "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_key_survives_the_way_through_an_encrypted_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    ait_node::keystore::write_private(&at.join("pass"), "correct horse\n").unwrap();
    ait_node::keystore::write_private(&at.join("wrong"), "incorrect horse\n").unwrap();
    let new = ["key", "new", "--out", "k.json", "--passphrase-file", "pass", "--json"];
    let made = succeed(at, &new);
    assert_eq!(made["encrypted"], true);
    assert!(made.get("secret_key").is_none());
    let shown = succeed(at, &["key", "show", "k.json", "--json"]);
    assert_eq!(shown["address"], made["address"]);
    let export = ["key", "export", "k.json", "--passphrase-file", "pass", "--json"];
    assert_eq!(fail(at, &export, 2)["code"], "reveal_needed");
    let revealed = succeed(at, &[&export[..], &["--reveal"]].concat());
    let secret = revealed["secret_key"].as_str().unwrap();
    assert_eq!(secret.len(), 64);
    assert_eq!(succeed(at, &["key", "show", secret, "--json"])["address"], made["address"]);
    let wrong = ["key", "export", "k.json", "--passphrase-file", "wrong", "--reveal", "--json"];
    assert_eq!(fail(at, &wrong, 1)["code"], "wrong_passphrase");
    let error = fail(at, &["key", "export", "k.json", "--reveal", "--json"], 1);
    assert_eq!(error["code"], "no_passphrase");
    assert!(error["hint"].as_str().unwrap().contains("--passphrase-file"));
}

#[test]
fn a_new_key_without_a_file_is_shown_and_stored_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let first = succeed(directory.path(), &["key", "new", "--json"]);
    let second = succeed(directory.path(), &["key", "new", "--json"]);
    assert_ne!(first["secret_key"], second["secret_key"]);
    assert!(first["address"].as_str().unwrap().starts_with("ait1"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_key_file_that_others_may_read_is_refused_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    succeed(at, &["key", "new", "--out", "k.json", "--no-passphrase", "--json"]);
    std::fs::set_permissions(at.join("k.json"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = fail(at, &["key", "show", "k.json", "--json"], 1);
    assert_eq!(error["code"], "key_file_permissions");
    assert_eq!(error["hint"], "run: chmod 600 k.json");
}

#[test]
fn init_writes_a_commented_configuration_and_a_valid_chain() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let init = ["init", "--data-dir", "d", "--new-chain", "my-chain", "--no-passphrase", "--json"];
    succeed(at, &init);
    let config = std::fs::read_to_string(at.join("d/config.toml")).unwrap();
    assert!(config.contains("# bind = \"127.0.0.1:8080\""));
    let genesis = succeed(at, &["genesis", "verify", "d/genesis.json", "--json"]);
    assert_eq!(genesis["chain_id"], "my-chain");
    assert_eq!(genesis["authorities"], 1);
    let before = std::fs::read(at.join("d/validator.key")).unwrap();
    assert_eq!(fail(at, &init, 1)["code"], "file_exists");
    fail(at, &[&init[..], &["--force"]].concat(), 1);
    assert_eq!(std::fs::read(at.join("d/validator.key")).unwrap(), before);
}

#[test]
fn genesis_verify_names_every_problem() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let key = succeed(at, &["key", "new", "--json"]);
    let public_key = key["public_key"].as_str().unwrap();
    let allocate = format!("{}=9223372036854775807", key["address"].as_str().unwrap());
    let new = [
        "genesis",
        "new",
        "--chain-id",
        "c",
        "--authority",
        public_key,
        "--allocate",
        &allocate,
        "--timestamp",
        "1",
        "--out",
        "g.json",
        "--json",
    ];
    let made = succeed(at, &new);
    let verified = succeed(at, &["genesis", "verify", "g.json", "--json"]);
    assert_eq!(made["block_id"], verified["block_id"]);

    let mut document: Value = json(&std::fs::read(at.join("g.json")).unwrap());
    let twice = document["accounts"][0].clone();
    document["accounts"].as_array_mut().unwrap().push(twice);
    document["params"]["no_such"] = 1.into();
    std::fs::write(at.join("bad.json"), document.to_string()).unwrap();
    let error = fail(at, &["genesis", "verify", "bad.json", "--json"], 1);
    let message = error["message"].as_str().unwrap();
    for part in ["allocation already", "sum of balances", "no_such"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    // A document may have millions of the same kind: some are named, all are counted.
    let twice = document["accounts"][0].clone();
    document["accounts"] = vec![twice; 1_000].into();
    std::fs::write(at.join("bad.json"), document.to_string()).unwrap();
    let error = fail(at, &["genesis", "verify", "bad.json", "--json"], 1);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(" more") && message.lines().count() < 30, "{message}");
}

#[test]
fn a_receipt_can_be_signed_and_attested_offline() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (miner, coordinator) = ("11".repeat(32), "22".repeat(32));
    let sign = [
        "receipt", "sign", "--key", &miner, "--job-id", "job_1", "--client", "c", "--units",
        "2500.5", "--out", "r.json", "--json",
    ];
    assert_eq!(succeed(at, &sign)["attestations"], 0);
    let attest = ["receipt", "attest", "r.json", "--key", &coordinator, "--json"];
    assert_eq!(succeed(at, &attest)["attestations"], 1);
    assert_eq!(succeed(at, &attest)["attestations"], 1, "the same coordinator counts once");
    let receipt: Value = json(&std::fs::read(at.join("r.json")).unwrap());
    assert_eq!(receipt["units"], 2500.5);
    assert_eq!(receipt["signature"]["alg"], "Ed25519");
}

#[test]
fn a_node_that_is_not_there_fails_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    // Bound and dropped: nothing listens on it now.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let error = fail(directory.path(), &["query", "head", "--rpc", &url, "--json"], 1);
    assert_eq!(error["code"], "unreachable");
    assert!(error["hint"].as_str().unwrap().contains("ait-node dev"));
    let error = fail(directory.path(), &["query", "head", "--rpc", "nowhere", "--json"], 2);
    assert_eq!(error["code"], "bad_url");
}

#[test]
fn completions_name_the_subcommands() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = ait(directory.path(), &["completions", shell]);
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("coordinator") && script.contains("completions"));
    }
}

//! A node that is given secrets in every way there is: it takes them where a service manager
//! puts them, and nothing that it says at the most talkative level shows one.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ait_node::keystore::{KeyFile, Passphrase};
use common::Devnet;
use data_encoding::{BASE64, HEXLOWER};
use serde_json::json;

const PASSPHRASE: &str = "hidden passphrase";
const TOKEN: &str = "hidden-token-0123456789abcdef-0123456789";
const GUESS: &str = "hidden-guess-0123456789abcdef-0123456789";
/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

/// A command that knows where the service manager's secrets are.
fn ait(credentials: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    command.env("CREDENTIALS_DIRECTORY", credentials).env_remove("AIT_KEY_PASSPHRASE");
    command
}

/// A secret as a service manager hands it over: readable to a group, writable to nobody.
fn hand_over(path: &Path, secret: &str) {
    fs::write(path, secret).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o440)).unwrap();
}

fn init(data: &Path, credentials: &Path) {
    let words = ["init", "--new-chain", "secrets", "--json", "--data-dir"];
    let mut command = ait(credentials);
    command.args(words).arg(data).arg("--passphrase-file").arg(credentials.join("passphrase"));
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A validator that logs everything.
fn talkative(data: &Path, credentials: &Path) -> Command {
    let mut command = ait(credentials);
    command
        .args(["run", "--json", "--rpc", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .arg("--passphrase-file")
        .arg(credentials.join("passphrase"))
        .env("AIT_LOG_LEVEL", "trace")
        .env("AIT_SEQUENCER_BLOCK_INTERVAL", "50ms")
        .env("AIT_RPC_ADMIN_TOKEN_FILE", credentials.join("token"))
        .env("AIT_GOSSIP_REDIS_URL", format!("redis://user:hidden-redis@{NOWHERE}"))
        .env("AIT_CROSS_SITE_POLL_INTERVAL", "1s")
        .env("AIT_CROSS_SITE_REMOTES", format!("http://user:hidden-remote@{NOWHERE}/rpc"));
    command
}

#[test]
fn no_secret_is_logged_whatever_the_level() {
    let directory = tempfile::tempdir().unwrap();
    let (data, credentials) = (directory.path().join("data"), directory.path().join("credentials"));
    fs::create_dir(&credentials).unwrap();
    hand_over(&credentials.join("passphrase"), &format!("{PASSPHRASE}\n"));
    hand_over(&credentials.join("token"), &format!("{TOKEN}\n"));
    init(&data, &credentials);

    let node = Devnet::announced_by(talkative(&data, &credentials));
    let change = json!({"param": "mint_per_unit", "value": 7}).to_string();
    let set = |token: &str| {
        let token = format!("Bearer {token}");
        let headers = [("authorization", token.as_str())];
        let answer = node.exchange("POST", "/rpc/admin/paramSet", &headers, &change).unwrap();
        (answer.0, answer.2)
    };
    // A known token gets further than a guess; this node does not hold the governor's key.
    let (known, guessed) = (set(TOKEN), set(GUESS));
    assert_eq!((known.0, guessed.0), (403, 401), "{known:?} {guessed:?}");
    let began = Instant::now();
    let said = loop {
        let said = node.stderr();
        let tried = |what: &str| said.contains(what);
        // The remote was called, and the requests were logged.
        if tried(&format!("http://{NOWHERE}/rpc")) && tried("param_set") && tried("TRACE") {
            break said;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the log says too little: {said}");
        std::thread::sleep(Duration::from_millis(50));
    };

    let credentials = Passphrase { file: Some(credentials.join("passphrase")) };
    let seed = |file: &str| {
        let path = data.join(file);
        let text: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        match text["seed"].as_str() {
            Some(seed) => seed.to_owned(),
            None => {
                // The credentials are in place for the node alone.
                let path = credentials.file.as_ref().unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
                let key = KeyFile::read(&data.join(file)).unwrap().unlock(&credentials).unwrap();
                HEXLOWER.encode(key.seed().as_slice())
            }
        }
    };
    let secrets = [
        "hidden".to_owned(),
        seed("validator.key"),
        seed("network.key"),
        BASE64.encode(b"user:hidden-remote"),
    ];
    let shown = format!("{said}{}{}{}", node.announced, known.1, guessed.1).to_lowercase();
    for secret in secrets.map(|secret| secret.to_lowercase()) {
        let line = shown.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "shows {secret}");
    }
}

#[test]
fn secrets_in_other_places_must_be_their_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (data, credentials) = (directory.path().join("data"), directory.path().join("credentials"));
    fs::create_dir(&credentials).unwrap();
    hand_over(&credentials.join("passphrase"), PASSPHRASE);
    hand_over(&credentials.join("token"), TOKEN);
    init(&data, &credentials);
    for (variable, file, code) in [
        ("AIT_RPC_ADMIN_TOKEN_FILE", "token", "admin_token"),
        ("AIT_SEQUENCER_KEY_FILE", "key", "key_file_permissions"),
        ("AIT_P2P_KEY_FILE", "network", "network_failed"),
    ] {
        let path = directory.path().join(file);
        match file {
            "token" => fs::write(&path, TOKEN).unwrap(),
            _ => fs::copy(data.join("validator.key"), &path).map(|_| ()).unwrap(),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        let output = talkative(&data, &credentials).env(variable, &path).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        // The unit does not start such a node again.
        assert_eq!(output.status.code(), Some(2), "{said}");
        let remedy = format!("chmod 600 {}", path.display());
        assert!(said.contains(code) && said.contains(&remedy), "{said}");
    }
}

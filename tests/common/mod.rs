//! A devnet in a process of its own, and plain HTTP to it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, Nonce};
use ait_net::wire::TransactionJson;
use ait_node::keystore::{self, Passphrase};
use serde_json::{Value, json};

/// A devnet in a process of its own.
pub struct Devnet {
    pub child: Child,
    /// What it said once it served.
    pub announced: Value,
    /// What it says on standard error.
    errors: tempfile::NamedTempFile,
}

impl Devnet {
    pub fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    pub fn start_with(data_dir: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
        command
            .args(["dev", "--json", "--rpc", "127.0.0.1:0", "--coordinator", "127.0.0.1:0"])
            .args(["--block-interval", "5ms", "--data-dir"])
            .arg(data_dir)
            .envs(variables.iter().copied());
        Self::announced_by(command)
    }

    /// The node that this command starts and that says where it is.
    pub fn announced_by(mut command: Command) -> Self {
        let errors = tempfile::NamedTempFile::new().unwrap();
        let stderr = errors.reopen().unwrap();
        // What steers the tests is no configuration.
        command.env_remove("AIT_KILL_ROUNDS").env_remove("AIT_GOLDEN_WRITE");
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let announced = serde_json::from_str(&line).unwrap_or_else(|error| {
            let said = std::fs::read_to_string(errors.path()).unwrap();
            panic!("{error}: the node did not say where it is, but: {said}")
        });
        Self { child, announced, errors }
    }

    /// What it said on standard error so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.errors.path()).unwrap()
    }

    /// How it ended by itself, and what it said.
    pub fn ended(mut self) -> Output {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "the node goes on");
            std::thread::sleep(Duration::from_millis(20));
        };
        let stderr = std::fs::read(self.errors.path()).unwrap();
        Output { status, stdout: Vec::new(), stderr }
    }

    pub fn request(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let (status, _, body) = self.exchange(method, path, &[], body)?;
        Some((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }

    /// Status, head and body of the answer to a request with these headers.
    pub fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<(u16, String, String)> {
        let rpc = self.announced["rpc"].as_str().unwrap().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(rpc).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let length = body.len();
        let extra: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {rpc}\r\nconnection: close\r\n{extra}content-length: {length}\r\n\r\n"
        );
        stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.get(9..12)?.parse().ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((status, head.to_lowercase(), body.to_owned()))
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.request("GET", path, "").unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.request("POST", path, &body.to_string()).unwrap()
    }

    pub fn send(&self, to: &str, amount: u64) -> Option<(u16, Value)> {
        let body = json!({"type": "TRANSFER", "sender": "alice", "nonce": 0, "fee": 10,
            "payload": {"to": to, "amount": amount}});
        self.request("POST", "/rpc/sendTx", &body.to_string())
    }

    pub fn nonce(&self, name: &str) -> u64 {
        self.get(&format!("/rpc/getBalance/{name}")).1["nonce"].as_u64().unwrap()
    }

    pub fn wait_for_nonce(&self, name: &str, nonce: u64) {
        let began = Instant::now();
        while self.nonce(name) < nonce {
            assert!(began.elapsed() < Duration::from_secs(30), "stuck below nonce {nonce}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Two transfers, a mint and a claimed receipt: their hashes.
    pub fn fill(&self) -> Vec<String> {
        let hash = |(status, answer): (u16, Value)| {
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["txHash"], answer["tx_hash"]);
            answer["tx_hash"].as_str().unwrap().to_owned()
        };
        let mut hashes =
            vec![hash(self.send("bob", 7).unwrap()), hash(self.send("bob", 8).unwrap())];
        let claim = json!({"sender": "miner-0", "nonce": 5, "fee": 0, "payload": {
            "receipt_id": "r/1", "job_id": "job_1", "client_addr": "client-0", "miner_addr": "miner-0",
            "compute_units": "2500", "price": 50000.0, "output_hash": "sha256:00", "miner_sig": "x"}});
        hashes.push(hash(self.post("/rpc/submitReceipt", &claim)));
        for hash in &hashes {
            self.committed(hash);
        }
        hashes
    }

    /// The first funded account's key.
    pub fn alice(&self) -> SecretKey {
        let seed = self.announced["accounts"][0]["secret_key"].as_str().unwrap();
        SecretKey::from_seed(hex::decode(seed).unwrap().try_into().unwrap())
    }

    /// The transaction of this hash, once it is in a block.
    pub fn committed(&self, hash: &str) -> Value {
        let began = Instant::now();
        loop {
            let (status, transaction) = self.get(&format!("/rpc/tx/{hash}"));
            if status == 200 {
                return transaction;
            }
            let why = self.get(&format!("/rpc/tx/{hash}/why")).1;
            assert!(began.elapsed() < Duration::from_secs(20), "not committed: {why}");
            assert_ne!(why["status"], "dropped", "{why}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Tells it to stop.
    pub fn terminate(&self) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(told.unwrap().success());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Height of the newest block of a node.
pub fn height(node: &Devnet) -> u64 {
    node.get("/rpc/head").1["height"].as_u64().unwrap()
}

/// `ait-node init` with these words.
pub fn init(directory: &Path, words: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    let out = command.args(["init", "--data-dir"]).arg(directory).args(words).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// `ait-node run` with these words, on addresses of its own.
pub fn run(directory: &Path, words: &[&str]) -> Devnet {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    command
        .args(["run", "--json", "--rpc", "127.0.0.1:0", "--p2p", "[::1]:0", "--data-dir"])
        .arg(directory)
        // One client asks for every block.
        .env("AIT_RPC_RATE_LIMIT_PER_MINUTE", "0")
        .args(words);
    Devnet::announced_by(command)
}

/// The validator's key of a directory that [`init`] made without a passphrase.
pub fn validator_key(directory: &Path) -> SecretKey {
    let key = directory.join("validator.key").display().to_string();
    keystore::resolve(&key, &Passphrase { file: None }).unwrap()
}

/// Makes a block of one transfer on the chain `my-chain`, whose only transactions these are.
pub fn make_block(node: &Devnet, key: &SecretKey) {
    let before = height(node);
    let payload = Payload::Transfer { to: Address([77; 32]), amount: Amount::saturating(3) };
    let (nonce, fee) = (Nonce::saturating(before), Amount::saturating(1_000));
    let chain = "my-chain".parse().unwrap();
    let transaction = Transaction::sign(key, chain, nonce, fee, None, payload);
    let body = serde_json::to_value(TransactionJson::from(&transaction)).unwrap();
    let (status, answer) = node.post("/rpc/sendTx", &body);
    assert_eq!(status, 200, "{answer}");
    until("a block", || height(node) > before);
}

/// Waits, for a minute at most, until it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

//! Several real nodes, one chain: agreement, a follower, killed validators, catching up.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    command.env_remove("AIT_KILL_ROUNDS").env_remove("AIT_GOLDEN_WRITE");
    command
}

struct Net {
    child: Child,
    nodes: Vec<Value>,
    /// Nodes that were started again by themselves.
    again: Vec<Child>,
    directory: tempfile::TempDir,
}

impl Net {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = binary()
            .args(["testnet", "--json", "--validators", "4", "--followers", "1"])
            .args(["--block-interval", "50ms", "--data-dir"])
            .arg(directory.path().join("net"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let nodes = (0..5).map(|_| serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap());
        let nodes = nodes.collect();
        Self { child, nodes, again: Vec::new(), directory }
    }

    fn rpc(&self, node: usize) -> &str {
        self.nodes[node]["rpc"].as_str().unwrap()
    }

    fn get(&self, node: usize, path: &str) -> Option<Value> {
        let url = format!("{}{path}", self.rpc(node));
        let out = Command::new("curl").args(["-sf", "-m", "5", &url]).output().unwrap();
        serde_json::from_slice(&out.stdout).ok()
    }

    fn height(&self, node: usize) -> Option<u64> {
        self.get(node, "/rpc/head")?["height"].as_u64()
    }

    /// Sends a transfer through a node; gives its hash.
    fn send(&self, node: usize, amount: u64) -> String {
        let keys: PathBuf = self.directory.path().join("net/accounts");
        let show = binary().args(["key", "show", "--json"]).arg(keys.join("bob.key")).output();
        let shown: Value = serde_json::from_slice(&show.unwrap().stdout).unwrap();
        let out = binary()
            .args(["tx", "transfer", "--json", "--amount", &amount.to_string()])
            .args(["--to", shown["address"].as_str().unwrap(), "--rpc", self.rpc(node), "--key"])
            .arg(keys.join("alice.key"))
            .output()
            .unwrap();
        let sent: Value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
        sent["tx_hash"].as_str().unwrap().to_owned()
    }

    fn is_final(&self, node: usize, hash: &str) -> bool {
        self.get(node, &format!("/rpc/tx/{hash}")).is_some()
    }

    fn wait_for(&self, what: &str, is_true: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_true() {
            assert!(began.elapsed() < PATIENCE, "{what} did not happen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn kill(&self, node: usize) {
        let pid = self.nodes[node]["pid"].as_u64().unwrap().to_string();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    }

    fn restart(&mut self, node: usize) {
        let directory = Path::new(self.nodes[node]["data_dir"].as_str().unwrap());
        let config = directory.join("config.toml");
        let log = std::fs::File::create(directory.join("log-again")).unwrap();
        let run = binary().arg("run").arg("--config").arg(config).stderr(log).spawn().unwrap();
        self.again.push(run);
    }

    /// One block per height with one root, on every one of these nodes.
    fn check_agreement(&self, nodes: &[usize]) {
        let height = nodes.iter().map(|node| self.height(*node).unwrap()).min().unwrap();
        for at in 0..=height {
            let blocks: Vec<Value> =
                nodes.iter().map(|n| self.get(*n, &format!("/rpc/blocks/{at}")).unwrap()).collect();
            for block in &blocks {
                assert_eq!(block["hash"], blocks[0]["hash"], "height {at}");
                assert_eq!(block["state_root"], blocks[0]["state_root"], "height {at}");
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in &mut self.again {
            let _ = child.kill();
            let _ = child.wait();
        }
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn validators_agree_and_a_minority_changes_nothing() {
    let mut net = Net::start();
    // Through the follower: gossip brings it to who proposes, the block comes back.
    let first = net.send(4, 1);
    net.wait_for("the first transfer", || (0..5).all(|node| net.is_final(node, &first)));
    // One of four is killed: the rest is a quorum.
    net.kill(0);
    let hashes: Vec<String> = (0..5).map(|n| net.send(1 + n % 4, 2)).collect();
    net.wait_for("blocks without one validator", || {
        hashes.iter().all(|hash| (1..5).all(|node| net.is_final(node, hash)))
    });
    // Two are killed: nothing is final any more, and nothing forks.
    net.kill(1);
    let stuck = net.send(2, 3);
    std::thread::sleep(Duration::from_secs(3));
    assert!((2..5).all(|node| !net.is_final(node, &stuck)), "half of the power is no quorum");
    // They come back, catch up, and the chain goes on from where it was.
    net.restart(0);
    net.restart(1);
    net.wait_for("the chain going on", || (0..5).all(|node| net.is_final(node, &stuck)));
    for hash in hashes.iter().chain([&first]) {
        assert!((0..5).all(|node| net.is_final(node, hash)), "an accepted transfer was lost");
    }
    net.check_agreement(&[0, 1, 2, 3, 4]);
}

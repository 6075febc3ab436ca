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
    fn start(count: usize, words: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = binary()
            .args(["testnet", "--json", "--block-interval", "50ms"])
            .args(words)
            .arg("--data-dir")
            .arg(directory.path().join("net"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let nodes =
            (0..count).map(|_| serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap());
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
    let mut net = Net::start(5, &["--validators", "4", "--followers", "1"]);
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
        // Older blocks may be in the index a moment after the newest is known.
        net.wait_for("every accepted transfer", || (0..5).all(|node| net.is_final(node, hash)));
    }
    net.check_agreement(&[0, 1, 2, 3, 4]);
}

#[test]
fn weight_decides_and_not_the_count_of_validators() {
    // The first has more than two thirds of the power by itself.
    let words = ["--validators", "3", "--weights", "5,1,1", "--followers", "1"];
    let mut net = Net::start(4, &words);
    net.kill(1);
    net.kill(2);
    let first = net.send(3, 1);
    net.wait_for("blocks of one heavy validator", || {
        [0, 3].iter().all(|node| net.is_final(*node, &first))
    });
    net.restart(1);
    net.restart(2);
    net.wait_for("the light ones", || [1, 2].iter().all(|node| net.is_final(*node, &first)));
    net.kill(0);
    let stuck = net.send(3, 2);
    std::thread::sleep(Duration::from_secs(3));
    assert!((1..4).all(|node| !net.is_final(node, &stuck)), "two sevenths are no quorum");
    net.restart(0);
    net.wait_for("the chain going on", || (0..4).all(|node| net.is_final(node, &stuck)));
    net.check_agreement(&[0, 1, 2, 3]);
}

/// As after a repair or a reset, or from an old copy: what is missing is with its peers.
#[test]
fn a_validator_with_fewer_blocks_than_it_signed_is_well_and_gets_them() {
    let words = ["--validators", "2", "--weights", "5,1", "--followers", "0"];
    let mut net = Net::start(2, &words);
    let make_block = |net: &Net, amount| {
        let hash = net.send(0, amount);
        net.wait_for("a block on both", || (0..2).all(|node| net.is_final(node, &hash)));
    };
    make_block(&net, 1);
    net.kill(1);
    // Until its last thread has ended it holds the locks of its files.
    let process = PathBuf::from(format!("/proc/{}", net.nodes[1]["pid"]));
    let threads = || std::fs::read_dir(process.join("task")).map_or(0, Iterator::count);
    let is_zombie = || {
        let status = std::fs::read_to_string(process.join("status"));
        status.map_or(true, |status| status.contains("State:\tZ"))
    };
    net.wait_for("its end", || is_zombie() && threads() <= 1);
    let directory = PathBuf::from(net.nodes[1]["data_dir"].as_str().unwrap());
    let (chain, old) = (directory.join("chain"), directory.join("chain.old"));
    std::fs::create_dir(&old).unwrap();
    for name in ["blocks.redb", "state.redb", "index.redb"] {
        std::fs::copy(chain.join(name), old.join(name)).unwrap();
    }
    net.restart(1);
    (2..8).for_each(|amount| make_block(&net, amount));
    let mut again = net.again.pop().unwrap();
    again.kill().unwrap();
    again.wait().unwrap();
    std::fs::remove_dir_all(&chain).unwrap();
    std::fs::rename(&old, &chain).unwrap();
    let check = || {
        let out = binary().args(["db", "check", "--json", "--data-dir"]).arg(&directory).output();
        let out = out.unwrap();
        let said: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!((out.status.code(), &said["ok"]), (Some(0), &true.into()), "{said}");
        said["notes"].to_string()
    };
    let notes = check();
    assert!(notes.contains("blocks.redb: blocks are missing at its end"), "{notes}");
    net.restart(1);
    make_block(&net, 9);
    net.check_agreement(&[0, 1]);
}

#[test]
fn the_configuration_of_one_that_is_alone_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let place = |port| ("127.0.0.1:1".parse().unwrap(), ([127, 0, 0, 1], port).into());
    for count in [1, 2] {
        let nodes = ait_node::testnet::prepare(
            &ait_node::testnet::TestnetOptions {
                directory: folder.path().join(count.to_string()),
                chain_id: "my-chain".parse().unwrap(),
                weights: vec![1; count],
                followers: 0,
                accounts: 0,
                block_interval: std::time::Duration::from_millis(200),
                places: [place(2), place(3)].into_iter().take(count).collect(),
            },
            &mut |_| {},
        );
        for node in nodes.unwrap() {
            let mut layers = ait_node::config::Layers::default();
            layers.read_file(&node.data_dir.join("config.toml"));
            let config = ait_node::config::NodeConfig::from_layers(&layers).unwrap();
            assert_eq!(config.p2p.peers.len(), count - 1);
        }
    }
}

#[test]
fn weights_that_are_not_those_of_the_validators_are_refused() {
    let out = binary().args(["testnet", "--validators", "4", "--weights", "1,2"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("2 weights for 4 validators"), "{said}");
}

/// A program on a terminal of its own, whose keys are what is written to its input.
fn on_terminal(command: &str, typescript: &Path) -> Child {
    // Without a size it would be a terminal of no columns.
    let command = format!("stty cols 120 rows 40; {command}");
    Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command", &command])
        .arg(typescript)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn the_table_refreshes_on_a_terminal_and_ctrl_c_stops_every_node() {
    let directory = tempfile::tempdir().unwrap();
    let (net, typescript) = (directory.path().join("net"), directory.path().join("typescript"));
    let program = env!("CARGO_BIN_EXE_ait-node");
    let command =
        format!("exec {program} testnet --validators 2 --followers 1 --data-dir {}", net.display());
    let mut child = on_terminal(&command, &typescript);
    let shown =
        || String::from_utf8_lossy(&std::fs::read(&typescript).unwrap_or_default()).into_owned();
    let wait_for = |what: &str, is_true: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_true() {
            assert!(began.elapsed() < PATIENCE, "{what} did not happen: {}", shown());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    // The head and a line for each node, drawn over the lines before.
    wait_for("a second table", &|| shown().matches("\u{1b}[4A").count() >= 2);
    let table = shown();
    for expected in ["node-0    validator", "node-1    validator", "node-2    follower", "in_sync"]
    {
        assert!(table.contains(expected), "{expected} is missing in {table}");
    }
    let running = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let words = |at: std::fs::DirEntry| std::fs::read(at.path().join("cmdline")).ok();
        let ours = net.join("node-").display().to_string();
        let is_node = |words: &Vec<u8>| {
            let words = String::from_utf8_lossy(words).replace('\0', " ");
            words.contains(" run --config ") && words.contains(&ours)
        };
        processes.filter_map(words).filter(is_node).count()
    };
    assert_eq!(running(), 3);
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\x03").unwrap();
    wait_for("the end of all nodes", &|| running() == 0);
    assert!(child.wait().unwrap().success(), "{}", shown());
}

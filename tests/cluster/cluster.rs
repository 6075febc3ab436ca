//! The nodes: real processes, each in its namespace, with one watcher over their heights.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ait_engine::genesis::GenesisDocument;
use ait_engine::types::ChainId;
use ait_engine::validator::{Validator, ValidatorSet};
use ait_net::rest::RestClient;
use ait_net::wire::Head;
use ait_node::devnet::DevAccounts;
use ait_node::testnet::{SEED_FILE, TestnetNode, TestnetOptions, prepare};

use crate::net::{Fabric, address, management, namespace};

pub const VALIDATORS: usize = 4;
pub const FOLLOWERS: usize = 2;
pub const NODES: usize = VALIDATORS + FOLLOWERS;
/// Accounts that send.
pub const ACCOUNTS: usize = 12;

const POLL: Duration = Duration::from_millis(50);
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a node has to serve after its start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How large a cluster is.
#[derive(Clone, Copy)]
pub struct Size {
    pub validators: usize,
    pub followers: usize,
    /// Accounts of its load.
    pub accounts: usize,
    pub block_interval: Duration,
}

/// What the scenarios are made for.
pub const SIZE: Size = Size {
    validators: VALIDATORS,
    followers: FOLLOWERS,
    accounts: ACCOUNTS,
    block_interval: Duration::from_millis(250),
};

/// The program of the nodes.
pub fn program() -> PathBuf {
    let other = std::env::var_os("AIT_CLUSTER_PROGRAM").map(PathBuf::from);
    other.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ait-node")))
}

/// A node and its process, if it runs.
pub struct Node {
    pub plan: TestnetNode,
    pub client: RestClient,
    child: Option<Child>,
}

/// A head as it was seen.
#[derive(Clone, Copy)]
struct Seen {
    when: Instant,
    height: u64,
    /// When its proposer made it, in milliseconds since 1970.
    made_ms: u64,
}

/// Heads that were seen of each node; only changes are kept.
type History = Arc<Mutex<Vec<Vec<Seen>>>>;

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub fabric: Fabric,
    pub accounts: DevAccounts,
    pub chain_id: ChainId,
    pub validators: ValidatorSet,
    pub directory: PathBuf,
    history: History,
}

impl Cluster {
    /// Writes the nodes' directories and makes their namespaces; starts nothing.
    pub fn prepare(directory: &Path, seed: u64, size: Size) -> Self {
        let count = size.validators + size.followers;
        let place = |node: usize| {
            let rpc = SocketAddr::new(IpAddr::V4(management(node)), 8080);
            (rpc, SocketAddr::new(IpAddr::V4(address(node)), 7070))
        };
        let plans = prepare(
            &TestnetOptions {
                directory: directory.to_owned(),
                chain_id: "ait-cluster".parse().unwrap(),
                weights: vec![1; size.validators],
                followers: size.followers,
                accounts: size.accounts,
                block_interval: size.block_interval,
                places: (0..count).map(place).collect(),
            },
            &mut |_| {},
        )
        .unwrap();
        let text = std::fs::read_to_string(plans[0].data_dir.join("genesis.json")).unwrap();
        let genesis: GenesisDocument = serde_json::from_str(&text).unwrap();
        let validators = genesis.authorities.iter().map(|authority| Validator {
            public_key: authority.public_key,
            power: authority.weight,
            payout: authority.payout.unwrap_or_else(|| authority.public_key.address()),
        });
        let validators = ValidatorSet::new(validators.collect()).unwrap();
        let seed_text = std::fs::read_to_string(directory.join(SEED_FILE)).unwrap();
        let account_seed = ait_engine::types::parse_hex32(seed_text.trim()).unwrap();
        let node = |plan: TestnetNode| {
            let client = RestClient::new(&format!("http://{}", plan.rpc)).unwrap();
            Node { plan, client, child: None }
        };
        let nodes: Vec<Node> = plans.into_iter().map(node).collect();
        let history = History::new(Mutex::new(vec![Vec::new(); nodes.len()]));
        for (at, node) in nodes.iter().enumerate() {
            tokio::spawn(watch(at, node.client.clone(), Arc::clone(&history)));
        }
        Self {
            fabric: Fabric::new(nodes.len(), seed),
            nodes,
            accounts: DevAccounts::from_seed(account_seed),
            chain_id: genesis.chain_id,
            validators,
            directory: directory.to_owned(),
            history,
        }
    }

    /// Where a node writes its log.
    pub fn log_path(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node-{node}.log"))
    }

    /// A program in the namespace of a node.
    pub fn command_at(node: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace(node)]).arg(program).stdin(Stdio::null());
        // What steers the tests is no configuration.
        command.env_remove(crate::INSIDE).env_remove(crate::MAY_SKIP);
        command.env_remove("AIT_CLUSTER_PROGRAM");
        command
    }

    /// Starts a node's process.
    pub fn start(&mut self, at: usize) {
        assert!(self.nodes[at].child.is_none(), "node {at} runs already");
        let log = append(&self.log_path(at));
        let config = self.nodes[at].plan.data_dir.join("config.toml");
        let child = Self::command_at(at, &program())
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.nodes[at].child = Some(child);
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self, at: usize) {
        let mut child = self.nodes[at].child.take().expect("the node runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The process of a node that runs.
    pub fn pid(&self, at: usize) -> u32 {
        self.nodes[at].child.as_ref().expect("the node runs").id()
    }

    /// Nodes whose processes should run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].child.is_some()).collect()
    }

    /// Panics if a process ended by itself.
    pub fn check_alive(&mut self) {
        for at in 0..self.nodes.len() {
            let child = self.nodes[at].child.as_mut();
            if let Some(status) = child.and_then(|child| child.try_wait().unwrap()) {
                let log = std::fs::read_to_string(self.log_path(at)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(20)..].join("\n");
                panic!("node {at} ended by itself ({status}):\n{last}");
            }
        }
    }

    /// The height that was last seen of a node.
    pub fn height(&self, at: usize) -> u64 {
        self.history.lock().unwrap()[at].last().map_or(0, |seen| seen.height)
    }

    /// Whether a node has a block that was made after this time.
    pub fn has_block_since(&self, at: usize, made_ms: u64) -> bool {
        self.history.lock().unwrap()[at].last().is_some_and(|seen| seen.made_ms > made_ms)
    }

    /// The greatest height of these nodes.
    pub fn top(&self, nodes: &[usize]) -> u64 {
        nodes.iter().map(|at| self.height(*at)).max().unwrap_or(0)
    }

    /// The longest time without a new block at a node since then.
    pub fn longest_pause(&self, at: usize, since: Instant) -> Duration {
        let history = self.history.lock().unwrap();
        let mut last = since;
        let mut longest = Duration::ZERO;
        for seen in history[at].iter().filter(|seen| seen.when >= since) {
            longest = longest.max(seen.when.duration_since(last));
            last = seen.when;
        }
        longest.max(last.elapsed())
    }

    /// Waits until the condition holds; gives how long it took.
    pub async fn wait(
        &mut self,
        what: &str,
        patience: Duration,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Duration {
        let began = Instant::now();
        while !holds(self) {
            self.check_alive();
            let heights: Vec<u64> = (0..self.nodes.len()).map(|at| self.height(at)).collect();
            assert!(began.elapsed() < patience, "{what}: not in {patience:?}; heights {heights:?}");
            tokio::time::sleep(POLL / 2).await;
        }
        began.elapsed()
    }

    /// Waits for the first block above `height` on any of these nodes.
    pub async fn wait_for_block(&mut self, what: &str, nodes: &[usize], height: u64) -> Duration {
        let patience = Duration::from_secs(90);
        self.wait(what, patience, |cluster| cluster.top(nodes) > height).await
    }

    /// Waits until a node is at most a block behind the others.
    pub async fn wait_for_caught_up(&mut self, at: usize) -> Duration {
        let others: Vec<usize> = self.running().into_iter().filter(|other| *other != at).collect();
        let patience = Duration::from_secs(120);
        let what = format!("node {at} catching up");
        let least = self.top(&others);
        self.wait(&what, patience, |cluster| {
            let height = cluster.height(at);
            height >= least && height + 1 >= cluster.top(&others)
        })
        .await
    }

    /// Waits until every running node answers.
    pub async fn wait_until_served(&mut self) {
        let began = Instant::now();
        for at in self.running() {
            loop {
                self.check_alive();
                let asked = self.nodes[at].client.get::<Head>("/rpc/head");
                if let Ok(Ok(_)) = tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
                    break;
                }
                assert!(began.elapsed() < START_TIMEOUT, "node {at} does not serve");
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// A metric of a node, summed over its labels that hold `label`; 0 if it is not there.
    pub async fn metric(&self, at: usize, name: &str, label: &str) -> f64 {
        let rpc = self.nodes[at].plan.rpc;
        let asked = tokio::task::spawn_blocking(move || http_get(rpc, "/metrics"));
        let text = asked.await.unwrap().unwrap_or_default();
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']) && rest.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The last lines of every log that say that something is wrong.
    pub fn complaints(&self) -> String {
        let mut text = String::new();
        for at in 0..self.nodes.len() {
            let log = std::fs::read_to_string(self.log_path(at)).unwrap_or_default();
            let lines: Vec<_> =
                log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).collect();
            text += &format!("node {at} at height {}:\n", self.height(at));
            for line in &lines[lines.len().saturating_sub(8)..] {
                text += &format!("  {}\n", line.chars().take(300).collect::<String>());
            }
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

pub fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

/// What stands at a path; the REST client reads JSON alone.
fn http_get(rpc: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&rpc, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(START_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {rpc}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Notes the heights of a node for ever.
async fn watch(at: usize, client: RestClient, history: History) {
    loop {
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, client.get::<Head>("/rpc/head")).await;
        if let Ok(Ok(head)) = asked {
            let (when, height) = (Instant::now(), head.height.get());
            let mut history = history.lock().unwrap();
            if history[at].last().is_none_or(|last| last.height != height) {
                history[at].push(Seen { when, height, made_ms: head.timestamp_ms.get() });
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

//! The node that is attacked, and what is seen of it from outside.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ait_engine::crypto::SecretKey;
use ait_net::peer::PeerAddress;
use ait_node::devnet::DevAccounts;
use ait_node::testnet::{SEED_FILE, TestnetOptions, prepare};

use crate::client::Kept;
use crate::cores::Cores;
use crate::{ATTACK, memory};

/// Says which program is attacked; else it is the one that was built with this test.
const PROGRAM: &str = "AIT_HOSTILE_PROGRAM";
/// Where the node is.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Who looks at the metrics.
const OPERATOR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Addresses of honest clients, and of attackers.
pub const HONEST: usize = 4;
pub const ATTACKERS: usize = 8;
/// Funded accounts: one for each.
const ACCOUNTS: usize = HONEST + ATTACKERS;

/// What everybody knows of the node.
pub struct Plan {
    pub rpc: SocketAddr,
    pub peer: PeerAddress,
    pub data_dir: PathBuf,
    pub chain_id: ait_engine::types::ChainId,
    accounts: DevAccounts,
}

impl Plan {
    /// The plan that [`Target::start`] left in this folder.
    pub fn read(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join("plan")).unwrap();
        let mut lines = text.lines();
        let seed = fs::read_to_string(folder.join(SEED_FILE)).unwrap();
        let seed = ait_engine::types::parse_hex32(seed.trim()).unwrap();
        Self {
            rpc: lines.next().unwrap().parse().unwrap(),
            peer: lines.next().unwrap().parse().unwrap(),
            data_dir: lines.next().unwrap().into(),
            chain_id: lines.next().unwrap().parse().unwrap(),
            accounts: DevAccounts::from_seed(seed),
        }
    }

    /// The account of an honest client.
    pub fn honest_account(&self, at: usize) -> SecretKey {
        self.accounts.secret_key(&format!("account-{}", at % HONEST))
    }

    /// The account of an attacker.
    pub fn attackers_account(&self, at: usize) -> SecretKey {
        self.accounts.secret_key(&format!("account-{}", HONEST + at % ATTACKERS))
    }
}

/// An honest client's address.
pub fn honest(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 20 + u8::try_from(at % HONEST).unwrap())
}

/// An attacker's address.
pub fn attacker(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 100 + u8::try_from(at % ATTACKERS).unwrap())
}

pub struct Target {
    folder: PathBuf,
    child: Child,
    cores: Cores,
    pub plan: Plan,
}

impl Target {
    /// A single validator whose caches are small, on its processors.
    pub fn start(folder: &Path, cores: &Cores) -> Self {
        let clients = (0..HONEST).map(honest).chain((0..ATTACKERS).map(attacker));
        let addresses = [NODE, OPERATOR].into_iter().chain(clients);
        ip(&["link", "set", "lo", "up"]);
        for address in addresses {
            ip(&["address", "add", &format!("{address}/24"), "dev", "lo"]);
        }
        let (rpc, p2p) = (SocketAddr::from((NODE, 8080)), SocketAddr::from((NODE, 7070)));
        let chain_id = "ait-hostile".parse().unwrap();
        let nodes = prepare(
            &TestnetOptions {
                directory: folder.to_owned(),
                chain_id,
                weights: vec![1],
                followers: 0,
                accounts: ACCOUNTS,
                block_interval: Duration::from_millis(200),
                places: vec![(rpc, p2p)],
            },
            &mut |_| {},
        );
        let node = nodes.unwrap().remove(0);
        let errors = fs::File::create(folder.join("stderr")).unwrap();
        let own = env!("CARGO_BIN_EXE_ait-node").to_owned();
        let mut child = cores
            .of_node(&std::env::var(PROGRAM).unwrap_or(own))
            .args(["run", "--json", "--data-dir"])
            .arg(&node.data_dir)
            .env_remove(crate::INSIDE)
            .env_remove(crate::MAY_SKIP)
            .env_remove(PROGRAM)
            // A trial network has no rate; a small burst, so that a slow attacker passes it, too.
            .env("AIT_RPC_RATE_LIMIT_PER_MINUTE", "6000")
            .env("AIT_RPC_RATE_LIMIT_BURST", "200")
            .env("AIT_STORAGE_STATE_BYTES", memory::STATE_BYTES.to_string())
            .env("AIT_STORAGE_CACHE_BYTES", memory::CACHE_BYTES.to_string())
            .env("AIT_MEMPOOL_BYTES_MAX", memory::MEMPOOL_BYTES.to_string())
            .env("AIT_RPC_CONNECTIONS_MAX", memory::CONNECTIONS_MAX.to_string())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{}", fs::read_to_string(folder.join("stderr")).unwrap()));
        let peer = told["p2p"].as_str().unwrap();
        let data_dir = node.data_dir.display();
        fs::write(folder.join("plan"), format!("{rpc}\n{peer}\n{data_dir}\n{chain_id}\n")).unwrap();
        let (cores, plan) = (cores.clone(), Plan::read(folder));
        let target = Self { folder: folder.to_owned(), child, cores, plan };
        let began = Instant::now();
        while Kept::new(OPERATOR, rpc).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "the node does not serve");
            thread::sleep(Duration::from_millis(50));
        }
        target
    }

    /// Another process that attacks, with what time the others leave: its own machine would not
    /// take theirs.
    pub fn attack(&self, name: &str, lasting: Duration) -> Child {
        let mut command = self.cores.of_attackers();
        command
            .arg(std::env::current_exe().unwrap())
            .args([ATTACK, name])
            .arg(&self.folder)
            .arg(lasting.as_secs().to_string());
        command.spawn().unwrap()
    }

    fn status(&self, field: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
    }

    /// Resident bytes now.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS")
    }

    /// Most resident bytes since [`Self::forget_peak`].
    pub fn peak(&self) -> u64 {
        self.status("VmHWM")
    }

    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    pub fn metrics(&self) -> String {
        let mut kept = Kept::new(OPERATOR, self.plan.rpc).unwrap();
        let (status, page) = kept.ask("GET", "/metrics", "text/plain", b"").unwrap();
        assert_eq!(status, 200);
        String::from_utf8(page).unwrap()
    }

    pub fn stderr(&self) -> String {
        let text = fs::read_to_string(self.folder.join("stderr")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status();
    assert!(status.is_ok_and(|status| status.success()), "ip {words:?}");
}

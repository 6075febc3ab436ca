//! Figures of a cluster that nothing disturbs: `--measure [--validators N] [--delay MS]`.
//!
//! Every link between two nodes has the delay, each way. What a figure of a debug build would
//! be worth nobody knows: `AIT_CLUSTER_PROGRAM` names the program to run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ait_engine::crypto::SecretKey;
use ait_net::message::hello;
use ait_net::quic::{Events, PeerKey, QuicOptions, Transport};
use ait_net::wire::{Info, SyncStatus};
use serde_json::Value;

use crate::cluster::{Cluster, Size, program};
use crate::net::{Shape, address, outside};
use crate::scenarios::wipe;

/// How long a load is measured. One transfer a second needs longer to say something.
const HEAVY_TIME: &str = "15s";
const LIGHT_TIME: &str = "60s";
/// How long a cluster is watched that does nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Transfers a second of a light load: fewer than heights with any delay, so that none waits
/// for the height before it.
const LIGHT: &str = "1";
/// Nodes that a node is connected with at once.
const STRANGERS: u64 = 100;
/// Ticks of the kernel's clock in a second, by which it counts a process's time.
const TICKS: f64 = 100.0;

/// What is measured.
#[derive(Clone, Copy)]
pub struct Setting {
    pub validators: usize,
    pub delay: Duration,
}

/// A process's time on a core so far, and its resident memory.
struct Used {
    seconds: f64,
    resident_kib: f64,
}

fn used(pid: u32) -> Used {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name in brackets: state is the first, user and system time are the 12th, 13th.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident_kib = resident.trim().trim_end_matches("kB").trim().parse().unwrap();
    Used { seconds: (ticks(11) + ticks(12)) / TICKS, resident_kib }
}

/// Bytes that all nodes sent on links to other nodes, headers of UDP and IP left out.
async fn sent(cluster: &Cluster) -> f64 {
    let mut sum = 0.0;
    for at in cluster.running() {
        sum += cluster.metric(at, "peer_link_sent_bytes_total", "").await;
    }
    sum
}

/// Runs the load generator and gives its figures.
async fn bench(nodes: &[SocketAddr], key: PathBuf, words: &[&str]) -> Value {
    let mut command = Command::new(program());
    command.args(["bench", "--json", "--warm-up", "3s", "--key"]).arg(key);
    for node in nodes {
        command.args(["--rpc", &format!("http://{node}")]);
    }
    command.args(words).env_remove(crate::INSIDE);
    let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{} {}", said(&out.stdout), said(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Prints the figures, one a line.
pub async fn run(directory: &Path, seed: u64, setting: Setting) {
    let size = Size {
        validators: setting.validators,
        followers: 1,
        accounts: 0,
        block_interval: Duration::from_millis(1),
    };
    let mut cluster = Cluster::prepare(directory, seed, size);
    listen_everywhere(&cluster);
    for at in 0..cluster.nodes.len() {
        cluster.start(at);
    }
    cluster.wait_until_served().await;
    cluster.fabric.shape_all(Shape { delay: setting.delay, ..Shape::default() });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let millis = setting.delay.as_millis();
    println!("validators {}, followers 1, delay {millis} ms each way", setting.validators);
    let links = (cluster.nodes.len() * (cluster.nodes.len() - 1)) as f64;
    idle(&cluster, links).await;

    let key = |name: &str| directory.join(format!("accounts/{name}.key"));
    let rpc: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.plan.rpc).collect();
    let light =
        ["--duration", LIGHT_TIME, "--rate", LIGHT, "--senders", "50", "--in-flight", "500"];
    let figures = bench(&rpc[..1], key("alice"), &light).await;
    let ms = |figures: &Value, name: &str| figures[name].as_f64().unwrap();
    println!(
        "light load: final after p50 {:.1} ms, p99 {:.1} ms at the node that was asked",
        ms(&figures, "p50_ms"),
        ms(&figures, "p99_ms")
    );
    if !setting.delay.is_zero() {
        let round_trip = setting.delay.as_secs_f64() * 2_000.0;
        println!(
            "  in round trips of {round_trip:.0} ms: p50 {:.2}, p99 {:.2}",
            ms(&figures, "p50_ms") / round_trip,
            ms(&figures, "p99_ms") / round_trip
        );
    }

    let before = sent(&cluster).await;
    let heavy = [
        "--duration",
        HEAVY_TIME,
        "--senders",
        "1000",
        "--in-flight",
        "4000",
        "--connections",
        "32",
    ];
    let figures = bench(&rpc[..setting.validators], key("bob"), &heavy).await;
    let bytes = sent(&cluster).await - before;
    let finals: SyncStatus = cluster.nodes[0].client.get("/rpc/syncStatus").await.unwrap();
    println!(
        "heavy load: {:.0} transactions and {:.1} blocks a second, final after p50 {:.0} ms, p99 {:.0} ms",
        ms(&figures, "tps"),
        ms(&figures, "blocks") / ms(&figures, "seconds"),
        ms(&figures, "p50_ms"),
        ms(&figures, "p99_ms"),
    );
    println!("  stages of the first node, of a core: {}", stages(&figures));
    // The warm-up and the funding are transactions, too; the light load before is few.
    println!(
        "  {:.0} bytes a transaction and directed link ({links:.0} links)",
        bytes / finals.total_transactions as f64 / links
    );
    catch_up(&mut cluster).await;
    if setting.validators == 1 && setting.delay.is_zero() {
        strangers(&cluster).await;
    }
}

/// Lets the first node be reached from this process, too, which is no node's neighbour.
fn listen_everywhere(cluster: &Cluster) {
    let path = cluster.nodes[0].plan.data_dir.join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let own = format!("bind = \"{}:", address(0));
    assert!(text.contains(&own), "{text}");
    // A quarter of the places is kept for calls of its own.
    let open = text.replace(&own, "peers_max = 192\nbind = \"0.0.0.0:");
    std::fs::write(&path, open).unwrap();
}

fn stages(figures: &Value) -> String {
    let stages: BTreeMap<String, Value> =
        serde_json::from_value(figures["stages"].clone()).unwrap();
    let shown = stages.iter().map(|(name, stage)| {
        format!("{name} {:.0} %", stage["of_a_core"].as_f64().unwrap() * 100.0)
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Traffic and time of nodes that nobody asks for anything.
async fn idle(cluster: &Cluster, links: f64) {
    let pids = || cluster.running().into_iter().map(|at| cluster.pid(at));
    let before: f64 = pids().map(|pid| used(pid).seconds).sum();
    let bytes_before = sent(cluster).await;
    let began = Instant::now();
    tokio::time::sleep(IDLE).await;
    let seconds = began.elapsed().as_secs_f64();
    let bytes = sent(cluster).await - bytes_before;
    let busy = pids().map(|pid| used(pid).seconds).sum::<f64>() - before;
    let count = cluster.running().len() as f64;
    let resident = pids().map(|pid| used(pid).resident_kib).fold(0.0, f64::max);
    println!(
        "idle: {:.0} bytes a second and directed link, {:.1} % of a core a node, {:.0} MB at most",
        bytes / seconds / links,
        busy / seconds / count * 100.0,
        resident / 1_024.0
    );
}

/// A follower that has nothing but the genesis document.
async fn catch_up(cluster: &mut Cluster) {
    let follower = cluster.nodes.len() - 1;
    cluster.wait_for_caught_up(follower).await;
    let top = cluster.height(follower);
    cluster.kill(follower);
    wipe(&cluster.nodes[follower].plan.data_dir);
    let began = Instant::now();
    cluster.start(follower);
    cluster.wait_until_served().await;
    let served = began.elapsed();
    let behind = move |cluster: &Cluster| cluster.height(follower) < top;
    cluster.wait("the follower seen below", Duration::from_secs(30), behind).await;
    cluster.wait_for_caught_up(follower).await;
    let seconds = (began.elapsed() - served).as_secs_f64();
    let status: SyncStatus = cluster.nodes[follower].client.get("/rpc/syncStatus").await.unwrap();
    println!(
        "a follower from genesis: {top} blocks, {} transactions in {seconds:.1} s: {:.0} blocks and {:.0} transactions a second",
        status.total_transactions,
        top as f64 / seconds,
        status.total_transactions as f64 / seconds
    );
}

/// Connects a hundred nodes that say nothing with the first one.
async fn strangers(cluster: &Cluster) {
    let node = &cluster.nodes[0];
    let info: Info = node.client.get("/rpc/info").await.unwrap();
    let rules = ait_node::network::consensus_hash();
    let before = used(cluster.pid(0)).resident_kib;
    let mut all: Vec<(Transport, Events)> = Vec::new();
    for n in 0..STRANGERS {
        let mut seed = [3; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        let key = PeerKey::new(&SecretKey::from_seed(seed)).unwrap();
        let hello = hello(cluster.chain_id, info.genesis_hash.parse().unwrap(), rules);
        let bind = SocketAddr::from((outside(0), 0));
        let made = Transport::bind(QuicOptions { bind, key, hello }).unwrap();
        let mut peer = node.plan.peer.clone();
        peer.host = node.plan.rpc.ip().to_string();
        made.0.dial(peer);
        all.push(made);
        // Handshakes under way are bounded, and these nodes call once.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let began = Instant::now();
    let mut connected = 0.0;
    while connected <= STRANGERS as f64 && began.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        connected = cluster.metric(0, "peers_connected", "").await;
    }
    let resident = used(cluster.pid(0)).resident_kib;
    println!(
        "{connected:.0} connected peers: {:.1} MB more than with {}, {:.0} KiB each, {:.0} MB in all",
        (resident - before) / 1_024.0,
        cluster.nodes.len() - 1,
        (resident - before) / (connected - 1.0),
        resident / 1_024.0
    );
}

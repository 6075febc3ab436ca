//! Sites that reach each other over HTTP alone: real nodes behind a real nginx with TLS and
//! path prefixes, and remotes that lie.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/follower.rs"]
mod follower;
#[path = "common/proxy.rs"]
mod proxy;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Amount, Nonce};
use ait_net::cross_site::{RemoteLine, RemoteReason};
use ait_net::rest::RestClient;
use ait_net::wire::TransactionJson;
use ait_node::config::CrossSiteConfig;
use ait_node::cross_site::{self, CrossSiteError};
use common::Devnet;
use data_encoding::BASE64;
use follower::Follower;
use proxy::Nginx;
use serde_json::{Value, json};
use warp::Filter;

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn genesis_of(directory: &Path) -> std::path::PathBuf {
    directory.join("genesis.json")
}

fn port(devnet: &Devnet) -> u16 {
    let rpc = devnet.announced["rpc"].as_str().unwrap().strip_prefix("http://").unwrap();
    rpc.parse::<SocketAddr>().unwrap().port()
}

/// A node that follows the chain of this genesis by these remotes alone.
fn follow(directory: &Path, genesis: &Path, remotes: &str, authority: &Path) -> Devnet {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    command
        .args(["run", "--follow", "--json", "--rpc", "127.0.0.1:0", "--data-dir"])
        .arg(directory)
        .env("AIT_GENESIS_FILE", genesis)
        .env("AIT_P2P_ENABLED", "false")
        .env("CROSS_SITE_REMOTE_ENDPOINTS", remotes)
        .env("AIT_CROSS_SITE_POLL_INTERVAL", "200ms")
        .env("AIT_CROSS_SITE_CA_FILE", authority);
    Devnet::announced_by(command)
}

fn send_many(devnet: &Devnet, count: u64) {
    let nonce = devnet.nonce("alice");
    for _ in 0..count {
        let (status, answer) = devnet.send("bob", 1).unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    devnet.wait_for_nonce("alice", nonce + count);
}

fn head(node: &Devnet) -> (Value, Value, Value) {
    let head = node.get("/rpc/head").1;
    (head["height"].clone(), head["hash"].clone(), head["state_root"].clone())
}

fn remote(node: &Devnet, at: usize) -> Value {
    node.get("/rpc/syncStatus").1["remotes"][at].clone()
}

/// A signed transfer of the devnet's first account.
fn signed(a: &Devnet, nonce: u64) -> Value {
    let to = ait_engine::types::Address([77; 32]);
    let payload = Payload::Transfer { to, amount: Amount::saturating(3) };
    let chain = "ait-devnet".parse().unwrap();
    let (nonce, fee) = (Nonce::saturating(nonce), Amount::saturating(1));
    let transaction = Transaction::sign(&a.alice(), chain, nonce, fee, None, payload);
    serde_json::to_value(TransactionJson::from(&transaction)).unwrap()
}

#[test]
fn a_site_catches_up_through_nginx_and_shares_its_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let (at_a, at_x, at_b) =
        (folder.path().join("a"), folder.path().join("x"), folder.path().join("b"));
    let (a, x) = (Devnet::start(&at_a), Devnet::start(&at_x));
    // As the old sites had it: one name, a prefix for each node.
    let mut nginx = Nginx::start(folder.path(), &[("/rpc/", port(&x)), ("/rpc2/", port(&a))]);
    send_many(&a, 300);
    let blocks = head(&a).0.as_u64().unwrap();
    assert!(blocks > 20, "only {blocks} blocks");

    let site = format!("https://localhost:{}", nginx.port);
    let remotes = format!("[\"{site}/rpc2\", \"{site}/rpc/\"]");
    let b = follow(&at_b, &genesis_of(&at_a), &remotes, &nginx.authority);
    until("b has a's blocks", || head(&b) == head(&a));
    for height in [1, blocks / 2, blocks] {
        let path = format!("/rpc/blocks/{height}");
        let (ours, theirs) = (b.get(&path).1, a.get(&path).1);
        assert_eq!(
            (&ours["hash"], &ours["certificate"]),
            (&theirs["hash"], &theirs["certificate"])
        );
    }
    until("the remote is in sync", || remote(&b, 0)["reason"] == "in_sync");
    assert_eq!(remote(&b, 0)["url"], format!("{site}/rpc2"));
    assert_eq!(b.get("/readyz").0, 200);

    // The other prefix is of another chain, which is said and not asked again soon.
    let other = remote(&b, 1);
    assert_eq!(other["reason"], "other_chain");
    let error = other["last_error"].as_str().unwrap();
    assert!(error.contains(a.get("/rpc/info").1["genesis_hash"].as_str().unwrap()), "{error}");
    assert!(other["retry_seconds"].as_u64().unwrap() > 500, "{other}");

    // From b into a block of a and back; a hears of what b has, and b of what a has.
    let hash = b.post("/rpc/sendTx", &signed(&a, 300)).1["tx_hash"].as_str().unwrap().to_owned();
    a.committed(&hash);
    b.committed(&hash);
    // One that no block can hold yet stays pending on both.
    let early = a.post("/rpc/sendTx", &signed(&a, 305)).1["tx_hash"].clone();
    until("b hears of what is pending at a", || {
        b.get("/rpc/mempool").1.as_array().unwrap().iter().any(|one| one["hash"] == early)
    });

    nginx.kill();
    send_many_signed(&a, 301..305);
    until("the remote is not reached", || remote(&b, 0)["reason"] == "unreachable");
    assert_ne!(head(&a), head(&b));
    let pending = b.post("/rpc/sendTx", &signed(&a, 306)).1["tx_hash"].as_str().unwrap().to_owned();
    nginx.restart();
    let back = Instant::now();
    a.committed(&pending);
    until("b goes on", || head(&b) == head(&a) && remote(&b, 0)["reason"] == "in_sync");
    println!("in sync {:.1} s after nginx came back", back.elapsed().as_secs_f64());
    let metrics = b.exchange("GET", "/metrics", &[], "").unwrap().2;
    for name in
        ["cross_site_polls_total{", "cross_site_blocks_imported_total ", "cross_site_height{"]
    {
        assert!(metrics.contains(name), "{name} is missing");
    }
    assert!(metrics.contains("result=\"unreachable\""));
}

/// GET from one node and POST to another: all that the old sync client did.
#[test]
fn an_old_relay_carries_every_block_of_a_devnet() {
    let folder = tempfile::tempdir().unwrap();
    let a = Devnet::start(folder.path());
    a.fill();
    let (status, minted) = a.post("/rpc/admin/mintFaucet", &json!({"address": "zoe", "amount": 5}));
    assert_eq!(status, 200, "{minted}");
    let node = Follower::start(&std::fs::read_to_string(genesis_of(folder.path())).unwrap());
    let mut named = 0;
    for height in 1..=head(&a).0.as_u64().unwrap() {
        let (_, view) = a.get(&format!("/rpc/blocks/{height}"));
        named += usize::from(view["transactions"][0]["sender"] == "alice");
        let (status, answer) = node.post("/rpc/blocks/import", &view);
        assert_eq!((status, &answer["status"]), (200, &json!("imported")), "{answer}");
    }
    assert!(named > 0, "no name stood where an address is");
    assert_eq!(json!(node.root()), head(&a).2);
    // The devnet makes its blocks itself, and knows those that it made.
    let whole = a.get("/rpc/blocks/1?canonical=1").1;
    let (_, answer) = a.post("/rpc/importBlock", &json!({ "canonical": whole["canonical"] }));
    assert_eq!(answer["reason"], "Block already exists");
    let metrics = a.exchange("GET", "/metrics", &[], "").unwrap().2;
    for name in ["rpc_imports_total{result=\"exists\"} 1", "rpc_import_block_exists_total 1"] {
        assert!(metrics.contains(name), "{name} is missing");
    }
}

fn send_many_signed(a: &Devnet, nonces: std::ops::Range<u64>) {
    for nonce in nonces {
        assert_eq!(a.post("/rpc/sendTx", &signed(a, nonce)).0, 200);
    }
    a.wait_for_nonce("alice", 306);
}

/// Which byte of a block's canonical bytes is altered, from the beginning or the end.
#[derive(Clone, Copy)]
enum Altered {
    FromStart(usize),
    FromEnd(usize),
}

/// A remote that hands on the blocks of a node, one byte of the second altered.
async fn forger(upstream: String, altered: Altered, asked: Arc<AtomicUsize>) -> SocketAddr {
    let of = upstream.clone();
    let info = warp::path!("rpc" / "info").then(move || {
        let client = RestClient::new(&of).unwrap();
        async move { warp::reply::json(&client.get::<Value>("/rpc/info").await.unwrap()) }
    });
    let range = warp::path!("rpc" / "blocks-range").and(warp::query::raw()).then(move |query| {
        let client = RestClient::new(&upstream).unwrap();
        asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let path = format!("/rpc/blocks-range?{query}");
            let mut range = client.get::<Value>(&path).await.unwrap();
            let place = &mut range["blocks"][1]["canonical"];
            let mut bytes = BASE64.decode(place.as_str().unwrap().as_bytes()).unwrap();
            let at = match altered {
                Altered::FromStart(at) => at,
                Altered::FromEnd(at) => bytes.len() - at,
            };
            bytes[at] ^= 1;
            *place = json!(BASE64.encode(&bytes));
            warp::reply::json(&range)
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(info.or(range)).incoming(listener).run());
    address
}

fn config(remotes: &[String]) -> CrossSiteConfig {
    CrossSiteConfig {
        remotes: remotes.iter().map(|url| url.parse().unwrap()).collect(),
        poll_interval: Duration::from_millis(100),
        ca_file: None,
        mempool: false,
    }
}

#[test]
fn a_remote_with_forged_blocks_is_set_aside_and_nothing_of_them_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let a = Devnet::start(folder.path());
    send_many(&a, 20);
    let genesis = std::fs::read_to_string(genesis_of(folder.path())).unwrap();
    // In the header: height 2's parent, its roots; in a transaction; in the certificate.
    for altered in [
        Altered::FromStart(30),
        Altered::FromStart(150),
        Altered::FromEnd(250),
        Altered::FromEnd(10),
    ] {
        let node = Follower::start(&genesis);
        let asked = Arc::new(AtomicUsize::new(0));
        let upstream = a.announced["rpc"].as_str().unwrap().to_owned();
        let address = node.block_on(forger(upstream.clone(), altered, Arc::clone(&asked)));
        let urls = [format!("http://{address}/rpc")];
        let view = node.block_on(async {
            cross_site::start(&config(&urls), &node.node, std::future::pending()).unwrap()
        });
        let line = || -> RemoteLine { view.remotes().remove(0) };
        until("the remote is set aside", || {
            view.remotes().first().is_some_and(|line| line.status.last_error.is_some())
        });
        let status = line().status;
        assert_eq!(status.reason, RemoteReason::BadBlocks, "{status:?}");
        assert!(status.retry_in_ms.unwrap() > 500_000);
        // The good block before the forged one may stay.
        assert!(node.height() <= 1, "a forged block was applied");
        std::thread::sleep(Duration::from_millis(300));
        // On a busy machine it may have been asked for what comes next meanwhile.
        let before = asked.load(Ordering::Relaxed);
        assert!(before <= 2, "it was asked {before} times");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(asked.load(Ordering::Relaxed), before, "it was asked again");
        // An honest remote beside it still brings everything.
        let urls = [urls[0].clone(), format!("{upstream}/rpc")];
        let both = node.block_on(async {
            cross_site::start(&config(&urls), &node.node, std::future::pending()).unwrap()
        });
        until("the honest remote brings the blocks", || {
            node.height() == head(&a).0.as_u64().unwrap()
        });
        drop(both);
    }
}

#[test]
fn unknown_authorities_are_not_trusted_and_a_bad_file_of_them_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let a = Devnet::start(&folder.path().join("a"));
    let nginx = Nginx::start(folder.path(), &[("/rpc/", port(&a))]);
    let genesis = std::fs::read_to_string(genesis_of(&folder.path().join("a"))).unwrap();
    let node = Follower::start(&genesis);
    let urls = [format!("https://localhost:{}/rpc", nginx.port)];
    let start = |config: &CrossSiteConfig| {
        node.block_on(async { cross_site::start(config, &node.node, std::future::pending()) })
    };
    let view = start(&config(&urls)).unwrap();
    until("the certificate is refused", || {
        view.remotes().first().is_some_and(|line| {
            let error = line.status.last_error.clone().unwrap_or_default();
            line.status.reason == RemoteReason::Unreachable && error.contains("certificate")
        })
    });
    let with = |path: &Path| CrossSiteConfig { ca_file: Some(path.into()), ..config(&urls) };
    let missing = start(&with(&folder.path().join("none"))).unwrap_err();
    assert!(matches!(missing, CrossSiteError::Read { .. }));
    let empty = start(&with(&genesis_of(&folder.path().join("a")))).unwrap_err();
    assert!(matches!(empty, CrossSiteError::Client(_)), "{empty}");
    let view = start(&with(&nginx.authority)).unwrap();
    until("the private authority is trusted", || {
        view.remotes().first().is_some_and(|line| line.status.reason.is_well())
    });
}

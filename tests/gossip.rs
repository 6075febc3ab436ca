//! Processes of one site share transactions over a real Redis server, which is killed and
//! comes back; and which Redis servers with TLS they believe.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/redis.rs"]
mod redis;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Amount, Nonce};
use ait_net::wire::TransactionJson;
use common::Devnet;
use redis::Redis;
use redis::certificates::OURS;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A node that has its blocks from `a` over HTTP, and shares transactions over Redis alone.
fn beside(a: &Devnet, at_a: &Path, directory: &Path, url: &str) -> Devnet {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    command
        .args(["run", "--follow", "--json", "--rpc", "127.0.0.1:0", "--data-dir"])
        .arg(directory)
        .env("AIT_GENESIS_FILE", at_a.join("genesis.json"))
        .env("AIT_P2P_ENABLED", "false")
        .env("AIT_CROSS_SITE_MEMPOOL", "false")
        .env("AIT_CROSS_SITE_POLL_INTERVAL", "200ms")
        .env("AIT_CROSS_SITE_REMOTES", format!("{}/rpc", a.announced["rpc"].as_str().unwrap()))
        .env("GOSSIP_BACKEND", "redis")
        .env("GOSSIP_BROADCAST_URL", url);
    Devnet::announced_by(command)
}

fn signed(a: &Devnet, nonce: u64) -> Value {
    let to = ait_engine::types::Address([77; 32]);
    let payload = Payload::Transfer { to, amount: Amount::saturating(3) };
    let chain = "ait-devnet".parse().unwrap();
    let (nonce, fee) = (Nonce::saturating(nonce), Amount::saturating(1));
    let transaction = Transaction::sign(&a.alice(), chain, nonce, fee, None, payload);
    serde_json::to_value(TransactionJson::from(&transaction)).unwrap()
}

/// Submits at a node; the hash.
fn submit(at: &Devnet, transaction: &Value) -> String {
    let (status, answer) = at.post("/rpc/sendTx", transaction);
    assert_eq!(status, 200, "{answer}");
    answer["tx_hash"].as_str().unwrap().to_owned()
}

fn metric(of: &Devnet, line: &str) -> Option<f64> {
    let page = of.exchange("GET", "/metrics", &[], "").unwrap().2;
    page.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
}

#[test]
fn processes_of_a_site_share_transactions_and_survive_their_redis() {
    let folder = tempfile::tempdir().unwrap();
    let mut redis = Redis::start();
    let (at_a, at_b, at_c) =
        (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
    let url = redis.url();
    let a = Devnet::start_with(&at_a, &[("AIT_GOSSIP_REDIS_URL", &url)]);
    let (b, c) = (beside(&a, &at_a, &at_b, &url), beside(&a, &at_a, &at_c, &url));
    let connected = "gossip_connected{backend=\"redis\"}";
    for node in [&a, &b, &c] {
        until("connected with Redis", || metric(node, connected) == Some(1.0));
    }

    // Submitted where no blocks are made, final everywhere.
    let first = submit(&b, &signed(&a, 0));
    for node in [&a, &b, &c] {
        node.committed(&first);
    }
    // What no block can hold yet is pending with all.
    let early = submit(&c, &signed(&a, 2));
    let is_pending = |node: &Devnet| {
        node.get("/rpc/mempool").1.as_array().unwrap().iter().any(|one| one["hash"] == early)
    };
    until("pending everywhere", || [&a, &b, &c].into_iter().all(is_pending));

    redis.kill();
    until("b notices", || metric(&b, connected) == Some(0.0));
    // Taken all the same: Redis is no part of a promise.
    let between = submit(&b, &signed(&a, 1));
    assert_eq!(b.get("/readyz").0, 200);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(a.get(&format!("/rpc/tx/{between}")).0, 404, "nobody told a of it");
    redis.restart();
    let back = Instant::now();
    for node in [&a, &b, &c] {
        node.committed(&between);
        node.committed(&early);
    }
    println!("final everywhere {:.1} s after Redis came back", back.elapsed().as_secs_f64());
    let roots = [&a, &b, &c].map(|node| node.get("/rpc/blocks/2").1["state_root"].clone());
    assert!(roots[0].is_string() && roots.iter().all(|root| *root == roots[0]), "{roots:?}");
}

#[test]
fn a_redis_server_is_believed_by_its_certificate_alone() {
    let connected = "gossip_connected{backend=\"redis\"}";
    let start = |redis: &Redis, folder: &Path, authority: &Path| {
        let (url, authority) = (redis.url(), authority.to_str().unwrap());
        // The authorities of the machine, for this process.
        let variables = [("AIT_GOSSIP_REDIS_URL", url.as_str()), ("SSL_CERT_FILE", authority)];
        Devnet::start_with(folder, &variables)
    };
    let folder = tempfile::tempdir().unwrap();
    let (known, unknown) = (Redis::secured(OURS), Redis::secured(OURS));
    let elsewhere = Redis::secured("DNS:redis.example");

    let node = start(&known, &folder.path().join("known"), &known.authority());
    until("connected by TLS", || metric(&node, connected) == Some(1.0));
    // Signed by another than the machine knows under that name; and for another server.
    for (redis, authority) in [(&unknown, known.authority()), (&elsewhere, elsewhere.authority())] {
        let node = start(redis, &folder.path().join(redis.port.to_string()), &authority);
        let ended = || redis.log().lines().filter(|line| line.contains(" alert ")).count();
        until("it calls again and again, and ends each handshake", || ended() >= 3);
        assert_eq!(metric(&node, connected), Some(0.0), "{}", redis.log());
        let said = node.stderr();
        assert!(said.contains("invalid peer certificate"), "{said}");
    }
}

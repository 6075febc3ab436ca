//! A node that is told of a peer while it runs, over IPv6: it catches up, shows how far it
//! is, and finds the peer again by itself after it was killed. What a stranger says of its height.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use ait_engine::genesis::GenesisDocument;
use ait_engine::types::Height;
use ait_net::message::hello;
use ait_net::peer::PeerAddress;
use ait_net::quic::{Event, Events, PeerKey, QuicOptions, Transport};
use ait_node::keystore;
use common::{Devnet, height, init, make_block, run, until, validator_key};
use serde_json::{Value, json};

/// A height that nobody has.
const FAR: u64 = 1 << 62;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ait-node");
/// Blocks of the chain: enough that a node is seen behind.
const BLOCKS: u64 = 400;

fn add_peer(node: &Devnet, peer: &str, token: Option<&str>) -> (u16, Value) {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", &**bearer)).collect();
    let body = json!({ "peer": peer }).to_string();
    let (status, _, body) = node.exchange("POST", "/rpc/admin/peers/add", &headers, &body).unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn a_peer_that_is_added_over_ipv6_is_synced_from_and_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let (at_a, at_b, at_c) =
        (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
    init(&at_a, &["--new-chain", "my-chain", "--no-passphrase"]);
    let genesis = at_a.join("genesis.json").display().to_string();
    let words = ["--block-interval", "1ms"];
    let a = run(&at_a, &words);
    let key = validator_key(&at_a);
    let peer = a.announced["p2p"].as_str().unwrap().to_owned();
    assert!(peer.contains("@[::1]:"), "{peer}");
    while height(&a) < BLOCKS {
        make_block(&a, &key);
    }
    init(&at_b, &["--genesis", &genesis]);
    let b = run(&at_b, &["--follow"]);
    assert_eq!((b.get("/readyz").0, height(&b)), (503, 0));
    until("it says whom it asked", || {
        let (status, answer) = b.get("/readyz");
        let reason = answer["detail"].as_str().unwrap();
        status == 503 && reason.contains("no_peers") && reason.contains("asked: nobody")
    });
    let token = std::fs::read_to_string(b.announced["admin_token_file"].as_str().unwrap()).unwrap();
    let token = Some(token.trim());
    assert_eq!(add_peer(&b, &peer, None).0, 401);
    assert_eq!(add_peer(&b, "nobody", token).0, 422);
    assert_eq!(add_peer(&b, &peer, token).0, 200);
    until("b is level", || height(&b) == height(&a));
    until("b is ready", || b.get("/readyz").0 == 200);
    // The view of the network is a little older than the chain's.
    let sync = || b.get("/rpc/syncStatus").1;
    until("it says that it is level", || sync()["reason"] == json!("in_sync"));
    assert_eq!(sync()["role"], json!("follower"));

    // Each shows the other, with what was measured of the connection.
    let short = &peer[..8];
    let page = || b.exchange("GET", "/metrics", &[], "").unwrap().2;
    let of = |name: &str| {
        let line = format!("{name}{{peer=\"{short}\"}} ");
        page().lines().find_map(|found| found.strip_prefix(&line)?.parse::<f64>().ok())
    };
    until("a's height is shown", || of("peer_height") == Some(height(&a) as f64));
    let bytes = of("peer_link_received_bytes_total").unwrap();
    assert!(bytes > BLOCKS as f64 * 200.0, "{bytes} bytes for all blocks");
    assert!(of("peer_rtt_seconds").unwrap() < 1.0 && of("peer_connected_seconds").is_some());
    assert_eq!(of("peer_banned_seconds"), None);
    let said = b.stderr();
    for expected in ["behind, fetching blocks", "caught up"] {
        assert!(said.contains(expected), "{expected} is missing in {said}");
    }

    // Killed without a word and started without a peer: it was told once.
    drop(b);
    make_block(&a, &key);
    let b = run(&at_b, &["--follow"]);
    until("b is level again", || height(&b) == height(&a));

    // On a terminal the progress is seen while it lasts.
    init(&at_c, &["--genesis", &genesis]);
    let typescript = folder.path().join("typescript");
    let command = format!(
        "stty cols 120 rows 40; exec {PROGRAM} run --follow --rpc 127.0.0.1:0 --p2p [::1]:0 \
         --peer {peer} --data-dir {}",
        at_c.display()
    );
    let mut child = Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command", &command])
        .arg(&typescript)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let shown =
        || String::from_utf8_lossy(&std::fs::read(&typescript).unwrap_or_default()).into_owned();
    until("the log says that it caught up", || shown().contains("caught up"));
    let bar = format!("/{}", height(&a));
    let terminal = shown();
    assert!(terminal.contains("syncing, fetching [") && terminal.contains(&bar), "{terminal}");
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\x03").unwrap();
    assert!(child.wait().unwrap().success(), "{}", shown());
}

/// A peer under a new key that says it has a height and never gives a block.
async fn claimer(at: &Path, peer: &PeerAddress) -> (Transport, Events) {
    let text = std::fs::read_to_string(at.join("genesis.json")).unwrap();
    let document: GenesisDocument = serde_json::from_str(&text).unwrap();
    let genesis = document.build().unwrap();
    let rules = ait_node::network::consensus_hash();
    let mut hello = hello("my-chain".parse().unwrap(), genesis.block_id, rules);
    hello.height = Height::saturating(FAR);
    let key = PeerKey::new(&keystore::generate().unwrap()).unwrap();
    let bind = "[::1]:0".parse().unwrap();
    let (transport, mut events) = Transport::bind(QuicOptions { bind, key, hello }).unwrap();
    transport.dial(peer.clone());
    let connected = events.urgent.recv().await;
    assert!(matches!(connected, Some(Event::Connected { .. })), "{connected:?}");
    (transport, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stays_ready_though_a_stranger_claims_any_height() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), &["--new-chain", "my-chain", "--no-passphrase"]);
    let node = run(folder.path(), &["--block-interval", "1ms"]);
    let peer: PeerAddress = node.announced["p2p"].as_str().unwrap().parse().unwrap();
    until("it is ready", || node.get("/readyz").0 == 200);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(claimer(folder.path(), &peer).await);
    }
    let claimed = format!(" {}", FAR as f64);
    let is_heard = || {
        let page = node.exchange("GET", "/metrics", &[], "").unwrap().2;
        let heights = page.lines().filter(|line| line.starts_with("peer_height{"));
        heights.filter(|line| line.ends_with(&claimed)).count() == held.len()
    };
    until("what they claim is heard", is_heard);
    let (status, answer) = node.get("/readyz");
    assert_eq!(status, 200, "{answer}");
    let sync = node.get("/rpc/syncStatus").1;
    assert_eq!((&sync["blocks_behind"], &sync["reason"]), (&json!(0), &json!("in_sync")), "{sync}");
    let key = validator_key(folder.path());
    make_block(&node, &key);
    assert_eq!(node.get("/readyz").0, 200);
}

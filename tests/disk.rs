//! A node whose disk fills up: the real program on a small file system.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/small_disk.rs"]
mod small_disk;

use std::fs;

use common::{Devnet, height, init, make_block, run, until, validator_key};
use serde_json::json;
use small_disk::{SmallDisk, block_ids};

#[test]
fn a_node_without_room_reads_and_goes_on_once_there_is_room() {
    let disk = SmallDisk::new(96);
    let least = (24 << 20).to_string();
    let reserve = (1 << 20).to_string();
    let node = disk
        .node(&[("AIT_STORAGE_FREE_BYTES_MIN", &least), ("AIT_STORAGE_RESERVE_BYTES", &reserve)]);
    assert_eq!(fs::metadata(disk.path("reserve")).unwrap().len(), 1 << 20);
    let nonce = node.nonce("alice");
    assert_eq!(node.send("bob", 5).unwrap().0, 200);
    node.wait_for_nonce("alice", nonce + 1);
    assert_eq!(node.get("/readyz").0, 200);

    disk.fill(20 << 20);
    until("the node notices", || node.get("/readyz").0 == 503);
    let (_, reason) = node.get("/readyz");
    assert_eq!(reason["code"], "disk_full", "{reason}");
    assert!(reason["hint"].as_str().unwrap().contains("goes on by itself"), "{reason}");
    assert_eq!(
        (node.get("/health").0, &node.get("/health").1["status"]),
        (200, &json!("disk_full"))
    );
    // It reads and takes nothing.
    let before = node.get("/rpc/head").1;
    assert_eq!(node.nonce("alice"), nonce + 1);
    let (status, refused) = node.send("bob", 6).unwrap();
    assert_eq!((status, &refused["code"]), (503, &json!("disk_full")), "{refused}");
    assert_eq!(node.get("/rpc/head").1, before);
    let metrics = || node.exchange("GET", "/metrics", &[], "").unwrap().2;
    let page = metrics();
    assert!(page.contains("disk_paused 1") && page.contains("disk_free_bytes 2"), "{page}");

    disk.make_room();
    until("the node goes on", || node.get("/readyz").0 == 200);
    assert_eq!(node.send("bob", 7).unwrap().0, 200);
    node.wait_for_nonce("alice", nonce + 2);
    assert!(metrics().contains("disk_paused 0"));
}

#[test]
fn a_write_that_fails_ends_the_node_with_a_code_of_its_own_and_loses_nothing() {
    let disk = SmallDisk::new(48);
    let reserve = (4 << 20).to_string();
    let node = disk.node(&[
        // Nothing warns it.
        ("AIT_STORAGE_FREE_BYTES_MIN", "0"),
        ("AIT_STORAGE_RESERVE_BYTES", &reserve),
    ]);
    let first = node.nonce("alice");
    for amount in 1..=5 {
        assert_eq!(node.send("bob", amount).unwrap().0, 200);
    }
    node.wait_for_nonce("alice", first + 5);
    let known = block_ids(&node);
    disk.fill(0);
    let mut taken = 5;
    until("a write fails", || match node.send("carol", 1) {
        Some((200, _)) => {
            taken += 1;
            false
        }
        // It ends, or says that it takes nothing any more.
        _ => true,
    });
    let ended = node.ended();
    assert_eq!(ended.status.code(), Some(3), "{}", String::from_utf8_lossy(&ended.stderr));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("disk_full"), "{said}");
    assert!(!disk.path("reserve").exists(), "the reserve is for this");

    // Started again on the disk that is still full: it serves what was final.
    let least = (8 << 20).to_string();
    let variables = [
        ("AIT_STORAGE_FREE_BYTES_MIN", least.as_str()),
        ("AIT_STORAGE_RESERVE_BYTES", reserve.as_str()),
    ];
    let node = disk.node(&variables);
    assert_eq!(node.get("/readyz").1["code"], "disk_full");
    assert_eq!(block_ids(&node)[..known.len()], known);
    // Everything that was acknowledged is made final as soon as there is room.
    disk.make_room();
    until("the node goes on", || node.get("/readyz").0 == 200);
    node.wait_for_nonce("alice", first + taken);
    assert_eq!(fs::metadata(disk.path("reserve")).unwrap().len(), 4 << 20);
    assert_eq!(block_ids(&node)[..known.len()], known);
    node.kill();
    let checked = disk.ask(&["db", "check"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// A quota, or room that is back a moment later: the file system of the data directory shows room
/// all the time.
#[test]
fn a_write_that_has_no_room_where_others_have_ends_the_node_with_the_same_code() {
    for name in ["consensus.log", "signer.record"] {
        let disk = SmallDisk::new(96);
        disk.run(&format!(
            "mkdir /mnt/small && mount -t tmpfs -o size=64k tmpfs /mnt/small && cd /mnt/small &&
             touch {name} && chmod 600 {name} && ln -s /mnt/small/{name} /mnt/{name}"
        ));
        let mut command = disk.inside(env!("CARGO_BIN_EXE_ait-node"));
        // Time enough for a block that does not fit into what a file has already.
        command.args(["dev", "--json", "--data-dir", "/mnt", "--block-interval", "300ms"]);
        command.args(["--rpc", "127.0.0.1:0", "--coordinator", "127.0.0.1:0"]);
        command.env("AIT_STORAGE_FREE_BYTES_MIN", "1000000");
        command.env("AIT_STORAGE_RESERVE_BYTES", "1000000");
        let node = Devnet::announced_by(command);
        disk.run("head -c 1000000 /dev/zero > /mnt/small/ballast || true");
        until("a write fails", || !matches!(node.send("carol", 1), Some((200, _))));
        let ended = node.ended();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(3), "{name}: {said}");
        assert!(said.contains("disk_full"), "{name}: {said}");
        assert!(!disk.path("reserve").exists(), "{name}: the reserve is for this");
    }
}

#[test]
fn a_follower_without_room_leaves_its_peers_and_catches_up_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), &["--new-chain", "my-chain", "--no-passphrase"]);
    let leader = run(folder.path(), &["--block-interval", "1ms"]);
    let key = validator_key(folder.path());
    let disk = SmallDisk::new(96);
    fs::copy(folder.path().join("genesis.json"), disk.path("genesis.json")).unwrap();
    let follower = disk.follower(leader.announced["p2p"].as_str().unwrap(), 24 << 20);
    make_block(&leader, &key);
    until("the follower follows", || height(&follower) == 1 && follower.get("/readyz").0 == 200);

    disk.fill(20 << 20);
    until("it notices", || follower.get("/readyz").1["code"] == "disk_full");
    until("it leaves", || follower.get("/rpc/syncStatus").1["peers_connected"] == 0);
    let before = block_ids(&follower);
    for _ in 0..20 {
        make_block(&leader, &key);
    }
    assert_eq!(block_ids(&follower), before, "it reads what it has");

    disk.make_room();
    until("it catches up", || height(&follower) == height(&leader));
    until("it is ready", || follower.get("/readyz").0 == 200);
    assert_eq!(block_ids(&follower), block_ids(&leader));
}

/// A stop of a node that could not write its last checkpoint is no failure.
#[test]
fn a_stop_without_room_is_clean_and_the_next_start_has_everything() {
    let disk = SmallDisk::new(48);
    let blind = [("AIT_STORAGE_FREE_BYTES_MIN", "0"), ("AIT_STORAGE_RESERVE_BYTES", "0")];
    let node = disk.node(&blind);
    let first = node.nonce("alice");
    for amount in 1..=20 {
        assert_eq!(node.send(&format!("name-{amount}"), amount).unwrap().0, 200);
    }
    node.wait_for_nonce("alice", first + 20);
    let known = block_ids(&node);
    disk.fill(0);
    node.terminate();
    let ended = node.ended();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(said.contains("no last checkpoint"), "{said}");
    disk.make_room();
    let node = disk.node(&blind);
    assert_eq!(node.nonce("alice"), first + 20);
    assert_eq!(block_ids(&node), known);
}

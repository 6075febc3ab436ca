//! A node whose disk fills up: the real program on a small file system.
//!
//! The file system is a tmpfs in a mount namespace that a sleeping process holds; nodes are
//! started inside of it, and the test reaches its files through that process.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use common::{Devnet, height, init, make_block, run, until, validator_key};
use serde_json::{Value, json};

/// Where the small disk is mounted, in its namespace alone.
const MOUNT: &str = "/mnt";

/// A file system of a few MiB.
struct SmallDisk {
    holder: Child,
    is_root: bool,
}

impl SmallDisk {
    fn new(mebibytes: u32) -> Self {
        let is_root = Command::new("unshare").args(["--mount", "true"]).output().unwrap();
        let is_root = is_root.status.success();
        let mut command = Command::new("unshare");
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        let script = format!(
            "mount -t tmpfs -o size={mebibytes}m tmpfs {MOUNT} && echo mounted && exec sleep 600"
        );
        command.args(["--mount", "sh", "-c", &script]);
        let mut holder = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "mounted", "needs root or unprivileged user namespaces");
        Self { holder, is_root }
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if !self.is_root {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(program);
        command
    }

    /// A path of the disk, as this process reaches it.
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{MOUNT}/{name}", self.holder.id()))
    }

    /// A node that follows the chain of a peer.
    fn follower(&self, peer: &str, free_bytes_min: u64) -> Devnet {
        let mut command = self.inside(env!("CARGO_BIN_EXE_ait-node"));
        command.args(["run", "--follow", "--json", "--data-dir", MOUNT, "--peer", peer]);
        command.args(["--rpc", "127.0.0.1:0", "--p2p", "[::1]:0"]);
        command.env("AIT_STORAGE_FREE_BYTES_MIN", free_bytes_min.to_string());
        command.env("AIT_STORAGE_RESERVE_BYTES", "0");
        Devnet::announced_by(command)
    }

    fn node(&self, variables: &[(&str, &str)]) -> Devnet {
        let mut command = self.inside(env!("CARGO_BIN_EXE_ait-node"));
        command.args(["dev", "--json", "--data-dir", MOUNT, "--block-interval", "20ms"]);
        command.args(["--rpc", "127.0.0.1:0", "--coordinator", "127.0.0.1:0"]);
        command.envs(variables.iter().copied());
        Devnet::announced_by(command)
    }

    /// Takes room until `left_bytes` are free.
    fn fill(&self, left_bytes: u64) {
        let mut ballast =
            File::options().create(true).append(true).open(self.path("ballast")).unwrap();
        while self.free_bytes() > left_bytes {
            let chunk = (self.free_bytes() - left_bytes).min(1 << 16);
            if ballast.write_all(&vec![7; usize::try_from(chunk).unwrap()]).is_err() {
                break;
            }
        }
    }

    fn free_bytes(&self) -> u64 {
        let seen = rustix::fs::statvfs(self.path("")).unwrap();
        seen.f_bavail * seen.f_frsize
    }

    fn make_room(&self) {
        fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn block_ids(node: &Devnet) -> Vec<Value> {
    let id = |at| node.get(&format!("/rpc/blocks/{at}")).1["hash"].clone();
    (0..=height(node)).map(id).collect()
}

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
    let checked = disk.inside(env!("CARGO_BIN_EXE_ait-node"));
    let mut checked = checked;
    let checked = checked.args(["db", "check", "--data-dir", MOUNT, "--json"]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
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

#[test]
fn a_read_only_disk_starts_no_node_and_says_so() {
    let disk = SmallDisk::new(48);
    disk.node(&[]).kill();
    let remount = disk.inside("mount").args(["-o", "remount,ro", MOUNT]).status().unwrap();
    assert!(remount.success());
    let mut command = disk.inside(env!("CARGO_BIN_EXE_ait-node"));
    let ended = command.args(["dev", "--json", "--data-dir", MOUNT]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{said}");
    assert!(said.contains("disk_read_only"), "{said}");
}

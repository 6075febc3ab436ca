//! A small file system of its own, for nodes whose disk fills up or becomes read-only.
//!
//! It is mounted in a mount namespace that a sleeping process holds; nodes are started inside of
//! it, and the test reaches its files through that process.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::common::{Devnet, height};

/// Where the small disk is mounted, in its namespace alone.
pub const MOUNT: &str = "/mnt";

/// A file system of a few MiB.
pub struct SmallDisk {
    holder: Child,
    is_root: bool,
}

impl SmallDisk {
    /// In memory.
    pub fn new(mebibytes: u32) -> Self {
        Self::mounted(&format!("mount -t tmpfs -o size={mebibytes}m tmpfs {MOUNT}"))
    }

    /// An ext4 in a file; none where there is no right or tool for it.
    pub fn ext4(image: &Path, mebibytes: u64) -> Option<Self> {
        File::create(image).unwrap().set_len(mebibytes << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(image).status();
        let mount = format!("mount -o loop {} {MOUNT}", image.display());
        let tried = format!("{mount} && umount {MOUNT}");
        let can_mount = || Command::new("unshare").args(["--mount", "sh", "-c", &tried]).output();
        let is_possible = made.is_ok_and(|made| made.success())
            && can_mount().is_ok_and(|tried| tried.status.success());
        is_possible.then(|| Self::mounted(&mount))
    }

    fn mounted(mount: &str) -> Self {
        let is_root = Command::new("unshare").args(["--mount", "true"]).output().unwrap();
        let is_root = is_root.status.success();
        let mut command = Command::new("unshare");
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        let script = format!("{mount} && echo mounted && exec sleep 600");
        command.args(["--mount", "sh", "-c", &script]);
        let mut holder = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "mounted", "needs root or unprivileged user namespaces");
        Self { holder, is_root }
    }

    /// Runs a line of shell inside, which must succeed.
    pub fn run(&self, line: &str) {
        let out = self.inside("sh").args(["-c", line]).output().unwrap();
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// A command of a program that sees the disk.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if !self.is_root {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(program);
        command
    }

    /// A path of the disk, as this process reaches it.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{MOUNT}/{name}", self.holder.id()))
    }

    /// A node that follows the chain of a peer.
    pub fn follower(&self, peer: &str, free_bytes_min: u64) -> Devnet {
        let mut command = self.inside(env!("CARGO_BIN_EXE_ait-node"));
        command.args(["run", "--follow", "--json", "--data-dir", MOUNT, "--peer", peer]);
        command.args(["--rpc", "127.0.0.1:0", "--p2p", "[::1]:0"]);
        command.env("AIT_STORAGE_FREE_BYTES_MIN", free_bytes_min.to_string());
        command.env("AIT_STORAGE_RESERVE_BYTES", "0");
        Devnet::announced_by(command)
    }

    /// `ait-node` with these words, until it ends.
    pub fn ask(&self, words: &[&str]) -> Output {
        let mut command = self.inside(env!("CARGO_BIN_EXE_ait-node"));
        command.args(words).args(["--json", "--data-dir", MOUNT]).output().unwrap()
    }

    /// A devnet.
    pub fn node(&self, variables: &[(&str, &str)]) -> Devnet {
        let mut command = self.inside(env!("CARGO_BIN_EXE_ait-node"));
        command.args(["dev", "--json", "--data-dir", MOUNT, "--block-interval", "20ms"]);
        command.args(["--rpc", "127.0.0.1:0", "--coordinator", "127.0.0.1:0"]);
        command.envs(variables.iter().copied());
        Devnet::announced_by(command)
    }

    /// Takes room until `left_bytes` are free.
    pub fn fill(&self, left_bytes: u64) {
        let mut ballast =
            File::options().create(true).append(true).open(self.path("ballast")).unwrap();
        while self.free_bytes() > left_bytes {
            let chunk = (self.free_bytes() - left_bytes).min(1 << 16);
            if ballast.write_all(&vec![7; usize::try_from(chunk).unwrap()]).is_err() {
                break;
            }
        }
    }

    /// What is free.
    pub fn free_bytes(&self) -> u64 {
        let seen = rustix::fs::statvfs(self.path("")).unwrap();
        seen.f_bavail * seen.f_frsize
    }

    /// Takes less room again.
    pub fn make_room(&self) {
        fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The ids of all blocks of a node.
pub fn block_ids(node: &Devnet) -> Vec<Value> {
    let id = |at| node.get(&format!("/rpc/blocks/{at}")).1["hash"].clone();
    (0..=height(node)).map(id).collect()
}

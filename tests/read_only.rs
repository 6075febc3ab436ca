//! A node whose file system becomes read-only under it: the real program, on a mount that is
//! sealed, and on an ext4 that an error stopped.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common;
#[path = "common/small_disk.rs"]
mod small_disk;

use std::time::Duration;

use common::{Devnet, until};
use serde_json::{Value, json};
use small_disk::{MOUNT, SmallDisk, block_ids};

/// Makes the disk read-only for whoever opens a file there. What is open stays writable: for that,
/// a file system must be stopped by an error.
fn seal(disk: &SmallDisk) {
    disk.run(&format!("mount --bind {MOUNT} {MOUNT} && mount -o remount,bind,ro {MOUNT}"));
}

fn unseal(disk: &SmallDisk) {
    disk.run(&format!("umount --lazy {MOUNT}"));
}

/// That it says what is wrong, and goes on reading.
fn reads_and_takes_nothing(node: &Devnet, nonce: u64, known: &[Value]) {
    until("the node notices", || node.get("/readyz").0 == 503);
    let (_, reason) = node.get("/readyz");
    assert_eq!(reason["code"], "disk_read_only", "{reason}");
    assert!(reason["hint"].as_str().unwrap().contains("the system's log"), "{reason}");
    let (status, health) = node.get("/health");
    assert_eq!((status, &health["status"]), (200, &json!("disk_read_only")), "{health}");
    assert_eq!(block_ids(node), known);
    assert_eq!(node.nonce("alice"), nonce);
    let (status, refused) = node.send("bob", 6).unwrap();
    assert_eq!((status, &refused["code"]), (503, &json!("disk_read_only")), "{refused}");
    let page = node.exchange("GET", "/metrics", &[], "").unwrap().2;
    assert!(page.contains("disk_paused 1"), "{page}");
}

/// That a node does not start there, ends with a code of its own, and says what to do.
fn starts_no_node(disk: &SmallDisk) {
    let ended = disk.ask(&["dev"]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{said}");
    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(said["code"], "disk_read_only", "{said}");
    assert!(said["hint"].as_str().unwrap().contains("mount it writable"), "{said}");
}

fn sent(node: &Devnet, amount: u64) -> u64 {
    let nonce = node.nonce("alice");
    assert_eq!(node.send("bob", amount).unwrap().0, 200);
    node.wait_for_nonce("alice", nonce + 1);
    nonce + 1
}

#[test]
fn a_node_on_a_sealed_disk_reads_and_goes_on_once_it_is_writable() {
    let disk = SmallDisk::new(96);
    let node = disk.node(&[]);
    let nonce = sent(&node, 5);
    let known = block_ids(&node);
    seal(&disk);
    reads_and_takes_nothing(&node, nonce, &known);
    unseal(&disk);
    until("the node goes on", || node.get("/readyz").0 == 200);
    let nonce = sent(&node, 7);

    // Stopped while it is paused: in order, and the next start has everything.
    seal(&disk);
    until("the node notices", || node.get("/readyz").0 == 503);
    let known = block_ids(&node);
    node.terminate();
    let ended = node.ended();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    starts_no_node(&disk);
    unseal(&disk);
    let node = disk.node(&[]);
    assert_eq!((node.nonce("alice"), block_ids(&node)), (nonce, known));
}

#[test]
fn a_node_on_a_file_system_that_an_error_stopped_reads_and_a_start_after_its_check_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::ext4(&folder.path().join("image"), 160) else {
        println!("not run: no ext4 can be made and mounted here");
        return;
    };
    let stop = format!("mount -o remount,abort {MOUNT}");
    let image = folder.path().join("image").display().to_string();
    // e2fsck ends with 1 when it put something right.
    let check = format!(
        "umount {MOUNT}; e2fsck -fy {image} >&2; [ $? -le 1 ] && mount -o loop {image} {MOUNT}"
    );
    let node = disk.node(&[]);
    let nonce = sent(&node, 5);
    let known = block_ids(&node);
    // At rest: what was accepted is synced by then, and nothing is being written.
    std::thread::sleep(Duration::from_secs(1));
    disk.run(&stop);
    reads_and_takes_nothing(&node, nonce, &known);
    node.terminate();
    let ended = node.ended();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    starts_no_node(&disk);
    disk.run(&check);

    // While it writes: it pauses, or ends with its code when the error meets it in a write.
    let node = disk.node(&[]);
    assert_eq!((node.nonce("alice"), block_ids(&node)), (nonce, known));
    let (nonce, known) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| while let Some((200, _)) = node.send("carol", 1) {});
        until("twenty are final", || node.nonce("alice") >= nonce + 20);
        let final_now = (node.nonce("alice"), block_ids(&node));
        disk.run(&stop);
        sender.join().unwrap();
        final_now
    });
    // Long enough for it to see why the write failed, or to end for it.
    std::thread::sleep(Duration::from_secs(1));
    node.terminate();
    let ended = node.ended();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(matches!(ended.status.code(), Some(0 | 3)), "{said}");
    println!("ended with {:?}", ended.status.code());
    starts_no_node(&disk);
    disk.run(&check);
    let node = disk.node(&[]);
    assert!(node.nonce("alice") >= nonce, "what was final is gone");
    assert_eq!(block_ids(&node)[..known.len()], known);
    sent(&node, 9);
}

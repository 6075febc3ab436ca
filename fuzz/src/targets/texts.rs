//! Short texts. The first byte chooses the type. What is read is shown as a text that is read
//! as the same, and what it shows is no secret.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use ait_engine::crypto::{PublicKey, Signature};
use ait_engine::types::{Address, BlockId, ChainId, Hash, StateRoot, TxHash};
use ait_net::cross_site::RemoteUrl;
use ait_net::gossip::RedisUrl;
use ait_net::peer::{PeerAddress, PeerId};
use ait_node::chain::StorageEngine;
use ait_node::devnet::is_plain_name;
use ait_node::sim::Faults;

use crate::world::WORLD;

fn shown<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let shown = value.to_string();
    let again = shown.parse::<T>();
    assert!(again.is_ok_and(|again| again == value), "{text:?} is shown as {shown:?}");
}

fn chain_id(text: &str) {
    shown::<ChainId>(text);
    if let Ok(id) = text.parse::<ChainId>() {
        assert_eq!(id.as_str(), text, "a chain id has one spelling");
    }
}

fn address(text: &str) {
    shown::<Address>(text);
    if let Ok(address) = text.parse::<Address>() {
        let lower = text.to_lowercase();
        assert_eq!(address.to_string(), lower, "an address has one spelling but for case");
    }
}

fn remote(text: &str) {
    let Ok(url) = text.parse::<RemoteUrl>() else { return };
    let shown = url.to_string();
    assert!(shown.parse::<RemoteUrl>().is_ok(), "{shown}");
    assert!(url.endpoint("head").starts_with("http"), "{shown}");
    assert!(
        !shown.split(['/', '?']).nth(2).unwrap_or("").contains('@'),
        "{shown} shows a password"
    );
}

fn redis(text: &str) {
    let Ok(url) = text.parse::<RedisUrl>() else { return };
    let secret = "hunter2-hunter2";
    let is_password = text.starts_with("redis") && text.contains(&format!(":{secret}@"));
    let (shown, debug) = (url.to_string(), format!("{url:?}"));
    let once = text.matches(secret).count() == 1;
    let hides = !shown.contains(secret) && !debug.contains(secret);
    assert!(!is_password || !once || hides, "{text} is shown as {shown}");
}

fn name(text: &str) {
    let names = &WORLD.plan.names;
    if is_plain_name(text) {
        let address = names.peek(text).expect("a plain name stands for an account");
        assert_eq!(names.secret_key(text).public_key().address(), address, "another's key");
    }
    if let Ok(address) = names.peek(text) {
        assert!(is_plain_name(text) || text.parse::<Address>() == Ok(address), "{text:?}");
    }
}

fn seed_texts(text: &str) {
    let _ = ait_engine::types::parse_hex32(text);
    let _ = text.parse::<Faults>();
}

const READERS: &[fn(&str)] = &[
    address,
    chain_id,
    shown::<Hash>,
    shown::<BlockId>,
    shown::<TxHash>,
    shown::<StateRoot>,
    shown::<PublicKey>,
    shown::<Signature>,
    shown::<PeerId>,
    shown::<PeerAddress>,
    shown::<StorageEngine>,
    remote,
    redis,
    name,
    seed_texts,
];

pub fn run(input: &[u8]) {
    let Some((which, bytes)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(read) = READERS.get(usize::from(*which)) {
        read(text);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let id = "ab".repeat(32);
    let address = WORLD.addresses[0].to_string();
    let texts: [(u8, String); 22] = [
        (0, address.clone()),
        (0, address.to_uppercase()),
        (1, "ait-devnet".to_owned()),
        (2, format!("0x{id}")),
        (3, id.clone()),
        (4, format!("0x{id}")),
        (5, format!("0x{id}")),
        (6, format!("0x{id}")),
        (7, format!("0x{id}{id}")),
        (8, id.clone()),
        (9, format!("{id}@10.0.0.1:7070")),
        (9, format!("0x{id}@[fd00::1]:65535")),
        (9, format!("{id}@node-1.example.org:1")),
        (10, "redb".to_owned()),
        (11, "https://user:hunter2-hunter2@site.example/rpc".to_owned()),
        (11, "http://[::1]:80/rpc/".to_owned()),
        (12, "redis://user:hunter2-hunter2@host:6379/0".to_owned()),
        (12, "unix:///run/redis.sock".to_owned()),
        (13, "miner-0".to_owned()),
        (13, address),
        (14, "crash,partition".to_owned()),
        (14, format!("0x{id}")),
    ];
    texts.iter().map(|(which, text)| [&[*which][..], text.as_bytes()].concat()).collect()
}

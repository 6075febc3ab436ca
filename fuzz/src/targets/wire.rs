//! What nodes say to each other. The first byte chooses the type. What is read is written and
//! read again as the same; for all but the hello, whose program name is made fit for a log,
//! and addresses, which have more than one spelling, as the same bytes. A batch of
//! transactions is read as they are one by one.

use ait_engine::codec::{Canonical, Reader};
use ait_engine::transaction::Transaction;
use ait_engine::types::{BlockId, Hash, Height};
use ait_net::gossip::TransactionBatch;
use ait_net::message::{self, Blocks, Body, Control, Hello, Request, Status};
use ait_net::peer::PeerId;

use super::canonical::{messages, round_trip};
use crate::world::{WORLD, transactions};

/// What is read twice is the same, and no longer than it was.
fn reread<T: Canonical + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(object) = T::decode(bytes) else { return };
    let written = object.encode();
    assert_eq!(T::decode(&written).as_ref(), Ok(&object), "it is not read as it was written");
    assert!(written.len() <= bytes.len() + 8, "it grows when it is passed on");
}

fn control(bytes: &[u8]) {
    match Control::decode_from(&mut Reader::new(bytes)) {
        Ok(Control::Addresses(_)) => reread::<Control>(bytes),
        _ => round_trip::<Control>(bytes),
    }
}

fn batch(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let mut one_by_one = Vec::new();
    let mut is_good = true;
    while is_good && reader.remaining() > 0 {
        match Transaction::decode_from(&mut reader) {
            Ok(transaction) => one_by_one.push(transaction),
            Err(_) => is_good = false,
        }
    }
    match TransactionBatch::decode(bytes) {
        Ok((batch, transactions)) => {
            assert!(is_good && !transactions.is_empty(), "a batch of less than transactions");
            assert_eq!(transactions, one_by_one, "a batch is read otherwise than its parts");
            assert_eq!((batch.bytes(), batch.count()), (bytes, transactions.len()));
            let again = TransactionBatch::split(&transactions);
            let again: Vec<u8> = again.iter().flat_map(|batch| batch.bytes().to_vec()).collect();
            assert_eq!(again, bytes, "transactions are split into other bytes");
        }
        Err(_) => {
            let fits = bytes.len() <= 256 * 1024 && one_by_one.len() <= 512;
            assert!(!is_good || bytes.is_empty() || !fits, "a good batch is refused");
        }
    }
}

const READERS: &[fn(&[u8])] = &[
    control,
    round_trip::<Request>,
    round_trip::<Blocks>,
    round_trip::<Body>,
    reread::<Hello>,
    batch,
];

pub fn run(input: &[u8]) {
    let Some((which, bytes)) = input.split_first() else { return };
    if let Some(read) = READERS.get(usize::from(*which)) {
        read(bytes);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let world = &*WORLD;
    let mut seeds = Vec::new();
    let mut add = |which: u8, bytes: Vec<u8>| seeds.push([&[which][..], &bytes].concat());
    for said in messages() {
        if let ait_engine::message::Message::Proposal(proposal) = &said {
            add(0, Control::Offer(*proposal).encode());
            let block = world.blocks[0].0.clone();
            add(3, Body { proposal: *proposal, block }.encode());
        }
        add(0, Control::Consensus(said).encode());
    }
    let id = "ab".repeat(32);
    let places = ["10.0.0.1:7070", "node-1.example.org:1", "[fd00::1]:65535"];
    let addresses = places.map(|place| format!("{id}@{place}").parse().unwrap());
    add(0, Control::Addresses(addresses.to_vec()).encode());
    add(0, Control::AskAddresses.encode());
    add(0, Control::Final(world.blocks[1].1.clone()).encode());
    let (height, neighbours) = (Height::saturating(5), vec![PeerId([3; 32]), PeerId([4; 32])]);
    add(0, Control::Status(Status { height, neighbours }).encode());
    add(1, Request::Blocks { from: height, count: 16 }.encode());
    add(1, Request::Body { height, block_id: BlockId([9; 32]) }.encode());
    add(2, Blocks(world.blocks[..2].to_vec()).encode());
    add(2, Blocks::default().encode());
    let chain_id = world.plan.document.chain_id;
    add(4, message::hello(chain_id, world.ids[0], Hash([5; 32])).encode());
    let all = transactions();
    add(5, TransactionBatch::split(&all)[0].bytes().to_vec());
    add(5, TransactionBatch::split(&all[..1])[0].bytes().to_vec());
    seeds
}

//! The stores of a chain in memory, with rows changed: rkyv records, canonical bytes, keys,
//! tables that lack something. Opening and reading either says what is wrong or gives what the
//! chain really holds: its blocks, its certificates, and accounts proved from their headers.
//!
//! Six bytes a change: store, table, row (two), what is done, with what.

use std::sync::{Arc, LazyLock};

use ait_engine::state::{Account, Claim, Key};
use ait_engine::types::{Amount, Height};
use ait_node::chain::{Chain, CommittedBlock, Location, Stores};
use ait_storage::{Batch, Direction, Durability, KeyRange, MemoryStorage, Storage, Table};

use crate::world::{BLOCKS, WORLD, open};

type Row = (Vec<u8>, Vec<u8>);

/// Tables of each store, as `specs/state.md` names them; a change of the index empties more.
const TABLES: [&[&str]; 3] = [
    &["blocks_meta", "blocks", "bodies"],
    &["state_meta", "leaves", "long_values", "keys", "nodes"],
    &[
        "index",
        "tx_location_runs",
        "account_tx_runs",
        "block_heights",
        "tx_totals",
        "payouts",
        "listed",
        "richest",
        "receipts",
        "receipt_order",
    ],
];

/// The rows of a table.
type Rows = (Table, Vec<Row>);

/// All rows of the world, by store and table.
static ROWS: LazyLock<Vec<Vec<Rows>>> = LazyLock::new(|| {
    let stores = WORLD.stores.named();
    let of_store = |(at, (_, store)): (usize, &(&str, &Arc<dyn Storage>))| {
        let snapshot = store.snapshot().unwrap();
        for table in store.stats().unwrap() {
            assert!(table.entries == 0 || TABLES[at].contains(&&*table.name), "{}", table.name);
        }
        TABLES[at]
            .iter()
            .map(|name| {
                let table = Table::new(name);
                let all = snapshot.range(table, KeyRange::all(), Direction::Forward).unwrap();
                let rows = all.map(|row| row.map(|(k, v)| (k.into_vec(), v.into_vec())).unwrap());
                (table, rows.collect())
            })
            .collect()
    };
    stores.iter().enumerate().map(of_store).collect()
});

/// The blocks as they are.
static BLOCKS_READ: LazyLock<Vec<Arc<CommittedBlock>>> = LazyLock::new(|| {
    (0..=BLOCKS).map(|n| WORLD.chain.block(Height::saturating(n)).unwrap().unwrap()).collect()
});

fn change(rows: &mut Vec<Row>, row: usize, what: u8, with: u8) {
    if rows.is_empty() {
        rows.push((vec![with], vec![what]));
        return;
    }
    let at = row % rows.len();
    let (key, value) = &mut rows[at];
    let place = usize::from(with) * value.len().max(1) / 256;
    match what % 8 {
        0 | 1 => {
            if let Some(byte) = value.get_mut(place) {
                *byte ^= 1 << (what >> 5);
            }
        }
        2 => value.truncate(place),
        3 => value.push(with),
        4 => {
            rows.remove(at);
        }
        5 => {
            if let Some(byte) = key.get_mut(usize::from(with) % 40) {
                *byte ^= 1 << (what >> 5);
            }
        }
        6 => {
            let other = rows[usize::from(with) % rows.len()].1.clone();
            rows[at].1 = other;
        }
        _ => {
            // The end of a record is where its lengths and offsets are.
            let end = value.len();
            if let Some(byte) = value.get_mut(end.saturating_sub(1 + usize::from(with % 64))) {
                // What is of no length may have lost something.
                *byte = if what == 0xff { 0 } else { byte.wrapping_add(1 + (what >> 3)) };
            }
        }
    }
}

fn stores(changes: &[[u8; 6]]) -> Stores {
    let mut all = ROWS.clone();
    for [store, table, low, high, what, with] in changes {
        let tables = &mut all[usize::from(*store) % 3];
        let count = tables.len();
        let rows = &mut tables[usize::from(*table) % count].1;
        change(rows, usize::from(u16::from_le_bytes([*low, *high])), *what, *with);
    }
    let mut made = all.into_iter().map(|tables| -> Arc<dyn Storage> {
        let (storage, mut batch) = (MemoryStorage::new(), Batch::new());
        for (table, rows) in tables {
            for (key, value) in rows {
                batch.put(table, key, value);
            }
        }
        storage.commit(batch, Durability::Immediate).unwrap();
        Arc::new(storage)
    });
    let mut next = || made.next().unwrap();
    Stores { blocks: next(), state: next(), index: next() }
}

/// What is read of a chain is what the world's chain holds.
pub fn is_genuine(chain: &Chain) {
    let head = chain.head();
    let height = head.height.get() as usize;
    assert_eq!(WORLD.ids.get(height), Some(&head.block_id), "a head that is not of the chain");
    for (n, good) in BLOCKS_READ.iter().enumerate() {
        let height = Height::saturating(n as u64);
        let block = chain.block(height);
        if height <= head.height {
            assert!(!matches!(block, Ok(None)), "block {n} is said not to be");
        }
        if let Ok(Some(block)) = block {
            assert_eq!(block.certificate, good.certificate, "another certificate of block {n}");
            assert_eq!(block.block, good.block, "another block {n}");
            assert_eq!((block.id, &block.tx_hashes), (good.id, &good.tx_hashes));
            assert_eq!(block.outcomes, good.outcomes, "other outcomes of block {n}");
        }
        if let Ok(Some((id, header))) = chain.header(height) {
            assert_eq!((id, &header), (good.id, &good.block.header), "another header {n}");
        }
        if let Ok(Some(certificate)) = chain.certificate(height) {
            assert_eq!(Some(certificate), good.certificate, "another certificate of {n}");
        }
    }
    for (address, expected) in WORLD.addresses.iter().zip(&WORLD.accounts) {
        let read = chain.account(address);
        if head.height.get() == BLOCKS
            && let Ok(read) = read
        {
            assert_eq!(read, *expected, "another balance of {address}");
        }
        let key = Key::account(address);
        let Ok(proven) = chain.prove(&key) else { continue };
        let root = &proven.header.state_root;
        let claim = proven.proof.verify(root, &key).expect("a proof that was given holds");
        let claimed = match claim {
            Claim::Present(value) => Some(Account::try_from(&value).unwrap()),
            Claim::Absent => None,
        };
        if let Ok(read) = read {
            assert_eq!(read, claimed, "what is read is not what is proved");
        }
    }
    let _ = (chain.settings(), chain.validators(), chain.supply());
}

/// What the index says of a chain that is whole is true, if it says it. Gives whether it says all.
pub fn index_is_genuine(chain: &Chain) -> bool {
    let index = chain.index();
    let mut says_all = true;
    for (n, block) in BLOCKS_READ.iter().enumerate() {
        let height = Height::saturating(n as u64);
        let found = chain.height_of(&block.id).ok().flatten();
        assert!(found.is_none_or(|found| found == height), "block {n} is found at {found:?}");
        says_all &= found.is_some();
        for (at, hash) in (0..).zip(&block.tx_hashes) {
            let place = index.transaction(hash).ok().flatten();
            let expected = Location { height, index: at };
            assert!(place.is_none_or(|place| place == expected), "{hash} is found at {place:?}");
            says_all &= place.is_some();
        }
    }
    let listed = index.richest(Amount::ZERO, None, usize::MAX).unwrap_or_default();
    for (address, balance) in &listed {
        let account = WORLD.addresses.iter().position(|known| known == address);
        let account = account.and_then(|at| WORLD.accounts[at]);
        // The list has accounts that the world does not name.
        assert!(account.is_none_or(|account| account.balance == *balance), "{address} {balance}");
    }
    says_all && !listed.is_empty()
}

pub fn run(input: &[u8]) {
    let (changes, _) = input.as_chunks::<6>();
    let changes = &changes[..changes.len().min(8)];
    let stores = stores(changes);
    let Ok(writer) = open(&stores, &WORLD.genesis) else { return };
    let chain = writer.chain();
    is_genuine(chain);
    if writer.wait_until_indexed().is_err() {
        return;
    }
    if changes.iter().all(|[store, ..]| *store % 3 != 2) {
        assert!(index_is_genuine(chain), "an index that nobody changed lacks something");
        return;
    }
    // The index is derived and not proved: what it says may be wrong, but it says it.
    let index = chain.index();
    let _ = (index.height(), index.transaction_count());
    for block in &*BLOCKS_READ {
        let _ = chain.height_of(&block.id);
        for hash in &block.tx_hashes {
            let _ = index.transaction(hash);
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for (store, tables) in TABLES.iter().enumerate() {
        for table in 0..tables.len() {
            for (row, what) in [(0, 0), (2, 0), (2, 2), (5, 7)] {
                seeds.push(vec![store as u8, table as u8, row, 0, what, 175]);
            }
        }
    }
    seeds
}

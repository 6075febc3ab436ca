//! Names, keys and record types of every table. The layout is written down in
//! `specs/state.md` and frozen by a test; a change needs a new
//! [`SCHEMA_VERSION`] and a migration.
//!
//! Records are rkyv archives, read in place after a bounds check; what is hashed or
//! signed lies inside of them in its canonical encoding. Keys are big-endian, so
//! that their order is the order of numbers.

use ait_engine::types::{Height, StateRoot};
use ait_storage::Table;
use rkyv::{Archive, Deserialize, Serialize};

use super::ChainError;

/// Version of the layout of all three stores.
pub(super) const SCHEMA_VERSION: u32 = 1;

// Store `blocks`.

/// `schema` and `genesis` rows of the store of blocks.
pub(super) const BLOCKS_META: Table = Table::new("blocks_meta");
/// Height -> [`BlockRecord`]: the commit point.
pub(super) const BLOCKS: Table = Table::new("blocks");
/// Height and block id -> canonical block: stored before it is voted for.
pub(super) const BODIES: Table = Table::new("bodies");

// Store `state`.

/// The one row of the state's [`StateMeta`].
pub(super) const STATE_META: Table = Table::new("state_meta");
/// Chunk number -> [`LeafChunk`].
pub(super) const LEAVES: Table = Table::new("leaves");
/// Entry number -> value of a leaf that is not 24 bytes long.
pub(super) const LONG_VALUES: Table = Table::new("long_values");
/// State key -> entry number.
pub(super) const KEYS: Table = Table::new("keys");
/// Tier and chunk number -> [`NodeChunk`].
pub(super) const NODES: Table = Table::new("nodes");

// Store `index`.

/// Version of the layout of the index. An index of another version is made again.
pub(super) const INDEX_VERSION: u32 = 2;
/// The one row of the [`IndexMeta`].
pub(super) const INDEX_META: Table = Table::new("index");
/// Runs of transaction hash and location.
pub(super) const TX_LOCATIONS: Table = Table::new("tx_location_runs");
/// Runs of address, side and location.
pub(super) const ACCOUNT_TXS: Table = Table::new("account_tx_runs");
/// Block id -> height.
pub(super) const BLOCK_HEIGHTS: Table = Table::new("block_heights");
/// Height -> transactions up to and including it, and the block's time.
pub(super) const TX_TOTALS: Table = Table::new("tx_totals");
/// Address -> time of the last block whose fees it got.
pub(super) const PAYOUTS: Table = Table::new("payouts");
/// Address -> balance under which it stands in [`RICHEST`].
pub(super) const LISTED: Table = Table::new("listed");
/// Descending balance, address -> nothing.
pub(super) const RICHEST: Table = Table::new("richest");
/// Receipt id -> location of its claim.
pub(super) const RECEIPTS: Table = Table::new("receipts");
/// Number of a claim in chain order -> its location.
pub(super) const RECEIPT_ORDER: Table = Table::new("receipt_order");

/// Tables of the index, and those that older versions of it had.
pub(super) const INDEX_TABLES: [Table; 13] = [
    INDEX_META,
    TX_LOCATIONS,
    ACCOUNT_TXS,
    BLOCK_HEIGHTS,
    TX_TOTALS,
    PAYOUTS,
    LISTED,
    RICHEST,
    RECEIPTS,
    RECEIPT_ORDER,
    Table::new("index_meta"),
    Table::new("tx_locations"),
    Table::new("account_txs"),
];

/// Key of a table's only row.
pub(super) const ONLY: &[u8] = b"";

/// What the store of blocks knows of a committed block beside its body.
#[derive(Archive, Serialize, Deserialize)]
pub(super) struct BlockRecord {
    pub(super) block_id: [u8; 32],
    /// Canonical header.
    pub(super) header: Vec<u8>,
    /// Canonical certificate; empty for genesis.
    pub(super) certificate: Vec<u8>,
    /// Canonical outcomes that have rewards, with their positions; the others follow from the body.
    pub(super) outcomes: Vec<(u32, Vec<u8>)>,
}

/// Which state the store of state holds.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(super) struct StateMeta {
    pub(super) schema: u32,
    pub(super) genesis: [u8; 32],
    pub(super) height: u64,
    pub(super) entry_count: u64,
    pub(super) root: [u8; 32],
}

impl StateMeta {
    pub(super) const fn height(&self) -> Height {
        Height::saturating(self.height)
    }

    pub(super) const fn root(&self) -> StateRoot {
        StateRoot(self.root)
    }
}

/// Leaves that lie together: the value must stay below a power of two with its row's
/// overhead, because the embedded engine rounds large values up to one.
pub(super) const LEAVES_PER_CHUNK: u64 = 504;
/// Groups of leaves that are hashed together, in one chunk.
pub(super) const GROUPS_PER_CHUNK: usize = 63;
/// Last value byte 0 of a slot whose value is in [`LONG_VALUES`]; no entry kind has it.
pub(super) const LONG_VALUE_MARK: u8 = 0xff;

/// [`LEAVES_PER_CHUNK`] leaves in order of their numbers: key, next, 24 bytes of value.
#[derive(Archive, Serialize, Deserialize)]
pub(super) struct LeafChunk {
    pub(super) slots: Vec<[u8; 64]>,
}

/// Levels of the tree in one node chunk.
pub(super) const NODE_ROWS: u8 = 6;
/// Nodes in one chunk: 32 + 16 + 8 + 4 + 2 + 1.
pub(super) const NODES_PER_CHUNK: usize = 63;

/// A subtree of [`NODE_ROWS`] levels, the lowest level first.
#[derive(Archive, Serialize, Deserialize)]
pub(super) struct NodeChunk {
    pub(super) hashes: [[u8; 32]; NODES_PER_CHUNK],
}

/// A run of sorted records.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunRecord {
    /// The first part of the keys of its rows.
    pub(super) id: u64,
    /// How many records it holds.
    pub(super) records: u64,
}

/// How far the index is.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default)]
pub(super) struct IndexMeta {
    pub(super) version: u32,
    pub(super) height: u64,
    /// Height up to which the list of accounts goes, and one more; 0 before there is a list.
    pub(super) listed: u64,
    pub(super) account_count: u64,
    pub(super) receipt_count: u64,
    pub(super) transaction_count: u64,
    pub(super) next_run: u64,
    /// Runs of [`TX_LOCATIONS`] and of [`ACCOUNT_TXS`], the oldest first.
    pub(super) tx_runs: Vec<RunRecord>,
    pub(super) account_runs: Vec<RunRecord>,
}

/// Bytes of a record.
pub(super) fn to_bytes<T>(record: &T) -> Result<Vec<u8>, ChainError>
where
    T: for<'a> Serialize<
        rkyv::api::high::HighSerializer<
            rkyv::util::AlignedVec,
            rkyv::ser::allocator::ArenaHandle<'a>,
            rkyv::rancor::Error,
        >,
    >,
{
    match rkyv::to_bytes::<rkyv::rancor::Error>(record) {
        Ok(bytes) => Ok(bytes.into_vec()),
        Err(error) => Err(ChainError::corrupt(format!("a record cannot be written: {error}"))),
    }
}

macro_rules! readers {
    ($($read:ident, $access:ident: $type:ty, $archived:ty, $what:literal;)*) => {
        $(
            #[doc = concat!("Reads ", $what, " in place.")]
            pub(super) fn $access(bytes: &[u8]) -> Result<&$archived, String> {
                rkyv::access::<$archived, rkyv::rancor::Error>(bytes)
                    .map_err(|error| format!(concat!($what, " cannot be read: {}"), error))
            }

            #[allow(dead_code, reason = "each record has both readers")]
            #[doc = concat!("Reads ", $what, ".")]
            pub(super) fn $read(bytes: &[u8]) -> Result<$type, ChainError> {
                let archived = $access(bytes).map_err(ChainError::corrupt)?;
                rkyv::deserialize::<$type, rkyv::rancor::Error>(archived)
                    .map_err(|error| ChainError::corrupt(format!(concat!($what, " cannot be read: {}"), error)))
            }
        )*
    };
}

readers! {
    read_block, access_block: BlockRecord, ArchivedBlockRecord, "a block record";
    read_state_meta, access_state_meta: StateMeta, ArchivedStateMeta, "the state's meta record";
    read_leaves, access_leaves: LeafChunk, ArchivedLeafChunk, "a leaf chunk";
    read_nodes, access_nodes: NodeChunk, ArchivedNodeChunk, "a node chunk";
    read_index_meta, access_index_meta: IndexMeta, ArchivedIndexMeta, "the index's meta record";
}

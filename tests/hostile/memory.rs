//! How much memory the node may have, from what it is configured with and its documented bounds:
//! the table of `specs/security.md`, Memory.

use ait_net::gossip::BATCH_BYTES_MAX;
use ait_net::limits::{
    ANSWERS_MIB_MAX, BATCHES_IN_BYTES_MAX, BATCHES_OUT_BYTES_MAX, BODIES_BYTES_MAX,
};
use ait_node::http::ANSWER_BYTES_MAX;
use ait_node::rpc::{BLOCKS_BYTES_MAX, LARGE_BODIES_BYTES_MAX, ORDINARY_BODIES_BYTES_MAX};

const MIB: u64 = 1 << 20;
/// As configured here: the state, page caches, pending transactions, connections.
pub const STATE_BYTES: u64 = 64 * MIB;
pub const CACHE_BYTES: u64 = 16 * MIB;
pub const MEMPOOL_BYTES: u64 = 16 * MIB;
pub const CONNECTIONS_MAX: u64 = 1_024;
/// A head and an answer that is no large one.
const CONNECTION_BYTES: u64 = 128 << 10;
/// The program, its threads, and what an allocator keeps.
const PROGRAM_BYTES: u64 = 64 * MIB;
/// Keys of senders, decompressed.
const KEYS_BYTES: u64 = 28 * MIB;
/// Blocks read or committed last.
const RECENT_BYTES: u64 = 160 * MIB;
/// Blocks that answers are made of, decoded and written out, and 32 other reads.
const READ_BYTES: u64 = 11 * BLOCKS_BYTES_MAX + 96 * MIB;
/// Bodies of requests, what is read of them, and those of blocks that are handed in.
const REQUEST_BYTES: u64 = (4 * ORDINARY_BODIES_BYTES_MAX + LARGE_BODIES_BYTES_MAX) as u64;
/// Bodies of peers that wait to be looked at, those of later heights, bodies kept to be served,
/// blocks of sync that wait, bodies that are coming.
const PEERS_BYTES: u64 = (128 + 64 + 96 + 64) * MIB + BODIES_BYTES_MAX as u64;
/// Batches of transactions that wait for peers, or came of them.
const BATCHES_BYTES: u64 = (BATCHES_OUT_BYTES_MAX + BATCHES_IN_BYTES_MAX) as u64;
/// What peers have sent and is not read yet, what they were sent and have not acknowledged, and a batch
/// that is coming, with as many as attack.
const CONNECTED_BYTES: u64 = 16 * (8 * MIB + BATCH_BYTES_MAX as u64);

/// The bound while HTTP or peers are attacked.
pub fn bytes_max(is_by_peers: bool) -> u64 {
    // Pending transactions have indexes of about their own size.
    let node = STATE_BYTES + CACHE_BYTES + 2 * MEMPOOL_BYTES + RECENT_BYTES + PROGRAM_BYTES;
    let node = node + KEYS_BYTES;
    let connections = CONNECTIONS_MAX * CONNECTION_BYTES;
    let attacked = match is_by_peers {
        true => ANSWERS_MIB_MAX as u64 * MIB + PEERS_BYTES + BATCHES_BYTES + CONNECTED_BYTES,
        false => ANSWER_BYTES_MAX as u64 + READ_BYTES + REQUEST_BYTES,
    };
    node + connections + attacked
}

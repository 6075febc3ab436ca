//! Bounds of what peers may send and of what is kept for them. What belongs to one part alone,
//! queues and rates say, is named at the top of its file.

use ait_engine::limits::{BLOCK_BODY_BYTES_MAX, VALIDATOR_COUNT_MAX};

/// Version of the protocol between nodes; part of the ALPN name.
pub const PROTOCOL_VERSION: u8 = 1;
/// Largest control frame, in bytes: a certificate of every validator, with room.
pub const CONTROL_FRAME_BYTES_MAX: usize = 512 * 1024;
/// Largest hello, in bytes.
pub const HELLO_BYTES_MAX: usize = 1_024;
/// Largest frame of a proposed block, in bytes.
pub const BODY_FRAME_BYTES_MAX: usize = BLOCK_BODY_BYTES_MAX as usize + 4_096;
/// Largest request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64;
/// Blocks of one answer at most.
pub const ANSWER_BLOCKS_MAX: u32 = 256;
/// Bytes of an answer's blocks, but for one block, which may be larger.
pub const ANSWER_BYTES: u32 = 4 * 1024 * 1024;
/// Largest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = ANSWER_BYTES as usize + BODY_FRAME_BYTES_MAX + 1024 * 1024;
/// Mebibytes of answers to all peers that are in memory at once, and to the peers of one host:
/// who does not take its answers must not fill it.
pub const ANSWERS_MIB_MAX: usize = 256;
/// See [`ANSWERS_MIB_MAX`].
pub const HOST_ANSWERS_MIB_MAX: usize = ANSWERS_MIB_MAX / 4;
/// Bytes of bodies that all peers are sending and that are in memory at once.
pub const BODIES_BYTES_MAX: usize = 128 << 20;
/// Bytes of batches of transactions that wait for all peers to take them, each counted once.
pub const BATCHES_OUT_BYTES_MAX: usize = 64 << 20;
/// Bytes of batches of all peers that are decoded and wait for the node.
pub const BATCHES_IN_BYTES_MAX: usize = 32 << 20;
/// Addresses of one message at most.
pub const ADDRESSES_MAX: usize = 64;
/// Neighbours of one message at most.
pub const NEIGHBOURS_MAX: usize = 256;
/// Longest name of a program, in bytes.
pub const AGENT_BYTES_MAX: usize = 64;

const _: () = assert!(VALIDATOR_COUNT_MAX * 96 * 2 < CONTROL_FRAME_BYTES_MAX);
const _: () = assert!(NEIGHBOURS_MAX * 32 < CONTROL_FRAME_BYTES_MAX);
const _: () = assert!(BODY_FRAME_BYTES_MAX * 2 < BODIES_BYTES_MAX);
const _: () = assert!(ANSWER_BYTES_MAX >> 20 < HOST_ANSWERS_MIB_MAX);

//! Every bound of the protocol, named once and with its unit.
//!
//! A bound that relates to another is checked at compile time. What may change
//! on chain is a parameter (see [`crate::params`]); what stands here is the hard
//! ceiling that no parameter may pass.
//!
//! Absent here: time-outs, queue sizes and other things of one node only.

/// Longest chain id, in bytes.
pub const CHAIN_ID_BYTES_MAX: usize = 32;
/// Largest amount of base units, and so the largest total supply: 2^63 - 1, what
/// a signed 64-bit column or a JSON reader of another language can hold.
pub const AMOUNT_MAX: u64 = i64::MAX as u64;
/// Largest encoded transaction, in bytes.
pub const TRANSACTION_BYTES_MAX: usize = 32 * 1024;
/// Largest payload of a transaction, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 24 * 1024;
/// Largest canonical receipt text, in bytes.
pub const RECEIPT_BYTES_MAX: usize = 16 * 1024;
/// Longest receipt id, job id, provider, client or unit type, in bytes.
pub const RECEIPT_TEXT_BYTES_MAX: usize = 128;
/// Deepest nesting of a receipt's JSON.
pub const RECEIPT_DEPTH_MAX: usize = 16;
/// Most attestations that one claim carries.
pub const ATTESTATION_COUNT_MAX: usize = 16;
/// Most parameters that one `PARAM_SET` changes.
pub const PARAM_CHANGE_COUNT_MAX: usize = 16;
/// Longest name of a parameter or a provider, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Most transactions in a block, whatever the parameters say.
pub const BLOCK_TRANSACTION_COUNT_MAX: u32 = 100_000;
/// Largest body (all transactions) of a block, in bytes.
pub const BLOCK_BODY_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// Most validators in a set.
pub const VALIDATOR_COUNT_MAX: usize = 1_000;
/// Largest total voting power: 2^53 - 1, below the consensus library's own bound
/// of `u64::MAX / 3` and exact in a JSON number.
pub const VOTING_POWER_MAX: u64 = (1 << 53) - 1;
/// Most coordinators in a genesis.
pub const COORDINATOR_COUNT_MAX: usize = 1_000;
/// Largest value of one state entry, in bytes.
pub const STATE_VALUE_BYTES_MAX: usize = 96 * 1024;
/// Most entries of the state tree: numbers fit in 40 bits.
pub const STATE_ENTRY_COUNT_MAX: u64 = 1 << 40;
/// How far a block's time may run ahead of its validator's clock, in milliseconds.
pub const BLOCK_TIME_DRIFT_MS_MAX: u64 = 10_000;

const _: () = assert!(PAYLOAD_BYTES_MAX < TRANSACTION_BYTES_MAX);
const _: () = assert!(RECEIPT_BYTES_MAX + ATTESTATION_COUNT_MAX * 96 + 128 < PAYLOAD_BYTES_MAX);
const _: () = assert!(TRANSACTION_BYTES_MAX < BLOCK_BODY_BYTES_MAX as usize);
const _: () = assert!(VOTING_POWER_MAX < u64::MAX / 3);
const _: () = assert!(VALIDATOR_COUNT_MAX * 80 + 16 < STATE_VALUE_BYTES_MAX);

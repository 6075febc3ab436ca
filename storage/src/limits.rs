//! The bounds every engine holds a batch to, checked before anything is written.
//!
//! No engine has a limit of its own: what one accepts, all accept.

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest table name, in bytes.
pub const TABLE_NAME_BYTES_MAX: usize = 64;

/// Keys and values of one batch together, in bytes.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024 * 1024;

const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!(TABLE_NAME_BYTES_MAX <= KEY_BYTES_MAX);

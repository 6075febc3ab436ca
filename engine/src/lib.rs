//! The deterministic core: types, canonical encoding, signatures, state
//! transition, state commitment, certificates and proofs.
//!
//! Every function here depends on its arguments alone. No clock, no I/O, no
//! async, no threads whose order shows, no floats, no hash-map order, no
//! randomness, no logging.

pub mod codec;
pub mod hash;
pub mod limits;
pub mod types;

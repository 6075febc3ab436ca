//! The devnet: a chain whose every key follows from one seed, and development
//! accounts that stand under plain names.
//!
//! Whoever knows the seed owns the chain. Nothing here may be reached by `run`.

mod accounts;
mod plan;

#[cfg(test)]
mod tests;

pub use accounts::{DevAccounts, NameError, is_plain_name};
pub use plan::{DEVNET_CHAIN_ID, DevnetPlan, FUNDED_BALANCE, FUNDED_NAMES, FundedAccount};

//! Promises that can be broken.

use ait_engine::types::{Address, StateRoot, TxHash};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two nodes have different blocks, or states, at one height.
    #[error("height {height}: node {node} has {found}, another {known}")]
    Fork {
        /// The height.
        height: u64,
        /// The later node.
        node: usize,
        /// Its block and root.
        found: String,
        /// Those that another had.
        known: String,
    },
    /// The state of a node is not that of the header.
    #[error("height {height}: the state of node {node} has root {found}, the header {expected}")]
    Root {
        /// The height.
        height: u64,
        /// The node.
        node: usize,
        /// The root of its state.
        found: StateRoot,
        /// The root that the final header names.
        expected: StateRoot,
    },
    /// A final block cannot be read any more as it was.
    #[error("node {node} lost the final block {height}, or changed it: {what}")]
    Changed {
        /// The node.
        node: usize,
        /// The height.
        height: u64,
        /// What is there.
        what: String,
    },
    /// A committed block is not proved final.
    #[error("height {height}: node {node} committed a block without a good certificate: {reason}")]
    Certificate {
        /// The height.
        height: u64,
        /// The node.
        node: usize,
        /// What is wrong.
        reason: String,
    },
    /// Heights must come one after the other, also over restarts.
    #[error("node {node} committed height {found} after {before}")]
    Order {
        /// The node.
        node: usize,
        /// The height before.
        before: u64,
        /// The height.
        found: u64,
    },
    /// What was final is not there after a restart.
    #[error("node {node} was at height {before}, and after a restart at {found}")]
    Lost {
        /// The node.
        node: usize,
        /// The height before.
        before: u64,
        /// The height after.
        found: u64,
    },
    /// A validator that follows the rules signed two things at one place.
    #[error("validator {node} signed twice: {what}")]
    SignedTwice {
        /// Which.
        node: usize,
        /// Where.
        what: String,
    },
    /// A transaction is in two blocks, or a block has what nobody sent.
    #[error("height {height}: transaction {hash} {what}")]
    Transaction {
        /// The height.
        height: u64,
        /// Which.
        hash: TxHash,
        /// What is wrong.
        what: &'static str,
    },
    /// An accepted transaction is neither final nor pending, or never becomes final.
    #[error("transaction {hash}, accepted by node {node}, is not final: {what}")]
    Unfinished {
        /// Which.
        hash: TxHash,
        /// Who accepted it.
        node: usize,
        /// What is known of it.
        what: String,
    },
    /// A node holds other balances than the model.
    #[error("node {node}: account {address} holds {found}, expected {expected}")]
    Balance {
        /// Which node.
        node: usize,
        /// Which account.
        address: Address,
        /// What it holds.
        found: String,
        /// What the model says.
        expected: String,
    },
    /// The tokens are not as many as at genesis.
    #[error("node {node}: the supply is {found}, expected {expected}")]
    Supply {
        /// Which node.
        node: usize,
        /// What it says.
        found: u128,
        /// What genesis had.
        expected: u64,
    },
    /// The index does not say what the chain does.
    #[error("node {node}: the index {what}")]
    Index {
        /// Which node.
        node: usize,
        /// What is wrong.
        what: String,
    },
    /// A node neither holds an accepted transaction nor says why not.
    #[error("node {node} accepted transaction {hash} and {what}")]
    Forgotten {
        /// Which node.
        node: usize,
        /// Which.
        hash: TxHash,
        /// What became of it.
        what: String,
    },
    /// What can never be valid was accepted.
    #[error("node {node} accepted {what}")]
    Accepted {
        /// Which node.
        node: usize,
        /// What.
        what: String,
    },
    /// Something was recorded or sent before what it rests on was synced.
    #[error("validator {node} {what}")]
    Barrier {
        /// Which.
        node: usize,
        /// What it did.
        what: &'static str,
    },
    /// A node that follows the rules was banned by another that does.
    #[error("node {by} cuts off node {node}: {reason}")]
    Banned {
        /// Who was banned.
        node: usize,
        /// By whom.
        by: usize,
        /// Why.
        reason: String,
    },
    /// Nothing is wrong any more, and a block takes more rounds than it should.
    #[error("height {height} was made in round {found}, expected at most {expected}")]
    Rounds {
        /// The height.
        height: u64,
        /// Its round.
        found: u64,
        /// The last one that is good enough.
        expected: u64,
    },
    /// Nothing goes on although nothing is wrong any more.
    #[error("no progress: {0}")]
    Stalled(String),
    /// Time stands still, and the processor is busy.
    #[error("a node never comes to rest at {0} ms")]
    Busy(u64),
    /// Something panicked.
    #[error("a panic: {0}")]
    Panicked(String),
    /// A part failed by itself.
    #[error("node {node} failed: {reason}")]
    Failed {
        /// Which.
        node: usize,
        /// Why.
        reason: String,
    },
}

//! The node: command line, configuration, mempool, sequencer, RPC and wiring.
//!
//! No rule that decides whether a transaction or a block is valid lives here.

pub mod archive;
pub mod behind;
pub mod bench;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consensus;
pub mod coordinator;
pub mod cross_site;
pub mod devnet;
pub mod disk;
pub mod divergence;
pub mod evidence;
pub mod gossip;
pub mod health;
pub mod http;
pub mod import;
pub mod ingress;
pub mod keystore;
pub mod mempool;
pub mod network;
pub mod node;
#[doc(hidden)]
pub mod planted;
pub mod receipts;
pub mod replay;
pub mod rpc;
pub mod sequencer;
pub mod sim;
mod synced;
pub mod telemetry;
pub mod testnet;

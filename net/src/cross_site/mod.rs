//! Sync with other sites over HTTP, for sites that cannot speak UDP with each other:
//! blocks are pulled, pending transactions go both ways.
//!
//! [`CrossSite`] decides and does no I/O; [`run`] does what it says. What a remote sends
//! is never believed: blocks go the way of `blocks/import`, transactions that of `sendTx`.
//! `specs/cross_site.md` has the rules.

mod client;
mod core;
mod driver;
mod mempool;
mod port;
mod remote;

pub use client::{ClientError, RemoteClient};
pub use core::{CrossSite, RANGE_BLOCKS_MAX};
pub use driver::{Imports, Local, RemoteLine, run};
pub use port::{
    CrossSiteOptions, Effect, Failure, ImportFault, Input, LocalPage, MempoolPage, Remote,
    RemoteBlock, RemoteHead, RemoteReason, RemoteStatus, RemoteUrl,
};

#[cfg(test)]
mod tests;

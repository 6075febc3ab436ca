//! The mock coordinator of a devnet: jobs, attestation with a real key, and the old
//! mock's endpoints and metrics.
//!
//! It keeps its book in memory: after a restart it does not know what it attested. That
//! a receipt and a job are claimed once is the chain's rule and not this one's. No
//! chain state is read or written here.

mod attest;
mod jobs;
mod metrics;
mod routes;
mod server;
mod text;

#[cfg(test)]
mod tests;

pub use attest::{AttestRefusal, Coordinator};
pub use jobs::{Counters, Job, JobBook, ORDERED_JOB_COUNT_MAX, Order, SIMULATED_JOB_COUNT_MAX};
pub use server::{DEFAULT_PORT, ServeError, Serving, serve};

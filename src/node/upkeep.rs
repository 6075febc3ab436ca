//! What a node does every now and then: pending transactions to disk, old ones dropped, a
//! look at how it does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::chain::Chain;
use crate::health::Watchdog;
use crate::ingress::Clock;
use crate::mempool::Mempool;
use crate::telemetry::metrics;

/// How often.
const UPKEEP: Duration = Duration::from_millis(250);

/// What is done every now and then.
pub(super) struct Upkeep {
    pub(super) chain: Chain,
    pub(super) mempool: Arc<Mempool>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) clock: Clock,
    pub(super) failure: Arc<Mutex<Option<String>>>,
    pub(super) health: Arc<Watchdog>,
}

impl Upkeep {
    pub(super) fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(UPKEEP);
            self.mempool.sweep((self.clock)());
            let flushed = self.mempool.flush();
            if let Err(error) = &flushed {
                // Latched by the mempool, which refuses from now on.
                tracing::error!(%error, "pending transactions cannot be synced");
            }
            let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let failure = failure.or_else(|| self.mempool.failure());
            let has_work = self.mempool.has_executable();
            self.health.observe(Instant::now(), self.chain.state_height(), has_work, failure);
            metrics::upkeep();
        }
    }
}

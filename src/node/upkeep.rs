//! What a node does every now and then: pending transactions to disk, old ones dropped, a
//! look at how it does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::chain::Chain;
use crate::disk::{Disk, Shortage};
use crate::health::{Looked, Watchdog};
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
    pub(super) disk: Arc<Disk>,
}

impl Upkeep {
    pub(super) fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(UPKEEP);
            let before = self.disk.shortage();
            let shortage = self.look_at_disk(before);
            if shortage.is_none() {
                self.mempool.sweep((self.clock)());
            }
            // Latched by the mempool, which refuses from now on.
            match (before, shortage) {
                (_, Some(Shortage::ReadOnly)) => {}
                // Of what was written last it is not known whether it is there.
                (Some(Shortage::ReadOnly), _) => {
                    if let Err(error) = self.mempool.compact() {
                        tracing::error!(%error, "pending transactions cannot be written again");
                    }
                }
                _ => {
                    if let Err(error) = self.mempool.flush() {
                        tracing::error!(%error, "pending transactions cannot be synced");
                    }
                }
            }
            let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let failure = failure.or_else(|| self.mempool.failure().map(|fault| fault.to_string()));
            let has_work = self.mempool.has_executable();
            let height = self.chain.state_height();
            let damage = self.chain.damage();
            let looked = Looked { height, has_work, shortage, damage, failure };
            self.health.observe(Instant::now(), looked);
            metrics::state_memory(self.chain.state_memory_bytes());
            metrics::upkeep();
        }
    }

    /// Whether there is room on the disk, told to those who ask less often.
    fn look_at_disk(&self, before: Option<Shortage>) -> Option<Shortage> {
        let shortage = self.disk.look().unwrap_or_else(|error| {
            tracing::warn!(%error, "the disk of the data directory cannot be looked at");
            before
        });
        match (before, shortage) {
            (None, Some(shortage)) => {
                tracing::error!(%shortage, "paused: the node only reads until there is room");
            }
            (Some(_), None) => tracing::info!("there is room on the disk: the node goes on"),
            _ => {}
        }
        self.mempool.pause(shortage);
        metrics::disk(self.disk.free_bytes(), shortage.is_some());
        shortage
    }
}

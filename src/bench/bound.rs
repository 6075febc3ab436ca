//! The limits of the machine that a figure is compared with, measured in the same run.

use std::fs::File;
use std::io::Write;
use std::num::NonZero;
use std::path::Path;
use std::time::{Duration, Instant};

use ait_engine::crypto::{Item, KeyCache, verify_batch_by_library};
use ait_engine::transaction::{Transaction, verify_transactions};

use crate::ingress::IngressOptions;

/// Signatures of a batch, as on the node's way in.
const BATCH: usize = 512;
const SYNCS: usize = 50;
const SYNCED_BYTES: usize = 4_096;
/// Longest pause between two.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Transactions a second whose signatures all cores together verify in batches, doing nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// As the signature library verifies batches: the yardstick, which is the machine's alone.
    pub library: f64,
    /// As this node does.
    pub node: f64,
}

impl Bounds {
    /// Measures both with these very transactions, over and over for about `time` each.
    pub(super) fn measure(transactions: &[Transaction], time: Duration) -> Self {
        // As many keys as on the node's way in.
        let cache = &KeyCache::new(IngressOptions::default().cached_keys);
        let by_library = |chunk: &[Transaction]| {
            let hashes: Vec<_> = chunk.iter().map(Transaction::hash).collect();
            let item = |(one, hash): (&Transaction, _)| (one.public_key, hash, one.signature);
            let items: Vec<Item<'_>> = chunk
                .iter()
                .zip(hashes.iter().map(|hash| hash.as_bytes().as_slice()))
                .map(item)
                .collect();
            let bad = verify_batch_by_library(&items, Some(cache)).err();
            chunk.len() - bad.map_or(0, |bad| bad.len())
        };
        let as_here = |chunk: &[Transaction]| {
            let results = verify_transactions(chunk.to_vec(), Some(cache));
            results.iter().filter(|result| result.is_ok()).count()
        };
        Self {
            library: rate(transactions, time, by_library),
            node: rate(transactions, time, as_here),
        }
    }

    /// The mean of two measurements.
    pub(super) const fn midpoint(self, other: Self) -> Self {
        let library = f64::midpoint(self.library, other.library);
        Self { library, node: f64::midpoint(self.node, other.node) }
    }
}

/// How many a second all cores verify.
fn rate(
    transactions: &[Transaction],
    time: Duration,
    verify: impl Fn(&[Transaction]) -> usize + Sync,
) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (began, verify) = (Instant::now(), &verify);
    let verified: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|core| {
                scope.spawn(move || {
                    let mut chunks = transactions.chunks(BATCH).cycle().skip(core);
                    let mut verified = 0;
                    while began.elapsed() < time {
                        // Each thread takes every n-th batch.
                        let Some(chunk) = chunks.nth(cores - 1) else { break };
                        verified += verify(chunk);
                    }
                    verified
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let verified = verified as f64;
    verified / began.elapsed().as_secs_f64()
}

/// How long a disk takes to append 4 KiB to a file and sync it.
#[derive(Debug, Clone, Copy)]
pub struct SyncTimes {
    /// Median of one after the other.
    pub tight: Duration,
    /// Median at the pace of the load's hand-overs, if it has a rate, but at 50 a second at
    /// least: a machine that has rested takes longer.
    pub paced: Option<Duration>,
}

impl SyncTimes {
    /// Measures in this directory; `pause` is between two of the load.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn measure(directory: &Path, pause: Option<Duration>) -> std::io::Result<Self> {
        let paced = pause.map(|pause| sync_time(directory, pause.min(PAUSE_MAX))).transpose()?;
        Ok(Self { tight: sync_time(directory, Duration::ZERO)?, paced })
    }
}

fn sync_time(directory: &Path, pause: Duration) -> std::io::Result<Duration> {
    let path = directory.join("sync-probe");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        std::thread::sleep(pause);
        let began = Instant::now();
        file.write_all(&[7; SYNCED_BYTES])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    drop(file);
    std::fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}

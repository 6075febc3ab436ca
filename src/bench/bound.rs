//! The limits of the machine that a figure is compared with, measured in the same run.

use std::fs::File;
use std::io::Write;
use std::num::NonZero;
use std::path::Path;
use std::time::{Duration, Instant};

use ait_engine::crypto::KeyCache;
use ait_engine::transaction::{Transaction, verify_transactions};

use crate::ingress::IngressOptions;

/// Signatures of a batch, as on the node's way in.
const BATCH: usize = 512;
const SYNCS: usize = 50;
const SYNCED_BYTES: usize = 4_096;

/// Transactions a second whose signatures all cores together verify in batches, doing
/// nothing else; these very transactions, over and over for about `time`.
#[must_use]
pub(super) fn signatures(transactions: &[Transaction], time: Duration) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    // As many keys as on the node's way in.
    let cache = &KeyCache::new(IngressOptions::default().cached_keys);
    let began = Instant::now();
    let verified: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|core| {
                scope.spawn(move || {
                    let mut chunks = transactions.chunks(BATCH).cycle().skip(core);
                    let mut verified = 0;
                    while began.elapsed() < time {
                        // Each thread takes every n-th batch.
                        let Some(chunk) = chunks.nth(cores - 1) else { break };
                        let results = verify_transactions(chunk.to_vec(), Some(cache));
                        verified += results.iter().filter(|result| result.is_ok()).count();
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

/// Median time to append 4 KiB to a file in this directory and sync it.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn sync_time(directory: &Path) -> std::io::Result<Duration> {
    let path = directory.join("sync-probe");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
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

//! What a benchmark says: one JSON object, and words for people.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::bound::{Bounds, SyncTimes};
use super::drive::Driven;
use super::record::Record;
use super::{BenchError, BenchOptions, Driver, float};

/// The figures of a run.
#[derive(Debug)]
pub struct Report {
    /// What was noted.
    pub record: Record,
    /// Seconds that were measured.
    pub seconds: f64,
    /// Final transactions a second.
    pub tps: f64,
    /// Transactions a second whose signatures all cores verify, doing nothing else.
    pub bounds: Bounds,
    /// Seconds that each stage worked.
    pub stages: BTreeMap<String, f64>,
    /// Accounts of the chain, if it was made for the run.
    pub accounts: Option<u64>,
    /// Height at the end.
    pub height: Option<u64>,
    /// How long the indexes needed after the last block.
    pub index_lag: Option<Duration>,
    /// Time to append 4 KiB and sync it.
    pub sync: Option<SyncTimes>,
    /// How long after the end the last one was final, or why one never was.
    pub drained: Result<Duration, String>,
    /// Size of the node's files.
    pub disk_bytes: Option<u64>,
    /// Largest resident memory of this process, generator included.
    pub peak_memory_bytes: Option<u64>,
    /// What was run.
    pub setting: Value,
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

impl Report {
    pub(super) fn new(
        options: &BenchOptions,
        driven: Driven,
        bounds: Bounds,
        sync: Option<SyncTimes>,
    ) -> Result<Self, BenchError> {
        let Driven { record, seconds, stages, drained, rest: _ } = driven;
        if record.final_count == 0 {
            let refused: Vec<String> =
                record.refused.iter().map(|(code, count)| format!("{count} {code}")).collect();
            // A refusal comes first: what follows of the same sender waits for its nonce.
            let why = match drained {
                _ if !refused.is_empty() => format!("refused were {}", refused.join(", ")),
                Err(why) => why,
                Ok(_) => "none was sent".to_owned(),
            };
            return Err(BenchError::Nothing { why });
        }
        Ok(Self {
            tps: float(record.final_count) / seconds,
            record,
            seconds,
            bounds,
            stages,
            accounts: match &options.driver {
                Driver::Embedded(embedded) => Some(embedded.accounts),
                Driver::Remote { .. } => None,
            },
            height: None,
            index_lag: None,
            sync,
            drained,
            disk_bytes: None,
            peak_memory_bytes: None,
            setting: setting(options),
        })
    }

    /// Final transactions for each signature that the library would verify in the same time.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.tps / self.bounds.library
    }

    /// Share of what this node verifies with nothing else to do.
    #[must_use]
    pub fn verify_ratio(&self) -> f64 {
        self.tps / self.bounds.node
    }

    /// Share of all stages' work, by stage.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<&str, f64> {
        let all: f64 = self.stages.values().sum();
        self.stages.iter().map(|(name, seconds)| (name.as_str(), seconds / all.max(1e-9))).collect()
    }

    /// The JSON object.
    #[must_use]
    pub fn object(&self) -> Value {
        let Record { finals, answers, .. } = &self.record;
        let shares = self.shares();
        let stages: BTreeMap<&str, Value> = self
            .stages
            .iter()
            .map(|(name, busy)| {
                let share = shares.get(name.as_str()).copied().unwrap_or_default();
                let of_a_core = busy / self.seconds;
                let stage = json!({
                    "seconds": round(*busy),
                    "share": round(share),
                    "of_a_core": round(of_a_core),
                });
                (name.as_str(), stage)
            })
            .collect();
        json!({
            "tps": round(self.tps),
            "signature_bound": round(self.bounds.library),
            "ratio": round(self.ratio()),
            "verify_bound": round(self.bounds.node),
            "verify_ratio": round(self.verify_ratio()),
            "accounts": self.accounts,
            "final_txs": self.record.final_count,
            "blocks": self.record.blocks,
            "seconds": round(self.seconds),
            "p50_ms": round(finals.quantile_ms(0.5)),
            "p90_ms": round(finals.quantile_ms(0.9)),
            "p99_ms": round(finals.quantile_ms(0.99)),
            "max_ms": round(finals.quantile_ms(1.0)),
            "answer_p50_ms": round(answers.quantile_ms(0.5)),
            "answer_p99_ms": round(answers.quantile_ms(0.99)),
            "stages": stages,
            "refused": self.record.refused,
            "tried_again": self.record.tried_again,
            "drained_seconds": self.drained.as_ref().ok().map(|time| round(time.as_secs_f64())),
            "not_final_because": self.drained.as_ref().err(),
            "height": self.height,
            "index_lag_seconds": self.index_lag.map(|time| round(time.as_secs_f64())),
            "sync_ms": self.sync.map(|sync| round(millis(sync.tight))),
            "paced_sync_ms": self.sync.and_then(|sync| sync.paced).map(|time| round(millis(time))),
            "disk_bytes": self.disk_bytes,
            "peak_memory_bytes": self.peak_memory_bytes,
            "setting": self.setting,
        })
    }

    /// The same for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let Record { finals, answers, blocks, final_count, .. } = &self.record;
        let blocks_a_second = float(*blocks) / self.seconds;
        let at = |share| finals.quantile_ms(share);
        let mut lines = vec![
            format!("{:.0} final transactions a second over {:.1} s", self.tps, self.seconds),
            format!(
                "  signatures   {:.0} a second is what the library verifies on all cores: {:.2} of it",
                self.bounds.library,
                self.ratio()
            ),
            format!(
                "  verifying    {:.0} a second is what the node does with nothing else: {:.2} of it",
                self.bounds.node,
                self.verify_ratio()
            ),
            format!(
                "  blocks       {blocks} ({blocks_a_second:.1} a second) with {:.0} transactions each",
                float(*final_count) / float((*blocks).max(1))
            ),
            format!(
                "  to final     p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
                at(0.5),
                at(0.9),
                at(0.99),
                at(1.0)
            ),
            format!(
                "  to answer    p50 {:.1} ms, p99 {:.1} ms",
                answers.quantile_ms(0.5),
                answers.quantile_ms(0.99)
            ),
        ];
        if !self.stages.is_empty() {
            let mut stages: Vec<_> = self.stages.iter().collect();
            stages.sort_by(|a, b| b.1.total_cmp(a.1));
            let shown = stages
                .iter()
                .map(|(name, busy)| format!("{name} {:.0} %", **busy / self.seconds * 100.0));
            lines.push(format!("  of a core    {}", shown.collect::<Vec<_>>().join(", ")));
        }
        if let (Some(bytes), Some(accounts)) = (self.disk_bytes, self.accounts) {
            lines.push(format!("  on disk      {} MB for {accounts} accounts", bytes >> 20));
        }
        if let Some(bytes) = self.peak_memory_bytes {
            lines.push(format!("  memory       {} MB, with what was signed before", bytes >> 20));
        }
        if let Some(lag) = self.index_lag {
            lines.push(format!("  indexes      {:.1} s behind at the end", lag.as_secs_f64()));
        }
        if let Some(sync) = self.sync {
            let paced = sync.paced.map(|time| format!(", {:.2} ms at this rate", millis(time)));
            lines.push(format!(
                "  disk         {:.2} ms to append 4 KiB and sync{}",
                millis(sync.tight),
                paced.unwrap_or_default()
            ));
        }
        for (code, count) in &self.record.refused {
            lines.push(format!("  refused      {count}: {code}"));
        }
        if let Err(why) = &self.drained {
            lines.push(format!(
                "  NOT FINAL    some that were accepted; of one the node says: {why}"
            ));
        }
        lines
    }
}

fn setting(options: &BenchOptions) -> Value {
    let target = match &options.driver {
        Driver::Embedded(embedded) => json!({
            "target": "embedded",
            "engine": embedded.engine.to_string(),
            "block_interval_ms": u64::try_from(embedded.block_interval.as_millis()).ok(),
            "block_transactions": embedded.block_transactions,
            "index": embedded.index,
        }),
        Driver::Remote { urls, .. } => json!({ "target": "remote", "urls": urls }),
    };
    json!({
        "workload": options.workload.name(),
        "node": target,
        "senders": options.senders,
        "loop": if options.drive.rate.is_some() { "open" } else { "closed" },
        "rate": options.drive.rate,
        "in_flight": options.drive.in_flight,
        "batch": options.drive.batch,
        "connections": options.drive.connections,
        "cores": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "seed": options.seed,
    })
}

/// Three digits after the point.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Bytes of all files below a directory.
pub(super) fn disk_bytes(directory: &Path) -> std::io::Result<u64> {
    let mut sum = 0_u64;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}

/// Largest resident memory of this process so far, where the system tells.
pub(super) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

//! The old mock's series, in its text format: name and value, no labels.

use std::fmt::Write as _;

use super::JobBook;

/// The metrics page.
pub(super) fn page(book: &JobBook) -> String {
    let counters = book.counters();
    let finished = book.finished_count();
    let error_rate = if finished == 0 { 0.0 } else { ratio(counters.failed, finished) };
    let open = book.open_count() as u64;
    let mut out = String::new();
    for (name, kind, value) in [
        ("coordinator_jobs_submitted_total", "counter", counters.submitted),
        ("coordinator_jobs_completed_total", "counter", counters.completed),
        ("coordinator_jobs_failed_total", "counter", counters.failed),
        ("miner_active_jobs", "gauge", open.min(4)),
        ("miner_queue_depth", "gauge", open.saturating_sub(4)),
        ("miner_receipts_attested_total", "counter", counters.receipts_attested),
        ("miner_receipts_unknown_total", "counter", counters.receipts_unknown),
    ] {
        write_value(&mut out, name, kind, ratio(value, 1));
    }
    write_value(&mut out, "miner_error_rate", "gauge", error_rate);
    let submitted = counters.submitted;
    for (name, count, sum) in [
        ("coordinator_job_price", submitted, ratio(counters.price_sum, 1)),
        ("coordinator_job_compute_units", submitted, ratio(counters.units_sum, 1)),
        ("miner_job_duration_seconds", finished, ratio(counters.duration_ms_sum, 1_000)),
    ] {
        // Writing to a string never fails.
        let _ = writeln!(out, "# TYPE {name} summary\n{name}_count {count}\n{name}_sum {sum:?}");
    }
    out
}

fn write_value(out: &mut String, name: &str, kind: &str, value: f64) {
    let _ = writeln!(out, "# TYPE {name} {kind}\n{name} {value:?}");
}

#[expect(clippy::cast_precision_loss, reason = "a figure on a dashboard")]
fn ratio(value: u64, divisor: u64) -> f64 {
    value as f64 / divisor as f64
}

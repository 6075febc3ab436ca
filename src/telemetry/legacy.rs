//! The old node's metric names, and those that its dashboards and alerts asked for in
//! vain. Without labels, as they were; a summary is `_count` and `_sum` and more.

use std::time::Duration;

use ait_engine::block::Header;
use metrics::{Counter, Histogram, counter, gauge, histogram};
use warp::http::StatusCode;

/// Operations that the old node counted.
const OPERATIONS: [&str; 17] = [
    "get_head",
    "get_block",
    "get_blocks",
    "get_blocks_range",
    "get_transaction",
    "get_transactions",
    "get_receipt",
    "get_receipts",
    "get_balance",
    "get_address",
    "get_addresses",
    "send_tx",
    "submit_receipt",
    "estimate_fee",
    "mint_faucet",
    "import_block",
    "sync_status",
];

/// Counters that a dashboard expects to see before they count.
const COUNTERS: [&str; 31] = [
    "blocks_proposed_total",
    "poa_proposer_rotations_total",
    "poa_propose_errors_total",
    "poa_db_errors_total",
    "circuit_breaker_trips_total",
    "blocks_skipped_circuit_breaker_total",
    "mempool_tx_added_total",
    "mempool_tx_drained_total",
    "mempool_evictions_total",
    "rpc_client_errors_total",
    "rpc_server_errors_total",
    "rpc_unhandled_errors_total",
    "rpc_rate_limited_total",
    "rpc_request_failures_total",
    "sync_blocks_received_total",
    "sync_blocks_accepted_total",
    "sync_blocks_rejected_total",
    "sync_blocks_duplicate_total",
    "sync_blocks_stale_total",
    "sync_blocks_gap_total",
    "sync_forks_detected_total",
    "sync_reorgs_total",
    "sync_reorg_rejected_total",
    "sync_signature_validated_total",
    "sync_signature_rejected_total",
    "gossip_publications_total",
    "gossip_publications_topic_blocks",
    "gossip_publications_topic_transactions",
    "gossip_broadcast_publications_total",
    "gossip_broadcast_publications_topic_blocks",
    "gossip_broadcast_publications_topic_transactions",
];

/// Gauges that a dashboard expects to see before they are set.
const GAUGES: [&str; 15] = [
    "chain_head_height",
    "blockchain_block_height",
    "poa_last_block_interval_seconds",
    "poa_proposer_running",
    "last_block_tx_count",
    "last_block_total_fees",
    "circuit_breaker_state",
    "mempool_queue_depth",
    "sync_chain_height",
    "sync_reorg_depth",
    "gossip_queue_size_blocks",
    "gossip_queue_size_transactions",
    "gossip_subscribers_topic_blocks",
    "gossip_subscribers_topic_transactions",
    "gossip_subscribers_total",
];

#[expect(clippy::cast_precision_loss, reason = "a figure on a dashboard")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// Makes every name visible before its first event.
pub(super) fn register() {
    for name in COUNTERS {
        counter!(name).increment(0);
    }
    for name in GAUGES {
        gauge!(name).set(0.0);
    }
    for operation in OPERATIONS {
        counter!(format!("rpc_{operation}_total")).increment(0);
    }
}

/// What an answer to a request counts into.
pub(super) fn request(
    route: &'static str,
    status: StatusCode,
) -> (Vec<Counter>, Option<Histogram>) {
    let mut counters = Vec::new();
    if status.is_client_error() {
        counters.push(counter!("rpc_client_errors_total"));
        counters.push(counter!("rpc_request_failures_total"));
    } else if status.is_server_error() {
        counters.push(counter!("rpc_server_errors_total"));
        counters.push(counter!("rpc_request_failures_total"));
    }
    // The design's names of an operation count as the operation.
    let operation = route.strip_suffix("_alias").unwrap_or(route);
    if !OPERATIONS.contains(&operation) {
        return (counters, None);
    }
    counters.push(counter!(format!("rpc_{operation}_total")));
    let duration = histogram!(format!("rpc_{operation}_duration_seconds"));
    let outcome = match status.as_u16() {
        200..=299 => "success",
        404 => "not_found",
        400..=499 => "rejected",
        _ => "failed",
    };
    counters.push(counter!(format!("rpc_{operation}_{outcome}_total")));
    (counters, Some(duration))
}

/// A block was handed in.
pub(super) fn import(result: &'static str) {
    counter!("sync_blocks_received_total").increment(1);
    let names: &[&'static str] = match result {
        "imported" => &[
            "rpc_import_block_accepted_total",
            "sync_blocks_accepted_total",
            "sync_signature_validated_total",
        ],
        "exists" => &["rpc_import_block_exists_total", "sync_blocks_duplicate_total"],
        "conflict" => &[
            "rpc_import_block_conflict_total",
            "sync_forks_detected_total",
            "sync_blocks_rejected_total",
        ],
        "unknown_parent" => &["rpc_import_block_orphan_total", "sync_blocks_gap_total"],
        "bad_hash" => &["rpc_import_block_invalid_hash_total", "sync_blocks_rejected_total"],
        "bad_certificate" | "certificate_missing" => {
            &["sync_signature_rejected_total", "sync_blocks_rejected_total"]
        }
        _ => &["sync_blocks_rejected_total"],
    };
    for name in names {
        counter!(*name).increment(1);
    }
}

pub(super) fn built(took: Duration) {
    histogram!("block_build_duration_seconds").record(took.as_secs_f64());
}

pub(super) fn opened(height: u64) {
    for name in ["chain_head_height", "blockchain_block_height", "sync_chain_height"] {
        gauge!(name).set(float(height));
    }
    gauge!("poa_proposer_running").set(1.0);
}

pub(super) fn committed(header: &Header, fees: u64, since: Option<Duration>) {
    opened(header.height.get());
    counter!("blocks_proposed_total").increment(1);
    counter!("mempool_tx_drained_total").increment(u64::from(header.transaction_count));
    gauge!("last_block_tx_count").set(f64::from(header.transaction_count));
    gauge!("last_block_total_fees").set(float(fees));
    let proposer: String = header
        .proposer
        .to_string()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    counter!(format!("poa_blocks_proposed_total_{proposer}")).increment(1);
    if let Some(since) = since {
        gauge!("poa_last_block_interval_seconds").set(since.as_secs_f64());
    }
}

pub(super) fn mempool(added: u64, evicted: u64, size: u64) {
    counter!("mempool_tx_added_total").increment(added);
    counter!("mempool_evictions_total").increment(evicted);
    gauge!("mempool_queue_depth").set(float(size));
}

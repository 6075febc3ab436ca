//! Blocks: the head, one block, lists and ranges.

use ait_engine::types::{BlockId, Height};
use ait_net::wire::{BlockList, BlockRange, BlockSummary, Head, canonical_block};
use serde_json::json as object;

use super::call::{Answer, Call, bad_cursor, bad_hash, json};
use super::reads::{Sought, misled};
use super::{Api, ApiError, views};
use crate::behind;
use crate::chain::CommittedBlock;

/// Most blocks of a range in the newer dialect.
const RANGE_MAX: u64 = 1_000;
/// Most blocks of a range in the older dialect.
const OLD_RANGE_MAX: u64 = 10_000;
/// Most blocks of a range with their canonical bytes.
const CANONICAL_RANGE_MAX: u64 = 100;
/// Length of canonical bytes in base64 after which such a range ends.
const CANONICAL_BYTES_MAX: usize = 8 << 20;
/// What the longest range of summaries holds, counted as bytes of blocks.
const SUMMARIES_BYTES: u64 = 1 << 20;

/// `GET /rpc/head`
pub(super) async fn head(call: Call) -> Answer {
    json(&Head::from(&*call.api.chain.head().header))
}

/// `GET /rpc/getHead`
pub(super) async fn head_alias(call: Call) -> Answer {
    let head = call.api.chain.head();
    json(&object!({ "height": head.height, "hash": head.block_id }))
}

fn missing() -> ApiError {
    ApiError::not_found("block not found")
}

fn height_of(api: &Api, at: &str) -> Result<Height, ApiError> {
    let is_hash =
        at.starts_with("0x") || (at.len() == 64 && !at.bytes().all(|b| b.is_ascii_digit()));
    if is_hash {
        let id: BlockId = at.parse().map_err(|error| bad_hash(&error))?;
        let height = api.chain.height_of(&id)?.ok_or_else(missing)?;
        let is_so = api.chain.header(height)?.is_some_and(|(found, _)| found == id);
        return if is_so { Ok(height) } else { Err(misled(height)) };
    }
    let digits = at.strip_prefix('-').unwrap_or(at);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let detail =
            format!("{:?} is neither a height nor a hash", at.chars().take(40).collect::<String>());
        return Err(ApiError::unprocessable("height_invalid", detail, "use an integer or a hash"));
    }
    // Negative heights, and those over any bound, are of no block.
    at.parse().ok().and_then(Height::new).ok_or_else(missing)
}

/// `GET /rpc/blocks/{height or hash}`
pub(super) async fn block(call: Call) -> Answer {
    let at = call.param(0).to_owned();
    let with_canonical = call.query.flag("canonical");
    let find = move |api: &Api| {
        let height = height_of(api, &at)?;
        Ok((Sought::Whole(height), height))
    };
    let show = move |api: &Api, height| {
        let block = api.chain.block(height)?.ok_or_else(missing)?;
        let canonical = if with_canonical { canonical(&block) } else { None };
        json(&views::block(api, &block, canonical))
    };
    call.read_blocks(find, show).await
}

/// Canonical bytes of a certified block.
fn canonical(block: &CommittedBlock) -> Option<String> {
    block.certificate.as_ref().map(|certificate| canonical_block(&block.block, certificate))
}

/// The blocks of these heights with their canonical bytes, oldest first; fewer if they
/// pass the bound.
fn with_canonical(api: &Api, first: u64, last: u64) -> Result<Vec<BlockSummary>, ApiError> {
    let mut blocks = Vec::new();
    let mut bytes = 0_usize;
    for height in (first..=last).map_while(Height::new) {
        behind::give_way();
        let Some(block) = api.chain.block(height)? else { break };
        let mut summary = BlockSummary::from(&block.block.header);
        summary.canonical = canonical(&block);
        bytes = summary.canonical.as_ref().map_or(0, String::len).saturating_add(bytes);
        if bytes > CANONICAL_BYTES_MAX && !blocks.is_empty() {
            break;
        }
        blocks.push(summary);
    }
    Ok(blocks)
}

/// Bytes of blocks that [`with_canonical`] holds at once: those that it gives, and one more.
fn held_of(api: &Api, first: u64, last: u64) -> Result<u64, ApiError> {
    let (mut sum, mut largest) = (0, 0);
    for height in (first..=last).map_while(Height::new) {
        let Some((_, header)) = api.chain.header(height)? else { break };
        let bytes = u64::from(header.body_bytes);
        (sum, largest) = (bytes.saturating_add(sum), bytes.max(largest));
        if sum > CANONICAL_BYTES_MAX as u64 {
            break;
        }
    }
    Ok(sum.max(largest))
}

/// The blocks of these heights, oldest first.
fn summaries(api: &Api, first: u64, last: u64) -> Result<Vec<BlockSummary>, ApiError> {
    let mut blocks = Vec::new();
    for height in (first..=last).map_while(Height::new) {
        behind::give_way();
        let Some((_, header)) = api.chain.header(height)? else { break };
        blocks.push(BlockSummary::from(&header));
    }
    Ok(blocks)
}

/// `GET /rpc/blocks`
pub(super) async fn list(call: Call) -> Answer {
    let page = call.query.page(10)?;
    let read = move |api: &Api| {
        let head = api.chain.head().height.get();
        let newest = match &page.cursor {
            Some(cursor) => Some(cursor.parse::<u64>().map_err(|_| bad_cursor())?.min(head)),
            None => Some(head),
        };
        let newest = newest.and_then(|newest| newest.checked_sub(page.offset));
        let mut blocks = Vec::new();
        let mut next = None;
        if let Some(newest) = newest {
            let oldest = newest.saturating_sub(page.limit.saturating_sub(1));
            blocks = summaries(api, oldest, newest)?;
            blocks.reverse();
            next = oldest.checked_sub(1);
        }
        Ok(BlockList {
            blocks,
            total: head.saturating_add(1),
            limit: page.limit,
            offset: page.offset,
            next_cursor: next.map(|height| height.to_string()),
        })
    };
    call.answer(read).await
}

/// `GET /rpc/blocks-range` in both dialects: `start` and `end` give an object,
/// `start_height` and `end_height` a bare list.
pub(super) async fn range(call: Call) -> Answer {
    if call.query.get("start").is_none() && call.query.get("end").is_none() {
        return old_range(call).await;
    }
    let bound = |name: &str| {
        call.query.integer(name)?.ok_or_else(|| {
            let detail = format!("{name} is missing");
            ApiError::unprocessable("parameter_missing", detail, "give start and end")
        })
    };
    let (start, end) = (bound("start")?, bound("end")?);
    let start = u64::try_from(start).map_err(|_| ApiError::page("start must be non-negative"))?;
    let end = u64::try_from(end).ok().filter(|end| *end >= start);
    let end = end.ok_or_else(|| ApiError::page("end must be greater than or equal to start"))?;
    let is_canonical = call.query.flag("canonical");
    let max = if is_canonical { CANONICAL_RANGE_MAX } else { RANGE_MAX };
    if end.saturating_sub(start) >= max {
        return Err(ApiError::page(format!("range cannot exceed {max} blocks")));
    }
    let read = if is_canonical { with_canonical } else { summaries };
    let bytes = match is_canonical {
        true => call.read(move |api| held_of(api, start, end)).await?,
        false => SUMMARIES_BYTES,
    };
    let written = move |api: &Api| {
        let blocks = read(api, start, end)?;
        let count = u64::try_from(blocks.len()).unwrap_or(u64::MAX);
        json(&BlockRange { blocks, start, end, count })
    };
    call.read_range(count_of(&call, start, end), bytes, written).await
}

/// How many blocks of a range there are.
fn count_of(call: &Call, start: u64, end: u64) -> u64 {
    let head = call.api.chain.head().height.get();
    end.min(head).saturating_add(1).saturating_sub(start)
}

async fn old_range(call: Call) -> Answer {
    let or = |name: &str, default: u64| -> Result<u64, ApiError> {
        let given = call.query.integer(name)?;
        Ok(given.map_or(default, |value| u64::try_from(value).unwrap_or(0)))
    };
    let limit = or("limit", 1_000)?.min(OLD_RANGE_MAX);
    let (start, end) = (or("start_height", 0)?, or("end_height", 100)?);
    let end = end.min(start.saturating_add(limit).saturating_sub(1));
    let read = move |api: &Api| match limit {
        0 => json::<[(); 0]>(&[]),
        _ => json(&summaries(api, start, end)?),
    };
    call.read_range(count_of(&call, start, end), SUMMARIES_BYTES, read).await
}

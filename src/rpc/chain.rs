//! Blocks: the head, one block, lists and ranges.

use ait_engine::types::{BlockId, Height};
use ait_net::wire::{BlockList, BlockRange, BlockSummary, Head};
use serde_json::json as object;

use super::call::{Answer, Call, bad_cursor, bad_hash, json};
use super::{Api, ApiError, views};

/// Most blocks of a range in the newer dialect.
const RANGE_MAX: u64 = 1_000;
/// Most blocks of a range in the older dialect.
const OLD_RANGE_MAX: u64 = 10_000;

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
        return api.chain.height_of(&id)?.ok_or_else(missing);
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
    let read = move |api: &Api| {
        let block = api.chain.block(height_of(api, &at)?)?.ok_or_else(missing)?;
        Ok(views::block(api, &block))
    };
    json(&call.read_index(read).await?)
}

/// The blocks of these heights, oldest first.
fn summaries(api: &Api, first: u64, last: u64) -> Result<Vec<BlockSummary>, ApiError> {
    let mut blocks = Vec::new();
    for height in (first..=last).map_while(Height::new) {
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
            let oldest = newest.saturating_sub(page.limit - 1);
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
    json(&call.read(read).await?)
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
    if end - start >= RANGE_MAX {
        return Err(ApiError::page(format!("range cannot exceed {RANGE_MAX} blocks")));
    }
    let blocks = call.read(move |api| summaries(api, start, end)).await?;
    let count = u64::try_from(blocks.len()).unwrap_or(u64::MAX);
    json(&BlockRange { blocks, start, end, count })
}

async fn old_range(call: Call) -> Answer {
    let or = |name: &str, default: u64| -> Result<u64, ApiError> {
        let given = call.query.integer(name)?;
        Ok(given.map_or(default, |value| u64::try_from(value).unwrap_or(0)))
    };
    let limit = or("limit", 1_000)?.min(OLD_RANGE_MAX);
    let (start, end) = (or("start_height", 0)?, or("end_height", 100)?);
    let end = end.min(start.saturating_add(limit).saturating_sub(1));
    let read =
        move |api: &Api| if limit == 0 { Ok(Vec::new()) } else { summaries(api, start, end) };
    json(&call.read(read).await?)
}

//! Claimed receipts.

use ait_net::wire::ReceiptList;

use super::call::{Answer, Call, bad_cursor, json};
use super::{Api, ApiError, views};

/// `GET /rpc/receipts/{receipt_id}`
pub(super) async fn one(call: Call) -> Answer {
    let id = call.param(0).to_owned();
    let read = move |api: &Api| {
        let Some(at) = api.chain.index().receipt(&id)? else { return Ok(None) };
        Ok(api.chain.block(at.height)?.and_then(|block| views::receipt(&block, at.index)))
    };
    let found = call.read_index(read).await?;
    json(&found.ok_or_else(|| ApiError::not_found("receipt not found"))?)
}

/// `GET /rpc/receipts`
pub(super) async fn list(call: Call) -> Answer {
    let page = call.query.page(20)?;
    let read = move |api: &Api| {
        let index = api.chain.index();
        let total = index.receipt_count()?;
        let skipped = match &page.cursor {
            // Counted from the oldest, so that new claims do not move it.
            Some(cursor) => {
                let place: u64 = cursor.parse().map_err(|_| bad_cursor())?;
                total.saturating_sub(place).saturating_add(page.offset)
            }
            None => page.offset,
        };
        let locations = index.receipts(skipped, page.count())?;
        let mut receipts = Vec::with_capacity(locations.len());
        for at in &locations {
            let block = api.chain.block(at.height)?;
            receipts.extend(block.and_then(|block| views::receipt(&block, at.index)));
        }
        let left = total.saturating_sub(skipped).saturating_sub(locations.len() as u64);
        Ok(ReceiptList {
            receipts,
            total,
            limit: page.limit,
            offset: page.offset,
            next_cursor: Some(left).filter(|left| *left > 0).map(|left| left.to_string()),
        })
    };
    json(&call.read_index(read).await?)
}

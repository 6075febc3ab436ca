//! Claimed receipts.

use ait_net::wire::ReceiptList;

use super::call::{Answer, Call, json};
use super::reads::{Sought, at_each, cut_page, indexed_block, misled};
use super::{Api, ApiError, views};
use crate::chain::Location;

/// `GET /rpc/receipts/{receipt_id}`
pub(super) async fn one(call: Call) -> Answer {
    let id = call.param(0).to_owned();
    let asked = id.clone();
    let find = move |api: &Api| {
        let at = api.chain.index().receipt(&asked)?;
        let at = at.ok_or_else(|| ApiError::not_found("receipt not found"))?;
        Ok((Sought::Parts(vec![at]), at))
    };
    let show = move |api: &Api, at: Location| {
        let view = views::receipt(&*indexed_block(api, at.height)?, at.index);
        let view = view.filter(|view| view.receipt_id == id);
        json(&view.ok_or_else(|| misled(at.height))?)
    };
    call.read_blocks(find, show).await
}

/// `GET /rpc/receipts`
pub(super) async fn list(call: Call) -> Answer {
    let page = call.query.page(20)?;
    let (limit, offset) = (page.limit, page.offset);
    let find = move |api: &Api| {
        let index = api.chain.index();
        let total = index.receipt_count()?;
        let skipped = page.skipped(total)?;
        let mut places = index.receipts(skipped, page.count())?;
        cut_page(api, &mut places)?;
        Ok((Sought::Parts(places.clone()), (places, total, skipped)))
    };
    let show = move |api: &Api, (places, total, skipped): (Vec<Location>, u64, u64)| {
        let left = total.saturating_sub(skipped).saturating_sub(places.len() as u64);
        json(&ReceiptList {
            receipts: at_each(api, &places, |block, _, index| views::receipt(block, index))?,
            total,
            limit,
            offset,
            next_cursor: Some(left).filter(|left| *left > 0).map(|left| left.to_string()),
        })
    };
    call.read_blocks(find, show).await
}

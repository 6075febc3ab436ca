//! Transactions: one, why it is in no block, lists, those that are pending.

use ait_engine::types::TxHash;
use ait_net::wire::{
    PendingTransaction, TransactionJson, TransactionList, TransactionView, TxStatusView,
    WhyResponse,
};

use super::call::{Answer, Call, Page, bad_cursor, json};
use super::{Api, ApiError, views};
use crate::chain::Location;
use crate::mempool::TxStatus;

/// Most pending transactions of one answer.
const PENDING_MAX: u64 = 1_000;

/// A transaction of a committed block; none if it is in no block.
fn find(api: &Api, hash: &TxHash) -> Result<Option<TransactionView>, ApiError> {
    let Some(at) = api.chain.index().transaction(hash)? else { return Ok(None) };
    Ok(api.chain.block(at.height)?.and_then(|block| views::transaction(api, &block, at.index)))
}

/// `GET /rpc/tx/{hash}`
pub(super) async fn one(call: Call) -> Answer {
    let hash = call.tx_hash()?;
    let found = call.read_index(move |api| find(api, &hash)).await?;
    json(&found.ok_or_else(|| {
        let hint = format!("/rpc/tx/{hash}/why says what became of it");
        ApiError { hint, ..ApiError::not_found("transaction not found") }
    })?)
}

/// `GET /rpc/getTx/{hash}`
pub(super) async fn status(call: Call) -> Answer {
    let hash = call.tx_hash()?;
    let read = move |api: &Api| {
        let status = explain(api, &hash)?.status;
        Ok(TxStatusView { status, receipt: find(api, &hash)? })
    };
    json(&call.read_index(read).await?)
}

/// `GET /rpc/tx/{hash}/why`
pub(super) async fn why(call: Call) -> Answer {
    let hash = call.tx_hash()?;
    json(&call.read_index(move |api| explain(api, &hash)).await?)
}

fn explain(api: &Api, hash: &TxHash) -> Result<WhyResponse, ApiError> {
    let mut why = WhyResponse {
        tx_hash: hash.to_string(),
        status: "unknown".to_owned(),
        detail: "this node has not seen the transaction, or has forgotten it".to_owned(),
        code: None,
        hint: None,
        block_height: None,
    };
    // Pending first: what a block takes between the two looks is then found in it.
    let pending = api.mempool.status(hash);
    if let Some(at) = api.chain.index().transaction(hash)? {
        why.status = "committed".to_owned();
        why.detail = format!("it is in block {}", at.height);
        why.block_height = Some(at.height.get());
        return Ok(why);
    }
    match pending {
        TxStatus::Pending { missing_nonce, .. } => {
            why.status = "pending".to_owned();
            why.detail = match missing_nonce {
                Some(nonce) => {
                    why.code = Some("nonce_gap".to_owned());
                    why.hint = Some(format!("send the transaction with nonce {nonce} first"));
                    format!("it waits for the sender's transaction with nonce {nonce}")
                }
                None => "it waits for a block".to_owned(),
            };
        }
        TxStatus::Dropped(dropped) => {
            why.status = "dropped".to_owned();
            why.code = Some(dropped.reason.code().to_owned());
            why.detail = dropped.reason.to_string();
            why.hint = Some("sign it again with what the detail asks for".to_owned());
        }
        TxStatus::Unknown => {
            let (head, indexed) = (api.chain.head().height, api.chain.indexed_height());
            let behind = head.get().saturating_sub(indexed.get());
            if behind > 0 {
                why.detail =
                    format!("not seen, but the index is {behind} blocks behind: ask again");
            }
        }
    }
    Ok(why)
}

/// The cursor of the page after a location.
pub(super) fn cursor_of(location: &Location) -> String {
    format!("{}-{}", location.height, location.index)
}

/// The location of a cursor.
pub(super) fn location_of(cursor: &str) -> Result<Location, ApiError> {
    let read = || {
        let (height, index) = cursor.split_once('-')?;
        let height = ait_engine::types::Height::new(height.parse().ok()?)?;
        Some(Location { height, index: index.parse().ok()? })
    };
    read().ok_or_else(bad_cursor)
}

/// `GET /rpc/transactions`
pub(super) async fn list(call: Call) -> Answer {
    let page = call.query.page(20)?;
    json(&call.read_index(move |api| transactions(api, &page)).await?)
}

fn transactions(api: &Api, page: &Page) -> Result<TransactionList, ApiError> {
    let index = api.chain.index();
    let total = index.transaction_count()?;
    let skipped = match &page.cursor {
        // Counted from the oldest, so that new blocks do not move it.
        Some(cursor) => {
            let place: u64 = cursor.parse().map_err(|_| bad_cursor())?;
            total.saturating_sub(place).saturating_add(page.offset)
        }
        None => page.offset,
    };
    let locations = index.transactions(skipped, page.count())?;
    let mut transactions = Vec::with_capacity(locations.len());
    let mut block = None;
    for at in &locations {
        // Neighbours are mostly of one block.
        if block
            .as_ref()
            .is_none_or(|b: &std::sync::Arc<crate::chain::CommittedBlock>| b.height() != at.height)
        {
            block = api.chain.block(at.height)?;
        }
        let view = block.as_ref().and_then(|block| views::transaction(api, block, at.index));
        transactions.extend(view);
    }
    let left = total.saturating_sub(skipped).saturating_sub(locations.len() as u64);
    let next_cursor = Some(left).filter(|left| *left > 0).map(|left| left.to_string());
    Ok(TransactionList { transactions, total, limit: page.limit, offset: page.offset, next_cursor })
}

/// `GET /rpc/mempool`: a bare list, oldest arrival first.
pub(super) async fn pending(call: Call) -> Answer {
    let limit = match call.query.integer("limit")? {
        None => PENDING_MAX,
        Some(limit) => u64::try_from(limit)
            .ok()
            .filter(|l| (1..=PENDING_MAX).contains(l))
            .ok_or_else(|| ApiError::page(format!("limit must be between 1 and {PENDING_MAX}")))?,
    };
    let after = call.query.get("cursor").map(|cursor| cursor.parse().map_err(|_| bad_cursor()));
    let after = after.transpose()?;
    let read = move |api: &Api| {
        let listed = api.mempool.list(usize::try_from(limit).unwrap_or(usize::MAX), after);
        let last = listed.last().map(|last| last.seq);
        let list: Vec<_> = listed
            .iter()
            .map(|item| PendingTransaction {
                hash: item.transaction.hash().to_string(),
                added_at_ms: item.added_at.get(),
                transaction: TransactionJson::from(item.transaction.transaction()),
            })
            .collect();
        Ok((list, last))
    };
    let (list, last) = call.read(read).await?;
    let mut response = json(&list)?;
    // The list is bare for old clients: the cursor travels beside it.
    if let Some(last) = last {
        response.headers_mut().insert("x-next-cursor", last.into());
    }
    Ok(response)
}

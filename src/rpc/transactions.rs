//! Transactions: one, why it is in no block, lists, those that are pending.

use ait_engine::types::TxHash;
use ait_net::wire::{
    PendingTransaction, TransactionJson, TransactionList, TransactionView, TxStatusView,
    WhyResponse,
};

use super::call::{Answer, Call, bad_cursor, json};
use super::reads::{PROMPT_BYTES_MAX, Sought, at_each, cut_page, indexed_block, misled};
use super::{Api, ApiError, views};
use crate::chain::{ChainError, Location};
use crate::mempool::TxStatus;

/// Most pending transactions of one answer.
const PENDING_MAX: u64 = 1_000;

/// A transaction of a committed block, which the index says is there.
fn committed(api: &Api, hash: &TxHash, at: &Location) -> Result<TransactionView, ApiError> {
    let view = views::transaction(api, &*indexed_block(api, at.height)?, at.index);
    view.filter(|view| view.tx_hash == hash.to_string()).ok_or_else(|| misled(at.height))
}

/// `GET /rpc/tx/{hash}`
pub(super) async fn one(call: Call) -> Answer {
    let hash = call.tx_hash()?;
    let find = move |api: &Api| {
        let at = api.chain.index().transaction(&hash)?.ok_or_else(|| {
            let hint = format!("/rpc/tx/{hash}/why says what became of it");
            ApiError { hint, ..ApiError::not_found("transaction not found") }
        })?;
        Ok((Sought::Parts(vec![at]), at))
    };
    call.read_blocks(find, move |api, at| json(&committed(api, &hash, &at)?)).await
}

/// `GET /rpc/getTx/{hash}`
pub(super) async fn status(call: Call) -> Answer {
    let hash = call.tx_hash()?;
    let find = move |api: &Api| {
        let WhyResponse { status, block_height, .. } = explain(api, &hash)?;
        let at = match block_height {
            Some(_) => api.chain.index().transaction(&hash)?,
            None => None,
        };
        Ok((Sought::Parts(at.into_iter().collect()), (status, at)))
    };
    let show = move |api: &Api, (status, at): (String, Option<Location>)| {
        let receipt = at.map(|at| committed(api, &hash, &at)).transpose()?;
        json(&TxStatusView { status, receipt })
    };
    call.read_blocks(find, show).await
}

/// `GET /rpc/tx/{hash}/why`
pub(super) async fn why(call: Call) -> Answer {
    let hash = call.tx_hash()?;
    call.answer_by_index(move |api| explain(api, &hash)).await
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
    let found = match api.chain.index().transaction(hash) {
        // What waits or was dropped is known without.
        Err(ChainError::IndexDisabled) if !matches!(pending, TxStatus::Unknown) => None,
        found => found?,
    };
    if let Some(at) = found {
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
    let (limit, offset) = (page.limit, page.offset);
    let find = move |api: &Api| {
        let index = api.chain.index();
        let total = index.transaction_count()?;
        let skipped = page.skipped(total)?;
        let mut places = index.transactions(skipped, page.count())?;
        cut_page(api, &mut places)?;
        Ok((Sought::Parts(places.clone()), (places, total, skipped)))
    };
    let show = move |api: &Api, (places, total, skipped): (Vec<Location>, u64, u64)| {
        let left = total.saturating_sub(skipped).saturating_sub(places.len() as u64);
        let show = |block: &_, _, index| views::transaction(api, block, index);
        json(&TransactionList {
            transactions: at_each(api, &places, show)?,
            total,
            limit,
            offset,
            next_cursor: Some(left).filter(|left| *left > 0).map(|left| left.to_string()),
        })
    };
    call.read_blocks(find, show).await
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
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let read = move |api: &Api| {
        let mut bytes = 0_u64;
        let listed = api.mempool.list(limit, after).into_iter().enumerate();
        let listed: Vec<_> = listed
            .map_while(|(nth, item)| {
                bytes = bytes.saturating_add(item.transaction.byte_count() as u64);
                (nth == 0 || bytes <= PROMPT_BYTES_MAX).then_some(item)
            })
            .collect();
        let list: Vec<_> = listed
            .iter()
            .map(|item| PendingTransaction {
                hash: item.transaction.hash().to_string(),
                added_at_ms: item.added_at.get(),
                transaction: TransactionJson::from(item.transaction.transaction()),
            })
            .collect();
        let mut answer = json(&list)?;
        // The list is bare for old clients: the cursor travels beside it.
        if let Some(last) = listed.last() {
            answer.headers_mut().insert("x-next-cursor", last.seq.into());
        }
        Ok(answer)
    };
    call.answered(read).await
}

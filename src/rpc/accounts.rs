//! Accounts: balance, history, the list of all.

use ait_engine::state::Account;
use ait_engine::types::{Address, Amount};
use ait_net::wire::{
    AccountBalance, AddressList, AddressSummary, AddressTransaction, AddressView, rfc3339,
};

use super::call::{Answer, Call, Page, bad_cursor, json};
use super::reads::{Sought, at_each, cut_page};
use super::transactions::{cursor_of, location_of};
use super::{Api, ApiError, views};
use crate::chain::{AccountStats, CommittedBlock, Location, Side};

/// Most entries that may be skipped by offset; cursors go on from there.
const OFFSET_MAX: u64 = 10_000;

/// `GET /rpc/getBalance/{address}`
pub(super) async fn balance(call: Call) -> Answer {
    let address = call.param(0).to_owned();
    balance_at(&call, address).await
}

/// `GET /rpc/getBalance?address=..`
pub(super) async fn balance_of(call: Call) -> Answer {
    let address = call.query.get("address").unwrap_or_default().to_owned();
    balance_at(&call, address).await
}

async fn balance_at(call: &Call, address: String) -> Answer {
    let resolved = call.resolve(&address)?;
    let read = move |api: &Api| {
        let (account, stats) = known(api, &resolved)?;
        let pending = api.mempool.next_nonce(&resolved, account.nonce);
        Ok(AccountBalance {
            pending_nonce: Some(pending.get()).filter(|next| *next != account.nonce.get()),
            address,
            balance: account.balance.get(),
            nonce: account.nonce.get(),
            updated_at: stats.map(|stats| rfc3339(stats.updated_at)),
        })
    };
    call.answer(read).await
}

/// `GET /rpc/address/{address}`
pub(super) async fn history(call: Call) -> Answer {
    let resolved = call.address()?;
    let address = call.param(0).to_owned();
    let page = call.query.page(20)?;
    page.bounded_offset(OFFSET_MAX)?;
    let cursor = |name: &str| call.query.get(name).map(location_of).transpose();
    let (sent_cursor, received_cursor) = (cursor("sent_cursor")?, cursor("received_cursor")?);
    let find = move |api: &Api| {
        let side = |side, cursor| side_of(api, &resolved, side, cursor, &page);
        let parts = (side(Side::Sent, sent_cursor)?, side(Side::Received, received_cursor)?);
        let places = [&parts.0.0[..], &parts.1.0].concat();
        Ok((Sought::Parts(places.clone()), (places, parts)))
    };
    let show = move |api: &Api, (places, parts): (Vec<Location>, (Part, Part))| {
        let ((sent, next_sent_cursor), (_, next_received_cursor)) = parts;
        let (account, stats) = known(api, &resolved)?;
        let mut latest_sent = at_each(api, &places, |block, nth, index| {
            let side = if nth < sent.len() { Side::Sent } else { Side::Received };
            entry(api, block, index, &resolved, side)
        })?;
        let latest_received = latest_sent.split_off(sent.len());
        json(&AddressView {
            address,
            balance: account.balance.get(),
            nonce: account.nonce.get(),
            total_transactions_sent: stats.map_or(0, |stats| stats.sent),
            total_transactions_received: stats.map_or(0, |stats| stats.received),
            latest_sent,
            latest_received,
            next_sent_cursor,
            next_received_cursor,
            updated_at: stats.map(|stats| rfc3339(stats.updated_at)),
        })
    };
    call.read_blocks(find, show).await
}

/// What an account holds, and what it did if it is in the state.
fn known(api: &Api, address: &Address) -> Result<(Account, Option<AccountStats>), ApiError> {
    let Some(account) = api.chain.account(address)? else { return Ok((Account::default(), None)) };
    Ok((account, api.chain.index().account(address, &account)?))
}

/// Where the transactions of a page are, and the cursor of the page after it.
type Part = (Vec<Location>, Option<String>);

fn side_of(
    api: &Api,
    address: &Address,
    side: Side,
    before: Option<Location>,
    page: &Page,
) -> Result<Part, ApiError> {
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    // One more than shown says whether there is a next page.
    let limit = skip.saturating_add(page.count()).saturating_add(1);
    let found = api.chain.index().account_transactions(address, side, before, limit)?;
    let found = found.get(skip..).unwrap_or_default();
    let mut shown = found.iter().take(page.count()).copied().collect();
    cut_page(api, &mut shown)?;
    let next = shown.last().filter(|_| shown.len() < found.len()).map(cursor_of);
    Ok((shown, next))
}

/// What an account's history says of a transaction; none if it is not on that side of it.
fn entry(
    api: &Api,
    block: &CommittedBlock,
    index: u32,
    address: &Address,
    side: Side,
) -> Option<AddressTransaction> {
    if !views::is_on_side(block, index, address, side) {
        return None;
    }
    let view = views::transaction(api, block, index)?;
    Some(AddressTransaction {
        counterparty: views::counterparty(api, block, index, address),
        direction: match side {
            Side::Sent => "sent".to_owned(),
            Side::Received => "received".to_owned(),
        },
        tx_hash: view.tx_hash,
        block_height: view.block_height,
        payload: view.payload,
        created_at: view.created_at,
        kind: view.kind,
    })
}

fn after(cursor: &str) -> Result<(Amount, Address), ApiError> {
    let read = || {
        let (balance, address) = cursor.split_once('-')?;
        Some((Amount::new(balance.parse().ok()?)?, address.parse().ok()?))
    };
    read().ok_or_else(bad_cursor)
}

/// `GET /rpc/addresses`
pub(super) async fn list(call: Call) -> Answer {
    let page = call.query.page(20)?;
    page.bounded_offset(OFFSET_MAX)?;
    let min = call.query.integer("min_balance")?.unwrap_or(0);
    let min = u64::try_from(min).ok().and_then(Amount::new).unwrap_or(Amount::ZERO);
    let cursor = page.cursor.as_deref().map(after).transpose()?;
    let read = move |api: &Api| {
        let index = api.chain.index();
        let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
        let limit = skip.saturating_add(page.count()).saturating_add(1);
        let found = index.richest(min, cursor, limit)?;
        let shown = found.get(skip..).unwrap_or_default();
        let (shown, rest) = shown.split_at(shown.len().min(page.count()));
        let next = shown.last().filter(|_| !rest.is_empty());
        let mut addresses = Vec::with_capacity(shown.len());
        for (address, _) in shown {
            // The index decides the place, and the state what the account holds.
            let (_, Some(stats)) = known(api, address)? else { continue };
            addresses.push(AddressSummary {
                address: api.shown(address),
                balance: stats.balance.get(),
                nonce: stats.nonce.get(),
                total_transactions_sent: stats.sent,
                total_transactions_received: stats.received,
                updated_at: rfc3339(stats.updated_at),
            });
        }
        Ok(AddressList {
            addresses,
            total: index.account_count()?,
            limit: page.limit,
            offset: page.offset,
            next_cursor: next.map(|(address, balance)| format!("{balance}-{address}")),
        })
    };
    call.answer_by_index(read).await
}

//! Accounts: balance, history, the list of all.

use ait_engine::state::Account;
use ait_engine::types::{Address, Amount};
use ait_net::wire::{
    AccountBalance, AddressList, AddressSummary, AddressTransaction, AddressView, rfc3339,
};

use super::call::{Answer, Call, Page, bad_cursor, json};
use super::transactions::{cursor_of, location_of};
use super::{Api, ApiError, views};
use crate::chain::{AccountStats, Location, Side};

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
    json(&call.read(read).await?)
}

/// `GET /rpc/address/{address}`
pub(super) async fn history(call: Call) -> Answer {
    let resolved = call.address()?;
    let address = call.param(0).to_owned();
    let page = call.query.page(20)?;
    page.bounded_offset(OFFSET_MAX)?;
    let cursor = |name: &str| call.query.get(name).map(location_of).transpose();
    let (sent_cursor, received_cursor) = (cursor("sent_cursor")?, cursor("received_cursor")?);
    let read = move |api: &Api| {
        let (account, stats) = known(api, &resolved)?;
        let side = |side, cursor| side_of(api, &resolved, side, cursor, &page);
        let (latest_sent, next_sent_cursor) = side(Side::Sent, sent_cursor)?;
        let (latest_received, next_received_cursor) = side(Side::Received, received_cursor)?;
        Ok(AddressView {
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
    json(&call.read_index(read).await?)
}

/// What an account holds, and what it did if it is in the state.
fn known(api: &Api, address: &Address) -> Result<(Account, Option<AccountStats>), ApiError> {
    let Some(account) = api.chain.account(address)? else { return Ok((Account::default(), None)) };
    Ok((account, api.chain.index().account(address, &account)?))
}

type Part = (Vec<AddressTransaction>, Option<String>);

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
    let shown = found.get(skip..).unwrap_or_default();
    let (shown, rest) = shown.split_at(shown.len().min(page.count()));
    let mut transactions = Vec::with_capacity(shown.len());
    for at in shown {
        let Some(block) = api.chain.block(at.height)? else { continue };
        let Some(view) = views::transaction(api, &block, at.index) else { continue };
        transactions.push(AddressTransaction {
            counterparty: views::counterparty(api, &block, at.index, address),
            direction: match side {
                Side::Sent => "sent".to_owned(),
                Side::Received => "received".to_owned(),
            },
            tx_hash: view.tx_hash,
            block_height: view.block_height,
            payload: view.payload,
            created_at: view.created_at,
            kind: view.kind,
        });
    }
    let next = shown.last().filter(|_| !rest.is_empty()).map(cursor_of);
    Ok((transactions, next))
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
        for (address, balance) in shown {
            // What decides the place is shown, and the page goes on after it.
            let (_, Some(stats)) = known(api, address)? else { continue };
            addresses.push(AddressSummary {
                address: api.shown(address),
                balance: balance.get(),
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
    json(&call.read_index(read).await?)
}

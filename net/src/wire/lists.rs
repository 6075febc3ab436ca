//! Pages of lists. Every list is bounded; `next_cursor`, given back as `cursor`, is the
//! page after this one, and it stays right while the chain grows. `limit` and `offset`
//! are the old node's way.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::block::BlockSummary;
use super::views::{ReceiptView, TransactionView};

/// `GET /rpc/blocks`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BlockList {
    /// The blocks of this page.
    pub blocks: Vec<BlockSummary>,
    /// Blocks in the chain, genesis included.
    pub total: u64,
    /// Most blocks of a page.
    pub limit: u64,
    /// Blocks that were skipped.
    pub offset: u64,
    /// The next page; null after the last.
    pub next_cursor: Option<String>,
}

/// `GET /rpc/blocks-range?start=..&end=..`: oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BlockRange {
    /// The blocks.
    pub blocks: Vec<BlockSummary>,
    /// First height asked for.
    pub start: u64,
    /// Last height asked for.
    pub end: u64,
    /// Blocks given.
    pub count: u64,
}

/// `GET /rpc/transactions`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TransactionList {
    /// The transactions of this page.
    pub transactions: Vec<TransactionView>,
    /// Transactions in the chain.
    pub total: u64,
    /// Most transactions of a page.
    pub limit: u64,
    /// Transactions that were skipped.
    pub offset: u64,
    /// The next page; null after the last.
    pub next_cursor: Option<String>,
}

/// `GET /rpc/receipts`: newest claim first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReceiptList {
    /// The receipts of this page.
    pub receipts: Vec<ReceiptView>,
    /// Receipts claimed in the chain.
    pub total: u64,
    /// Most receipts of a page.
    pub limit: u64,
    /// Receipts that were skipped.
    pub offset: u64,
    /// The next page; null after the last.
    pub next_cursor: Option<String>,
}

/// An account in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AddressSummary {
    /// The account; a development account's name where it was used by name.
    pub address: String,
    /// Base units that it holds.
    pub balance: u64,
    /// The next nonce that it must use.
    pub nonce: u64,
    /// Transactions that it sent.
    pub total_transactions_sent: u64,
    /// Transactions by which it received something.
    pub total_transactions_received: u64,
    /// Time of the last block that touched it, RFC 3339.
    pub updated_at: String,
}

/// `GET /rpc/addresses`: richest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AddressList {
    /// The accounts of this page.
    pub addresses: Vec<AddressSummary>,
    /// Accounts in the chain, whatever they hold.
    pub total: u64,
    /// Most accounts of a page.
    pub limit: u64,
    /// Accounts that were skipped.
    pub offset: u64,
    /// The next page; null after the last.
    pub next_cursor: Option<String>,
}

/// A transaction seen from one of its accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AddressTransaction {
    /// The transaction.
    pub tx_hash: String,
    /// Height of its block.
    pub block_height: u64,
    /// `sent` or `received`.
    pub direction: String,
    /// The account on the other side; empty if there is none.
    pub counterparty: String,
    /// What it does.
    #[schema(value_type = Object)]
    pub payload: Value,
    /// Time of its block, RFC 3339.
    pub created_at: String,
    /// Kind of the transaction.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `GET /rpc/address/{address}`: an account and its latest transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AddressView {
    /// The account as it was asked for.
    pub address: String,
    /// Base units that it holds.
    pub balance: u64,
    /// The next nonce that it must use.
    pub nonce: u64,
    /// Transactions that it sent.
    pub total_transactions_sent: u64,
    /// Transactions by which it received something.
    pub total_transactions_received: u64,
    /// What it sent, newest first.
    pub latest_sent: Vec<AddressTransaction>,
    /// What it received, newest first.
    pub latest_received: Vec<AddressTransaction>,
    /// The next page of `latest_sent`, as `sent_cursor`; null after the last.
    pub next_sent_cursor: Option<String>,
    /// The next page of `latest_received`, as `received_cursor`; null after the last.
    pub next_received_cursor: Option<String>,
    /// Time of the last block that touched it; absent for an unused account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
}

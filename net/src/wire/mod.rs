//! The JSON forms of the REST interface, shared by server and client.
//!
//! Field names are those of the old software where it had one; new fields stand
//! beside them. Hashes, keys and signatures are `0x` and hex digits, amounts are
//! integers of base units, times are both RFC 3339 (`timestamp`) and milliseconds
//! (`timestamp_ms`).
//!
//! Nothing is decided here: a form that parses may still be refused by the engine.

mod block;
mod import;
mod integer;
mod lists;
mod node;
mod proof;
mod time;
mod transaction;
mod views;

pub use block::{BlockBody, BlockSummary, CertificateJson, CommitSignatureJson, Head, HeaderJson};
pub use block::{FormError, ValidatorJson};
pub use import::{
    ImportBlockJson, ImportForm, ImportFormError, ImportOutcome, ImportStatus, canonical_block,
    read_canonical,
};
pub use integer::{integer, optional_integer, read_integer};
pub use lists::{
    AddressList, AddressSummary, AddressTransaction, AddressView, BlockList, BlockRange,
    ReceiptList, TransactionList,
};
pub use node::{
    FeeEstimate, Health, Info, MintResponse, ParamsView, PeerAdded, PeerJson, PeerList,
    PendingTransaction, RemoteJson, SupplyView, SyncStatus, TxStatusView, ValidatorList,
};
pub use proof::{AccountProof, Anchor, ListProofJson, ReceiptProof, TransactionProof};
pub use time::rfc3339;
pub use transaction::{PayloadError, TransactionJson, payload_from_json, payload_to_json};
pub use views::{
    AccountBalance, ErrorBody, OutcomeJson, ReceiptView, RewardJson, SendTxResponse, SendTxsItem,
    TransactionView, WhyResponse,
};

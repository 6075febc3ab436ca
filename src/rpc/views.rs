//! What the chain holds in the forms that clients know.
//!
//! Where a development account was used by name, its name stands in the old fields and
//! its address in the new ones beside them.

use ait_engine::json::Json;
use ait_engine::receipt::{Receipt, signature_json};
use ait_engine::transaction::Payload;
use ait_engine::types::{Address, Height};
use ait_net::wire::{
    BlockSummary, CertificateJson, HeaderJson, OutcomeJson, ReceiptView, RewardJson,
    TransactionView, payload_to_json, rfc3339,
};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::Api;
use crate::chain::{CommittedBlock, Side};

/// A block with all that belongs to it: a [`BlockBody`] whose parts are made as they are written,
/// for those of a full block are several times as long as the text.
///
/// [`BlockBody`]: ait_net::wire::BlockBody
pub(super) fn block(
    api: &Api,
    block: &CommittedBlock,
    canonical: Option<String>,
) -> impl Serialize {
    #[derive(Serialize)]
    struct Body<T, R> {
        #[serde(flatten)]
        summary: BlockSummary,
        header: HeaderJson,
        transactions: T,
        receipts: R,
        certificate: Option<CertificateJson>,
    }
    let header = &block.block.header;
    let count = u32::try_from(block.tx_hashes.len()).unwrap_or(u32::MAX);
    Body {
        summary: BlockSummary { canonical, ..BlockSummary::from(header) },
        header: HeaderJson::from(header),
        transactions: Each(count, move |index| transaction(api, block, index)),
        receipts: Each(count, move |index| receipt(block, index)),
        certificate: block.certificate.as_ref().map(CertificateJson::from),
    }
}

/// What a function makes of the numbers below one, as a list.
struct Each<F>(u32, F);

impl<T: Serialize, F: Fn(u32) -> Option<T>> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.0).filter_map(&self.1))
    }
}

/// Who a payload names as the receiving side.
fn recipient(payload: &Payload) -> Option<Address> {
    match payload {
        Payload::Transfer { to, .. } | Payload::Mint { to, .. } => Some(*to),
        _ => None,
    }
}

/// A transaction of a committed block.
pub(super) fn transaction(
    api: &Api,
    block: &CommittedBlock,
    index: u32,
) -> Option<TransactionView> {
    let at = usize::try_from(index).ok()?;
    let (transaction, outcome) = (block.block.transactions.get(at)?, block.outcomes.get(at)?);
    let (sender, recipient) = (transaction.sender(), recipient(&transaction.payload));
    let rewards = outcome.rewards.iter();
    Some(TransactionView {
        tx_hash: outcome.tx_hash.to_string(),
        block_height: block.height().get(),
        sender: api.shown(&sender),
        recipient: recipient.map(|address| api.shown(&address)).unwrap_or_default(),
        sender_address: sender.to_string(),
        recipient_address: recipient.map(|address| address.to_string()),
        payload: payload_to_json(&transaction.payload),
        created_at: rfc3339(block.block.header.time),
        kind: transaction.payload.kind().name().to_owned(),
        chain_id: transaction.chain_id.to_string(),
        public_key: transaction.public_key.to_string(),
        nonce: transaction.nonce.get(),
        fee: transaction.fee.get(),
        expires_at: transaction.expires_at.map(Height::get),
        sig: transaction.signature.to_string(),
        block_hash: block.id.to_string(),
        index,
        outcome: OutcomeJson {
            fee: outcome.fee.get(),
            rewards: rewards
                .map(|r| RewardJson { address: r.address.to_string(), amount: r.amount.get() })
                .collect(),
        },
    })
}

fn value(json: &Json) -> Value {
    // Canonical text is JSON.
    serde_json::from_str(&json.canonical()).unwrap_or_default()
}

/// The receipt that a transaction of a committed block claims; none for other kinds.
pub(super) fn receipt(block: &CommittedBlock, index: u32) -> Option<ReceiptView> {
    let at = usize::try_from(index).ok()?;
    let (transaction, outcome) = (block.block.transactions.get(at)?, block.outcomes.get(at)?);
    let Payload::ReceiptClaim(claim) = &transaction.payload else { return None };
    let receipt = Receipt::parse(&claim.receipt).ok()?;
    let canonical = String::from_utf8_lossy(&claim.receipt).into_owned();
    let attestations = claim.attestations.iter();
    let minted: u64 = outcome.rewards.iter().map(|reward| reward.amount.get()).sum();
    Some(ReceiptView {
        receipt_id: receipt.receipt_id,
        job_id: receipt.job_id,
        payload: serde_json::from_str(&canonical).unwrap_or_default(),
        canonical,
        miner_signature: value(&signature_json(&claim.provider_key, &claim.provider_signature)),
        coordinator_attestations: attestations
            .map(|a| value(&signature_json(&a.coordinator, &a.signature)))
            .collect(),
        minted_amount: minted,
        recorded_at: rfc3339(block.block.header.time),
        tx_hash: outcome.tx_hash.to_string(),
        block_height: block.height().get(),
    })
}

/// Whether an account is on this side of a transaction.
pub(super) fn is_on_side(block: &CommittedBlock, index: u32, of: &Address, side: Side) -> bool {
    let at = usize::try_from(index).unwrap_or(usize::MAX);
    let transaction = block.block.transactions.get(at);
    let rewards = block.outcomes.get(at).map(|outcome| outcome.rewards.as_slice());
    transaction.is_some_and(|transaction| match side {
        Side::Sent => transaction.sender() == *of,
        Side::Received => {
            recipient(&transaction.payload) == Some(*of)
                || rewards.unwrap_or_default().iter().any(|reward| reward.address == *of)
        }
    })
}

/// The side of a transaction that is not `of`; empty if there is none.
pub(super) fn counterparty(api: &Api, block: &CommittedBlock, index: u32, of: &Address) -> String {
    let transaction = usize::try_from(index).ok().and_then(|at| block.block.transactions.get(at));
    let Some(transaction) = transaction else { return String::new() };
    let sender = transaction.sender();
    let other = if sender == *of { recipient(&transaction.payload) } else { Some(sender) };
    other.map(|address| api.shown(&address)).unwrap_or_default()
}

//! A devnet's edge: plain names stand for unlocked development accounts, and what comes
//! unsigned from one of them is given its nonce and signed here. It becomes an ordinary
//! transaction; the chain never takes an unsigned one.
//!
//! Only for programs on this machine; nothing here is reached by `run`.

use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Kind, Payload, Transaction};
use ait_engine::types::{Address, Amount, Nonce};
use ait_net::wire::payload_from_json;
use serde_json::{Value, json};

use super::call::{Call, integer_field};
use super::submit::{payload_text, set};
use super::{Api, ApiError};
use crate::coordinator::Coordinator;
use crate::devnet::DevAccounts;
use crate::ingress::Submitted;
use crate::receipts::{ClaimBody, Edge};

/// How often a nonce is looked up again.
const NONCE_TRIES: u32 = 8;

/// Keys that a devnet's edge signs with.
#[derive(Debug)]
pub struct DevEdge {
    /// Unlocked accounts.
    pub names: DevAccounts,
    /// The key that may mint.
    pub minter: SecretKey,
    /// The key that may change parameters.
    pub governor: SecretKey,
    /// Who attests receipts that come without an attestation.
    pub coordinator: Coordinator,
    /// One signature at a time, so that nonces follow each other.
    pub signing: tokio::sync::Mutex<()>,
}

/// The devnet's edge, if there is one and this client may use it.
pub(super) fn edge(call: &Call) -> Result<&DevEdge, ApiError> {
    match &call.api.dev {
        Some(dev) if call.client.local => Ok(dev),
        Some(_) => {
            let detail = "unlocked accounts serve programs on this machine only";
            let hint =
                "sign the transaction; a proxy or a page of another site is not this machine";
            Err(ApiError::forbidden("not_local", detail, hint))
        }
        None => {
            let hint = "sign the transaction with the sender's key; see specs/encoding.md";
            Err(ApiError::unprocessable("unsigned_transaction", "sig is missing", hint))
        }
    }
}

/// Makes a signed transaction of an old script's unsigned one, which `text` spells, and
/// submits it.
pub(super) async fn submit_unsigned(
    call: &Call,
    text: &[u8],
    body: &Value,
    kind: Kind,
) -> Result<Submitted, ApiError> {
    let dev = edge(call)?;
    let sender = body.get("sender").and_then(Value::as_str).unwrap_or_default();
    // A spoken name is remembered, so that it is shown again.
    let address = dev.names.speak(sender).ok();
    let key = address.and_then(|_| dev.names.unlocked(sender)).ok_or_else(|| {
        let hint = "use the name of a development account as sender, or sign the transaction";
        ApiError::unprocessable("unsigned_transaction", "sig is missing", hint)
    })?;
    let fee = match body.get("fee") {
        None | Some(Value::Null) => Amount::ZERO,
        Some(_) => Amount::saturating(integer_field(body, "fee")?),
    };
    let payload = match kind {
        Kind::Transfer => transfer(call, body)?,
        Kind::ReceiptClaim => claim(call, text, dev, &key.public_key().address()).await?,
        Kind::ParamSet | Kind::Mint | Kind::ProviderBind => {
            let detail = format!("Value error, unsupported transaction type: {}", kind.name());
            let hint = "unsigned, only TRANSFER and RECEIPT_CLAIM are taken; sign the transaction";
            return Err(ApiError::unprocessable("type_unsupported", detail, hint));
        }
    };
    submit_next(&call.api, dev, &key, fee, payload).await
}

fn transfer(call: &Call, body: &Value) -> Result<Payload, ApiError> {
    let mut payload = body.get("payload").cloned().unwrap_or(Value::Null);
    // The old proposer read the recipient beside the payload as well.
    if payload.get("to").is_none()
        && payload.get("recipient").is_none()
        && let Some(recipient) = body.get("recipient").or_else(|| body.get("to"))
    {
        set(&mut payload, "to", recipient.clone());
    }
    for name in ["to", "recipient"] {
        if let Some(Value::String(text)) = payload.get(name) {
            let address = call.resolve(text)?;
            set(&mut payload, name, json!(address));
        }
    }
    payload_from_json(Kind::Transfer, &payload).map_err(|error| {
        ApiError::unprocessable(
            "payload_invalid",
            error.to_string(),
            "a transfer has to and amount",
        )
    })
}

async fn claim(
    call: &Call,
    text: &[u8],
    dev: &DevEdge,
    sender: &Address,
) -> Result<Payload, ApiError> {
    let text = payload_text(text)?;
    let edge = Edge {
        names: &dev.names,
        coordinator: &dev.coordinator,
        chain_id: call.api.chain.chain_id(),
        now: (call.api.clock)().get() / 1_000,
    };
    let claim = edge.complete(ClaimBody::read(text.as_bytes())?, sender).await?;
    Ok(Payload::ReceiptClaim(claim))
}

/// Signs with the nonce after the sender's pending transactions, and submits. A block may
/// take those between the two reads that find the nonce: then it is found again.
pub(super) async fn submit_next(
    api: &Api,
    dev: &DevEdge,
    key: &SecretKey,
    fee: Amount,
    payload: Payload,
) -> Result<Submitted, ApiError> {
    let _one_at_a_time = dev.signing.lock().await;
    let address = key.public_key().address();
    let chain_id = api.chain.chain_id();
    let mut tries = 0_u32;
    loop {
        let nonce = committed_nonce(api, address).await?;
        let nonce = api.mempool.next_nonce(&address, nonce);
        let transaction = Transaction::sign(key, chain_id, nonce, fee, None, payload.clone());
        match api.ingress.submit(transaction).await {
            Err(error) if error.code() == "nonce_used" && tries < NONCE_TRIES => {
                tries = tries.saturating_add(1);
            }
            result => return Ok(result?),
        }
    }
}

async fn committed_nonce(api: &Api, address: Address) -> Result<Nonce, ApiError> {
    let chain = api.chain.clone();
    let account = tokio::task::spawn_blocking(move || chain.account(&address)).await;
    let stopped = crate::chain::ChainError::Stopped { what: "a reading task" };
    let account = account.map_err(|_| ApiError::from(stopped))??;
    Ok(account.unwrap_or_default().nonce)
}

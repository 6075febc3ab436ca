//! Endpoints that submit a transaction.

use std::time::Duration;

use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Kind, Payload, Transaction};
use ait_engine::types::{Address, Amount, Nonce};
use ait_net::wire::{SendTxResponse, TransactionJson, payload_from_json, read_integer};
use serde_json::{Value, json};
use warp::hyper::body::Bytes;
use warp::reply::Response;

use super::error::{ApiError, answer};
use super::read::{blocking, resolve};
use super::{Backend, DevEdge};
use crate::ingress::Submitted;
use warp::http::StatusCode;

/// How often a nonce is looked up again.
const NONCE_TRIES: u32 = 8;
/// How long a mint waits for its block.
const MINT_WAIT: Duration = Duration::from_secs(20);

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        ApiError::unprocessable(
            "json_invalid",
            format!("not JSON: {error}"),
            "send one JSON object",
        )
    })?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(ApiError::unprocessable("json_invalid", "the body is not a JSON object", "send one"))
    }
}

/// `POST /rpc/sendTx` and `POST /rpc/transaction`
pub(super) async fn send(body: Bytes, backend: Backend) -> Response {
    answer(submit(&body, &backend).await)
}

async fn submit(body: &[u8], backend: &Backend) -> Result<SendTxResponse, ApiError> {
    let value = parse(body)?;
    let is_signed = value.get("sig").is_some_and(|sig| !sig.is_null());
    let submitted = match (&backend.dev, is_signed) {
        (_, true) => backend.ingress.submit(signed(value)?).await?,
        (Some(dev), false) => submit_unsigned(&value, backend, dev).await?,
        (None, false) => {
            let hint = "sign the transaction with the sender's key; see specs/encoding.md";
            return Err(ApiError::unprocessable("unsigned_transaction", "sig is missing", hint));
        }
    };
    Ok(SendTxResponse { tx_hash: submitted.hash.to_string() })
}

fn signed(value: Value) -> Result<Transaction, ApiError> {
    let json: TransactionJson = serde_json::from_value(value).map_err(|error| {
        let hint = "a transaction has type, chain_id, sender, public_key, nonce, fee, payload, sig";
        ApiError::unprocessable("transaction_invalid", error.to_string(), hint)
    })?;
    Transaction::try_from(&json).map_err(|error| {
        ApiError::unprocessable(
            "transaction_invalid",
            error.to_string(),
            "correct it and sign it again",
        )
    })
}

/// Makes a signed transaction of an old script's unsigned one, for a development account.
async fn submit_unsigned(
    value: &Value,
    backend: &Backend,
    dev: &DevEdge,
) -> Result<Submitted, ApiError> {
    let field = |name: &str| value.get(name).cloned().unwrap_or(Value::Null);
    let sender = field("sender");
    let key = sender.as_str().and_then(|name| dev.names.unlocked(name)).ok_or_else(|| {
        let hint = "use the name of a development account as sender, or sign the transaction";
        ApiError::unprocessable("unsigned_transaction", "sig is missing", hint)
    })?;
    let kind = field("type");
    let kind = kind.as_str().and_then(Kind::from_name).filter(|kind| *kind == Kind::Transfer);
    let kind = kind.ok_or_else(|| {
        let detail = format!("Value error, unsupported transaction type: {}", field("type"));
        ApiError::unprocessable("type_unsupported", detail, "use TRANSFER, or sign the transaction")
    })?;
    let fee = read_integer(&field("fee")).ok().and_then(Amount::new).ok_or_else(|| {
        ApiError::unprocessable("fee_invalid", "fee is not an integer from 0 to 2^63 - 1", "")
    })?;
    let mut payload = field("payload");
    for name in ["to", "recipient"] {
        if let Some(Value::String(text)) = payload.get(name) {
            payload[name] = json!(resolve(backend, text)?);
        }
    }
    let payload = payload_from_json(kind, &payload).map_err(|error| {
        ApiError::unprocessable(
            "payload_invalid",
            error.to_string(),
            "a transfer has to and amount",
        )
    })?;
    submit_next(backend, dev, &key, fee, payload).await
}

/// Signs with the nonce after the sender's pending transactions, and submits. A block may
/// take those between the two reads that find the nonce: then it is found again.
async fn submit_next(
    backend: &Backend,
    dev: &DevEdge,
    key: &SecretKey,
    fee: Amount,
    payload: Payload,
) -> Result<Submitted, ApiError> {
    let _one_at_a_time = dev.signing.lock().await;
    let address = key.public_key().address();
    let chain_id = backend.chain.chain_id();
    let mut tries = 0;
    loop {
        let nonce = committed_nonce(backend, address).await?;
        let nonce = backend.mempool.next_nonce(&address, nonce);
        let transaction = Transaction::sign(key, chain_id, nonce, fee, None, payload.clone());
        match backend.ingress.submit(transaction).await {
            Err(error) if error.code() == "nonce_used" && tries < NONCE_TRIES => tries += 1,
            result => return Ok(result?),
        }
    }
}

async fn committed_nonce(backend: &Backend, address: Address) -> Result<Nonce, ApiError> {
    let account = blocking(&backend.chain, move |chain| Ok(chain.account(&address)?)).await?;
    Ok(account.unwrap_or_default().nonce)
}

/// `POST /rpc/admin/mintFaucet`
pub(super) async fn mint(body: Bytes, backend: Backend) -> Response {
    answer(mint_and_wait(&body, &backend).await)
}

async fn mint_and_wait(body: &[u8], backend: &Backend) -> Result<Value, ApiError> {
    let Some(dev) = &backend.dev else {
        let hint = "the faucet is open on a devnet only";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "faucet_closed", "no faucet here", hint));
    };
    let value = parse(body)?;
    let text = value.get("address").and_then(Value::as_str).ok_or_else(|| {
        ApiError::unprocessable("address_invalid", "address is missing", "send address and amount")
    })?;
    let to = resolve(backend, text)?;
    let amount = read_integer(value.get("amount").unwrap_or(&Value::Null)).ok();
    let amount = amount.and_then(Amount::new).filter(|amount| *amount > Amount::ZERO);
    let amount = amount.ok_or_else(|| {
        ApiError::unprocessable("amount_invalid", "amount is not an integer from 1 to 2^63 - 1", "")
    })?;
    let mut head = backend.chain.watch();
    let payload = Payload::Mint { to, amount };
    let hash = submit_next(backend, dev, &dev.minter, Amount::ZERO, payload).await?.hash;
    let committed = async {
        loop {
            let found =
                blocking(&backend.chain, move |chain| Ok(chain.index().transaction(&hash)?));
            if found.await?.is_some() || head.changed().await.is_err() {
                return Ok::<_, ApiError>(());
            }
        }
    };
    tokio::time::timeout(MINT_WAIT, committed).await.map_err(|_| {
        let hint = format!("ask for /rpc/tx/{hash}/why");
        let detail = "the mint is not in a block yet";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_committed_yet", detail, hint)
    })??;
    let account = blocking(&backend.chain, move |chain| Ok(chain.account(&to)?)).await?;
    let balance = account.unwrap_or_default().balance;
    Ok(json!({ "address": text, "balance": balance, "tx_hash": hash }))
}

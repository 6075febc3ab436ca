//! Reading endpoints.

use ait_engine::codec::Canonical;
use ait_engine::state::{Account, Claim, Key};
use ait_engine::types::{Address, BlockId, Height, TxHash};
use ait_net::wire::{
    AccountBalance, AccountProof, Anchor, BlockBody, BlockSummary, CertificateJson, Head,
    HeaderJson, OutcomeJson, ReceiptView, RewardJson, TransactionView, ValidatorJson, WhyResponse,
    payload_to_json, rfc3339,
};
use serde_json::{Value, json};
use warp::reply::Response;

use super::Backend;
use super::error::{ApiError, answer};
use crate::chain::{Chain, ChainError, CommittedBlock};
use crate::mempool::TxStatus;

/// Runs a read of storage on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    chain: &Chain,
    read: impl FnOnce(&Chain) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let chain = chain.clone();
    match tokio::task::spawn_blocking(move || read(&chain)).await {
        Ok(result) => result,
        Err(_) => Err(ChainError::Stopped { what: "a reading task" }.into()),
    }
}

/// An address, or a development account's name where there are any.
pub(super) fn resolve(backend: &Backend, text: &str) -> Result<Address, ApiError> {
    let result = match &backend.dev {
        Some(dev) => dev.names.resolve(text).map_err(|error| error.to_string()),
        None => text.parse::<Address>().map_err(|error| error.to_string()),
    };
    result.map_err(|detail| {
        ApiError::unprocessable(
            "address_invalid",
            detail,
            "use a bech32m address that begins with ait1",
        )
    })
}

/// `GET /rpc/head`
pub(super) async fn head(backend: Backend) -> Response {
    answer(Ok(Head::from(&*backend.chain.head().header)))
}

/// `GET /health`
pub(super) async fn health(backend: Backend) -> Response {
    let head = backend.chain.head();
    answer(Ok(json!({
        "status": "ok",
        "chain_id": backend.chain.chain_id(),
        "height": head.height,
        "pending": backend.mempool.len(),
    })))
}

/// `GET /rpc/supply`
pub(super) async fn supply(backend: Backend) -> Response {
    let read = |chain: &Chain| {
        let supply = chain.supply()?;
        Ok(json!({ "total_supply": supply.total, "minted": supply.minted }))
    };
    answer(blocking(&backend.chain, read).await)
}

/// `GET /rpc/blocks/{height or hash}`
pub(super) async fn block(at: String, backend: Backend) -> Response {
    let read = move |chain: &Chain| {
        let height = if at.starts_with("0x") {
            let id: BlockId = at.parse().map_err(|error: ait_engine::types::ParseError| {
                ApiError::unprocessable(
                    "hash_invalid",
                    error.to_string(),
                    "use 0x and 64 hex digits",
                )
            })?;
            chain.height_of(&id)?
        } else if at.parse::<i64>().is_ok_and(|height| height < 0) {
            None
        } else {
            let height = at.parse::<u64>().map_err(|_| {
                ApiError::unprocessable(
                    "height_invalid",
                    format!("{at:.40?} is no height"),
                    "use an integer",
                )
            })?;
            Height::new(height)
        };
        let missing = || ApiError::not_found("block not found");
        let block = chain.block(height.ok_or_else(missing)?)?.ok_or_else(missing)?;
        Ok(block_view(&block))
    };
    answer(blocking(&backend.chain, read).await)
}

fn block_view(block: &CommittedBlock) -> BlockBody {
    let header = &block.block.header;
    let count = u32::try_from(block.tx_hashes.len()).unwrap_or(u32::MAX);
    BlockBody {
        summary: BlockSummary::from(header),
        header: HeaderJson::from(header),
        transactions: (0..count).filter_map(|index| transaction_view(block, index)).collect(),
        receipts: Vec::<ReceiptView>::new(),
        certificate: block.certificate.as_ref().map(CertificateJson::from),
    }
}

fn transaction_view(block: &CommittedBlock, index: u32) -> Option<TransactionView> {
    let at = usize::try_from(index).ok()?;
    let (transaction, outcome) = (block.block.transactions.get(at)?, block.outcomes.get(at)?);
    let payload = payload_to_json(&transaction.payload);
    let rewards = outcome.rewards.iter();
    Some(TransactionView {
        tx_hash: outcome.tx_hash.to_string(),
        block_height: block.height().get(),
        sender: transaction.sender().to_string(),
        recipient: payload.get("to").and_then(Value::as_str).unwrap_or_default().to_owned(),
        payload,
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

fn tx_hash(text: &str) -> Result<TxHash, ApiError> {
    text.parse().map_err(|error: ait_engine::types::ParseError| {
        ApiError::unprocessable("hash_invalid", error.to_string(), "use 0x and 64 hex digits")
    })
}

/// `GET /rpc/tx/{hash}`
pub(super) async fn transaction(hash: String, backend: Backend) -> Response {
    let read = move |chain: &Chain| {
        let missing = || ApiError::not_found("transaction not found");
        let at = chain.index().transaction(&tx_hash(&hash)?)?.ok_or_else(missing)?;
        let block = chain.block(at.height)?.ok_or_else(missing)?;
        transaction_view(&block, at.index).ok_or_else(missing)
    };
    answer(blocking(&backend.chain, read).await)
}

/// `GET /rpc/tx/{hash}/why`
pub(super) async fn why(hash: String, backend: Backend) -> Response {
    let mempool = std::sync::Arc::clone(&backend.mempool);
    let read = move |chain: &Chain| {
        let hash = tx_hash(&hash)?;
        let mut why = WhyResponse {
            tx_hash: hash.to_string(),
            status: "unknown".to_owned(),
            detail: "this node has not seen the transaction, or has forgotten it".to_owned(),
            code: None,
            hint: None,
            block_height: None,
        };
        if let Some(at) = chain.index().transaction(&hash)? {
            why.status = "committed".to_owned();
            why.detail = format!("it is in block {}", at.height);
            why.block_height = Some(at.height.get());
            return Ok(why);
        }
        match mempool.status(&hash) {
            TxStatus::Pending { missing_nonce, .. } => {
                why.status = "pending".to_owned();
                why.detail = match missing_nonce {
                    Some(nonce) => {
                        format!("it waits for the sender's transaction with nonce {nonce}")
                    }
                    None => "it waits for a block".to_owned(),
                };
            }
            TxStatus::Dropped(dropped) => {
                why.status = "dropped".to_owned();
                why.code = Some(dropped.reason.code().to_owned());
                why.detail = dropped.reason.to_string();
            }
            TxStatus::Unknown => {}
        }
        Ok(why)
    };
    answer(blocking(&backend.chain, read).await)
}

/// `GET /rpc/getBalance/{address}`
pub(super) async fn balance(address: String, backend: Backend) -> Response {
    let resolved = match resolve(&backend, &address) {
        Ok(resolved) => resolved,
        Err(error) => return answer::<()>(Err(error)),
    };
    let read = move |chain: &Chain| {
        let account = chain.account(&resolved)?.unwrap_or_default();
        let stats = chain.index().account(&resolved)?;
        Ok(AccountBalance {
            address,
            balance: account.balance.get(),
            nonce: account.nonce.get(),
            updated_at: stats.map(|stats| rfc3339(stats.updated_at)),
        })
    };
    answer(blocking(&backend.chain, read).await)
}

/// `GET /rpc/proof/account/{address}`
pub(super) async fn account_proof(address: String, backend: Backend) -> Response {
    let address = match resolve(&backend, &address) {
        Ok(resolved) => resolved,
        Err(error) => return answer::<()>(Err(error)),
    };
    let read = move |chain: &Chain| {
        let key = Key::account(&address);
        let proven = chain.prove(&key)?;
        let claim = proven.proof.verify(&proven.header.state_root, &key);
        let corrupt = |what: String| ApiError::from(ChainError::Corrupt { what });
        let account = match claim.map_err(|error| corrupt(error.to_string()))? {
            Claim::Present(value) => {
                Some(Account::try_from(&value).map_err(|error| corrupt(error.to_string()))?)
            }
            Claim::Absent => None,
        };
        let Account { balance, nonce } = account.unwrap_or_default();
        Ok(AccountProof {
            address,
            exists: account.is_some(),
            balance,
            nonce,
            proof: format!("0x{}", hex::encode(proven.proof.encode())),
            anchor: Anchor {
                header: HeaderJson::from(&proven.header),
                certificate: proven.certificate.as_ref().map(CertificateJson::from),
                validators: ValidatorJson::list(&chain.validators()?),
            },
        })
    };
    answer(blocking(&backend.chain, read).await)
}

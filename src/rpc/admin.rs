//! Administration: the faucet and parameters of a devnet, and the token that guards them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ait_engine::transaction::{Kind, Payload};
use ait_engine::types::{Amount, Height, TxHash};
use ait_net::wire::{MintResponse, SendTxResponse, payload_from_json};
use serde::Deserialize;
use serde_json::{Value, json as object};
use subtle::ConstantTimeEq;
use warp::http::{StatusCode, header};
use zeroize::Zeroizing;

use super::call::{Answer, Call, integer_field, json};
use super::dev::{DevEdge, submit_next};
use super::{Api, ApiError};
use crate::chain::ChainError;
use crate::keystore::{self, KeystoreError};
use crate::mempool::TxStatus;

/// How long a mint or a change of parameters waits for its block.
const COMMIT_WAIT: Duration = Duration::from_secs(20);
/// Blocks before those made meanwhile in which it is looked for, for it was submitted before.
const BLOCKS_BEFORE: u64 = 16;

/// Shortest token, and longest token file, in bytes.
const TOKEN_BYTES_MIN: usize = 32;
const TOKEN_BYTES_MAX: usize = 4096;

/// The token that administrators send. Never logged.
pub struct AdminToken(Zeroizing<String>);

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken")
    }
}

/// Why there is no admin token.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// The file cannot be used.
    #[error("the admin token: {0}")]
    File(#[from] KeystoreError),
    /// What the file holds is no token.
    #[error(
        "the admin token in {} is not of {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} characters", .path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
    },
}

impl AdminTokenError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Length { .. } => Some("delete the file for a new one".to_owned()),
        }
    }
}

impl AdminToken {
    /// The token of this file; made, readable by its owner alone, if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written, is open to others, or holds fewer than 32
    /// characters.
    pub fn load_or_create(path: &Path) -> Result<Self, AdminTokenError> {
        let text = match keystore::read_private(path, TOKEN_BYTES_MAX) {
            Ok(text) => text,
            Err(KeystoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(Self::create(path)?);
            }
            Err(error) => return Err(error.into()),
        };
        let token = text.trim();
        if token.len() < TOKEN_BYTES_MIN {
            return Err(AdminTokenError::Length { path: path.to_owned() });
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    fn create(path: &Path) -> Result<Self, KeystoreError> {
        let bytes = Zeroizing::new(keystore::random::<32>()?);
        let token = Zeroizing::new(hex::encode(bytes.as_slice()));
        keystore::write_private(path, Zeroizing::new(format!("{}\n", token.as_str())).as_str())
            .map_err(|source| KeystoreError::Io { path: path.to_owned(), source })?;
        Ok(Self(token))
    }

    /// The token, to be shown to the one who started a devnet.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn matches(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// Refuses whoever does not send the token.
pub(super) fn authorize(call: &Call) -> Result<(), ApiError> {
    let text = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION.as_str()).and_then(|v| v.strip_prefix("Bearer "));
    let given = bearer.or_else(|| text("x-admin-token")).map(str::trim);
    match (given, &call.api.admin_token) {
        (Some(given), Some(token)) if token.matches(given) => Ok(()),
        _ => {
            let hint = "send `Authorization: Bearer TOKEN`; the token is in the file that rpc.admin_token_file names";
            let detail = "the admin token is missing or wrong";
            Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", detail, hint))
        }
    }
}

/// `POST /rpc/admin/mintFaucet`
pub(super) async fn mint(call: Call) -> Answer {
    let Some(dev) = &call.api.dev else {
        let hint = "the faucet is part of a devnet: ait-node dev";
        return Err(ApiError::forbidden("faucet_closed", "this node has no faucet", hint));
    };
    if !call.client.local {
        authorize(&call)?;
    }
    call.api.faucet_rate.check(call.client.ip).map_err(ApiError::rate_limited)?;
    let body = call.object()?;
    let text = body.get("address").and_then(Value::as_str).ok_or_else(|| {
        ApiError::unprocessable("address_invalid", "address is missing", "send address and amount")
    })?;
    let to = call.resolve(text)?;
    let amount = Amount::new(integer_field(&body, "amount")?).filter(|a| *a > Amount::ZERO);
    let amount = amount.ok_or_else(|| {
        let hint = "use an integer from 1 to 2^63 - 1";
        ApiError::unprocessable("amount_invalid", "amount is not greater than 0", hint)
    })?;
    let payload = Payload::Mint { to, amount };
    let hash = submit_next(&call.api, dev, &dev.minter, Amount::ZERO, payload).await?.hash;
    wait_for(&call, hash).await?;
    let account = call.read(move |api| Ok(api.chain.account(&to)?)).await?;
    json(&MintResponse {
        address: text.to_owned(),
        balance: account.unwrap_or_default().balance.get(),
        tx_hash: hash.to_string(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamSetBody {
    #[serde(default)]
    changes: Vec<Value>,
    param: Option<String>,
    value: Option<Value>,
}

/// `POST /rpc/admin/paramSet`
pub(super) async fn param_set(call: Call) -> Answer {
    authorize(&call)?;
    let Some(dev) = &call.api.dev else {
        let hint = "sign a PARAM_SET transaction with the governor's key and send it to sendTx";
        let detail = "this node does not hold the governor's key";
        return Err(ApiError::forbidden("governor_key_absent", detail, hint));
    };
    let hash = submit_params(&call, dev).await?;
    wait_for(&call, hash).await?;
    let tx_hash = hash.to_string();
    json(&SendTxResponse { tx_hash_alias: tx_hash.clone(), tx_hash })
}

async fn submit_params(call: &Call, dev: &DevEdge) -> Result<TxHash, ApiError> {
    let hint = "send {\"param\": NAME, \"value\": INTEGER} or {\"changes\": [..]}; GET /rpc/params lists the names";
    let invalid = |detail: String| ApiError::unprocessable("params_invalid", detail, hint);
    let body: ParamSetBody =
        serde_json::from_value(call.object()?).map_err(|error| invalid(error.to_string()))?;
    let mut changes = body.changes;
    if let Some(name) = body.param {
        changes.push(object!({ "param": name, "value": body.value }));
    }
    let payload = payload_from_json(Kind::ParamSet, &object!({ "changes": changes }));
    let payload = payload.map_err(|error| invalid(error.to_string()))?;
    let submitted = submit_next(&call.api, dev, &dev.governor, Amount::ZERO, payload).await?;
    Ok(submitted.hash)
}

/// Whether a transaction that was submitted just now is in the index or in a block from this
/// height on: there may be no index, or one that is far behind. None if it is, else the height
/// to look from the next time.
fn is_committed(api: &Api, hash: &TxHash, from: u64) -> Result<Option<u64>, ApiError> {
    match api.chain.index().transaction(hash) {
        Ok(None) | Err(ChainError::IndexDisabled) => {}
        Ok(Some(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let head = api.chain.head().height.get();
    for height in from..=head {
        let block = api.chain.block(Height::saturating(height))?;
        if block.is_some_and(|block| block.tx_hashes.contains(hash)) {
            return Ok(None);
        }
    }
    Ok(Some(from.max(head.saturating_add(1))))
}

/// Waits until a transaction is in a block, for a bounded time.
async fn wait_for(call: &Call, hash: TxHash) -> Result<(), ApiError> {
    let mut head = call.api.chain.watch();
    let mut from = call.api.chain.head().height.get().saturating_sub(BLOCKS_BEFORE);
    let committed = async {
        loop {
            match call.read_index(move |api| is_committed(api, &hash, from)).await? {
                Some(next) => from = next,
                None => return Ok::<_, ApiError>(()),
            }
            if let TxStatus::Dropped(dropped) = call.api.mempool.status(&hash) {
                let (code, detail) = (dropped.reason.code(), dropped.reason.to_string());
                let hint = "correct the request and send it again";
                return Err(ApiError::new(StatusCode::BAD_REQUEST, code, detail, hint));
            }
            // Looked at now and then as well: a drop makes no block.
            let _ = tokio::time::timeout(Duration::from_millis(200), head.changed()).await;
        }
    };
    tokio::time::timeout(COMMIT_WAIT, committed).await.map_err(|_| {
        let hint = format!("ask for /rpc/tx/{hash}/why");
        let detail = "the transaction is not in a block yet";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_committed_yet", detail, hint)
    })?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_token_is_made_once_and_readable_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin_token");
        let token = AdminToken::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = AdminToken::load_or_create(&path).unwrap();
        assert!(again.matches(token.reveal()));
        assert!(!again.matches(&token.reveal()[1..]));
        assert!(!again.matches(""));
        assert_eq!(format!("{token:?}"), "AdminToken");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = AdminToken::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("mode 640"), "{error}");
        assert_eq!(error.hint(), Some(format!("run: chmod 600 {}", path.display())));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for wrong in ["short".to_owned(), "x".repeat(TOKEN_BYTES_MAX + 1)] {
            std::fs::write(&path, wrong).unwrap();
            assert!(AdminToken::load_or_create(&path).is_err());
        }
    }
}

//! Administration: the faucet and parameters of a devnet, and the token that guards them.

use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use ait_engine::transaction::{Kind, Payload};
use ait_engine::types::{Amount, TxHash};
use ait_net::wire::{MintResponse, SendTxResponse, payload_from_json};
use serde::Deserialize;
use serde_json::{Value, json as object};
use subtle::ConstantTimeEq;
use warp::http::{StatusCode, header};
use zeroize::Zeroizing;

use super::call::{Answer, Call, integer_field, json};
use super::dev::{DevEdge, submit_next};
use super::{Api, ApiError};
use crate::keystore;
use crate::mempool::TxStatus;

/// How long a mint or a change of parameters waits for its block.
const COMMIT_WAIT: Duration = Duration::from_secs(20);

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

impl AdminToken {
    /// The token of this file; made, readable by its owner alone, if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written, is open to others, or holds fewer than 32
    /// characters.
    pub fn load_or_create(path: &Path) -> std::io::Result<Self> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::create(path),
            Err(error) => return Err(error),
        };
        if let Some(mode) = keystore::allows(&file.metadata()?, keystore::TO_OTHERS) {
            let message = format!(
                "the admin token is open to others (mode {mode:03o}); chmod 600 it, or delete it for a new one"
            );
            return Err(Error::new(ErrorKind::PermissionDenied, message));
        }
        // Room for all of it from the start: what grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_BYTES_MAX + 1));
        file.take(TOKEN_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
        let token = text.trim();
        if token.len() < TOKEN_BYTES_MIN || text.len() > TOKEN_BYTES_MAX {
            let message = format!(
                "the admin token is not of {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} characters; delete the file for a new one"
            );
            return Err(Error::new(ErrorKind::InvalidData, message));
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    fn create(path: &Path) -> std::io::Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(Error::other)?;
        let token = Zeroizing::new(hex::encode(bytes.as_slice()));
        keystore::write_private(path, &Zeroizing::new(format!("{}\n", token.as_str())))?;
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

/// Waits until a transaction is in a block, for a bounded time.
async fn wait_for(call: &Call, hash: TxHash) -> Result<(), ApiError> {
    let mut head = call.api.chain.watch();
    let committed = async {
        loop {
            let find = move |api: &Api| Ok(api.chain.index().transaction(&hash)?);
            if call.read_index(find).await?.is_some() {
                return Ok::<_, ApiError>(());
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
        assert!(AdminToken::load_or_create(&path).unwrap_err().to_string().contains("640"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(AdminToken::load_or_create(&path).is_err());
    }
}

//! The node and its chain as a whole: information, health, parameters, metrics.

use std::time::Instant;

use ait_net::sync::SyncReason;
use ait_net::wire::{
    Health, Info, ParamsView, SupplyView, SyncStatus, ValidatorJson, ValidatorList, rfc3339,
};
use serde_json::json as object;
use warp::Reply;
use warp::http::{StatusCode, header};

use super::call::{Answer, Call, json};
use super::{Api, ApiError, openapi, remotes};
use crate::health::Status;

/// `GET /rpc/info`
pub(super) async fn info(call: Call) -> Answer {
    let api = &call.api;
    let head = api.chain.head();
    json(&Info {
        chain_id: api.chain.chain_id().to_string(),
        genesis_hash: api.chain.genesis_id().to_string(),
        height: head.height.get(),
        hash: head.block_id.to_string(),
        total_transactions: head.transaction_total,
        pending_transactions: api.mempool.len() as u64,
        protocol_version: head.header.version,
        node_version: env!("CARGO_PKG_VERSION").to_owned(),
        storage_engine: api.storage_engine.to_string(),
        dev: api.dev.is_some(),
    })
}

/// `GET /rpc/supply`
pub(super) async fn supply(call: Call) -> Answer {
    let read = |api: &Api| {
        let supply = api.chain.supply()?;
        Ok(SupplyView {
            total_supply: supply.total.get(),
            minted: supply.minted.get(),
            height: api.chain.state_height().get(),
        })
    };
    call.answer(read).await
}

/// `GET /rpc/validators`
pub(super) async fn validators(call: Call) -> Answer {
    let read = |api: &Api| {
        let set = api.chain.validators()?;
        let height = api.chain.state_height();
        Ok(ValidatorList {
            validators: ValidatorJson::list(&set),
            total_power: set.iter().map(|validator| validator.power.get()).sum(),
            height: height.next().unwrap_or(height).get(),
            validators_hash: set.hash().to_string(),
        })
    };
    call.answer(read).await
}

/// `GET /rpc/params`
pub(super) async fn params(call: Call) -> Answer {
    let settings = call.read(|api| Ok(api.chain.settings()?)).await?;
    let entries = settings.params.entries().into_iter();
    json(&ParamsView {
        params: entries.map(|(name, value)| (name.to_owned(), value)).collect(),
        governor: settings.governor.map(|address| address.to_string()),
        minter: settings.minter.map(|address| address.to_string()),
    })
}

/// `GET /rpc/syncStatus`
pub(super) async fn sync_status(call: Call) -> Answer {
    let read = |api: &Api| {
        let network = api.network.as_ref().map(|network| network.view());
        let connected = network.as_ref().map_or(0, |view| view.connected() as u64);
        let sync = network.and_then(|view| view.sync.clone());
        let head = api.chain.head();
        let target = sync.as_ref().map_or(head.height, |sync| sync.target).max(head.height);
        let target = target.max(remotes::target(api));
        let set = api.chain.validators()?;
        let (reason, about) = match &sync {
            Some(sync) => (sync.reason.name(), sync.reason.about()),
            None => remotes::reason(api),
        };
        Ok(SyncStatus {
            chain_id: api.chain.chain_id().to_string(),
            head_height: head.height.get(),
            head_hash: head.block_id.to_string(),
            head_proposer: head.header.proposer.to_string(),
            head_timestamp: rfc3339(head.header.time),
            total_blocks: head.height.get().saturating_add(1),
            total_transactions: head.transaction_total,
            validate_signatures: true,
            trusted_proposers: set.iter().map(|v| v.address().to_string()).collect(),
            max_reorg_depth: 0,
            role: if api.validator.is_some() { "validator" } else { "follower" }.to_owned(),
            reason: reason.to_owned(),
            about: about.to_owned(),
            target_height: target.get(),
            blocks_behind: target.get().saturating_sub(head.height.get()),
            waiting_seconds: sync.as_ref().map_or(0, |sync| sync.waiting_ms / 1_000),
            asked_peers: sync
                .map(|sync| sync.from.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            peers_connected: connected,
            remotes: remotes::list(api),
        })
    };
    call.answer(read).await
}

/// `GET /rpc/test-endpoint`
pub(super) async fn test_endpoint(_: Call) -> Answer {
    json(&object!({ "status": "updated_code_running" }))
}

fn look(api: &Api) -> (Status, Health) {
    let status = api.health.status(Instant::now());
    let health = Health {
        status: status.name().to_owned(),
        chain_id: api.chain.chain_id().to_string(),
        proposer_id: api.validator.map(|address| address.to_string()).unwrap_or_default(),
        height: api.chain.head().height.get(),
        pending: api.mempool.len() as u64,
        reason: status.reason(),
    };
    (status, health)
}

/// `GET /health`: whether the process should go on; fails once a part has failed.
pub(super) async fn health(call: Call) -> Answer {
    let (status, health) = look(&call.api);
    let code = match status {
        Status::Failed { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    Ok(warp::reply::with_status(warp::reply::json(&health), code).into_response())
}

/// `GET /readyz`: whether to send clients here; fails with the reason when the height
/// should move and does not.
pub(super) async fn ready(call: Call) -> Answer {
    let (status, health) = look(&call.api);
    let behind = call.read(behind).await?;
    match (status, behind) {
        (Status::Ok, None) => json(&health),
        (Status::Paused { shortage }, _) => {
            let unavailable = StatusCode::SERVICE_UNAVAILABLE;
            Err(ApiError::new(unavailable, shortage.code(), shortage.to_string(), shortage.hint()))
        }
        (Status::Damaged { reason }, _) => {
            let hint = "stop the node: ait-node db check says what is damaged and what mends it";
            let unavailable = StatusCode::SERVICE_UNAVAILABLE;
            Err(ApiError::new(unavailable, "database_corrupt", reason, hint))
        }
        (_, behind) => {
            let reason = health.reason.or(behind).unwrap_or_default();
            let hint = "the node's log says more; /metrics shows when the last block was made";
            let unavailable = StatusCode::SERVICE_UNAVAILABLE;
            Err(ApiError::new(unavailable, "not_ready", reason, hint))
        }
    }
}

/// Blocks that a node may be behind and still count as ready.
const BEHIND_MAX: u64 = 10;

/// Why a node does not know the newest blocks, if so.
fn behind(api: &Api) -> Result<Option<String>, ApiError> {
    let Some(network) = api.network.as_ref() else { return Ok(remotes::behind(api, BEHIND_MAX)) };
    let needs_peers = api.validator.is_none() || api.chain.validators()?.count() > 1;
    let Some(sync) = network.view().sync.clone() else {
        // In its first moments it does not know of anybody.
        return Ok(needs_peers.then(|| "no peer was asked yet".to_owned()));
    };
    let missing = sync.target.get().saturating_sub(sync.height.get());
    let is_lost = sync.reason == SyncReason::NoPeers && needs_peers;
    Ok((is_lost || missing > BEHIND_MAX).then(|| {
        let (height, target, reason) = (sync.height, sync.target, sync.reason);
        let waited = sync.waiting_ms / 1_000;
        let from: Vec<_> = sync.from.iter().map(ait_net::peer::PeerId::short).collect();
        let asked = if from.is_empty() { "nobody".to_owned() } else { from.join(", ") };
        let (name, about) = (reason.name(), reason.about());
        format!("at height {height} of {target}, asked: {asked}, no block for {waited} s, {name}: {about}")
    }))
}

/// `GET /metrics`
pub(super) async fn metrics(call: Call) -> Answer {
    let mut page = call.api.metrics.render();
    page.push_str(&call.api.offenders.metrics());
    page.push_str(&call.api.takers.metrics());
    if let Some(network) = &call.api.network {
        page.push_str(&network.view().metrics());
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(warp::reply::with_header(page, header::CONTENT_TYPE, kind).into_response())
}

/// `GET /openapi.json`
pub(super) async fn openapi(_: Call) -> Answer {
    json(openapi::document())
}

/// `GET /docs`
pub(super) async fn docs(_: Call) -> Answer {
    Ok(warp::reply::html(include_str!("../../web/docs.html")).into_response())
}

/// `GET /`
pub(super) async fn root(_: Call) -> Answer {
    Ok(warp::redirect::see_other(warp::http::Uri::from_static("/docs")).into_response())
}

//! Other nodes.

use ait_net::peer::PeerAddress;
use ait_net::wire::{PeerAdded, PeerJson, PeerList};
use warp::http::StatusCode;

use super::ApiError;
use super::admin::authorize;
use super::call::{Answer, Call, json};
use crate::network::{Network, PeerLine};

fn network(call: &Call) -> Result<&Network, ApiError> {
    call.api.network.as_ref().ok_or_else(|| {
        let hint = "start the node with p2p.enabled = true";
        ApiError::new(StatusCode::NOT_FOUND, "no_network", "this node is alone", hint)
    })
}

fn shown(line: &PeerLine) -> PeerJson {
    let peer = &line.peer;
    let milliseconds = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    PeerJson {
        id: peer.id.to_string(),
        address: peer.address.clone(),
        connected: peer.is_connected,
        outbound: peer.is_outbound,
        is_static: peer.is_static,
        height: peer.height.map(|height| height.get()),
        agent: peer.agent.clone(),
        connected_seconds: peer.connected_ms / 1_000,
        rtt_ms: line.traffic.map(|traffic| milliseconds(traffic.rtt)),
        fault_points: peer.points,
        banned_seconds: peer.banned_ms.map(|ms| ms.div_ceil(1_000)),
    }
}

/// `GET /rpc/peers`
pub(super) async fn list(call: Call) -> Answer {
    let Some(network) = &call.api.network else {
        return json(&PeerList { id: None, total: 0, connected: 0, peers: Vec::new() });
    };
    let view = network.view();
    json(&PeerList {
        id: Some(network.id().to_string()),
        total: view.peers.len() as u64,
        connected: view.connected() as u64,
        peers: view.peers.iter().map(shown).collect(),
    })
}

/// `POST /rpc/admin/peers/add`
pub(super) async fn add(call: Call) -> Answer {
    authorize(&call)?;
    let network = network(&call)?;
    let body = call.object()?;
    let text = ["peer", "address"].iter().find_map(|name| body.get(*name)?.as_str());
    let address: PeerAddress = text.unwrap_or_default().parse().map_err(|error| {
        let hint = "send {\"peer\": \"ID@HOST:PORT\"} as the other node prints it";
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        ApiError::new(unprocessable, "bad_peer", format!("peer: {error}"), hint)
    })?;
    network.add_peer(address.clone()).await;
    json(&PeerAdded { status: "added".to_owned(), peer: address.to_string() })
}

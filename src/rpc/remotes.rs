//! How remotes of other sites stand.

use ait_engine::types::Height;
use ait_net::cross_site::RemoteReason;
use ait_net::sync::SyncReason;
use ait_net::wire::RemoteJson;

use super::Api;

/// Each remote.
pub(super) fn list(api: &Api) -> Vec<RemoteJson> {
    let shown = api.cross_site.remotes().into_iter().map(|line| {
        let status = line.status;
        RemoteJson {
            url: line.url,
            reason: status.reason.name().to_owned(),
            height: status.height.map(Height::get),
            last_success_seconds: status.success_ms_ago.map(|ms| ms / 1_000),
            last_error: status.last_error,
            retry_seconds: status.retry_in_ms.map(|ms| ms.div_ceil(1_000)),
        }
    });
    shown.collect()
}

/// Height of the newest block that a remote has.
pub(super) fn target(api: &Api) -> Height {
    let remotes = api.cross_site.remotes();
    let well = remotes.iter().filter(|line| line.status.reason.is_well());
    well.filter_map(|line| line.status.height).max().unwrap_or(Height::ZERO)
}

/// Why a node without a network of peers is where it is, and what that means.
pub(super) fn reason(api: &Api) -> (&'static str, &'static str) {
    let reasons: Vec<_> = api.cross_site.remotes().iter().map(|l| l.status.reason).collect();
    if reasons.is_empty() {
        ("alone", "this node has no network")
    } else if reasons.contains(&RemoteReason::Fetching) {
        (SyncReason::Fetching.name(), "blocks are fetched from another site and applied")
    } else if reasons.iter().any(|reason| reason.is_well()) {
        (SyncReason::InSync.name(), "this node has every block that the remotes have")
    } else if reasons.contains(&RemoteReason::BadBlocks) {
        (SyncReason::BadBlocks.name(), "remotes sent blocks that were refused; see remotes")
    } else {
        (SyncReason::NoPeers.name(), "no remote of cross_site.remotes answers; see remotes")
    }
}

/// Why a node that syncs with remotes alone does not know the newest blocks, if so.
pub(super) fn behind(api: &Api, missing_max: u64) -> Option<String> {
    let (reason, about) = reason(api);
    let (height, target) = (api.chain.head().height, target(api));
    let missing = target.get().saturating_sub(height.get());
    // Who makes the blocks itself needs no remote.
    let is_lost = reason == SyncReason::NoPeers.name() && api.validator.is_none();
    (is_lost || missing > missing_max)
        .then(|| format!("at height {height} of {target}, {reason}: {about}"))
}

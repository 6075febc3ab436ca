//! How the protocol stands, for operators.

use std::collections::BTreeMap;

use super::Protocol;
use super::port::PeerView;
use crate::peer::{PeerAddress, PeerId};
use crate::sync::SyncState;

impl Protocol {
    /// How sync stands.
    #[must_use]
    pub fn sync_state(&self, now_ms: u64) -> SyncState {
        self.sync.state(now_ms)
    }

    /// Static peers, to be remembered.
    #[must_use]
    pub fn static_peers(&self) -> Vec<PeerAddress> {
        self.book.iter().filter(|(_, is_static)| *is_static).map(|(a, _)| a.clone()).collect()
    }

    /// Every known peer.
    #[must_use]
    pub fn peers(&self, now_ms: u64) -> Vec<PeerView> {
        let mut views: BTreeMap<PeerId, PeerView> = BTreeMap::new();
        for (address, is_static) in self.book.iter() {
            let view = self.view(address.id, address.to_string(), is_static, now_ms);
            views.insert(address.id, view);
        }
        for (id, link) in &self.links {
            let host = || self.view(*id, link.host.clone(), false, now_ms);
            views.entry(*id).or_insert_with(host);
        }
        for id in self.scores.banned(now_ms).chain(self.allowances.paused(now_ms)) {
            let view = || self.view(*id, "unknown".to_owned(), false, now_ms);
            views.entry(*id).or_insert_with(view);
        }
        views.into_values().collect()
    }

    fn view(&self, id: PeerId, address: String, is_static: bool, now_ms: u64) -> PeerView {
        let link = self.links.get(&id);
        let left = |until: Option<u64>| until.map(|at| at.saturating_sub(now_ms));
        PeerView {
            id,
            address,
            is_connected: link.is_some(),
            is_outbound: link.is_some_and(|link| link.is_outbound),
            is_static,
            height: self.sync.height_of(&id),
            agent: link.map(|link| link.agent.clone()).unwrap_or_default(),
            connected_ms: link.map_or(0, |link| now_ms.saturating_sub(link.since_ms)),
            points: self.scores.points(&id),
            banned_ms: left(self.scores.banned_until(&id, now_ms)),
            paused_ms: left(self.allowances.paused_until(&id, link.map(|link| link.at), now_ms)),
            spent: self.allowances.spent(&id, now_ms),
        }
    }
}

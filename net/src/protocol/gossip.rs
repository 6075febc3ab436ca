//! Who has what: the part of the protocol that keeps things from being sent twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ait_engine::types::{BlockId, Height, TxHash};

use crate::gossip::Aging;
use crate::peer::PeerId;

/// Blocks of which is remembered whether a peer has them.
const BODIES_MAX: usize = 32;
/// How long a body may be on its way after its proposal came, before it is asked for.
const PUSHED_MS: u64 = 1_000;
/// How long a peer has to send a body that it was asked for.
const BODY_MS_MAX: u64 = 5_000;
/// Bodies that are wanted at once.
const WANTS_MAX: usize = 64;

/// What is known of a connected peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) is_outbound: bool,
    pub(super) host: String,
    pub(super) agent: String,
    pub(super) since_ms: u64,
    pub(super) neighbours: BTreeSet<PeerId>,
    /// Blocks whose bodies it has.
    pub(super) bodies: VecDeque<BlockId>,
    /// Those of them that it offered.
    pub(super) offered: VecDeque<BlockId>,
    /// Hashes of messages that it sent, or that were passed on to it.
    pub(super) has: Aging<[u8; 32], ()>,
    /// Control messages that it may send at once.
    pub(super) allowance: u32,
    pub(super) has_asked_addresses: bool,
}

pub(super) fn remember(list: &mut VecDeque<BlockId>, id: BlockId) -> bool {
    if list.contains(&id) {
        return false;
    }
    if list.len() == BODIES_MAX {
        list.pop_front();
    }
    list.push_back(id);
    true
}

/// Bodies that are not here though their proposals are.
#[derive(Debug, Default)]
pub(super) struct Wants(BTreeMap<BlockId, Want>);

#[derive(Debug)]
struct Want {
    height: Height,
    since_ms: u64,
    asked: Option<(PeerId, u64)>,
    tried: BTreeSet<PeerId>,
}

impl Wants {
    pub(super) fn add(&mut self, block_id: BlockId, height: Height, now_ms: u64) {
        if self.0.len() < WANTS_MAX {
            let (asked, tried) = (None, BTreeSet::new());
            self.0.entry(block_id).or_insert(Want { height, since_ms: now_ms, asked, tried });
        }
    }

    pub(super) fn remove(&mut self, block_id: &BlockId) {
        self.0.remove(block_id);
    }

    pub(super) fn committed(&mut self, height: Height) {
        self.0.retain(|_, want| want.height > height);
    }

    pub(super) fn failed(&mut self, block_id: &BlockId) {
        if let Some(want) = self.0.get_mut(block_id) {
            want.asked = None;
        }
    }

    /// Whom to ask for what, now.
    pub(super) fn due(
        &mut self,
        links: &BTreeMap<PeerId, Link>,
        now_ms: u64,
    ) -> Vec<(PeerId, Height, BlockId)> {
        let mut due = Vec::new();
        for (block_id, want) in &mut self.0 {
            if want.asked.is_some_and(|(_, at)| now_ms.saturating_sub(at) < BODY_MS_MAX) {
                continue;
            }
            let is_late = now_ms.saturating_sub(want.since_ms) >= PUSHED_MS;
            let has = |link: &Link| {
                link.offered.contains(block_id) || (is_late && link.bodies.contains(block_id))
            };
            let having = |tried: &BTreeSet<PeerId>| {
                links.iter().find(|(id, l)| has(l) && !tried.contains(*id)).map(|(id, _)| *id)
            };
            let chosen = having(&want.tried).or_else(|| {
                want.tried.clear();
                having(&want.tried)
            });
            if let Some(peer) = chosen {
                want.tried.insert(peer);
                want.asked = Some((peer, now_ms));
                due.push((peer, want.height, *block_id));
            }
        }
        due
    }
}

/// Which transactions were seen, and from whom first.
pub(super) type SeenTransactions = Aging<TxHash, Option<PeerId>>;

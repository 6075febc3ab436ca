//! The state machine.

use std::collections::{BTreeMap, BTreeSet};

use ait_engine::block::Block;
use ait_engine::certificate::Certificate;
use ait_engine::types::Height;

use super::claims::{Claim, believed};
use super::{SyncReason, SyncState};
use crate::limits::ANSWER_BLOCKS_MAX;
use crate::peer::{Host, PeerId};

/// A peer this little ahead is given a moment: consensus most likely brings the block.
const AHEAD: u64 = 2;
const GRACE_MS: u64 = 400;
/// How long a peer has to answer.
const ANSWER_MS_MAX: u64 = 15_000;
/// Requests under way at once, of all and of one peer.
const REQUESTS_MAX: usize = 8;
const PER_PEER_MAX: usize = 2;
/// Those of all strangers together: peers that were not named and never gave a block. Any number of
/// silent ones leaves the rest to others.
const STRANGERS_MAX: usize = 2;
/// Bytes of blocks that were received and not yet applied.
const WAITING_BYTES_MAX: u64 = 64 << 20;
/// Blocks that are handed over and not yet applied, and blocks that wait, at most.
const APPLYING_MAX: usize = 512;
const WAITING_MAX: usize = 4_096;
/// After this long without a block the state says so.
const SILENT_MS: u64 = 10_000;
/// How long a peer that sent bad blocks is not asked.
const REFUSED_MS: u64 = 60_000;
/// How long a peer that gave no answer is not asked: it may have too much to do.
const PAUSE_MS: u64 = 1_000;
/// Time after which no answer means that the line is too slow for what was asked. Who has
/// too much to do says so sooner.
const SLOW_MS: u64 = 3_000;
/// Requests without an answer, one after the other, that are nobody's fault: a slow line is
/// asked for a quarter each time, and is down to single blocks well before.
const UNANSWERED_MAX: u32 = 10;
/// The same of a peer that never gave a block and is silent, not busy: it was asked for a single one
/// by then.
const SILENT_MAX: u32 = 4;
/// Halvings after which a peer is asked for a single block.
const HALVINGS_MAX: u32 = ANSWER_BLOCKS_MAX.ilog2();

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask a peer for blocks.
    Ask {
        /// Number of the request.
        id: u64,
        /// Whom.
        peer: PeerId,
        /// First height.
        from: Height,
        /// Blocks at most.
        count: u32,
    },
    /// Apply a block; they come in order, each once.
    Apply {
        /// Who sent it.
        peer: PeerId,
        /// The block.
        block: Box<Block>,
        /// Its certificate.
        certificate: Certificate,
    },
    /// A peer answered something else than was asked, or gives no answer again and again.
    BadAnswer {
        /// Which.
        peer: PeerId,
    },
    /// A peer says that it has blocks, never gave one, and is silent when it is asked.
    Silent {
        /// Which.
        peer: PeerId,
    },
}

#[derive(Debug)]
struct Peer {
    claim: Claim,
    /// Whether it ever gave a block.
    gave: bool,
    asked: usize,
    refused_until_ms: u64,
    silent_until_ms: u64,
    /// Requests without an answer since the last answer.
    unanswered: u32,
    /// How often the count of blocks that it is asked for was halved.
    halvings: u32,
}

impl Peer {
    const fn new(height: u64, host: Host, is_named: bool) -> Self {
        Self {
            claim: Claim { height, host, is_named },
            gave: false,
            asked: 0,
            refused_until_ms: 0,
            silent_until_ms: 0,
            unanswered: 0,
            halvings: 0,
        }
    }

    const fn is_stranger(&self) -> bool {
        !self.gave && !self.claim.is_named
    }

    /// No answer came: it is not asked again at once, and for less if that took long.
    /// What is to be said of it, if it is a fault.
    fn gave_nothing(&mut self, asked: &Asked, pause_ms: u64, now_ms: u64) -> Option<Step> {
        self.silent_until_ms = self.silent_until_ms.max(now_ms.saturating_add(pause_ms));
        let is_silent = now_ms.saturating_sub(asked.at_ms) >= SLOW_MS;
        if is_silent {
            self.halvings = self.halvings.saturating_add(2).min(HALVINGS_MAX);
        }
        self.unanswered = self.unanswered.saturating_add(1);
        let peer = asked.peer;
        if is_silent && !self.gave && self.unanswered > SILENT_MAX {
            return Some(Step::Silent { peer });
        }
        (self.unanswered > UNANSWERED_MAX).then_some(Step::BadAnswer { peer })
    }
}

#[derive(Debug)]
struct Asked {
    peer: PeerId,
    from: u64,
    count: u64,
    at_ms: u64,
}

/// Fetches what is missing.
#[derive(Debug)]
pub struct BlockSync {
    /// Newest block here.
    height: u64,
    /// Everything up to here was handed over to be applied.
    handed: u64,
    peers: BTreeMap<PeerId, Peer>,
    asked: BTreeMap<u64, Asked>,
    /// Received blocks above `handed`, by height.
    waiting: BTreeMap<u64, (PeerId, Box<Block>, Certificate)>,
    waiting_bytes: u64,
    /// Bytes of handed over blocks that were not yet applied, by height.
    applying: BTreeMap<u64, u64>,
    next_id: u64,
    /// Since when somebody says that there is something to fetch.
    told_since_ms: Option<u64>,
    /// Since when that is believed, and when the height last changed.
    behind_since_ms: Option<u64>,
    moved_ms: u64,
}

impl BlockSync {
    /// For a chain of this height.
    #[must_use]
    pub const fn new(height: Height, now_ms: u64) -> Self {
        Self {
            height: height.get(),
            handed: height.get(),
            peers: BTreeMap::new(),
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            applying: BTreeMap::new(),
            next_id: 0,
            told_since_ms: None,
            behind_since_ms: None,
            moved_ms: now_ms,
        }
    }

    /// A peer is connected and says how far it is.
    pub fn connected(&mut self, peer: PeerId, host: Host, is_named: bool, height: Height) {
        self.peers.insert(peer, Peer::new(height.get(), host, is_named));
    }

    /// The operator named a peer.
    pub fn named(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.claim.is_named = true;
        }
    }

    /// A connected peer says how far it is.
    pub fn peer_height(&mut self, peer: &PeerId, height: Height) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.claim.height = peer.claim.height.max(height.get());
        }
    }

    /// How far a peer is.
    #[must_use]
    pub fn height_of(&self, peer: &PeerId) -> Option<Height> {
        self.peers.get(peer).map(|peer| Height::saturating(peer.claim.height))
    }

    /// A peer is gone.
    pub fn peer_gone(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        self.asked.retain(|_, asked| asked.peer != *peer);
    }

    /// A block was committed here, from wherever it came.
    pub fn committed(&mut self, height: Height, now_ms: u64) {
        self.height = self.height.max(height.get());
        self.handed = self.handed.max(self.height);
        self.moved_ms = now_ms;
        self.applying = self.applying.split_off(&self.height.saturating_add(1));
        let later = self.waiting.split_off(&self.handed.saturating_add(1));
        for (_, block, _) in std::mem::replace(&mut self.waiting, later).values() {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes_of(block));
        }
    }

    /// A block that was handed over was refused; whether its sender is at fault.
    pub fn refused(&mut self, peer: PeerId, is_senders_fault: bool, now_ms: u64) {
        self.handed = self.height;
        self.applying.clear();
        if is_senders_fault && let Some(peer) = self.peers.get_mut(&peer) {
            peer.refused_until_ms = now_ms.saturating_add(REFUSED_MS);
        }
        if is_senders_fault {
            let foreign = self.waiting.extract_if(.., |_, (from, ..)| *from == peer);
            let bytes: u64 = foreign.map(|(_, (_, block, _))| bytes_of(&block)).sum();
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        }
    }

    /// An answer came, or that there will be none: the peer has too much to do, or the line
    /// is too slow for what was asked.
    pub fn answered(
        &mut self,
        id: u64,
        blocks: Option<Vec<(Block, Certificate)>>,
        now_ms: u64,
    ) -> Vec<Step> {
        let Some(asked) = self.asked.remove(&id) else { return Vec::new() };
        if let Some(peer) = self.peers.get_mut(&asked.peer) {
            peer.asked = peer.asked.saturating_sub(1);
            if blocks.is_none() {
                return peer.gave_nothing(&asked, PAUSE_MS, now_ms).into_iter().collect();
            }
        }
        let in_order = |blocks: &[(Block, Certificate)]| {
            let heights = blocks.iter().map(|(block, _)| block.header.height.get());
            heights.eq((asked.from..).take(blocks.len()))
        };
        let blocks = match blocks {
            Some(blocks) if in_order(&blocks) && blocks.len() as u64 <= asked.count => blocks,
            _ => return vec![Step::BadAnswer { peer: asked.peer }],
        };
        if blocks.is_empty() {
            // It said that it has them. Its next status puts that right, if it has.
            if let Some(peer) = self.peers.get_mut(&asked.peer) {
                peer.claim.height = peer.claim.height.min(asked.from.saturating_sub(1));
            }
            return vec![Step::BadAnswer { peer: asked.peer }];
        }
        if let Some(peer) = self.peers.get_mut(&asked.peer) {
            peer.gave = true;
            peer.unanswered = 0;
            peer.halvings = peer.halvings.saturating_sub(1);
        }
        for (block, certificate) in blocks {
            let height = block.header.height.get();
            if height > self.handed && !self.waiting.contains_key(&height) {
                self.waiting_bytes = self.waiting_bytes.saturating_add(bytes_of(&block));
                self.waiting.insert(height, (asked.peer, Box::new(block), certificate));
            }
        }
        Vec::new()
    }

    /// What to do now. To be called after every other call, and every 100 ms or so.
    pub fn steps(&mut self, now_ms: u64) -> Vec<Step> {
        let mut steps = self.overdue(now_ms);
        while self.applying.len() < APPLYING_MAX
            && let Some(next) = self.handed.checked_add(1)
            && let Some((peer, block, certificate)) = self.waiting.remove(&next)
        {
            let bytes = bytes_of(&block);
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
            self.handed = next;
            self.applying.insert(next, bytes);
            steps.push(Step::Apply { peer, block, certificate });
        }
        if self.target() <= self.height {
            self.behind_since_ms = None;
        } else {
            self.behind_since_ms.get_or_insert(now_ms);
        }
        if self.told() <= self.height {
            self.told_since_ms = None;
            return steps;
        }
        let since = *self.told_since_ms.get_or_insert(now_ms);
        if self.told() > self.height.saturating_add(AHEAD)
            || now_ms.saturating_sub(since) >= GRACE_MS
        {
            self.ask(now_ms, &mut steps);
        }
        steps
    }

    fn overdue(&mut self, now_ms: u64) -> Vec<Step> {
        let late = self.asked.extract_if(.., |_, a| now_ms.saturating_sub(a.at_ms) > ANSWER_MS_MAX);
        let late: Vec<Asked> = late.map(|(_, asked)| asked).collect();
        let mut steps = Vec::new();
        for asked in late {
            let Some(peer) = self.peers.get_mut(&asked.peer) else { continue };
            peer.asked = peer.asked.saturating_sub(1);
            // Others are asked first.
            steps.extend(peer.gave_nothing(&asked, ANSWER_MS_MAX, now_ms));
        }
        steps
    }

    fn ask(&mut self, now_ms: u64, steps: &mut Vec<Step>) {
        while self.asked.len() < REQUESTS_MAX && (self.has_room() || self.lacks_next()) {
            let Some((from, count)) = self.gap() else { break };
            let strangers = self.peers.values().filter(|peer| peer.is_stranger());
            let has_room = strangers.map(|peer| peer.asked).sum::<usize>() < STRANGERS_MAX;
            let can = |peer: &Peer| {
                peer.claim.height >= from
                    && peer.asked < PER_PEER_MAX
                    && (has_room || !peer.is_stranger())
                    && peer.refused_until_ms.max(peer.silent_until_ms) <= now_ms
            };
            // Strangers last, then the least busy; among them the ids spread the load.
            let order =
                |id: &PeerId, peer: &Peer| (peer.is_stranger(), peer.asked, spread(id, from));
            let best = self.peers.iter_mut().filter(|(_, peer)| can(peer));
            let Some((id, peer)) = best.min_by_key(|(id, peer)| order(id, peer)) else { break };
            let most = u64::from(ANSWER_BLOCKS_MAX >> peer.halvings);
            let count = count.min(heights(from, peer.claim.height)).min(most);
            peer.asked = peer.asked.saturating_add(1);
            self.next_id = self.next_id.wrapping_add(1);
            let asked = Asked { peer: *id, from, count, at_ms: now_ms };
            steps.push(Step::Ask {
                id: self.next_id,
                peer: *id,
                from: Height::saturating(from),
                count: u32::try_from(count).unwrap_or(u32::MAX),
            });
            self.asked.insert(self.next_id, asked);
        }
    }

    /// The first heights that nobody was asked for and that are not here: first and count.
    fn gap(&self) -> Option<(u64, u64)> {
        let told = self.told();
        let mut covered: BTreeSet<(u64, u64)> =
            self.asked.values().map(|a| (a.from, a.from.saturating_add(a.count))).collect();
        covered.extend(self.waiting.keys().map(|height| (*height, height.saturating_add(1))));
        let mut from = self.handed.checked_add(1)?;
        for (begin, end) in covered {
            if begin > from {
                return Some((from, begin.saturating_sub(from)));
            }
            from = from.max(end);
        }
        (from <= told).then(|| (from, heights(from, told)))
    }

    fn has_room(&self) -> bool {
        let held_bytes = self.waiting_bytes.saturating_add(self.applying.values().sum::<u64>());
        self.waiting.len() < WAITING_MAX && held_bytes < WAITING_BYTES_MAX
    }

    /// Whether nobody was asked for the block that all that waits is waiting for: there is room for
    /// it always, or a peer that never gives it would stop everything.
    fn lacks_next(&self) -> bool {
        let next = self.handed.saturating_add(1);
        let is_asked = |a: &Asked| (a.from..a.from.saturating_add(a.count)).contains(&next);
        !self.waiting.contains_key(&next) && !self.asked.values().any(is_asked)
    }

    /// The greatest height that anybody says it has: blocks up to there are asked for.
    fn told(&self) -> u64 {
        self.peers.values().map(|peer| peer.claim.height).max().unwrap_or(0)
    }

    /// The height that the chain is believed to have, blocks that are being applied among them: how
    /// far this node is behind.
    fn target(&self) -> u64 {
        self.handed.max(believed(self.peers.values().map(|peer| peer.claim)))
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self, now_ms: u64) -> SyncState {
        let target = self.target();
        let behind_since = self.behind_since_ms.unwrap_or(now_ms).max(self.moved_ms);
        let waiting_ms = if target > self.height { now_ms.saturating_sub(behind_since) } else { 0 };
        let ahead: Vec<&Peer> =
            self.peers.values().filter(|p| p.claim.height > self.height).collect();
        let reason = if self.peers.is_empty() {
            SyncReason::NoPeers
        } else if target <= self.height {
            SyncReason::InSync
        } else if waiting_ms < SILENT_MS {
            SyncReason::Fetching
        } else if self.handed > self.height {
            SyncReason::Applying
        } else if ahead.iter().all(|peer| peer.refused_until_ms > now_ms) {
            SyncReason::BadBlocks
        } else {
            SyncReason::PeersSilent
        };
        let from: BTreeSet<PeerId> = self.asked.values().map(|asked| asked.peer).collect();
        SyncState {
            reason,
            height: Height::saturating(self.height),
            target: Height::saturating(target.max(self.height)),
            from: from.into_iter().collect(),
            waiting_ms,
        }
    }
}

/// How many heights there are from `from` to `last`, which is not below it.
const fn heights(from: u64, last: u64) -> u64 {
    last.saturating_sub(from).saturating_add(1)
}

fn bytes_of(block: &Block) -> u64 {
    u64::from(block.header.body_bytes) + 1_024
}

fn spread(peer: &PeerId, from: u64) -> u64 {
    let mut key = [0; 8];
    key.copy_from_slice(&peer.0[..8]);
    u64::from_le_bytes(key) ^ from.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

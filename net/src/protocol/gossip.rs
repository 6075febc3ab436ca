//! Who has what: the part of the protocol that keeps things from being sent twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ait_engine::types::{BlockId, Height, TxHash};

use crate::gossip::Aging;
use crate::peer::{Host, PeerId};

/// Blocks of which is remembered whether a peer has them.
const BODIES_MAX: usize = 32;
/// How long a body may be on its way after its proposal came, before it is asked for.
const PUSHED_MS: u64 = 1_000;
/// How long a peer has to send a body that it was asked for.
const BODY_MS_MAX: u64 = 5_000;
/// How long to wait when all who should have a body were asked in vain.
const AGAIN_MS: u64 = 100;
/// Bodies that are wanted at once.
const WANTS_MAX: usize = 64;

/// What is known of a connected peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) is_outbound: bool,
    pub(super) host: String,
    /// The same, as what has an allowance.
    pub(super) at: Host,
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
    pub(super) repeats: Repeats,
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
    /// When to ask next.
    due_ms: u64,
    tried: BTreeSet<PeerId>,
}

impl Wants {
    pub(super) fn add(&mut self, block_id: BlockId, height: Height, now_ms: u64) {
        if self.0.len() < WANTS_MAX {
            let (since_ms, due_ms, tried) = (now_ms, now_ms, BTreeSet::new());
            self.0.entry(block_id).or_insert(Want { height, since_ms, due_ms, tried });
        }
    }

    pub(super) fn remove(&mut self, block_id: &BlockId) {
        self.0.remove(block_id);
    }

    pub(super) fn committed(&mut self, height: Height) {
        self.0.retain(|_, want| want.height > height);
    }

    /// Who was asked has it not: the next is asked.
    pub(super) fn failed(&mut self, block_id: &BlockId) {
        if let Some(want) = self.0.get_mut(block_id) {
            want.due_ms = 0;
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
            if now_ms < want.due_ms {
                continue;
            }
            let is_late = now_ms.saturating_sub(want.since_ms) >= PUSHED_MS;
            let has = |link: &Link| {
                link.offered.contains(block_id) || (is_late && link.bodies.contains(block_id))
            };
            let untried = links.iter().find(|(id, l)| has(l) && !want.tried.contains(*id));
            if let Some((peer, _)) = untried {
                want.tried.insert(*peer);
                want.due_ms = now_ms.saturating_add(BODY_MS_MAX);
                due.push((*peer, want.height, *block_id));
            } else if !want.tried.is_empty() {
                // A proposer that keeps its body back would have all ask each other as fast
                // as answers come.
                want.tried.clear();
                want.due_ms = now_ms.saturating_add(AGAIN_MS);
            }
        }
        due
    }
}

/// Known transactions that a peer may send: what it shares when it connects, each that is new here
/// once more, for it may have had it of others, and what waits for long and is published again.
const REPEATS_FIRST: u64 = 20_000;
const REPEATS_PER_SECOND: u64 = 1_000;
/// And at most, after it sent none for a while.
const REPEATS_MAX: u64 = 200_000;

/// How many known transactions a peer may still send. Reading them costs nearly as much as
/// reading new ones, and nobody judges them.
#[derive(Debug)]
pub(super) struct Repeats {
    left: u64,
    at_ms: u64,
    /// New transactions of all peers until then.
    seen: u64,
}

impl Repeats {
    pub(super) const fn new(seen: u64, now_ms: u64) -> Self {
        Self { left: REPEATS_FIRST, at_ms: now_ms, seen }
    }

    /// Takes so many that are known; by how many they are too many. `seen` counts new
    /// transactions of all peers.
    pub(super) fn take(&mut self, known: u64, seen: u64, now_ms: u64) -> u64 {
        let since_ms = now_ms.saturating_sub(self.at_ms);
        let refill = since_ms.saturating_mul(REPEATS_PER_SECOND) / 1_000;
        if refill > 0 {
            self.at_ms = now_ms;
        }
        let new = seen.saturating_sub(std::mem::replace(&mut self.seen, seen));
        let has = self.left.saturating_add(refill).saturating_add(new).min(REPEATS_MAX);
        self.left = has.saturating_sub(known);
        known.saturating_sub(has)
    }
}

/// Which transactions were seen, and from whom first.
pub(super) type SeenTransactions = Aging<TxHash, Option<PeerId>>;

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: BlockId = BlockId([7; 32]);

    fn link(offered: &[BlockId]) -> Link {
        Link {
            is_outbound: true,
            host: String::new(),
            at: Host::of(""),
            agent: String::new(),
            since_ms: 0,
            neighbours: BTreeSet::new(),
            bodies: VecDeque::new(),
            offered: offered.iter().copied().collect(),
            has: Aging::new(1, 1),
            allowance: 1,
            has_asked_addresses: false,
            repeats: Repeats::new(0, 0),
        }
    }

    #[test]
    fn who_sends_what_is_known_again_and_again_has_an_end() {
        let mut repeats = Repeats::new(5, 0);
        assert_eq!(repeats.take(REPEATS_FIRST, 5, 0), 0);
        assert_eq!(repeats.take(100, 5, 0), 100);
        // What is new here may come of each peer.
        assert_eq!(repeats.take(1_000, 1_005, 0), 0);
        assert_eq!(repeats.take(REPEATS_PER_SECOND, 1_005, 1_000), 0);
        assert_eq!(repeats.take(1, 1_005, 1_000), 1);
        assert_eq!(repeats.take(REPEATS_MAX + 7, 1_005, 1 << 40), 7);
    }

    #[test]
    fn each_holder_of_a_body_is_asked_at_once_and_all_again_after_a_while() {
        let peer = |n| PeerId([n; 32]);
        let links = BTreeMap::from([
            (peer(1), link(&[BLOCK])),
            (peer(2), link(&[])),
            (peer(3), link(&[BLOCK])),
        ]);
        let mut wants = Wants::default();
        wants.add(BLOCK, Height::ZERO, 1_000);
        let asked = |wants: &mut Wants, now_ms: u64| {
            let due = wants.due(&links, now_ms);
            due.into_iter().map(|(peer, ..)| peer.0[0]).collect::<Vec<_>>()
        };
        for round in 0..3 {
            let now_ms = 1_000 + round * AGAIN_MS;
            assert_eq!(asked(&mut wants, now_ms), [1]);
            assert!(asked(&mut wants, now_ms).is_empty(), "asked twice at once");
            wants.failed(&BLOCK);
            assert_eq!(asked(&mut wants, now_ms), [3]);
            wants.failed(&BLOCK);
            assert!(asked(&mut wants, now_ms).is_empty(), "asked again without a pause");
            assert!(asked(&mut wants, now_ms + AGAIN_MS - 1).is_empty());
        }
        // Silence counts as a failure after a while.
        assert_eq!(asked(&mut wants, 2_000), [1]);
        assert!(asked(&mut wants, 2_000 + BODY_MS_MAX - 1).is_empty());
        assert_eq!(asked(&mut wants, 2_000 + BODY_MS_MAX), [3]);
    }
}

//! Messages and bodies of the heights to come, kept until the chain is there: a node that
//! commits a moment after the others would miss the beginning of the next height.

use std::collections::BTreeMap;
use std::sync::Arc;

use ait_engine::block::Block;
use ait_engine::message::Message;
use ait_engine::types::Height;
use ait_engine::vote::SignedProposal;
use ait_net::peer::PeerId;

use super::port::Input;

/// Heights ahead of the next that are kept.
const HEIGHTS_MAX: u64 = 4;
/// Messages of one peer that are kept.
const PER_PEER_MAX: usize = 512;
/// Bodies that are kept, and their bytes.
const BODIES_MAX: usize = 4;
const BODY_BYTES_MAX: u64 = 64 << 20;

/// What came too early, unverified.
#[derive(Debug, Default)]
pub(super) struct Early {
    messages: BTreeMap<Height, Vec<(PeerId, Message)>>,
    counts: BTreeMap<PeerId, usize>,
    bodies: BTreeMap<Height, Vec<(PeerId, SignedProposal, Arc<Block>)>>,
}

impl Early {
    /// Whether something of `height` is kept while `next` is the next height.
    pub(super) fn takes(next: Height, height: Height) -> bool {
        height > next && height.get() - next.get() <= HEIGHTS_MAX
    }

    /// Keeps a message; a peer that sends too many loses the rest.
    pub(super) fn put(&mut self, from: PeerId, message: Message) {
        let count = self.counts.entry(from).or_default();
        if *count < PER_PEER_MAX {
            *count += 1;
            self.messages.entry(message.height()).or_default().push((from, message));
        }
    }

    /// Keeps a body if there is room.
    pub(super) fn put_body(&mut self, from: PeerId, proposal: SignedProposal, block: Arc<Block>) {
        let bytes = |block: &Block| u64::from(block.header.body_bytes);
        let kept: u64 = self.bodies.values().flatten().map(|(.., block)| bytes(block)).sum();
        let count: usize = self.bodies.values().map(Vec::len).sum();
        let is_known = self.bodies.get(&block.header.height).is_some_and(|bodies| {
            bodies.iter().any(|(_, other, _)| other.proposal == proposal.proposal)
        });
        if !is_known && count < BODIES_MAX && kept + bytes(&block) <= BODY_BYTES_MAX {
            self.bodies.entry(block.header.height).or_default().push((from, proposal, block));
        }
    }

    /// Gives out what is of `next`, and forgets what is older.
    pub(super) fn take(&mut self, next: Height) -> Vec<Input> {
        let later = next
            .next()
            .map(|later| (self.messages.split_off(&later), self.bodies.split_off(&later)));
        let (later_messages, later_bodies) = later.unwrap_or_default();
        let mut messages = std::mem::replace(&mut self.messages, later_messages);
        let mut bodies = std::mem::replace(&mut self.bodies, later_bodies);
        self.counts.clear();
        for (from, _) in self.messages.values().flatten() {
            *self.counts.entry(*from).or_default() += 1;
        }
        let messages = messages.remove(&next).unwrap_or_default();
        let bodies = bodies.remove(&next).unwrap_or_default();
        let messages = messages.into_iter().map(|(from, message)| Input::Message { from, message });
        let bodies =
            bodies.into_iter().map(|(from, proposal, block)| Input::Body { from, proposal, block });
        messages.chain(bodies).collect()
    }
}

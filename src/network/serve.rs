//! Answers to peers that ask for blocks.

use std::collections::VecDeque;
use std::sync::Arc;

use ait_engine::block::Block;
use ait_engine::codec::Canonical;
use ait_engine::types::{BlockId, Height};
use ait_engine::vote::SignedProposal;
use ait_net::limits::ANSWER_BYTES;
use ait_net::message::Blocks;

use crate::behind;
use crate::chain::Chain;

/// Bodies of proposals that are kept to be served, and their bytes.
const BODIES_MAX: usize = 8;
const BYTES_MAX: u64 = 96 << 20;

/// Bodies of the latest proposals.
#[derive(Debug, Default)]
pub(crate) struct Bodies(VecDeque<(SignedProposal, Arc<Block>)>);

impl Bodies {
    pub(crate) fn put(&mut self, proposal: SignedProposal, block: Arc<Block>) {
        let id = proposal.proposal.block_id;
        self.0.retain(|(other, _)| other.proposal.block_id != id);
        self.0.push_back((proposal, block));
        let bytes = |all: &VecDeque<(SignedProposal, Arc<Block>)>| {
            all.iter().map(|(_, block)| u64::from(block.header.body_bytes)).sum::<u64>()
        };
        while self.0.len() > BODIES_MAX || (bytes(&self.0) > BYTES_MAX && self.0.len() > 1) {
            self.0.pop_front();
        }
    }

    /// The frame of a body.
    pub(crate) fn frame(&self, id: &BlockId) -> Option<Vec<u8>> {
        let (proposal, block) = self.0.iter().find(|(p, _)| p.proposal.block_id == *id)?;
        let mut bytes = proposal.encode();
        block.encode_to(&mut bytes);
        Some(bytes)
    }
}

/// Certified blocks from a height on, up to the first that cannot be read; none if that is the
/// first of all. Reads the disk: not for an async thread.
pub(crate) fn blocks(chain: &Chain, from: Height, count: u32) -> Option<Vec<u8>> {
    let mut blocks = Blocks::default();
    let mut bytes = 0_u64;
    let mut height = from;
    while blocks.0.len() < count as usize {
        behind::give_way();
        let found = match chain.block(height) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%height, %error, "a block cannot be read for a peer");
                if blocks.0.is_empty() {
                    return None;
                }
                break;
            }
        };
        // Genesis has no certificate: nobody asks for it.
        let Some((block, certificate)) =
            found.and_then(|found| Some((found.block.clone(), found.certificate.clone()?)))
        else {
            break;
        };
        bytes = u64::from(block.header.body_bytes).saturating_add(1_024).saturating_add(bytes);
        if !blocks.0.is_empty() && bytes > u64::from(ANSWER_BYTES) {
            break;
        }
        blocks.0.push((block, certificate));
        let Some(next) = height.next() else { break };
        height = next;
    }
    Some(blocks.encode())
}

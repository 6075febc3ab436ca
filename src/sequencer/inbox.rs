//! The queue before the sequencer's thread: bounded, with a bell for the mempool.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::port::Input;

/// Bytes of bodies that wait at most, but for one body, which may be larger: they are not
/// verified yet, and whoever is connected can send them.
const BODY_BYTES_MAX: u64 = 128 << 20;

/// The queue is full: the input comes back.
#[derive(Debug, thiserror::Error)]
#[error("the sequencer has too much to do")]
pub struct Full(pub Box<Input>);

#[derive(Debug, Default)]
struct Queue {
    inputs: VecDeque<Input>,
    body_bytes: u64,
    is_rung: bool,
}

/// Inputs that wait for the sequencer's thread.
#[derive(Debug)]
pub struct Inbox {
    queue: Mutex<Queue>,
    changed: Condvar,
    count_max: usize,
}

impl Inbox {
    /// An inbox of at most `count_max` inputs; of proposed bodies it takes 128 MiB at most.
    #[must_use]
    pub fn new(count_max: usize) -> Self {
        Self { queue: Mutex::default(), changed: Condvar::new(), count_max }
    }

    /// Adds an input.
    ///
    /// # Errors
    /// [`Full`] with the input; nothing was added.
    pub fn push(&self, input: Input) -> Result<(), Full> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = body_bytes(&input);
        let has_no_room = bytes > 0
            && queue.body_bytes > 0
            && queue.body_bytes.saturating_add(bytes) > BODY_BYTES_MAX;
        if queue.inputs.len() >= self.count_max || has_no_room {
            return Err(Full(Box::new(input)));
        }
        queue.body_bytes += bytes;
        queue.inputs.push_back(input);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    /// Wakes the thread without an input.
    pub fn ring(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut queue.is_rung, true) {
            drop(queue);
            self.changed.notify_one();
        }
    }

    /// The next input; [`Input::Tick`] when rung, or after `timeout`.
    #[must_use]
    pub fn next(&self, timeout: Duration) -> Input {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(queue, timeout, |queue| queue.inputs.is_empty() && !queue.is_rung);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let Some(input) = queue.inputs.pop_front() else {
            queue.is_rung = false;
            return Input::Tick;
        };
        queue.body_bytes -= body_bytes(&input);
        input
    }
}

/// Bytes of a proposed body; 0 for everything else. Reading it took as many as its header
/// says.
fn body_bytes(input: &Input) -> u64 {
    match input {
        Input::Body { block, .. } => u64::from(block.header.body_bytes) + 1_024,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ait_engine::block::{Block, Header};
    use ait_engine::types::*;
    use ait_engine::vote::{ProposalMessage, SignedProposal};
    use ait_net::peer::PeerId;

    use super::*;

    fn body(body_bytes: u32) -> Input {
        let (height, round, proposer) = (Height::saturating(1), Round::ZERO, Address([1; 32]));
        let header = Header {
            version: 1,
            chain_id: ChainId::from_bytes(b"inbox").expect("a name"),
            height,
            parent: BlockId([0; 32]),
            time: TimestampMs::saturating(1),
            proposer,
            transactions_root: Hash([0; 32]),
            outcomes_root: Hash([0; 32]),
            state_root: StateRoot([0; 32]),
            validators_hash: Hash([0; 32]),
            next_validators_hash: Hash([0; 32]),
            transaction_count: 0,
            body_bytes,
        };
        let block_id = header.id();
        let proposal = ProposalMessage { height, round, block_id, pol_round: None, proposer };
        let key = ait_engine::crypto::SecretKey::from_seed([1; 32]);
        let signature = key.sign(proposal.sign_hash(&header.chain_id).as_bytes());
        let block = Arc::new(Block { header, transactions: Vec::new() });
        let proposal = SignedProposal { proposal, signature };
        Input::Body { from: PeerId([1; 32]), proposal, block }
    }

    #[test]
    fn bodies_that_wait_are_bounded_and_hold_up_nothing_else() {
        let inbox = Inbox::new(1_000);
        let taken = (0..100).filter(|_| inbox.push(body(40 << 20)).is_ok()).count();
        assert_eq!(taken, 3);
        assert!(inbox.push(Input::Connected { peer: PeerId([2; 32]) }).is_ok());
        for _ in 0..3 {
            assert!(matches!(inbox.next(Duration::ZERO), Input::Body { .. }));
        }
        // One that is larger than all may be is taken when it is alone.
        assert!(inbox.push(body(200 << 20)).is_ok());
        assert!(inbox.push(body(1)).is_err());
        assert!(matches!(inbox.next(Duration::ZERO), Input::Connected { .. }));
        assert!(matches!(inbox.next(Duration::ZERO), Input::Body { .. }));
        assert!(inbox.push(body(1)).is_ok());
    }
}

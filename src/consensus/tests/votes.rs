//! Votes that are kept beyond their height.

use super::*;

#[test]
fn evidence_of_the_last_heights_is_kept() {
    // Trap 6: the library forgets a height once it is finalized.
    let key = &keys(1)[0];
    let vote = |height, id: u8| {
        let vote = Vote {
            kind: VoteKind::Precommit,
            height: Height::saturating(height),
            round: Round::ZERO,
            block_id: Some(BlockId([id; 32])),
            validator: key.public_key().address(),
        };
        SignedVote { vote, signature: key.sign(vote.sign_hash(&chain_id()).as_bytes()) }
    };
    let mut recent = RecentVotes::new(3, 100);
    for height in 1..=5 {
        assert_eq!(recent.add(vote(height, 1)), None);
        assert_eq!(recent.add(vote(height, 1)), None, "the same vote is no evidence");
    }
    assert_eq!(recent.len(), 3);
    assert_eq!(recent.add(vote(4, 2)), Some((vote(4, 1), vote(4, 2))));
    assert_eq!(recent.add(vote(1, 2)), None, "height 1 is forgotten");
    let of = |height| recent.of(Height::saturating(height)).copied().collect::<Vec<_>>();
    assert_eq!((of(4), of(6), of(1)), (vec![vote(4, 1)], vec![], vec![]));
}

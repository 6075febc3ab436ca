//! What every backend promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ait_net::gossip::{BATCH_COUNT_MAX, Verdict};
use ait_net::peer::Tally;

use super::{Member, PATIENCE, hashes, transactions};

/// Each other hears each transaction once and in order; the publisher hears nothing.
pub(crate) async fn each_other_hears_once_in_order(mut members: Vec<Member>) {
    let all = transactions(1, 1_500);
    for part in all.chunks(300) {
        members[0].publish(part);
    }
    let expected = hashes(&all);
    for member in &mut members[1..] {
        assert_eq!(member.hear(all.len()).await, expected, "{}", member.gossip.name());
    }
    for member in &mut members {
        member.hears_nothing().await;
    }
}

/// All publish at once, and each publishes what it heard, as a node does that accepts it:
/// still each hears each of the others' once.
pub(crate) async fn what_was_heard_makes_no_second_round(members: Vec<Member>) {
    let count = members.len();
    let own: Vec<_> = (0..count).map(|at| transactions(at as u8 + 1, 400)).collect();
    let by_hash: Arc<BTreeMap<_, _>> =
        Arc::new(own.iter().flatten().map(|one| (one.hash(), Arc::clone(one))).collect());
    let tasks = members.into_iter().enumerate().map(|(at, mut member)| {
        let (own, by_hash) = (own[at].clone(), Arc::clone(&by_hash));
        tokio::spawn(async move {
            member.publish(&own);
            let mut heard = BTreeSet::new();
            while heard.len() < by_hash.len() - own.len() {
                let next = tokio::time::timeout(PATIENCE, member.incoming.recv()).await;
                let incoming = next.unwrap().unwrap();
                assert!(incoming.transactions.len() <= BATCH_COUNT_MAX);
                let mut accepted = Vec::new();
                for (hash, transaction) in incoming.transactions {
                    assert!(heard.insert(hash), "{}: twice", member.gossip.name());
                    assert_eq!(&transaction, by_hash[&hash].transaction());
                    accepted.push(Arc::clone(&by_hash[&hash]));
                }
                member.publish(&accepted);
            }
            assert!(own.iter().all(|one| !heard.contains(&one.hash())), "its own came back");
            member
        })
    });
    let ended = futures_util::future::join_all(tasks).await;
    for member in ended {
        member.unwrap().hears_nothing().await;
    }
}

/// What was not taken may come again, from whom it came or from another: here from `late`,
/// who was not there when it was published first.
pub(crate) async fn what_was_not_taken_may_come_again(
    mut members: Vec<Member>,
    late: impl Future<Output = Member>,
) {
    let all = transactions(1, 3);
    members[0].publish(&all);
    let next = tokio::time::timeout(PATIENCE, members[1].incoming.recv()).await;
    let incoming = next.unwrap().unwrap();
    assert_eq!(incoming.transactions.len(), all.len());
    members[2].hear(all.len()).await;
    let not_taken = vec![all[0].hash(), all[2].hash()];
    let source = incoming.source;
    let (tally, again) = (Tally::default(), not_taken.clone());
    members[1].gossip.judged(Verdict { source, invalid: None, tally, not_taken: again });
    let mut late = late.await;
    late.publish(&all);
    assert_eq!(members[1].hear(not_taken.len()).await, not_taken);
    for member in &mut members {
        member.hears_nothing().await;
    }
    late.hears_nothing().await;
}

/// A flood that nobody reads is bounded: what does not fit is refused or dropped, and what
/// is published after it was read comes through.
pub(crate) async fn a_flood_that_nobody_reads_is_bounded(mut members: Vec<Member>) {
    let flood = transactions(1, 512);
    let flooded = hashes(&flood);
    let mut refused = 0;
    for _ in 0..5_000 {
        refused += usize::from(!members[0].gossip.publish(&flood));
    }
    assert!(refused > 0, "{}: a queue without end", members[0].gossip.name());
    members[1].hear(flood.len()).await;
    members[2].hear(flood.len()).await;
    let after = transactions(2, 5);
    let began = std::time::Instant::now();
    // What is dropped on the way is published again, as a node does with what waits.
    let mut heard_at = [None::<std::time::Instant>; 2];
    while heard_at.contains(&None) {
        assert!(began.elapsed() < 4 * PATIENCE, "{}: never recovers", members[0].gossip.name());
        members[0].gossip.publish(&after);
        for (at, heard_at) in heard_at.iter_mut().enumerate() {
            let incoming = &mut members[at + 1].incoming;
            let pause = std::time::Duration::from_millis(100);
            if let Ok(Some(incoming)) = tokio::time::timeout(pause, incoming.recv()).await {
                let mut heard: Vec<_> =
                    incoming.transactions.iter().map(|(hash, _)| *hash).collect();
                // Who repeats itself is not listened to for so long that this may be forgotten.
                heard.retain(|hash| !flooded.contains(hash));
                if heard.is_empty() {
                    continue;
                }
                assert_eq!(heard, hashes(&after));
                let before = heard_at.replace(std::time::Instant::now());
                // It is forgotten after ten seconds, which the other may not be listening for.
                assert!(before.is_none_or(|at| at.elapsed().as_secs() >= 5), "twice");
            }
        }
    }
}

//! Which of the heights that peers say they have are believed.
//!
//! Whoever can make a key may say any height, so that one stranger's word says nothing of how far
//! this node is behind. Two things do: the word of a peer that the operator named, and a
//! height that the peers of more than half of all hosts have, of two at least.

use std::collections::BTreeMap;

use crate::peer::Host;

/// What a peer says of its height.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) height: u64,
    pub(super) host: Host,
    /// Whether the operator named the peer.
    pub(super) is_named: bool,
}

/// The greatest height that is believed.
pub(super) fn believed(claims: impl Iterator<Item = Claim>) -> u64 {
    let (mut hosts, mut named) = (BTreeMap::<Host, u64>::new(), 0);
    for claim in claims {
        let most = hosts.entry(claim.host).or_default();
        *most = claim.height.max(*most);
        named = if claim.is_named { claim.height.max(named) } else { named };
    }
    let mut heights: Vec<u64> = hosts.into_values().collect();
    heights.sort_unstable_by(|a, b| b.cmp(a));
    // The last of those that are more than half: all before it say no less.
    let last = (heights.len() / 2).max(1);
    named.max(heights.get(last).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(claims: &[(&str, u64, bool)]) -> u64 {
        let claim = |(host, height, is_named)| Claim { height, host: Host::of(host), is_named };
        believed(claims.iter().copied().map(claim))
    }

    #[test]
    fn one_host_says_nothing_unless_it_is_named() {
        let (far, one, two, three) = (u64::MAX, "192.0.2.1", "192.0.2.2", "192.0.2.3");
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[(one, far, false)]), 0);
        assert_eq!(of(&[(one, far, false), (one, far, false)]), 0, "two keys of one host");
        assert_eq!(of(&[(one, far, false), (two, 7, false)]), 7);
        assert_eq!(of(&[(one, far, false), (two, 7, true)]), 7);
        assert_eq!(of(&[(one, 9, true)]), 9);
        assert_eq!(of(&[(one, 9, true), (two, 7, false), (three, 7, false)]), 9);
    }

    #[test]
    fn more_than_half_of_all_hosts_are_believed() {
        let say = |heights: &[u64]| {
            let hosts: Vec<_> = (0..heights.len()).map(|n| format!("host-{n}")).collect();
            let claims = hosts.iter().zip(heights).map(|(host, height)| (&**host, *height, false));
            of(&claims.collect::<Vec<_>>())
        };
        assert_eq!(say(&[90, 90, 7]), 90);
        assert_eq!(say(&[90, 90, 7, 7]), 7);
        assert_eq!(say(&[90, 90, 90, 7, 6]), 90);
        assert_eq!(say(&[0, 0, 7, 8, 9]), 7, "those that are behind hide nothing from the rest");
    }
}

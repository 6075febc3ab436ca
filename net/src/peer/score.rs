//! Standing of peers: faults add up, fade with time, and lead to a ban that ends.
//!
//! No clock: times come in, in milliseconds since some beginning.

use std::collections::BTreeMap;

use super::PeerId;

/// Points at which a peer is banned.
const BAN_POINTS: u32 = 100;
/// Points that fade each second.
const FADE_PER_SECOND: u64 = 1;
/// The first ban; each further one is twice as long.
const BAN_MS: u64 = 60_000;
const BAN_MS_MAX: u64 = 24 * 3_600_000;
/// Peers that are remembered.
const PEERS_MAX: usize = 4_096;

/// What a peer did that no correct node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Bytes that are no message.
    Malformed,
    /// A message of validators that does not verify.
    BadMessage,
    /// A block that breaks a rule.
    BadBlock,
    /// A certificate that proves nothing.
    BadCertificate,
    /// A transaction whose signature is wrong.
    BadTransaction,
    /// More than any correct node says.
    Flood,
    /// An answer that is not one, or none in time.
    BadAnswer,
    /// Blocks that it says it has, and never gave one of.
    Silent,
}

impl Fault {
    /// Name for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadMessage => "bad_message",
            Self::BadBlock => "bad_block",
            Self::BadCertificate => "bad_certificate",
            Self::BadTransaction => "bad_transaction",
            Self::Flood => "flood",
            Self::BadAnswer => "bad_answer",
            Self::Silent => "silent",
        }
    }

    const fn points(self) -> u32 {
        match self {
            Self::Malformed | Self::BadBlock | Self::BadCertificate | Self::Silent => 100,
            Self::BadMessage => 50,
            Self::Flood => 25,
            Self::BadTransaction | Self::BadAnswer => 10,
        }
    }
}

#[derive(Debug, Default)]
struct Standing {
    points: u32,
    at_ms: u64,
    bans: u32,
    banned_until_ms: Option<u64>,
}

impl Standing {
    fn fade(&mut self, now_ms: u64) {
        let faded = now_ms.saturating_sub(self.at_ms) / 1_000 * FADE_PER_SECOND;
        if faded > 0 {
            self.points = self.points.saturating_sub(u32::try_from(faded).unwrap_or(u32::MAX));
            self.at_ms = now_ms;
        }
    }
}

/// Standing of every peer that did something wrong.
#[derive(Debug, Default)]
pub struct Scores(BTreeMap<PeerId, Standing>);

impl Scores {
    /// Notes a fault; the end of the ban if it led to one. What was under way when a ban began
    /// is not counted: it would make the ban longer by chance.
    pub fn fault(&mut self, peer: PeerId, fault: Fault, now_ms: u64) -> Option<u64> {
        if self.banned_until(&peer, now_ms).is_some() {
            return None;
        }
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&peer) {
            // The best of them is forgotten.
            let best = self.0.iter().min_by_key(|(_, s)| (s.banned_until_ms, s.points));
            let best = best.map(|(peer, _)| *peer);
            best.and_then(|best| self.0.remove(&best));
        }
        let standing = self.0.entry(peer).or_default();
        standing.fade(now_ms);
        if standing.points == 0 {
            standing.at_ms = now_ms;
        }
        standing.points = standing.points.saturating_add(fault.points());
        if standing.points < BAN_POINTS {
            return None;
        }
        let length = BAN_MS.saturating_mul(1 << standing.bans.min(16)).min(BAN_MS_MAX);
        standing.bans = standing.bans.saturating_add(1);
        standing.points = 0;
        let until = now_ms.saturating_add(length);
        standing.banned_until_ms = Some(until);
        Some(until)
    }

    /// When the peer's ban ends, if it is banned now.
    #[must_use]
    pub fn banned_until(&self, peer: &PeerId, now_ms: u64) -> Option<u64> {
        self.0.get(peer)?.banned_until_ms.filter(|until| *until > now_ms)
    }

    /// Peers that are banned at a time.
    pub fn banned(&self, now_ms: u64) -> impl Iterator<Item = &PeerId> {
        self.0.keys().filter(move |peer| self.banned_until(peer, now_ms).is_some())
    }

    /// Points against a peer, of 100 that lead to a ban.
    #[must_use]
    pub fn points(&self, peer: &PeerId) -> u32 {
        self.0.get(peer).map_or(0, |standing| standing.points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    #[test]
    fn small_faults_add_up_and_fade() {
        let mut scores = Scores::default();
        for n in 0..9 {
            assert_eq!(scores.fault(PEER, Fault::BadAnswer, n), None);
        }
        // 90 points fade in 90 seconds.
        assert_eq!(scores.fault(PEER, Fault::BadAnswer, 91_000), None);
        assert_eq!(scores.points(&PEER), 10);
        for _ in 0..8 {
            assert_eq!(scores.fault(PEER, Fault::BadAnswer, 91_000), None);
        }
        assert_eq!(scores.fault(PEER, Fault::BadAnswer, 91_000), Some(91_000 + BAN_MS));
    }

    #[test]
    fn a_ban_ends_and_the_next_is_longer() {
        let mut scores = Scores::default();
        assert_eq!(scores.fault(PEER, Fault::BadBlock, 0), Some(BAN_MS));
        assert!(scores.banned_until(&PEER, BAN_MS - 1).is_some());
        assert_eq!(scores.fault(PEER, Fault::BadBlock, BAN_MS - 1), None, "it was under way");
        assert!(scores.banned_until(&PEER, BAN_MS).is_none());
        assert_eq!(scores.fault(PEER, Fault::BadBlock, BAN_MS), Some(BAN_MS * 3));
    }

    #[test]
    fn memory_is_bounded() {
        let mut scores = Scores::default();
        for n in 0..2 * PEERS_MAX as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            let _ = scores.fault(PeerId(key), Fault::Flood, n);
        }
        assert_eq!(scores.0.len(), PEERS_MAX);
    }
}

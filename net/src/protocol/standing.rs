//! Who may connect, and what becomes of those that break the rules.

use std::net::IpAddr;

use super::Protocol;
use super::gossip::Link;
use super::port::Output;
use crate::peer::{Fault, Host, PeerId, Tally};

impl Protocol {
    /// Whether a peer at this host may connect: it is not banned, and there is room. All peers at
    /// one address have a quarter of it, unless they are named or on this machine.
    ///
    /// # Errors
    /// Why not, for its log.
    pub fn admit(&self, peer: &PeerId, host: &str, now_ms: u64) -> Result<(), String> {
        if *peer == self.options.us {
            return Err("this is the node itself".to_owned());
        }
        if let Some(until) = self.scores.banned_until(peer, now_ms) {
            return Err(format!(
                "banned for another {} s",
                until.saturating_sub(now_ms).div_ceil(1_000)
            ));
        }
        if self.is_named(peer) {
            return Ok(());
        }
        let max = self.options.connections_max;
        if self.links.len() >= max {
            return Err("as many peers are connected as there may be".to_owned());
        }
        let is_here = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let there = Host::of(host);
        let count = self.links.values().filter(|link| link.at == there).count();
        if !is_here && count >= max.div_ceil(4) {
            return Err("as many peers of its address are connected as there may be".to_owned());
        }
        Ok(())
    }

    /// Whether the operator named a peer.
    pub(super) fn is_named(&self, peer: &PeerId) -> bool {
        self.book.iter().any(|(address, is_static)| is_static && address.id == *peer)
    }

    pub(super) fn fault(&mut self, peer: PeerId, fault: Fault, reason: &str, now_ms: u64) {
        metrics::counter!("peer_faults_total", "fault" => fault.name()).increment(1);
        let banned = self.scores.fault(peer, fault, now_ms);
        tracing::warn!(peer = %peer.short(), fault = fault.name(), reason, "a peer is at fault");
        if let Some(until) = banned {
            let seconds = until.saturating_sub(now_ms) / 1_000;
            tracing::warn!(peer = %peer.short(), seconds, "the peer is banned");
            let reason = format!("banned for {seconds} s: {} ({reason})", fault.name());
            self.out.push(Output::Disconnect { peer, reason });
            self.disconnected(&peer, now_ms);
        }
    }

    pub(super) fn judged(&mut self, peer: PeerId, tally: Tally, now_ms: u64) {
        let host = self.links.get(&peer).map(|link| link.at).or_else(|| self.left.get(&peer));
        let Some(paused) = self.allowances.judged(peer, host, tally, now_ms) else { return };
        metrics::counter!("peer_pauses_total").increment(1);
        let for_ms = paused.until_ms.saturating_sub(now_ms);
        let (peer_id, is_host) = (peer.short(), paused.is_host);
        tracing::warn!(peer = %peer_id, is_host, for_ms, "too many refused transactions of a peer");
        let is_paused = |(id, link): &(&PeerId, &Link)| {
            **id == peer || (paused.is_host && Some(link.at) == host)
        };
        let peers = self.links.iter().filter(is_paused).map(|(id, _)| *id);
        self.out.extend(peers.map(|peer| Output::Pause { peer, for_ms }));
    }
}

//! How the network stands, for operators and probes.

use std::fmt::Write;
use std::net::IpAddr;

use ait_net::protocol::PeerView;
use ait_net::quic::Traffic;
use ait_net::sync::SyncState;

/// A peer with what only the transport knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLine {
    /// What the protocol knows.
    pub peer: PeerView,
    /// What was measured of its connection.
    pub traffic: Option<Traffic>,
}

/// How the network stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkView {
    /// How far this node is behind, and why.
    pub sync: Option<SyncState>,
    /// Every known peer.
    pub peers: Vec<PeerLine>,
    /// Addresses that called too often, and how many of their calls were refused.
    pub refused_calls: Vec<(IpAddr, u64)>,
}

impl NetworkView {
    /// Connected peers.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.peers.iter().filter(|line| line.peer.is_connected).count()
    }

    /// What a metrics page says of each peer. Made anew for each page: who comes with a
    /// thousand keys leaves nothing behind.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut page = String::new();
        for (name, kind, about, value) in PEER_METRICS {
            let values = self.peers.iter().filter_map(|line| Some((line, value(line)?)));
            let mut values = values.peekable();
            if values.peek().is_none() {
                continue;
            }
            // Writing to a string cannot fail.
            let _ = writeln!(page, "# HELP {name} {about}\n# TYPE {name} {kind}");
            for (line, value) in values {
                let _ = writeln!(page, "{name}{{peer=\"{}\"}} {value}", line.peer.id.short());
            }
        }
        if !self.refused_calls.is_empty() {
            const NAME: &str = "peer_calls_refused_total";
            const ABOUT: &str = "Calls that were refused because their address calls too often.";
            let _ = writeln!(page, "# HELP {NAME} {ABOUT}\n# TYPE {NAME} counter");
            for (host, count) in &self.refused_calls {
                let _ = writeln!(page, "{NAME}{{host=\"{host}\"}} {count}");
            }
        }
        page
    }
}

/// Name, type and meaning of a number of a peer, and how to find it.
type PeerMetric = (&'static str, &'static str, &'static str, fn(&PeerLine) -> Option<f64>);

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
const PEER_METRICS: [PeerMetric; 13] = [
    ("peer_height", "gauge", "Height of a peer's newest block.", |line| {
        line.peer.is_connected.then(|| line.peer.height.map(|height| height.get() as f64))?
    }),
    ("peer_rtt_seconds", "gauge", "Round-trip time to a peer.", |line| {
        line.traffic.map(|traffic| traffic.rtt.as_secs_f64())
    }),
    ("peer_connected_seconds", "gauge", "How long a peer is connected.", |line| {
        line.peer.is_connected.then_some(line.peer.connected_ms as f64 / 1_000.0)
    }),
    ("peer_link_sent_bytes_total", "counter", "Bytes sent on the connection.", |line| {
        line.traffic.map(|traffic| traffic.sent_bytes as f64)
    }),
    ("peer_link_received_bytes_total", "counter", "Bytes that came on the connection.", |line| {
        line.traffic.map(|traffic| traffic.received_bytes as f64)
    }),
    ("peer_link_lost_packets_total", "counter", "Packets lost on the connection.", |line| {
        line.traffic.map(|traffic| traffic.lost_packets as f64)
    }),
    ("peer_answer_bytes_total", "counter", "Bytes of answers to a peer's requests.", |line| {
        line.traffic.map(|traffic| traffic.answer_bytes as f64)
    }),
    (
        "peer_answer_held_bytes",
        "gauge",
        "Bytes of answers that a peer has not taken yet.",
        |line| line.traffic.map(|traffic| traffic.held_answer_bytes as f64),
    ),
    (
        "peer_answers_untaken_total",
        "counter",
        "Answers that a peer did not take in time.",
        |line| line.traffic.map(|traffic| traffic.untaken_answers as f64),
    ),
    ("peer_fault_points", "gauge", "Points against a peer, of 100 that ban it.", |line| {
        (line.peer.points > 0).then_some(f64::from(line.peer.points))
    }),
    ("peer_banned_seconds", "gauge", "Seconds until a peer's ban ends.", |line| {
        line.peer.banned_ms.map(|left| left as f64 / 1_000.0)
    }),
    (
        "peer_allowance_spent",
        "gauge",
        "What refused transactions took of a peer's allowance, of 8000 that pause it.",
        |line| (line.peer.spent > 0).then_some(f64::from(line.peer.spent)),
    ),
    (
        "peer_paused_seconds",
        "gauge",
        "Seconds until transactions of a peer that sent too many refused ones are read again.",
        |line| line.peer.paused_ms.map(|left| left as f64 / 1_000.0),
    ),
];

#[cfg(test)]
mod tests {
    use ait_engine::types::Height;
    use ait_net::peer::PeerId;
    use std::time::Duration;

    use super::*;

    fn line(n: u8, is_connected: bool) -> PeerLine {
        let peer = PeerView {
            id: PeerId([n; 32]),
            address: "host:7000".to_owned(),
            is_connected,
            is_outbound: true,
            is_static: true,
            height: is_connected.then(|| Height::saturating(5)),
            agent: String::new(),
            connected_ms: 2_500,
            points: 0,
            banned_ms: (!is_connected).then_some(60_000),
            paused_ms: is_connected.then_some(1_500),
            spent: 7,
        };
        let rtt = Duration::from_millis(20);
        let traffic = Traffic {
            rtt,
            sent_bytes: 1_000,
            received_bytes: 3,
            sent_packets: 9,
            lost_packets: 1,
            answer_bytes: 500,
            held_answer_bytes: 50,
            untaken_answers: 2,
        };
        PeerLine { peer, traffic: is_connected.then_some(traffic) }
    }

    #[test]
    fn the_page_names_each_peer_with_what_is_known_of_it() {
        assert_eq!(NetworkView::default().metrics(), "");
        let refused_calls = vec![(IpAddr::from([192, 0, 2, 1]), 9)];
        let peers = vec![line(1, true), line(2, false)];
        let view = NetworkView { sync: None, peers, refused_calls };
        let page = view.metrics();
        let (up, banned) = (PeerId([1; 32]).short(), PeerId([2; 32]).short());
        for expected in [
            format!("peer_height{{peer=\"{up}\"}} 5\n"),
            format!("peer_rtt_seconds{{peer=\"{up}\"}} 0.02\n"),
            format!("peer_link_sent_bytes_total{{peer=\"{up}\"}} 1000\n"),
            format!("peer_connected_seconds{{peer=\"{up}\"}} 2.5\n"),
            format!("peer_banned_seconds{{peer=\"{banned}\"}} 60\n"),
            format!("peer_paused_seconds{{peer=\"{up}\"}} 1.5\n"),
            "# TYPE peer_link_sent_bytes_total counter\n".to_owned(),
            format!("peer_answer_bytes_total{{peer=\"{up}\"}} 500\n"),
            format!("peer_allowance_spent{{peer=\"{banned}\"}} 7\n"),
            "peer_calls_refused_total{host=\"192.0.2.1\"} 9\n".to_owned(),
        ] {
            assert!(page.contains(&expected), "{expected} is missing in\n{page}");
        }
        assert!(!page.contains("peer_fault_points"), "a metric without a value has no head");
    }
}

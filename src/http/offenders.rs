//! Clients that were limited, by name: whom an operator may want to block.
//!
//! As many as fit are named, those that were limited last; the totals count all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;

use super::network;

/// Clients that are named at most: who has many addresses costs no more than this.
const NAMED_MAX: usize = 64;

/// For what a client was limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// More requests than its rate allows.
    Rate,
    /// More connections than its share.
    Connections,
    /// New connections faster than its rate of requests allows.
    NewConnections,
    /// Most connections when there was no room, one of them idle.
    IdleConnections,
    /// A head that did not come in time.
    SlowHead,
    /// A head over the limit.
    LargeHead,
    /// A body that did not come in time.
    SlowBody,
    /// A body over the limit.
    LargeBody,
    /// More of the room for bodies than its share, or most of it when there was no more.
    HeldBodies,
    /// More large reads of blocks at once than its share.
    WaitingReads,
    /// More subscriptions than its share.
    Subscriptions,
    /// More of the room for answers than its share, most of it when there was no more, or an answer
    /// not taken in time.
    UntakenAnswers,
    /// A subscriber that does not take what is sent.
    UnreadMessages,
    /// A subscriber that sends more than signs of life.
    UnaskedBytes,
}

impl Offence {
    /// Name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Connections => "connections",
            Self::NewConnections => "new_connections",
            Self::IdleConnections => "idle_connections",
            Self::SlowHead => "slow_head",
            Self::LargeHead => "large_head",
            Self::SlowBody => "slow_body",
            Self::LargeBody => "large_body",
            Self::HeldBodies => "held_bodies",
            Self::WaitingReads => "waiting_reads",
            Self::Subscriptions => "subscriptions",
            Self::UntakenAnswers => "untaken_answers",
            Self::UnreadMessages => "unread_messages",
            Self::UnaskedBytes => "unasked_bytes",
        }
    }
}

/// A client that was limited, and how often for what.
#[derive(Debug)]
struct Named {
    last: Instant,
    /// How often for what, and when for the last time.
    counts: BTreeMap<Offence, (u64, Instant)>,
}

/// Whom a listener limited.
#[derive(Debug, Clone, Default)]
pub struct Offenders(Arc<Mutex<BTreeMap<IpAddr, Named>>>);

impl Offenders {
    fn named(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Named>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client was limited.
    pub fn note(&self, client: IpAddr, offence: Offence) {
        counter!("rpc_limited_total", "offence" => offence.name()).increment(1);
        let client = network(client);
        let mut named = self.named();
        if named.len() >= NAMED_MAX && !named.contains_key(&client) {
            let oldest = named.iter().min_by_key(|(_, one)| one.last).map(|(client, _)| *client);
            oldest.and_then(|oldest| named.remove(&oldest));
        }
        let last = Instant::now();
        let one = named.entry(client).or_insert_with(|| Named { last, counts: BTreeMap::new() });
        one.last = last;
        let (count, at) = one.counts.entry(offence).or_insert((0, last));
        (*count, *at) = (count.saturating_add(1), last);
    }

    /// Whether this client was limited within this time.
    #[must_use]
    pub fn was_limited(&self, client: IpAddr, within: Duration) -> bool {
        self.named().get(&network(client)).is_some_and(|one| one.last.elapsed() < within)
    }

    /// As [`Self::was_limited`], for this.
    #[must_use]
    pub fn was_limited_for(&self, client: IpAddr, offence: Offence, within: Duration) -> bool {
        let named = self.named();
        let one = named.get(&network(client)).and_then(|one| one.counts.get(&offence));
        one.is_some_and(|(_, last)| last.elapsed() < within)
    }

    /// What a metrics page says of them.
    #[must_use]
    pub fn metrics(&self) -> String {
        const NAME: &str = "rpc_client_limited_total";
        let named = self.named();
        let mut page = String::new();
        if !named.is_empty() {
            page.push_str("# HELP rpc_client_limited_total How often a client was limited, for those limited last.\n");
            page.push_str("# TYPE rpc_client_limited_total counter\n");
        }
        for (client, one) in named.iter() {
            for (offence, (count, _)) in &one.counts {
                let offence = offence.name();
                // Writing to a string cannot fail.
                let _ =
                    writeln!(page, "{NAME}{{client=\"{client}\",offence=\"{offence}\"}} {count}");
            }
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_limited_last_are_named_and_no_more_than_fit() {
        let offenders = Offenders::default();
        assert_eq!(offenders.metrics(), "");
        let client = |n: u8| IpAddr::from([192, 0, 2, n]);
        let all = NAMED_MAX as u8 + 10;
        for n in 0..all {
            offenders.note(client(n), Offence::Rate);
            // The first one goes on.
            offenders.note(client(0), Offence::SlowHead);
        }
        let within = |n, time| offenders.was_limited(client(n), time);
        assert!(
            within(0, Duration::MAX) && !within(0, Duration::ZERO) && !within(5, Duration::MAX)
        );
        let page = offenders.metrics();
        let lines = page.lines().filter(|line| line.contains("offence=\"rate\"")).count();
        assert_eq!(lines, NAMED_MAX, "{page}");
        let expected = format!(
            "rpc_client_limited_total{{client=\"192.0.2.0\",offence=\"slow_head\"}} {all}\n"
        );
        assert!(page.contains(&expected), "{page}");
        assert!(!page.contains("\"192.0.2.5\""), "{page}");
        // A network of IPv6 is one client.
        let v6 = |text: &str| text.parse::<IpAddr>();
        let both = [v6("2001:db8::1"), v6("2001:db8::2")];
        both.into_iter().flatten().for_each(|client| offenders.note(client, Offence::LargeBody));
        let expected = "{client=\"2001:db8::\",offence=\"large_body\"} 2\n";
        assert!(offenders.metrics().contains(expected));
    }
}

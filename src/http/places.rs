//! Who holds which connections, and who gives one up when there are too many.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::network;

/// How long a body may take before its connection counts as idle when there is no room.
const BODY_GRACE: Duration = Duration::from_secs(1);

/// How many of something each client has: an address, or the 64-bit network of an IPv6 one.
#[derive(Debug, Clone, Default)]
pub struct Shares(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// Some of it that is counted until it is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Shares,
    client: IpAddr,
    count: usize,
}

impl Shares {
    fn count(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `count` more for this client, if it then has `max` at most.
    #[must_use]
    pub fn enter(&self, client: IpAddr, count: usize, max: usize) -> Option<Share> {
        let client = network(client);
        let mut clients = self.count();
        let has = clients.get(&client).copied().unwrap_or(0);
        let sum = has.checked_add(count).filter(|sum| *sum <= max)?;
        clients.insert(client, sum);
        drop(clients);
        Some(Share { shares: self.clone(), client, count })
    }

    /// How many this client has.
    pub(super) fn of(&self, client: IpAddr) -> usize {
        self.count().get(&network(client)).copied().unwrap_or(0)
    }

    /// Who has most.
    pub(crate) fn most(&self) -> Option<IpAddr> {
        let clients = self.count();
        clients.iter().max_by_key(|(client, count)| (**count, **client)).map(|(client, _)| *client)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut clients = self.shares.count();
        if let Some(count) = clients.get_mut(&self.client) {
            *count = count.saturating_sub(self.count);
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// What a connection is about.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// It waits for a place: it has none to give up.
    Waiting,
    /// It has sent no whole head, or was answered; since when.
    Idle(Instant),
    /// A request with a body came and has no answer yet; since when.
    Asking(Instant),
    /// A request is answered.
    Busy,
    /// It gives its place up.
    Closing,
}

#[derive(Debug)]
pub(super) struct Open {
    client: IpAddr,
    is_exempt: bool,
    phase: Mutex<Phase>,
    /// Requests that are answered: the next may come before the last answer was taken.
    requests: AtomicUsize,
    close: Notify,
}

impl Phase {
    /// Since when the other side is waited for, if so, and whether the connection counts as
    /// idle: a correct client needs no [`BODY_GRACE`] for a body.
    fn waits_since(self) -> Option<(bool, Instant)> {
        match self {
            Self::Idle(since) => Some((true, since)),
            Self::Asking(since) => Some((since.elapsed() > BODY_GRACE, since)),
            Self::Waiting | Self::Busy | Self::Closing => None,
        }
    }
}

impl Open {
    /// Goes on, unless it gives its place up.
    fn enter(&self, next: Phase) {
        let mut phase = self.phase();
        if !matches!(*phase, Phase::Closing) {
            *phase = next;
        }
    }

    /// Ends it: its place is given up.
    pub(super) fn close(&self) {
        *self.phase() = Phase::Closing;
        self.close.notify_one();
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All open connections, in the order in which they came.
#[derive(Debug, Default)]
struct AllOpen {
    last_id: u64,
    by_id: BTreeMap<u64, Arc<Open>>,
}

/// The open connections of a listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    shares: Shares,
    open: Arc<Mutex<AllOpen>>,
}

/// A connection's place until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    open: Arc<Open>,
    places: Places,
    _share: Share,
}

/// Whether there is room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// A connection of this client ends.
    Made(IpAddr),
    /// When one ends by itself: all are at work.
    Later,
    /// Not for this client: it has more than any that could give one up.
    Refused,
}

/// A request is answered until this is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Open>);

impl Places {
    fn open(&self) -> MutexGuard<'_, AllOpen> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a client that has less than `max`, or for any exempt one.
    pub(super) fn enter(&self, client: IpAddr, is_exempt: bool, max: usize) -> Option<Place> {
        let share = self.shares.enter(client, 1, if is_exempt { usize::MAX } else { max })?;
        let phase = Mutex::new(Phase::Idle(Instant::now()));
        let client = network(client);
        let (requests, close) = (AtomicUsize::new(0), Notify::new());
        let open = Arc::new(Open { client, is_exempt, phase, requests, close });
        let mut all = self.open();
        all.last_id = all.last_id.wrapping_add(1);
        let id = all.last_id;
        all.by_id.insert(id, Arc::clone(&open));
        Some(Place { id, open, places: self.clone(), _share: share })
    }

    /// Ends a connection so that `newcomer` has room: of the client that has most, the one that
    /// is idle longest, else one whose body is still to come; of exempt clients last, and idle
    /// ones alone. Nothing is taken from a client that has less than the newcomer's.
    pub(super) fn make_room(&self, newcomer: &Place) -> Room {
        let counts = self.shares.count().clone();
        let count = |open: &Open| counts.get(&open.client).copied().unwrap_or(0);
        let ours = if newcomer.open.is_exempt { 0 } else { count(&newcomer.open) };
        let mut has_less = false;
        let all = self.open();
        let others = all.by_id.iter().filter(|(id, _)| **id != newcomer.id);
        let victims = others.filter_map(|(_, open)| {
            let (is_idle, since) = open.phase().waits_since()?;
            let theirs = count(open);
            let is_own = open.client == newcomer.open.client;
            // Behind a proxy there are many: no body of theirs is cut for what others send.
            let may_be_cut = theirs > ours && !is_own && !open.is_exempt;
            if may_be_cut || (is_idle && (is_own || theirs >= ours)) {
                let rank = (!open.is_exempt, theirs, is_idle, std::cmp::Reverse(since));
                return Some((rank, open));
            }
            has_less |= theirs < ours;
            None
        });
        let Some((_, victim)) = victims.max_by_key(|(rank, _)| *rank) else {
            return if has_less { Room::Refused } else { Room::Later };
        };
        let mut phase = victim.phase();
        if phase.waits_since().is_none() {
            return Room::Later;
        }
        *phase = Phase::Closing;
        victim.close.notify_one();
        Room::Made(victim.client)
    }
}

impl Place {
    /// A request begins.
    pub(super) fn work(&self, has_body: bool) -> Busy {
        let busy = Busy(Arc::clone(&self.open));
        busy.0.requests.fetch_add(1, Ordering::SeqCst);
        busy.0.enter(if has_body { Phase::Asking(Instant::now()) } else { Phase::Busy });
        busy
    }

    /// It waits for its place, or has it from now on.
    pub(super) fn waits(&self, waits: bool) {
        self.open.enter(if waits { Phase::Waiting } else { Phase::Idle(Instant::now()) });
    }

    /// How many its client has.
    pub(super) fn count(&self) -> usize {
        self.places.shares.of(self.open.client)
    }

    /// Whose it is, and whether that one may have any number.
    pub(super) fn client(&self) -> IpAddr {
        self.open.client
    }

    pub(super) fn is_exempt(&self) -> bool {
        self.open.is_exempt
    }

    /// What ends the connection.
    pub(super) fn closer(&self) -> Arc<Open> {
        Arc::clone(&self.open)
    }

    /// Returns once no whole head came for this long.
    pub(super) async fn silent_for(&self, time: Duration) {
        loop {
            // An answer may be given away meanwhile, or another request come: then it begins anew.
            let silent = match *self.open.phase() {
                Phase::Idle(since) => since.elapsed(),
                _ => Duration::ZERO,
            };
            match time.checked_sub(silent).filter(|left| !left.is_zero()) {
                Some(left) => tokio::time::sleep(left).await,
                None => return,
            }
        }
    }

    /// Returns once the connection must give up its place.
    pub(super) async fn closed(&self) {
        self.open.close.notified().await;
    }
}

impl Busy {
    /// The answer is there.
    pub(super) fn answers(&self) {
        self.0.enter(Phase::Busy);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.enter(Phase::Idle(Instant::now()));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.open().by_id.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_its_share_and_no_more() {
        let shares = Shares::default();
        let first = shares.enter(ip("2001:db8::1"), 1, 3);
        let second = shares.enter(ip("2001:db8::2"), 2, 3);
        assert!(first.is_some() && second.is_some());
        assert!(shares.enter(ip("2001:db8::3"), 1, 3).is_none(), "one network is one client");
        assert!(shares.enter(ip("192.0.2.1"), 3, 3).is_some());
        assert_eq!(shares.most(), Some(ip("2001:db8::")));
        drop(first);
        assert!(shares.enter(ip("2001:db8::3"), 1, 3).is_some());
        drop(second);
        assert!(shares.count().is_empty());
    }

    #[test]
    fn who_has_most_gives_up_what_was_idle_longest() {
        let places = Places::default();
        let enter = |text: &str, is_exempt| places.enter(ip(text), is_exempt, 9).unwrap();
        let proxy: Vec<_> = (0..5).map(|_| enter("127.0.0.1", true)).collect();
        let greedy: Vec<_> = (0..3).map(|_| enter("192.0.2.1", false)).collect();
        let modest = enter("192.0.2.2", false);
        let newcomer = enter("192.0.2.3", false);
        let closing = |place: &Place| matches!(*place.open.phase(), Phase::Closing);
        // The first is at work, so that it is the second's turn.
        let busy = greedy[0].work(true);
        assert_eq!(places.make_room(&newcomer), Room::Made(ip("192.0.2.1")));
        assert!(!closing(&greedy[0]) && closing(&greedy[1]) && !closing(&greedy[2]));
        assert_eq!(places.make_room(&newcomer), Room::Made(ip("192.0.2.1")));
        // Only a body that has just begun is left of it: cut, before the modest one is.
        assert_eq!(places.make_room(&newcomer), Room::Made(ip("192.0.2.1")));
        drop((greedy, busy));
        // Who is greedy gets nothing of those that have less, at work or not.
        let greedy: Vec<_> = (0..6).map(|_| enter("192.0.2.1", false)).collect();
        let busy: Vec<_> = greedy.iter().map(|place| place.work(false)).collect();
        assert_eq!(places.make_room(&greedy[5]), Room::Refused);
        drop((greedy, busy));
        assert_eq!(places.make_room(&newcomer), Room::Made(ip("192.0.2.2")));
        drop(modest);
        // Nobody else is left, and the newcomer is not its own victim.
        assert_eq!(places.make_room(&newcomer), Room::Made(ip("127.0.0.1")));
        drop(proxy);
        assert_eq!(places.make_room(&newcomer), Room::Later);
        // Nor is a body cut for one who has as many.
        let modest = enter("192.0.2.2", false);
        let body = modest.work(true);
        assert_eq!(places.make_room(&newcomer), Room::Later);
        drop((body, modest));
        // A body that does not come is none that is worked at; an answer is.
        let busy = newcomer.work(true);
        assert!(newcomer.open.phase().waits_since().is_some_and(|(is_idle, _)| !is_idle));
        let long_ago = Instant::now().checked_sub(BODY_GRACE * 2).unwrap();
        *newcomer.open.phase() = Phase::Asking(long_ago);
        assert_eq!(newcomer.open.phase().waits_since(), Some((true, long_ago)));
        busy.answers();
        assert!(newcomer.open.phase().waits_since().is_none());
        drop(busy);
        // One of two answers taken, it is at work still.
        let two = (newcomer.work(false), newcomer.work(false));
        drop(two.0);
        assert!(newcomer.open.phase().waits_since().is_none());
        drop(two.1);
        // An answer given, the next request may be waited for again.
        assert!(matches!(*newcomer.open.phase(), Phase::Idle(_)));
        // Who waits has nothing to give, and has once it waits no longer.
        let last = enter("192.0.2.4", false);
        newcomer.waits(true);
        assert_eq!(places.make_room(&last), Room::Later);
        newcomer.waits(false);
        assert_eq!(places.make_room(&last), Room::Made(ip("192.0.2.3")));
        drop(last);
        drop(newcomer);
        assert!(places.open().by_id.is_empty() && places.shares.count().is_empty());
    }
}

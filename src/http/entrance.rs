//! The way in: which connections are accepted, and which threads answer them.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use warp::reply::Response;

use super::answers::Answers;
use super::connection::Connection;
use super::places::{Place, Places, Room};
use super::{
    Client, ClientRate, HttpLimits, Offence, Offenders, Share, Shares, is_exempt, share_of,
};
use crate::behind;

/// How long open connections may go on after shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(700);
/// How long a new connection waits for another to end, and how many wait at once.
const ROOM_WAIT: Duration = Duration::from_millis(100);
pub(super) const WAITING_MAX: usize = 256;
/// Connections of one client that are answered at the priority of all; further ones stand behind,
/// and so do all that a client opens within this time after it was limited.
pub(super) const PROMPT_MAX: usize = 16;
const LIMITED_FOR: Duration = Duration::from_secs(60);
/// As how many a new connection counts for a client that sent too large a head within that time.
const AFTER_LARGE_HEAD: u32 = 50;
/// Connections that are accepted before others have their turn: some 20 microseconds each.
const ACCEPTED_IN_TURN: u32 = 8;

/// Lets connections in.
pub(super) struct Entrance {
    limits: HttpLimits,
    /// New connections of each client.
    rate: ClientRate,
    offenders: Offenders,
    connections: Arc<Semaphore>,
    places: Places,
    /// New connections that wait for another to end, and each client's part of them.
    waiting: Arc<Semaphore>,
    waiting_shares: Shares,
    pub(super) room_wait: Duration,
}

/// The permit of a connection.
pub(super) enum Permit {
    Had(OwnedSemaphorePermit),
    /// It waits for another connection to end, and takes one of the places to wait.
    Awaited(OwnedSemaphorePermit, Share),
}

impl Entrance {
    pub(super) fn new(limits: HttpLimits, offenders: &Offenders) -> Self {
        Self {
            limits,
            rate: ClientRate::new(limits.new_per_minute, limits.new_burst),
            offenders: offenders.clone(),
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            places: Places::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            waiting_shares: Shares::default(),
            room_wait: ROOM_WAIT,
        }
    }

    /// Lets connections in until `shutdown` is done or this is dropped, then has open ones end. To
    /// let in and to turn away stands behind: hundreds may come at once.
    pub(super) async fn serve<S, F>(
        self,
        listener: TcpListener,
        trusted: &[IpAddr],
        services: impl Fn() -> S + Send + Sync + 'static,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) where
        S: Fn(Request<Incoming>, Client) -> F + Send + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        // What stands behind outlives this runtime, and ends with this nevertheless.
        let (_end, mut ended) = watch::channel(());
        let (prompt, trusted) = (Handle::current(), Arc::<[IpAddr]>::from(trusted));
        let serving = async move {
            // Its events come to the threads that are here.
            let listener = match listener.into_std().and_then(TcpListener::from_std) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%error, "no connections are accepted");
                    return;
                }
            };
            let (answers, graceful) = (Answers::default(), GracefulShutdown::new());
            let mut shutdown = std::pin::pin!(shutdown);
            for turn in (1..=ACCEPTED_IN_TURN).cycle() {
                if turn == ACCEPTED_IN_TURN {
                    behind::give_way();
                    tokio::task::yield_now().await;
                }
                let accepted = tokio::select! {
                    () = &mut shutdown => break,
                    _ = ended.changed() => return,
                    accepted = accept(&listener) => accepted,
                };
                let Some((stream, peer)) = accepted else { continue };
                let Some((place, permit)) = self.admit(peer.ip(), is_exempt(peer.ip(), &trusted))
                else {
                    // Without a farewell, of which the system would keep something.
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    continue;
                };
                // A client that does not take its answer is cut as well.
                let patience = Some(self.limits.idle_timeout);
                if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(patience) {
                    tracing::debug!(%error, "a connection has no time-out for writing");
                }
                let stands_behind = self.stands_behind(&place);
                let (limits, place, answers) = (self.limits, Arc::new(place), answers.clone());
                let offenders = self.offenders.clone();
                let (service, watcher) = (services(), graceful.watcher());
                let trusted = Arc::clone(&trusted);
                let (free, room_wait) = (Arc::clone(&self.connections), self.room_wait);
                let answer = move |stream| async move {
                    let connection =
                        Connection { stream, peer, limits, place, offenders, answers, trusted };
                    // Held until the connection ends.
                    let Some(_permit) = permit.wait(free, room_wait, &connection.place).await
                    else {
                        return;
                    };
                    connection.answer(service, watcher).await;
                };
                if stands_behind {
                    let mut ended = ended.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = ended.changed() => {}
                            () = answer(stream) => {}
                        }
                    });
                } else {
                    let stream = stream.into_std();
                    prompt.spawn(async move {
                        if let Ok(stream) = stream.and_then(TcpStream::from_std) {
                            answer(stream).await;
                        }
                    });
                }
            }
            drop(listener);
            let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
        };
        let _ = behind::spawn(serving).await;
    }

    /// Whether a new connection is answered with what time others leave.
    pub(super) fn stands_behind(&self, place: &Place) -> bool {
        let was_limited = || self.offenders.was_limited(place.client(), LIMITED_FOR);
        !place.is_exempt() && (place.count() > PROMPT_MAX || was_limited())
    }

    /// Whether a client may open a connection by its rate.
    fn may_open(&self, client: IpAddr) -> bool {
        let sent_large = self.offenders.was_limited_for(client, Offence::LargeHead, LIMITED_FOR);
        let more = if sent_large { AFTER_LARGE_HEAD.min(self.limits.new_burst) } else { 1 };
        let more = more.saturating_sub(1);
        self.rate.check(client).is_ok() && self.rate.check_many(client, more).is_ok()
    }

    /// The place of a new connection, and its permit; none: it is turned away.
    pub(super) fn admit(&self, client: IpAddr, is_exempt: bool) -> Option<(Place, Permit)> {
        if !is_exempt && !self.may_open(client) {
            self.offenders.note(client, Offence::NewConnections);
            return None;
        }
        let max = share_of(self.limits.connections_max);
        let Some(place) = self.places.enter(client, is_exempt, max) else {
            self.offenders.note(client, Offence::Connections);
            return None;
        };
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return Some((place, Permit::Had(permit)));
        }
        // Others are accepted meanwhile: whoever comes next may have a place of another's.
        let share = self.waiting_shares.enter(client, 1, share_of(WAITING_MAX))?;
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        place.waits(true);
        match self.places.make_room(&place) {
            Room::Made(client) => self.offenders.note(client, Offence::IdleConnections),
            Room::Later => {}
            Room::Refused => {
                self.offenders.note(client, Offence::Connections);
                return None;
            }
        }
        Some((place, Permit::Awaited(waiting, share)))
    }
}

impl Permit {
    /// The permit, once there is one; none if there is none in time, or the place is given up.
    async fn wait(
        self,
        free: Arc<Semaphore>,
        room_wait: Duration,
        place: &Place,
    ) -> Option<OwnedSemaphorePermit> {
        let (_waiting, _share) = match self {
            Self::Had(permit) => return Some(permit),
            Self::Awaited(waiting, share) => (waiting, share),
        };
        let free = tokio::time::timeout(room_wait, free.acquire_owned()).await;
        place.waits(false);
        free.ok()?.ok()
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are small and written at once.
            let _ = stream.set_nodelay(true);
            Some((stream, peer))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            // Out of descriptors: trying again at once would only spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

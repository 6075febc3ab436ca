//! Bodies of requests: how long they may be, how fast they must come, and what all of them together
//! hold in memory.

use std::fmt::Display;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use warp::Buf;
use warp::http::{HeaderMap, StatusCode};
use warp::hyper::body::Bytes;

use super::route::Route;
use super::{Api, ApiError, import};
use crate::http::{Offence, Offenders, Share, Shares, is_exempt, share_of};

/// Bytes of ordinary bodies at once, of all clients.
pub const ORDINARY_BODIES_BYTES_MAX: usize = 32 << 20;
/// Bytes of bodies over `rpc.body_bytes_max` at once, and the longest of them.
pub const LARGE_BODIES_BYTES_MAX: usize = 64 << 20;
/// Bodies over `rpc.body_bytes_max` at once, on the routes that take them. A client has one.
const LARGE_COUNT_MAX: usize = 2;
/// How much of a body is not counted: as much has every connection anyway.
const UNCOUNTED_BYTES: usize = 16 << 10;
/// What room is taken in.
const STEP_BYTES: usize = 16 << 10;
/// How long a large body waits for its place.
const PLACE_WAIT: Duration = Duration::from_secs(5);
/// What a body may take before it must have come at this pace at least: who sends a byte now and
/// then would hold its room for the whole idle time-out.
const PACE_GRACE: Duration = Duration::from_secs(10);
const PACE_BYTES_PER_SECOND: u64 = 64 * 1024;

/// Room for what bodies hold.
#[derive(Debug)]
pub(super) struct Bodies {
    ordinary: Room,
    large: Room,
    large_places: Arc<Semaphore>,
    large_shares: Shares,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            ordinary: Room::new(ORDINARY_BODIES_BYTES_MAX, share_of(ORDINARY_BODIES_BYTES_MAX)),
            // What one large body may be, one client may have.
            large: Room::new(LARGE_BODIES_BYTES_MAX, LARGE_BODIES_BYTES_MAX),
            large_places: Arc::new(Semaphore::new(LARGE_COUNT_MAX)),
            large_shares: Shares::default(),
        }
    }
}

/// Steps of memory for all clients, and each client's part.
#[derive(Debug)]
struct Room {
    all: Arc<Semaphore>,
    shares: Shares,
    share_max: usize,
}

/// Who sends a body.
struct Sender<'a> {
    client: IpAddr,
    /// Whether that one may have any number.
    is_exempt: bool,
    offenders: &'a Offenders,
}

/// A part of a room.
type Taken = (OwnedSemaphorePermit, Share);

impl Room {
    fn new(bytes: usize, share: usize) -> Self {
        let all = Arc::new(Semaphore::new(bytes / STEP_BYTES));
        Self { all, shares: Shares::default(), share_max: share / STEP_BYTES }
    }

    /// Room for so many bytes more. If there is none, the client is named that has more than its
    /// share, or most of all.
    fn take(&self, sender: &Sender<'_>, bytes: usize) -> Result<Taken, ApiError> {
        let steps = bytes.div_ceil(STEP_BYTES);
        let max = if sender.is_exempt { usize::MAX } else { self.share_max };
        let share = self.shares.enter(sender.client, steps, max).ok_or_else(|| {
            sender.offenders.note(sender.client, Offence::HeldBodies);
            let detail = "this client's bodies take as much room as one client's may";
            let hint = "send bodies one after the other";
            let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "bodies_held", detail, hint);
            ApiError { retry_after: Some(Duration::from_secs(1)), ..error }
        })?;
        let count = u32::try_from(steps).unwrap_or(u32::MAX);
        let Ok(all) = Arc::clone(&self.all).try_acquire_many_owned(count) else {
            let most = self.shares.most();
            drop(share);
            most.inspect(|most| sender.offenders.note(*most, Offence::HeldBodies));
            return Err(ApiError::crowded());
        };
        Ok((all, share))
    }
}

/// A body, and what it takes of the room until it is answered.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    _taken: Vec<Taken>,
    _place: Option<(OwnedSemaphorePermit, Share)>,
}

/// The body of a request, and the place that it takes if it is large.
pub(super) async fn take<B: Buf, E: Display>(
    api: &Api,
    route: &Route,
    headers: &HeaderMap,
    client: IpAddr,
    body: impl Stream<Item = Result<B, E>>,
) -> Result<Body, ApiError> {
    let is_exempt = is_exempt(client, &api.options.trusted_proxies);
    let sender = Sender { client, is_exempt, offenders: &api.offenders };
    let usual = api.options.body_bytes_max;
    let declared = declared_length(headers);
    let (max, room, place) = if route.large && declared.is_none_or(|length| length > usual) {
        let place = large_place(&api.bodies, &sender).await?;
        (import::body_bytes_max(api).await?.max(usual), &api.bodies.large, Some(place))
    } else {
        (usual, &api.bodies.ordinary, None)
    };
    if declared.is_some_and(|length| length > max) {
        return Err(too_large(max));
    }
    let time_max = api.options.idle_timeout;
    let read = read(max, declared, time_max, body, |bytes| room.take(&sender, bytes));
    let (bytes, taken) = read.await?;
    Ok(Body { bytes, _taken: taken, _place: place })
}

async fn large_place(
    bodies: &Bodies,
    sender: &Sender<'_>,
) -> Result<(OwnedSemaphorePermit, Share), ApiError> {
    let max = if sender.is_exempt { usize::MAX } else { share_of(LARGE_COUNT_MAX) };
    let share = bodies.large_shares.enter(sender.client, 1, max).ok_or_else(ApiError::crowded)?;
    let place = timeout(PLACE_WAIT, Arc::clone(&bodies.large_places).acquire_owned()).await;
    let place = place.ok().and_then(Result::ok).ok_or_else(ApiError::crowded)?;
    Ok((place, share))
}

/// The length that a request states for its body.
fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok())
}

fn slow() -> ApiError {
    let detail = "the body did not arrive in time";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail, "send it again")
}

fn too_large(max: usize) -> ApiError {
    let detail = format!("the body is over {max} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail, "send less at once")
}

/// Reads a body at the pace that it must have, within `time_max`. Before its bytes are kept, `take`
/// gives the room.
async fn read<B: Buf, E: Display>(
    max: usize,
    declared: Option<usize>,
    time_max: Duration,
    body: impl Stream<Item = Result<B, E>>,
    take: impl Fn(usize) -> Result<Taken, ApiError>,
) -> Result<(Bytes, Vec<Taken>), ApiError> {
    let (mut bytes, mut taken) = (Vec::new(), Vec::new());
    let mut room = UNCOUNTED_BYTES;
    let mut body = std::pin::pin!(body);
    let began = Instant::now();
    loop {
        let next = match at_hand(body.as_mut()).await {
            Some(next) => next,
            None => {
                let came = Duration::from_secs(bytes.len() as u64 / PACE_BYTES_PER_SECOND);
                let patience = PACE_GRACE.saturating_add(came).min(time_max);
                let left = patience.saturating_sub(began.elapsed());
                timeout(left, body.next()).await.map_err(|_| slow())?
            }
        };
        let Some(chunk) = next else { break };
        let mut chunk = chunk.map_err(|error| {
            let detail = format!("the body broke off: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, "body_incomplete", detail, "send it again")
        })?;
        let length = bytes.len().saturating_add(chunk.remaining());
        if length > max {
            return Err(too_large(max));
        }
        if length > room {
            // Doubled, so that little is copied.
            let grown = room.saturating_mul(2).min(declared.unwrap_or(max)).max(length);
            taken.push(take(grown.saturating_sub(room))?);
            room = grown;
        }
        bytes.reserve_exact(room.min(declared.unwrap_or(room)).saturating_sub(bytes.len()));
        while chunk.has_remaining() {
            let part = chunk.chunk();
            let length = part.len();
            bytes.extend_from_slice(part);
            chunk.advance(length);
        }
    }
    Ok((Bytes::from(bytes), taken))
}

/// What comes next of a body, if it came with the head: no timer is set for that, which costs more
/// than reading it. The server gives it once it was asked for it.
async fn at_hand<S: Stream>(mut body: Pin<&mut S>) -> Option<Option<S::Item>> {
    let mut was_asked = false;
    poll_fn(|context| match body.as_mut().poll_next(context) {
        Poll::Ready(next) => Poll::Ready(Some(next)),
        Poll::Pending if was_asked => Poll::Ready(None),
        Poll::Pending => {
            was_asked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::RefCell;

    use futures_util::stream;

    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn bodies_have_a_room_and_each_client_a_part_of_it() {
        let (room, offenders) = (Room::new(8 * MIB, 2 * MIB), Offenders::default());
        let of = |client: u8, is_exempt| {
            let client = [192, 0, 2, client].into();
            room.take(&Sender { client, is_exempt, offenders: &offenders }, MIB)
        };
        let named = |client: u8| {
            let of = format!("{{client=\"192.0.2.{client}\",offence=\"held_bodies\"}}");
            offenders.metrics().contains(&of)
        };
        let held = [of(1, false), of(1, false)];
        assert!(held.iter().all(Result::is_ok));
        let error = of(1, false).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code, named(1)), (429, "bodies_held", true));
        // Behind a proxy there are many.
        let proxied: Vec<_> = (0..6).map(|_| of(2, true)).collect();
        assert!(proxied.iter().all(Result::is_ok) && !named(2));
        let error = of(3, false).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (503, "busy"));
        assert!(named(2) && !named(3), "who has most is named");
        drop((held, proxied));
        assert!(of(3, false).is_ok() && room.shares.most().is_none());
    }

    #[tokio::test]
    async fn one_client_has_one_large_body_under_way() {
        let (bodies, offenders) = (Bodies::default(), Offenders::default());
        let sender = |client: u8, is_exempt| {
            let client = [192, 0, 2, client].into();
            Sender { client, is_exempt, offenders: &offenders }
        };
        let first = large_place(&bodies, &sender(1, false)).await;
        assert!(first.is_ok());
        assert_eq!(large_place(&bodies, &sender(1, false)).await.unwrap_err().code, "busy");
        assert!(large_place(&bodies, &sender(2, false)).await.is_ok());
        drop(first);
        let proxied = large_place(&bodies, &sender(3, true)).await;
        assert!(proxied.is_ok() && large_place(&bodies, &sender(3, true)).await.is_ok());
    }

    /// What a body of these lengths takes of the room, and what becomes of it.
    async fn taken(declared: Option<usize>, chunks: &[usize]) -> (Vec<usize>, Result<usize, u16>) {
        let (room, offenders) = (Room::new(64 * MIB, 64 * MIB), Offenders::default());
        let client = [192, 0, 2, 1].into();
        let sender = Sender { client, is_exempt: false, offenders: &offenders };
        let asked = RefCell::new(Vec::new());
        let take = |bytes| {
            asked.borrow_mut().push(bytes);
            room.take(&sender, bytes)
        };
        let chunks =
            chunks.iter().map(|length| Ok::<_, warp::Error>(Bytes::from(vec![7; *length])));
        let chunks = stream::iter(chunks.collect::<Vec<_>>());
        let read = read(MIB, declared, Duration::MAX, chunks, take).await;
        let length = read.map(|(bytes, _)| bytes.len()).map_err(|error| error.status.as_u16());
        (asked.into_inner(), length)
    }

    #[test]
    fn a_body_that_came_with_the_head_sets_no_timer() {
        let mut parts = [None, Some("ab"), Some("c")].into_iter();
        let body = stream::poll_fn(move |_| match parts.next() {
            Some(None) => Poll::Pending,
            Some(Some(part)) => Poll::Ready(Some(Ok::<_, warp::Error>(part.as_bytes()))),
            None => Poll::Ready(None),
        });
        // This one has no timers.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = read(MIB, None, Duration::MAX, body, |_| Err(ApiError::crowded()));
        assert_eq!(runtime.block_on(read).map(|(bytes, _)| bytes).unwrap(), "abc");
    }

    #[tokio::test]
    async fn a_body_takes_room_before_it_is_kept() {
        assert_eq!(taken(None, &[9_000]).await, (vec![], Ok(9_000)));
        assert_eq!(taken(Some(MIB), &[9_000]).await, (vec![], Ok(9_000)), "as much as has come");
        let (asked, length) = taken(None, &[30_000; 20]).await;
        assert_eq!(length, Ok(600_000));
        assert!(asked.iter().sum::<usize>() + UNCOUNTED_BYTES >= 600_000, "{asked:?}");
        let (asked, length) = taken(Some(600_000), &[30_000; 20]).await;
        assert_eq!((asked.iter().sum::<usize>() + UNCOUNTED_BYTES, length), (600_000, Ok(600_000)));
        assert_eq!(taken(None, &[MIB / 2, MIB / 2, 1]).await.1, Err(413));
    }
}

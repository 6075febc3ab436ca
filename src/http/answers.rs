//! Room for answers that are being given away.
//!
//! An answer lies in memory until its client has taken the last of it. One client has a quarter
//! of the room at most, and a large answer must be taken at some pace.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use warp::Reply;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::places::Open;
use super::{Offence, Offenders, Share, Shares, share_of};

/// Bytes of large answers at once, of all clients. A larger one may be given alone.
pub const ANSWER_BYTES_MAX: usize = (ANSWERS_KIB as usize) << 10;
const ANSWERS_KIB: u32 = 128 << 10;
/// Bytes from which on an answer counts as large: less has every connection anyway.
const LARGE_BYTES: u64 = 64 << 10;
/// What a large answer may take before it must have been taken at this pace at least: who takes
/// a byte now and then is never idle.
const PACE_GRACE: Duration = Duration::from_secs(10);
const PACE_BYTES_PER_SECOND: u64 = 64 * 1024;

/// What an answer keeps, in its extensions, until its bytes are counted here: what it was made of
/// was bounded before.
#[derive(Debug, Clone)]
pub struct UntilCounted {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl UntilCounted {
    /// Keeps this permit.
    #[must_use]
    pub fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Arc::new(permit) }
    }
}

/// Room for the large answers of all connections.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    all: Arc<Semaphore>,
    shares: Shares,
    grace: Duration,
}

/// Who takes an answer.
pub(super) struct Taker {
    pub(super) client: IpAddr,
    /// Whether that one may have any number.
    pub(super) is_exempt: bool,
    /// By which connection.
    pub(super) connection: Arc<Open>,
}

/// The room of an answer until it is dropped, and the end of the client's time to take it.
#[derive(Debug)]
pub(super) struct AnswerRoom {
    _all: OwnedSemaphorePermit,
    _share: Share,
    late: AbortHandle,
}

impl Drop for AnswerRoom {
    fn drop(&mut self) {
        self.late.abort();
    }
}

impl Default for Answers {
    fn default() -> Self {
        let all = Arc::new(Semaphore::new(ANSWERS_KIB as usize));
        Self { all, shares: Shares::default(), grace: PACE_GRACE }
    }
}

impl Answers {
    /// The answer with its room, to be kept until it was given away. Where there is none, the
    /// answer is that the node is busy, and whoever takes most is named.
    pub(super) fn admit(
        &self,
        mut answer: Response,
        taker: &Taker,
        offenders: &Offenders,
    ) -> (Response, Option<AnswerRoom>) {
        let _counted = answer.extensions_mut().remove::<UntilCounted>();
        let bytes = Body::size_hint(answer.body()).lower();
        if bytes < LARGE_BYTES {
            return (answer, None);
        }
        let kib = u32::try_from(bytes >> 10).unwrap_or(ANSWERS_KIB).min(ANSWERS_KIB);
        let max = share_of(ANSWERS_KIB as usize);
        let client = taker.client;
        // One that is larger than a share may be given alone.
        let (count, max) = match taker.is_exempt {
            true => (kib as usize, usize::MAX),
            false => ((kib as usize).min(max), max),
        };
        let Some(share) = self.shares.enter(client, count, max) else {
            offenders.note(client, Offence::UntakenAnswers);
            return (busy(), None);
        };
        let Ok(all) = Arc::clone(&self.all).try_acquire_many_owned(kib) else {
            drop(share);
            self.shares.most().inspect(|most| offenders.note(*most, Offence::UntakenAnswers));
            return (busy(), None);
        };
        let (connection, offenders) = (Arc::clone(&taker.connection), offenders.clone());
        let patience =
            self.grace.saturating_add(Duration::from_secs(bytes / PACE_BYTES_PER_SECOND));
        let late = tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            connection.close();
            offenders.note(client, Offence::UntakenAnswers);
        });
        (answer, Some(AnswerRoom { _all: all, _share: share, late: late.abort_handle() }))
    }
}

fn busy() -> Response {
    let body = serde_json::json!({
        "detail": "as many large answers are under way as this node has room for",
        "code": "busy",
        "hint": "take answers as they come, and try again in a moment",
    });
    let mut answer = warp::reply::json(&body).into_response();
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::places::{Place, Places};

    fn answer(bytes: usize) -> Response {
        Response::new(vec![b'x'; bytes].into())
    }

    /// A client with a connection of its own.
    fn taker(places: &Places, client: u8, is_exempt: bool) -> (Taker, Place) {
        let client = [192, 0, 2, client].into();
        let place = places.enter(client, is_exempt, 9).unwrap();
        (Taker { client, is_exempt, connection: place.closer() }, place)
    }

    fn named(offenders: &Offenders, client: u8) -> bool {
        let of = format!("{{client=\"192.0.2.{client}\",offence=\"untaken_answers\"}}");
        offenders.metrics().contains(&of)
    }

    #[tokio::test]
    async fn large_answers_are_bounded_together_and_small_ones_always_given() {
        let (answers, places, offenders) =
            (Answers::default(), Places::default(), Offenders::default());
        let (proxy, other) = (taker(&places, 1, true).0, taker(&places, 2, false).0);
        let admit = |bytes, taker| answers.admit(answer(bytes), taker, &offenders);
        let (whole, room) = admit(300 << 20, &proxy);
        assert_eq!((whole.status(), room.is_some()), (StatusCode::OK, true));
        let (refused, none) = admit(1 << 20, &other);
        assert_eq!((refused.status(), none.is_none()), (StatusCode::SERVICE_UNAVAILABLE, true));
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        assert!(named(&offenders, 1) && !named(&offenders, 2), "{}", offenders.metrics());
        assert_eq!(admit(1_000, &other).0.status(), StatusCode::OK);
        drop(room);
        let held: Vec<_> = (0..200).map(|_| admit(1 << 20, &proxy).1).collect();
        assert_eq!(held.iter().flatten().count(), 128);
    }

    #[tokio::test]
    async fn what_an_answer_was_made_of_is_held_until_it_is_counted() {
        let (answers, places, offenders) =
            (Answers::default(), Places::default(), Offenders::default());
        let made_of = Arc::new(Semaphore::new(1));
        for bytes in [9, 1 << 20, 300 << 20] {
            let permit = Arc::clone(&made_of).acquire_owned().await.unwrap();
            let mut answer = answer(bytes);
            answer.extensions_mut().insert(UntilCounted::new(permit));
            assert_eq!(made_of.available_permits(), 0);
            let counted = answers.admit(answer, &taker(&places, 1, false).0, &offenders);
            assert_eq!(made_of.available_permits(), 1, "{bytes}");
            drop(counted);
        }
    }

    #[tokio::test]
    async fn one_client_has_a_quarter_of_the_room_and_is_named_for_more() {
        let (answers, places, offenders) =
            (Answers::default(), Places::default(), Offenders::default());
        let greedy = [taker(&places, 1, false).0, taker(&places, 1, false).0];
        let modest = taker(&places, 2, false).0;
        let admit = |bytes, taker| answers.admit(answer(bytes), taker, &offenders).1;
        let held: Vec<_> = (0..50).map(|n| admit(1 << 20, &greedy[n % 2])).collect();
        assert_eq!(held.iter().flatten().count(), 32);
        assert!(named(&offenders, 1));
        let whole = admit(90 << 20, &modest);
        assert!(whole.is_some(), "one that is larger than a share is given alone");
        assert!(admit(1 << 20, &modest).is_none());
        drop((held, whole));
        assert!(admit(1 << 20, &greedy[0]).is_some());
    }

    #[tokio::test]
    async fn who_takes_an_answer_too_slowly_is_cut_and_named() {
        let answers = Answers { grace: Duration::ZERO, ..Answers::default() };
        let (places, offenders) = (Places::default(), Offenders::default());
        let (quick, slow) = (taker(&places, 1, false), taker(&places, 2, false));
        let bytes = PACE_BYTES_PER_SECOND as usize;
        drop(answers.admit(answer(bytes), &quick.0, &offenders).1.unwrap());
        let _untaken = answers.admit(answer(bytes), &slow.0, &offenders).1.unwrap();
        tokio::time::timeout(Duration::from_secs(30), slow.1.closed()).await.unwrap();
        while !named(&offenders, 2) {
            tokio::task::yield_now().await;
        }
        // Its time was over before, had it not taken all.
        assert!(!named(&offenders, 1));
        assert!(tokio::time::timeout(Duration::ZERO, quick.1.closed()).await.is_err());
    }
}

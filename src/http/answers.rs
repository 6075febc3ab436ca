//! Room for answers that are being given away.
//!
//! An answer lies in memory until its client has taken the last of it, which a client may put
//! off for as long as a connection may be idle.

use std::sync::Arc;

use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::Reply;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

/// Kibibytes of large answers at once. A larger one may be given alone.
const ANSWERS_KIB: u32 = 128 << 10;
/// Bytes from which on an answer counts as large: less has every connection anyway.
const LARGE_BYTES: u64 = 64 << 10;

/// Room for the large answers of all connections.
#[derive(Debug, Clone)]
pub(super) struct Answers(Arc<Semaphore>);

impl Default for Answers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ANSWERS_KIB as usize)))
    }
}

impl Answers {
    /// The answer with its room, to be kept until it was given away. Where there is none, the
    /// answer is that the node is busy.
    pub(super) fn admit(&self, answer: Response) -> (Response, Option<OwnedSemaphorePermit>) {
        let bytes = Body::size_hint(answer.body()).lower();
        if bytes < LARGE_BYTES {
            return (answer, None);
        }
        let kib = u32::try_from(bytes >> 10).unwrap_or(ANSWERS_KIB).min(ANSWERS_KIB);
        match Arc::clone(&self.0).try_acquire_many_owned(kib) {
            Ok(room) => (answer, Some(room)),
            Err(_) => (busy(), None),
        }
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

    fn answer(bytes: usize) -> Response {
        Response::new(vec![b'x'; bytes].into())
    }

    #[test]
    fn large_answers_are_bounded_together_and_small_ones_always_given() {
        let answers = Answers::default();
        let (whole, room) = answers.admit(answer(300 << 20));
        assert_eq!((whole.status(), room.is_some()), (StatusCode::OK, true));
        let (refused, none) = answers.admit(answer(1 << 20));
        assert_eq!((refused.status(), none.is_none()), (StatusCode::SERVICE_UNAVAILABLE, true));
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        assert_eq!(answers.admit(answer(1_000)).0.status(), StatusCode::OK);
        drop(room);
        let held: Vec<_> = (0..200).map(|_| answers.admit(answer(1 << 20)).1).collect();
        assert_eq!(held.iter().flatten().count(), 128);
    }
}

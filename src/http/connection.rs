//! One connection at work, and what its answers hold until they are given away.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::Request;
use hyper::body::{Body, Buf, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use tokio::net::TcpStream;
use warp::reply::Response;

use super::answers::{AnswerRoom, Answers, Taker};
use super::places::{Busy, Place};
use super::turns::{Heard, InTurns};
use super::woken::Woken;
use super::{Client, HttpLimits, Offence, Offenders, is_exempt};

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// An accepted connection.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) limits: HttpLimits,
    pub(super) place: Arc<Place>,
    pub(super) offenders: Offenders,
    pub(super) answers: Answers,
    /// The operator's own proxies.
    pub(super) trusted: Arc<[IpAddr]>,
}

impl Connection {
    /// Answers its requests until either side ends it.
    pub(super) async fn answer<S, F>(self, service: S, watcher: Watcher)
    where
        S: Fn(Request<Incoming>, Client) -> F + Send + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let Self { stream, peer, limits, place, offenders, answers, trusted } = self;
        let (first, mut first_seen) = tokio::sync::watch::channel(false);
        let has_begun = AtomicBool::new(false);
        let at_work = Arc::clone(&place);
        let heard = Arc::new(Heard::new(peer.ip(), offenders.clone()));
        let hearing = Arc::clone(&heard);
        // Counted for each connection: cores that count what all have take it from each other.
        let giving = Arc::new((answers, offenders.clone()));
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            if !has_begun.load(Ordering::Relaxed) {
                has_begun.store(true, Ordering::Relaxed);
                first.send_replace(true);
            }
            let busy = at_work.work(!request.body().is_end_stream());
            // Behind a proxy there are many clients: each has its own share.
            let client = Client::of(peer, request.version(), request.headers(), &trusted);
            let is_exempt = is_exempt(client.ip, &trusted);
            hearing.asks(client.ip);
            let answer = service(request, client);
            let (giving, place) = (Arc::clone(&giving), Arc::clone(&at_work));
            async move {
                let taker = Taker { client: client.ip, is_exempt, connection: place.closer() };
                let (answers, offenders) = &*giving;
                let (answer, room) = answers.admit(answer.await, &taker, offenders);
                busy.answers();
                let held = Arc::new(Held { _busy: busy, _room: room });
                Ok::<_, std::convert::Infallible>(answer.map(|body| HeldBody { body, held }))
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
        // How long it may take for a head is seen to below, without a timer for each request.
        builder.http1().header_read_timeout(None).max_buf_size(HEAD_BYTES_MAX);
        let connection = builder.serve_connection_with_upgrades(
            TokioIo::new(InTurns::new(stream, Arc::clone(&heard))),
            service,
        );
        let connection = Woken::new(watcher.watch(connection));
        // What else ends it; whether that is a head that does not come.
        let end = Woken::new(async {
            let begun = first_seen.wait_for(|seen| *seen);
            let silence = async {
                if tokio::time::timeout(limits.header_timeout, begun).await.is_err() {
                    return true;
                }
                place.silent_for(limits.idle_timeout).await;
                false
            };
            tokio::select! {
                () = place.closed() => false,
                is_slow = silence => is_slow,
            }
        });
        tokio::select! {
            biased;
            result = connection => match result {
                // If it goes on, then as a subscription.
                Ok(()) => heard.subscribes(),
                Err(error) if is_large_head(&*error) => {
                    offenders.note(peer.ip(), Offence::LargeHead);
                }
                // A client that breaks off is its own affair.
                Err(_) => {}
            },
            is_slow = end => if is_slow {
                offenders.note(peer.ip(), Offence::SlowHead);
            },
        }
    }
}

/// Whether a head was over its bound, which the server has answered.
fn is_large_head(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large)
}

/// What an answer holds until the last of it is given away: its connection is at work, and its
/// room is taken.
struct Held {
    _busy: Busy,
    _room: Option<AnswerRoom>,
}

/// The body of an answer. The server lets go of it once it has all of its pieces, which may be
/// long before the client has them: the pieces hold what it holds.
struct HeldBody<B> {
    body: B,
    held: Arc<Held>,
}

/// A piece of a body, until the system has taken the last of it.
struct HeldPiece<D> {
    data: D,
    _held: Arc<Held>,
}

impl<B: Body + Unpin> Body for HeldBody<B> {
    type Data = HeldPiece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let held = |data| HeldPiece { data, _held: Arc::clone(&self.held) };
        frame.map(|next| next.map(|result| result.map(|frame| frame.map_data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<D: Buf> Buf for HeldPiece<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

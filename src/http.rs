//! The listener that REST interface and mock coordinator share: bounded connections,
//! time-outs, a rate for each client, graceful end.
//!
//! What is answered is the service's affair; no endpoint is known here.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::reply::Response;

/// How long open connections may go on after shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(700);
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Clients whose rate is remembered before idle ones are forgotten.
const CLIENT_COUNT_MAX: usize = 10_000;

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Most connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Time that a new connection has to send the head of its first request.
    pub header_timeout: Duration,
    /// Time that a kept connection may be silent, or take for the head of a later request.
    pub idle_timeout: Duration,
}

/// Answers requests on `listener` until `shutdown` is done, then lets open ones end.
pub async fn serve<S, F>(
    listener: TcpListener,
    limits: HttpLimits,
    service: S,
    shutdown: impl Future<Output = ()>,
) where
    S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let service = service.clone();
        let (first, mut first_seen) = tokio::sync::watch::channel(false);
        let service = hyper::service::service_fn(move |request| {
            first.send_replace(true);
            let answer = service(request, peer);
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            // Held until the connection ends.
            let _permit = permit;
            let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.idle_timeout)
                .max_buf_size(HEAD_BYTES_MAX);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            let connection = watcher.watch(connection);
            let mut connection = std::pin::pin!(connection);
            // A client that breaks off is its own affair.
            tokio::select! {
                _ = &mut connection => return,
                begun = tokio::time::timeout(limits.header_timeout, first_seen.wait_for(|seen| *seen)) => {
                    if begun.is_err() {
                        return;
                    }
                }
            }
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are small and written at once.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            // Out of descriptors: trying again at once would only spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// A rate of requests for each client.
#[derive(Debug)]
pub struct ClientRate {
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

impl ClientRate {
    /// At most `per_minute` requests a minute and `burst` at once; 0 a minute is no bound.
    #[must_use]
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let limiter = NonZeroU32::new(per_minute).map(|per_minute| {
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            DefaultKeyedRateLimiter::keyed(Quota::per_minute(per_minute).allow_burst(burst))
        });
        Self { limiter }
    }

    /// Counts a request of this client.
    ///
    /// # Errors
    /// How long to wait, if it makes too many.
    pub fn check(&self, client: IpAddr) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if limiter.len() > CLIENT_COUNT_MAX {
            limiter.retain_recent();
        }
        let clock = DefaultClock::default();
        limiter.check_key(&client).map_err(|until| until.wait_time_from(clock.now()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use warp::Reply;

    #[test]
    fn bounds_the_rate_of_each_client_apart() {
        let rate = ClientRate::new(60, 3);
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        for _ in 0..3 {
            assert!(rate.check(a).is_ok());
        }
        let wait = rate.check(a).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(rate.check(b).is_ok());
        let unbounded = ClientRate::new(0, 1);
        assert!((0..1_000).all(|_| unbounded.check(a).is_ok()));
    }

    async fn start(limits: HttpLimits) -> (SocketAddr, tokio::sync::oneshot::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let answer = |_, _| async { "hello".into_response() };
        tokio::spawn(serve(listener, limits, answer, async {
            let _ = stopped.await;
        }));
        (address, stop)
    }

    #[tokio::test]
    async fn a_connection_that_sends_no_head_is_closed() {
        let limits = HttpLimits {
            connections_max: 1,
            header_timeout: Duration::from_millis(100),
            idle_timeout: Duration::from_secs(60),
        };
        let (address, _stop) = start(limits).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        // The only place is taken: this one is answered once the slow one is cut.
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut rest = Vec::new();
        assert_eq!(slow.read_to_end(&mut rest).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let limits = HttpLimits {
            connections_max: 4,
            header_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_millis(100),
        };
        let (address, _stop) = start(limits).await;
        let mut kept = TcpStream::connect(address).await.unwrap();
        kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        kept.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
    }
}

//! A stream whose writer gives way to others after each part of what it has to write.
//!
//! The system takes as much as it has room for, megabytes at once, and copies it meanwhile; on a
//! machine's own network the other side's work is done in the same call. Whoever else has a
//! request on this thread would wait for all of it.
//!
//! What a subscriber sends is bounded here, where it is bytes: parts of a message that never
//! ends are never seen above.

use std::future::Future;
use std::io::{ErrorKind, IoSlice, Result};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Offence, Offenders};
use crate::behind;

/// What is written before others have their turn: some 20 microseconds of copying.
const TURN_BYTES: usize = 64 * 1024;
/// Pieces of one write; as many as the server queues.
const PIECES_MAX: usize = 16;
/// What is copied to be written as one piece: the system takes one sooner than a list of them.
const JOINED_BYTES_MAX: usize = 1_024;

/// What a subscriber may send at once, and in each second: it has nothing to say but that it lives.
const UNASKED_BYTES_MAX: u64 = 64 * 1024;
const UNASKED_BYTES_PER_SECOND: u64 = 1024;

/// What is heard of a client once it subscribes.
#[derive(Debug)]
pub(super) struct Heard {
    client: Mutex<IpAddr>,
    offenders: Offenders,
    /// Since when it subscribes.
    since: OnceLock<Instant>,
    bytes: AtomicU64,
}

impl Heard {
    pub(super) const fn new(client: IpAddr, offenders: Offenders) -> Self {
        let client = Mutex::new(client);
        Self { client, offenders, since: OnceLock::new(), bytes: AtomicU64::new(0) }
    }

    /// Who asks, where there are many behind a proxy.
    pub(super) fn asks(&self, client: IpAddr) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// There are no more requests: what was asked last goes on.
    pub(super) fn subscribes(&self) {
        let _ = self.since.set(Instant::now());
    }

    /// Whether so many bytes more may be heard; else the client is named.
    fn may_send(&self, bytes: usize) -> bool {
        let Some(since) = self.since.get() else { return true };
        let sent =
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed).saturating_add(bytes as u64);
        let allowed = since.elapsed().as_secs().saturating_mul(UNASKED_BYTES_PER_SECOND);
        if sent <= allowed.saturating_add(UNASKED_BYTES_MAX) {
            return true;
        }
        let client = *self.client.lock().unwrap_or_else(PoisonError::into_inner);
        self.offenders.note(client, Offence::UnaskedBytes);
        false
    }
}

/// A stream that is written to in turns.
#[derive(Debug)]
pub(super) struct InTurns<S> {
    stream: S,
    /// Bytes that are left of this turn.
    left: usize,
    heard: Arc<Heard>,
}

impl<S> InTurns<S> {
    pub(super) const fn new(stream: S, heard: Arc<Heard>) -> Self {
        Self { stream, left: TURN_BYTES, heard }
    }
}

impl<S: Unpin> InTurns<S> {
    /// The bytes that may be written now; none: others are first.
    fn turn(&mut self, context: &mut Context<'_>) -> Option<usize> {
        behind::give_way();
        if self.left == 0 {
            self.left = TURN_BYTES;
            // Wakes it once others had their turn.
            let _ = std::pin::pin!(tokio::task::yield_now()).poll(context);
            return None;
        }
        Some(self.left)
    }

    fn wrote(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InTurns<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let count = buffer.filled().len().saturating_sub(before);
        Poll::Ready(match self.heard.may_send(count) {
            true => Ok(()),
            false => Err(ErrorKind::ConnectionAborted.into()),
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InTurns<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let Some(left) = self.turn(context) else { return Poll::Pending };
        let part = bytes.get(..left).unwrap_or(bytes);
        let count = ready!(Pin::new(&mut self.stream).poll_write(context, part))?;
        self.wrote(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let Some(mut left) = self.turn(context) else { return Poll::Pending };
        let mut parts = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0_usize;
        for (part, piece) in parts.iter_mut().zip(pieces.iter().filter(|piece| !piece.is_empty())) {
            let taken = piece.get(..left).unwrap_or(piece);
            *part = IoSlice::new(taken);
            count = count.saturating_add(1);
            left = left.saturating_sub(taken.len());
            if left == 0 {
                break;
            }
        }
        let parts = parts.get(..count).unwrap_or_default();
        let mut room = [0; JOINED_BYTES_MAX];
        let stream = Pin::new(&mut self.stream);
        let written = match joined(parts, &mut room) {
            Some(bytes) => stream.poll_write(context, bytes),
            None => stream.poll_write_vectored(context, parts),
        };
        let count = ready!(written)?;
        self.wrote(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// All of these one after another, if they are several and there is room for them.
fn joined<'a>(pieces: &[IoSlice<'_>], room: &'a mut [u8]) -> Option<&'a [u8]> {
    if pieces.len() < 2 {
        return None;
    }
    let mut length = 0_usize;
    for piece in pieces {
        let end = length.checked_add(piece.len())?;
        room.get_mut(length..end)?.copy_from_slice(piece);
        length = end;
    }
    room.get(..length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    /// Takes all that it is given.
    #[derive(Default)]
    struct Sink(Vec<u8>);

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<Result<usize>> {
            self.0.extend(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<Result<usize>> {
            pieces.iter().for_each(|piece| self.0.extend(piece.iter()));
            Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn heard() -> Arc<Heard> {
        Arc::new(Heard::new([192, 0, 2, 1].into(), Offenders::default()))
    }

    /// A subscriber that sends without an end.
    struct Noise;

    impl AsyncRead for Noise {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            buffer.initialize_unfilled().fill(7);
            buffer.set_filled(buffer.capacity());
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_subscriber_that_sends_without_an_end_is_cut_and_named() {
        let heard = heard();
        let mut stream = InTurns::new(Noise, Arc::clone(&heard));
        let mut context = Context::from_waker(Waker::noop());
        let mut read = || {
            let mut bytes = [0; 4_096];
            let mut buffer = ReadBuf::new(&mut bytes);
            matches!(
                Pin::new(&mut stream).poll_read(&mut context, &mut buffer),
                Poll::Ready(Ok(()))
            )
        };
        // As long as it asks, bodies have bounds of their own.
        assert!((0..1_000).all(|_| read()));
        heard.asks([192, 0, 2, 9].into());
        heard.subscribes();
        let heard_of = (0..1_000_000).take_while(|_| read()).count();
        assert!((16..1_000).contains(&heard_of), "{heard_of}");
        let named = "{client=\"192.0.2.9\",offence=\"unasked_bytes\"} 1\n";
        assert!(heard.offenders.metrics().contains(named), "{}", heard.offenders.metrics());
    }

    /// All of it, as a server writes it; how often it gave way.
    fn written(pieces: &[&[u8]], is_vectored: bool) -> (Vec<u8>, usize) {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut stream = InTurns::new(Sink::default(), heard());
        let (mut rest, mut waits) = (pieces.concat(), 0);
        while !rest.is_empty() {
            let middle = rest.len() / 3;
            let (first, second) = rest.split_at(middle);
            let both = [IoSlice::new(first), IoSlice::new(&[]), IoSlice::new(second)];
            let stream = Pin::new(&mut stream);
            match if is_vectored {
                stream.poll_write_vectored(&mut context, &both)
            } else {
                stream.poll_write(&mut context, &rest)
            } {
                Poll::Ready(count) => {
                    let count = count.unwrap();
                    assert!(count > 0 && count <= TURN_BYTES);
                    rest.drain(..count);
                }
                Poll::Pending => waits += 1,
            }
        }
        assert_eq!(woken.0.load(Ordering::SeqCst), waits, "who gives way goes on by itself");
        (stream.stream.0, waits)
    }

    #[test]
    fn all_is_written_in_its_order_and_others_have_their_turns() {
        let bytes: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
        for is_vectored in [false, true] {
            let (all, waits) = written(&[&bytes], is_vectored);
            assert!(all == bytes, "{is_vectored}");
            assert_eq!(waits, bytes.len() / TURN_BYTES, "{is_vectored}");
            for length in [5, JOINED_BYTES_MAX, JOINED_BYTES_MAX + 1] {
                let short = &bytes[..length];
                assert_eq!(written(&[short], is_vectored), (short.to_vec(), 0));
            }
        }
    }
}

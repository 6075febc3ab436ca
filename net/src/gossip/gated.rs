//! A connection to a Redis server of which no more is read than is handled: the library that
//! reads it keeps all that it has read, and a message until its last byte is there.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use redis::{ConnectionAddr, ConnectionInfo, RedisResult};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::BATCH_BYTES_MAX;

/// Bytes that are read at most before it is said that they are handled: some messages.
const AHEAD_BYTES: usize = 1 << 20;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 << 10;

const _: () = assert!(BATCH_BYTES_MAX * 2 < AHEAD_BYTES);

#[derive(Debug)]
struct State {
    left: usize,
    /// Who wants to read more than that, and who waits for somebody to want it.
    reader: Option<Waker>,
    watcher: Option<Waker>,
}

/// Says how much of a connection is read.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Mutex<State>>);

impl Gate {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State { left: AHEAD_BYTES, reader: None, watcher: None })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was read is handled, but for what has not ended: more may be read.
    pub(super) fn open(&self) {
        let reader = {
            let mut state = self.state();
            state.left = AHEAD_BYTES;
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Returns once there is more to read than may be.
    pub(super) async fn shut(&self) {
        poll_fn(|context| {
            let mut state = self.state();
            if state.reader.is_some() {
                return Poll::Ready(());
            }
            state.watcher = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// What is read and written: TCP, TLS or a Unix socket.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection behind a gate.
pub(super) struct Gated {
    stream: Box<dyn Stream>,
    gate: Gate,
}

/// Connects to a server.
pub(super) async fn connect(info: &ConnectionInfo) -> RedisResult<(Gated, Gate)> {
    let stream: Box<dyn Stream> = match info.addr() {
        ConnectionAddr::Tcp(host, port) => Box::new(tcp(host, *port).await?),
        ConnectionAddr::TcpTls { host, port, .. } => {
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let tls = TlsConnector::from(Arc::new(tls()?));
            Box::new(tls.connect(name, tcp(host, *port).await?).await?)
        }
        ConnectionAddr::Unix(path) => Box::new(UnixStream::connect(path).await?),
        _ => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
    };
    let gate = Gate::new();
    Ok((Gated { stream, gate: gate.clone() }, gate))
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The server is verified by the authorities of this machine.
fn tls() -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    if let Some(error) = found.errors.into_iter().next() {
        return Err(io::Error::other(error));
    }
    for root in found.certs {
        roots.add(root).map_err(io::Error::other)?;
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = {
            let mut state = self.gate.state();
            if state.left == 0 {
                state.reader = Some(context.waker().clone());
                if let Some(watcher) = state.watcher.take() {
                    watcher.wake();
                }
                return Poll::Pending;
            }
            state.left
        };
        let mut bytes = [0; CHUNK_BYTES];
        let count = left.min(buffer.remaining());
        let chunk = match bytes.split_at_mut_checked(count) {
            Some((chunk, _)) => chunk,
            None => &mut bytes[..],
        };
        let mut chunk = ReadBuf::new(chunk);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut chunk))?;
        buffer.put_slice(chunk.filled());
        let mut state = self.gate.state();
        state.left = state.left.saturating_sub(chunk.filled().len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

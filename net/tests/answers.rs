//! The clients of other nodes against servers that answer anything.

#![allow(clippy::unwrap_used, missing_docs)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ait_net::cross_site::{RemoteClient, RemoteUrl};
use ait_net::rest::{RestClient, RestError};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What sockets on the way hold of what nobody has read.
const UNDER_WAY: usize = 16 << 20;

/// A server that gives one answer, whatever it is asked.
struct Server {
    at: SocketAddr,
    /// What it was asked last.
    heard: Arc<std::sync::Mutex<String>>,
    calls: Arc<AtomicUsize>,
    /// Bytes that it could write.
    sent: Arc<AtomicUsize>,
}

impl Server {
    /// Says `head`, and then `more` as often as somebody takes it.
    async fn start(head: String, more: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            at: listener.local_addr().unwrap(),
            heard: Arc::default(),
            calls: Arc::default(),
            sent: Arc::default(),
        };
        let (heard, calls, sent) =
            (Arc::clone(&server.heard), Arc::clone(&server.calls), Arc::clone(&server.sent));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                calls.fetch_add(1, Ordering::SeqCst);
                let mut request = vec![0; 4_096];
                let count = stream.read(&mut request).await.unwrap();
                *heard.lock().unwrap() = String::from_utf8_lossy(&request[..count]).to_lowercase();
                let mut next = head.as_bytes();
                while stream.write_all(next).await.is_ok() && !more.is_empty() {
                    sent.fetch_add(next.len(), Ordering::SeqCst);
                    next = &more;
                }
            }
        });
        server
    }

    fn rest(&self) -> RestClient {
        RestClient::new(&format!("http://{}", self.at)).unwrap()
    }

    fn remote(&self) -> RemoteClient {
        let url: RemoteUrl = format!("http://{}/rpc", self.at).parse().unwrap();
        RemoteClient::new(url, None).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_left_at_its_bound() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let more = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    let server = Server::start(head, more).await;
    let failed = server.remote().head().await.unwrap_err();
    assert!(format!("{failed:?}").contains("longer than 65536 bytes"), "{failed:?}");
    let small = server.sent.swap(0, Ordering::SeqCst);
    assert!(small < (64 << 10) + UNDER_WAY, "{small}");
    let failed = server.rest().get::<Value>("/rpc/head").await.unwrap_err();
    assert!(failed.to_string().contains("longer than 67108864 bytes"), "{failed}");
    let large = server.sent.load(Ordering::SeqCst);
    assert!((64 << 20..(64 << 20) + 2 * UNDER_WAY).contains(&large), "{large}");
}

#[tokio::test]
async fn nobody_is_sent_elsewhere() {
    let other =
        Server::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".into(), vec![]).await;
    for status in [301, 302, 307, 308] {
        let to = format!("location: http://{}/rpc/head\r\ncontent-length: 0", other.at);
        let server = Server::start(format!("HTTP/1.1 {status} Go\r\n{to}\r\n\r\n"), vec![]).await;
        let refused = server.rest().get::<Value>("/rpc/head").await.unwrap_err();
        assert!(matches!(refused, RestError::Refused { status: s, .. } if s == status));
        assert!(server.remote().head().await.is_err());
        assert_eq!(server.calls.load(Ordering::SeqCst), 2);
    }
    assert_eq!(other.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn nothing_is_decompressed() {
    // An empty object, by gzip.
    let body = [31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 174, 5, 0, 67, 191, 166, 163, 2, 0, 0, 0];
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let server = Server::start(head, body.to_vec()).await;
    let failed = server.rest().get::<Value>("/rpc/head").await.unwrap_err();
    assert!(matches!(failed, RestError::Answer { .. }), "{failed}");
    assert!(!server.heard.lock().unwrap().contains("accept-encoding"));
}

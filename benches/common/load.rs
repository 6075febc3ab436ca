//! A client that costs little beside what it loads: requests made beforehand, one thread,
//! connections that are kept, one request under way on each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Requests in the order in which they are sent.
pub struct Requests {
    all: Vec<Vec<u8>>,
    next: AtomicUsize,
    /// Whether they begin again at the end.
    pub cycles: bool,
}

impl Requests {
    pub fn new(all: Vec<Vec<u8>>, cycles: bool) -> Self {
        Self { all, next: AtomicUsize::new(0), cycles }
    }

    fn next(&self) -> Option<&[u8]> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        let at = if self.cycles { at % self.all.len() } else { at };
        self.all.get(at).map(Vec::as_slice)
    }

    /// How many were taken.
    pub fn taken(&self) -> usize {
        self.next.load(Ordering::Relaxed).min(self.all.len())
    }
}

/// A request as it goes over the wire.
pub fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Transactions that were handed over and are not final.
#[derive(Default)]
pub struct UnderWay {
    pub handed: AtomicU64,
    pub finals: AtomicU64,
}

impl UnderWay {
    pub fn count(&self) -> u64 {
        let finals = self.finals.load(Ordering::Relaxed);
        self.handed.load(Ordering::Relaxed).saturating_sub(finals)
    }

    pub async fn wait_below(&self, max: u64) {
        while self.count() > max {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
}

/// How requests are sent.
#[derive(Clone, Copy)]
pub struct Drive {
    pub address: SocketAddr,
    pub connections: usize,
    pub time: Duration,
    /// Transactions of a request.
    pub batch: u64,
    /// Transactions that may be under way.
    pub under_way_max: u64,
}

/// Sends until the time is over or nothing is left; gives the number of answers and how long
/// it took. Panics at an answer that is not 200, or that tells of a refusal.
pub fn drive(drive: Drive, requests: &Arc<Requests>, under_way: &Arc<UnderWay>) -> (u64, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let began = Instant::now();
    let answered = runtime.block_on(async {
        let connections: Vec<_> = (0..drive.connections)
            .map(|_| {
                let (requests, under_way) = (Arc::clone(requests), Arc::clone(under_way));
                tokio::spawn(connection(drive, began + drive.time, requests, under_way))
            })
            .collect();
        let mut answered = 0;
        for one in connections {
            answered += one.await.unwrap();
        }
        answered
    });
    (answered, began.elapsed())
}

async fn connection(
    drive: Drive,
    ends: Instant,
    requests: Arc<Requests>,
    under_way: Arc<UnderWay>,
) -> u64 {
    let mut stream = TcpStream::connect(drive.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = Vec::with_capacity(64 * 1024);
    let mut answered = 0;
    loop {
        under_way.wait_below(drive.under_way_max).await;
        if Instant::now() >= ends {
            return answered;
        }
        let Some(request) = requests.next() else { return answered };
        under_way.handed.fetch_add(drive.batch, Ordering::Relaxed);
        stream.write_all(request).await.unwrap();
        answer.clear();
        let length = loop {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the server hung up");
            if let Some(length) = length(&answer) {
                break length;
            }
        };
        while answer.len() < length {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the server hung up");
        }
        let accepted = answer.starts_with(b"HTTP/1.1 200") && !has(&answer, b"\"code\"");
        assert!(accepted, "{}", String::from_utf8_lossy(&answer));
        answered += 1;
    }
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|found| found == part)
}

/// Bytes of an answer, once its head is there.
fn length(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&answer[..head]).unwrap();
    let stated = text.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
    Some(head + 4 + stated.unwrap().parse::<usize>().unwrap())
}

//! Gossip between the processes of one site, over a channel of a Redis server.
//!
//! Redis is a bus and nothing else: it keeps no transaction, and who is not subscribed at
//! the moment misses what is said. The node works without it, and comes back by itself
//! when it does. A message is the version, the publisher's random id, and a batch
//! (`specs/network.md`); an empty batch says that its publisher is new here and may have
//! missed what was said before.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{Hash, TxHash};
use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{FutureExt, StreamExt};
use metrics::{counter, gauge};
use redis::aio::{MultiplexedConnection, PubSub, PubSubStream};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, Msg};
use tokio::sync::{Notify, mpsc};

use super::gated::{self, Gate};
use super::{Aging, BATCH_BYTES_MAX, Gossip, Incoming, Source, TransactionBatch, Verdict};

/// First byte of every message.
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 16;
/// Publications that wait, and batches of others.
const QUEUE_MAX: usize = 64;
const HEARD_MAX: usize = 8;
/// Transactions are forgotten before those that wait for long are published again.
const TURN_MS: u64 = 10_000;
const SEEN_MAX: usize = 500_000;
/// How long Redis may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How often a silent subscription is asked whether it still is one.
const PING: Duration = Duration::from_secs(5);
/// Least time between two answers to who is new.
const WELCOME_PAUSE: Duration = Duration::from_secs(1);
/// Wait before the second attempt to connect, and the longest.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Where a Redis server is: `redis://[user:password@]host[:port]`, `rediss://` for TLS, or
/// `unix:///path`. It may hold a password, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl FromStr for RedisUrl {
    type Err = RedisError;

    fn from_str(text: &str) -> Result<Self, RedisError> {
        // What the library says of a bad URL does not hold it.
        let client = Client::open(text).map_err(|error| RedisError::Url(error.to_string()))?;
        if let ConnectionAddr::TcpTls { insecure: true, .. } = client.get_connection_info().addr() {
            return Err(RedisError::Url("certificates are verified: no #insecure".to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Client::open(self.0.as_str()) {
            Ok(client) => write!(f, "{}", client.get_connection_info().addr()),
            Err(_) => f.write_str("?"),
        }
    }
}

impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// Why there is no gossip over Redis.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The URL is none.
    #[error("{0}")]
    Url(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// What gossip over Redis needs.
#[derive(Debug)]
pub struct RedisOptions {
    /// The server.
    pub url: RedisUrl,
    /// The chain; processes of other chains use other channels.
    pub genesis: Hash,
    /// Rung when the server is there, again, or somebody new: what waits may be published again.
    pub connected: Arc<Notify>,
}

impl RedisOptions {
    /// Name of the channel.
    fn channel(&self) -> String {
        format!("ait:{}:transactions", hex::encode(self.genesis.0))
    }
}

/// How a transaction came to be known.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// Another process published it.
    Heard,
    /// This one did, to those that were here after so many others had come.
    Said(u64),
}

/// What was published or heard lately.
#[derive(Debug)]
struct Lately {
    seen: Mutex<Aging<TxHash, Known>>,
    /// How often somebody new was welcomed.
    welcomes: AtomicU64,
    began: Instant,
}

impl Lately {
    fn with<T>(&self, work: impl FnOnce(&mut Aging<TxHash, Known>) -> T) -> T {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.age(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        work(&mut seen)
    }
}

/// Gossip over Redis. Its tasks end when it is dropped.
#[derive(Debug)]
pub struct RedisGossip {
    queue: mpsc::Sender<Vec<Arc<VerifiedTransaction>>>,
    lately: Arc<Lately>,
}

impl RedisGossip {
    /// Starts it; it connects by itself, as often as needed. To be called inside a runtime.
    ///
    /// # Errors
    /// [`RedisError`] when the URL or the system's random numbers cannot be used.
    pub fn start(options: RedisOptions) -> Result<(Self, mpsc::Receiver<Incoming>), RedisError> {
        let client = Client::open(options.url.0.as_str());
        let client = client.map_err(|error| RedisError::Url(error.to_string()))?;
        let mut process = [0; 16];
        getrandom::fill(&mut process).map_err(|error| RedisError::Random(error.to_string()))?;
        let seen = Mutex::new(Aging::new(TURN_MS, SEEN_MAX));
        let (welcomes, began) = (AtomicU64::new(0), Instant::now());
        let lately = Arc::new(Lately { seen, welcomes, began });
        let (queue, to_publish) = mpsc::channel(QUEUE_MAX);
        let (heard, incoming) = mpsc::channel(HEARD_MAX);
        let channel = options.channel();
        let publisher = Publisher {
            client: client.clone(),
            channel: channel.clone(),
            process,
            lately: Arc::clone(&lately),
        };
        let subscriber = Subscriber {
            client,
            channel,
            process,
            lately: Arc::clone(&lately),
            heard,
            options,
            was_connected: true,
            welcomed: None,
            welcome_due: None,
        };
        let publishing = tokio::spawn(publisher.run(to_publish)).abort_handle();
        // The publisher ends with its queue, the subscriber with the channel it fills; both
        // may wait for a server that never comes.
        tokio::spawn(subscriber.run(publishing));
        Ok((Self { queue, lately }, incoming))
    }
}

impl Gossip for RedisGossip {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn publish(&self, transactions: &[Arc<VerifiedTransaction>]) -> bool {
        let is_queued = self.queue.try_send(transactions.to_vec()).is_ok();
        if !is_queued {
            dropped("queue_full", transactions.len());
        }
        is_queued
    }

    fn judged(&self, verdict: Verdict) {
        if let Some(reason) = verdict.invalid {
            counter!("gossip_invalid_total", "backend" => "redis").increment(1);
            let Source::Process(id) = verdict.source else { return };
            let process = hex::encode(&id[..4]);
            tracing::warn!(process, reason, "a process of this site published what is invalid");
        }
        self.lately.with(|seen| verdict.not_taken.iter().for_each(|hash| seen.remove(hash)));
    }
}

fn dropped(reason: &'static str, count: usize) {
    counter!("gossip_dropped_total", "backend" => "redis", "reason" => reason)
        .increment(count as u64);
}

fn backoff() -> impl Iterator<Item = Duration> {
    let all = ExponentialBuilder::new().with_min_delay(BACKOFF).with_max_delay(BACKOFF_MAX);
    all.without_max_times().with_jitter().build()
}

/// A connection to publish over. Its task ends with it.
#[derive(Debug)]
struct Outlet {
    connection: MultiplexedConnection,
    gate: Gate,
}

impl Outlet {
    async fn connect(client: &Client) -> Result<Self, String> {
        let connecting = async {
            let info = client.get_connection_info();
            let (stream, gate) = gated::connect(info).await?;
            let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
            let made =
                MultiplexedConnection::new_with_config(info.redis_settings(), stream, config);
            let (connection, driver) = made.await?;
            tokio::spawn(driver);
            redis::RedisResult::Ok(Self { connection, gate })
        };
        let connected = tokio::time::timeout(TIMEOUT, connecting).await;
        connected.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())
    }

    async fn publish(&mut self, channel: &str, message: &[u8]) -> redis::RedisResult<()> {
        self.gate.open();
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(message);
        command.query_async::<u64>(&mut self.connection).await.map(drop)
    }
}

/// What every message of a process begins with.
fn head(process: &[u8; 16]) -> Vec<u8> {
    [&[VERSION], &process[..]].concat()
}

struct Publisher {
    client: Client,
    channel: String,
    process: [u8; 16],
    lately: Arc<Lately>,
}

impl Publisher {
    async fn run(self, mut queue: mpsc::Receiver<Vec<Arc<VerifiedTransaction>>>) {
        let mut outlet = None;
        while let Some(transactions) = queue.recv().await {
            let welcomes = self.lately.welcomes.load(Ordering::Relaxed);
            let is_new = |one: &&Arc<VerifiedTransaction>| match self
                .lately
                .with(|seen| seen.get(&one.hash()))
            {
                None => true,
                Some(Known::Heard) => false,
                Some(Known::Said(then)) => then < welcomes,
            };
            let new: Vec<_> = transactions.iter().filter(is_new).collect();
            let batches = TransactionBatch::split(new.iter().map(|one| one.transaction()));
            for batch in batches {
                self.publish(&mut outlet, &batch).await;
            }
            // Not before: what a server did not take is not said.
            self.lately.with(|seen| {
                for one in new {
                    seen.remove(&one.hash());
                    seen.insert(one.hash(), Known::Said(welcomes));
                }
            });
        }
    }

    /// Until the server has it.
    async fn publish(&self, outlet: &mut Option<Outlet>, batch: &TransactionBatch) {
        let mut message = head(&self.process);
        message.extend_from_slice(batch.bytes());
        let mut waits = backoff();
        loop {
            if outlet.is_none() {
                *outlet = Outlet::connect(&self.client).await.ok();
            }
            if let Some(open) = outlet {
                match open.publish(&self.channel, &message).await {
                    Ok(()) => {
                        counter!("gossip_sent_bytes_total", "backend" => "redis")
                            .increment(message.len() as u64);
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "Redis does not take a message"),
                }
            }
            *outlet = None;
            tokio::time::sleep(waits.next().unwrap_or(BACKOFF_MAX)).await;
        }
    }
}

/// The next message, if the server does not end the connection. What is read ahead of it is bounded,
/// and so is a message, or whatever else a server may send without end.
async fn next(messages: &mut PubSubStream, gate: &Gate) -> Result<Option<Msg>, String> {
    if let Some(message) = messages.next().now_or_never() {
        return Ok(message);
    }
    gate.open();
    tokio::select! {
        biased;
        message = messages.next() => Ok(message),
        () = gate.shut() => match messages.next().now_or_never() {
            Some(message) => Ok(message),
            None => Err("it sends what is longer than any message".to_owned()),
        },
    }
}

struct Subscriber {
    client: Client,
    channel: String,
    process: [u8; 16],
    lately: Arc<Lately>,
    heard: mpsc::Sender<Incoming>,
    options: RedisOptions,
    was_connected: bool,
    /// When who is new was last answered, and when the next are.
    welcomed: Option<Instant>,
    welcome_due: Option<Instant>,
}

impl Subscriber {
    async fn run(mut self, publishing: tokio::task::AbortHandle) {
        let heard = self.heard.clone();
        tokio::select! {
            () = self.subscribe() => {}
            () = heard.closed() => {}
        }
        publishing.abort();
    }

    async fn subscribe(&mut self) {
        let mut waits = backoff();
        loop {
            let began = Instant::now();
            let server = self.options.url.to_string();
            let result = self.listen().await;
            gauge!("gossip_connected", "backend" => "redis").set(0.0);
            let Err(error) = result else { return };
            if std::mem::replace(&mut self.was_connected, false) {
                tracing::warn!(
                    server,
                    %error,
                    "no gossip over Redis; it is tried again until the server is there"
                );
            }
            if began.elapsed() > BACKOFF_MAX {
                waits = backoff();
            }
            tokio::time::sleep(waits.next().unwrap_or(BACKOFF_MAX)).await;
        }
    }

    /// Until the connection breaks; `Ok` when nobody listens here any more.
    async fn listen(&mut self) -> Result<(), String> {
        let late = |_| "no answer".to_owned();
        let text = |error: redis::RedisError| error.to_string();
        let opened = tokio::time::timeout(TIMEOUT, async {
            let info = self.client.get_connection_info();
            let (stream, gate) = gated::connect(info).await.map_err(text)?;
            let mut pubsub = PubSub::new(info.redis_settings(), stream).await.map_err(text)?;
            pubsub.subscribe(&self.channel).await.map_err(text)?;
            // Not before: what is said upon it must be heard here.
            let mut outlet = Outlet::connect(&self.client).await?;
            outlet.publish(&self.channel, &head(&self.process)).await.map_err(text)?;
            Ok::<_, String>((pubsub, gate))
        });
        let (pubsub, gate) = opened.await.map_err(late)??;
        let (mut sink, mut messages) = pubsub.split();
        tracing::info!(server = %self.options.url, "gossip over Redis");
        gauge!("gossip_connected", "backend" => "redis").set(1.0);
        self.was_connected = true;
        // Somebody may have come while nothing was heard here.
        self.lately.welcomes.fetch_add(1, Ordering::Relaxed);
        self.options.connected.notify_one();
        loop {
            self.welcome();
            let due = self.welcome_due.map(|due| due.saturating_duration_since(Instant::now()));
            let next = next(&mut messages, &gate);
            match tokio::time::timeout(due.unwrap_or(PING), next).await {
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Some(message))) => {
                    if let Some(incoming) = self.read(message.get_payload_bytes())
                        && self.heard.send(incoming).await.is_err()
                    {
                        return Ok(());
                    }
                }
                Ok(Ok(None)) => return Err("the server ended the connection".to_owned()),
                Err(_) if due.is_some() => {}
                Err(_) => {
                    // A server that is gone without a word looks like a silent one.
                    let answered = tokio::time::timeout(TIMEOUT, sink.ping::<redis::Value>()).await;
                    answered.map_err(late)?.map_err(text)?;
                }
            }
        }
    }

    /// Lets what was said be said again once somebody new is here.
    fn welcome(&mut self) {
        if self.welcome_due.is_some_and(|due| due <= Instant::now()) {
            self.welcome_due = None;
            self.welcomed = Some(Instant::now());
            self.lately.welcomes.fetch_add(1, Ordering::Relaxed);
            self.options.connected.notify_one();
        }
    }

    /// What another process published that is new here.
    fn read(&mut self, message: &[u8]) -> Option<Incoming> {
        counter!("gossip_received_bytes_total", "backend" => "redis")
            .increment(message.len() as u64);
        let (head, batch) = message.split_at_checked(HEAD_BYTES)?;
        let process: [u8; 16] = head.get(1..)?.try_into().ok()?;
        if process == self.process {
            return None;
        }
        if head.first() != Some(&VERSION) || batch.len() > BATCH_BYTES_MAX {
            dropped("malformed", 1);
            return None;
        }
        if batch.is_empty() {
            let earliest = self.welcomed.and_then(|at| at.checked_add(WELCOME_PAUSE));
            let earliest = earliest.unwrap_or_else(Instant::now);
            self.welcome_due.get_or_insert(earliest);
            return None;
        }
        let Ok((_, transactions)) = TransactionBatch::decode(batch) else {
            dropped("malformed", 1);
            return None;
        };
        let hashed = transactions.into_iter().map(|one| (one.hash(), one));
        let transactions: Vec<_> = self
            .lately
            .with(|seen| hashed.filter(|(hash, _)| seen.insert(*hash, Known::Heard)).collect());
        let source = Source::Process(process);
        (!transactions.is_empty()).then_some(Incoming { source, transactions })
    }
}

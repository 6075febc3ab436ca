//! What the REST interface costs, as ratios within one run: `sendTx` with one transaction a
//! request against a warp route that only parses the same bodies, and batches against the
//! way in fed directly. `cargo bench --bench rest`. Not criterion: every transaction is a new
//! one of a chain that goes on, and only ratios of neighbouring measurements mean anything.
//!
//! All is sent over connections that are kept, by one client on the same cores, made before
//! the clock starts. The node makes blocks meanwhile, durable and indexed; a measurement
//! sends no more while 40,000 transactions are not final, so that no rate is borrowed.
//!
//! `AIT_BENCH_ACCOUNTS`, `AIT_BENCH_SENDERS`, `AIT_BENCH_CONNECTIONS`, `AIT_BENCH_SECONDS` (of
//! one measurement), `AIT_BENCH_INTERVAL` (between blocks, in milliseconds: a twentieth of what a
//! node has unless told otherwise) and `AIT_BENCH_ROUNDS` change it, `--quick` makes it short, and a name
//! among [`Subject::ALL`] measures that one alone, for a profiler.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

mod common;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ait_engine::codec::Canonical;
use ait_engine::transaction::Transaction;
use ait_net::wire::TransactionJson;
use ait_node::behind::TASKS_BETWEEN_EVENTS;
use ait_node::chain::{ChainError, GenesisSource, StorageEngine};
use ait_node::config::RpcConfig;
use ait_node::node::{Node, NodeOptions};
use common::load::{Drive, Requests, UnderWay, drive, post};
use common::{account_count, genesis, transfers, validator};
use serde::{Deserialize, Serialize};
use warp::Filter;

/// Transactions that may be under way, and that are handed over at once directly.
const UNDER_WAY: u64 = 40_000;
const CHUNK: usize = 1_000;
/// Connections that send batches, as many tasks as hand over directly.
const BATCH_CONNECTIONS: usize = 2;

/// A way in, or what it is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Parse,
    SendTx,
    Direct,
    BatchBytes,
    BatchJson,
}

impl Subject {
    const ALL: [Self; 5] =
        [Self::Parse, Self::SendTx, Self::Direct, Self::BatchBytes, Self::BatchJson];

    const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse-only",
            Self::SendTx => "sendTx",
            Self::Direct => "direct",
            Self::BatchBytes => "sendTxs-bytes",
            Self::BatchJson => "sendTxs-json",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Parse => "a warp route that only parses the body",
            Self::SendTx => "POST /rpc/sendTx, one transaction a request",
            Self::Direct => "the way in fed directly, 1,000 at once",
            Self::BatchBytes => "POST /rpc/sendTxs, 1,000 as canonical bytes",
            Self::BatchJson => "POST /rpc/sendTxs, 1,000 as JSON",
        }
    }

    /// The rate that it is measured by, and what the ratio is to be.
    const fn target(self) -> Option<(Self, f64)> {
        match self {
            Self::SendTx => Some((Self::Parse, 0.55)),
            Self::BatchBytes | Self::BatchJson => Some((Self::Direct, 0.9)),
            Self::Parse | Self::Direct => None,
        }
    }
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

struct Bench {
    node: Node,
    rest: SocketAddr,
    parse: SocketAddr,
    /// Signed and not sent, in their order.
    stock: VecDeque<Transaction>,
    accounts: u64,
    senders: u64,
    nonce: u64,
    under_way: Arc<UnderWay>,
    connections: usize,
    /// The last rate of each subject, by which the stock is filled.
    rates: [f64; 5],
}

/// A body with nothing checked but that it has the fields.
#[derive(Deserialize)]
#[expect(dead_code, reason = "parsing is all that is done")]
struct Parsed {
    #[serde(rename = "type")]
    kind: String,
    chain_id: String,
    sender: String,
    public_key: String,
    nonce: u64,
    fee: u64,
    payload: ParsedPayload,
    sig: String,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsing is all that is done")]
struct ParsedPayload {
    to: String,
    amount: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parroted {
    #[serde(rename = "tx_hash")]
    old: &'static str,
    tx_hash: &'static str,
}

/// As long as an answer of `sendTx`.
const ANSWER: &str = "0x0000000000000000000000000000000000000000000000000000000000000000";

async fn parse_only() -> SocketAddr {
    let route = warp::post()
        .and(warp::path!("rpc" / "sendTx"))
        .and(warp::body::json())
        .map(|_: Parsed| warp::reply::json(&Parroted { old: ANSWER, tx_hash: ANSWER }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(route).incoming(listener).run());
    address
}

fn rpc_config(directory: &std::path::Path) -> RpcConfig {
    RpcConfig {
        bind: "127.0.0.1:0".parse().unwrap(),
        cors_origins: Vec::new(),
        rate_limit_per_minute: 0,
        rate_limit_burst: 1,
        body_bytes_max: 1 << 20,
        header_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        connections_max: 4_096,
        trusted_proxies: Vec::new(),
        admin_token_file: directory.join("admin_token"),
        websocket_subscribers_max: 1,
    }
}

impl Bench {
    /// Transactions in their order, enough for a measurement.
    fn fill(&mut self, count: usize) {
        while self.stock.len() < count {
            self.stock.extend(transfers(self.accounts, self.senders, self.nonce));
            self.nonce += 1;
        }
    }

    /// Transactions a second.
    fn measure(&mut self, subject: Subject, time: Duration) -> f64 {
        let wanted = (self.rates[subject as usize] * time.as_secs_f64() * 1.5) as usize;
        let wanted = wanted.max(UNDER_WAY as usize * 2).next_multiple_of(CHUNK);
        self.fill(wanted);
        let rate = match subject {
            Subject::Parse | Subject::SendTx => {
                let all = self.stock.iter().take(wanted);
                let all = all.map(|one| post("/rpc/sendTx", "application/json", &json(&[one])));
                let requests = Requests::new(all.collect(), subject == Subject::Parse);
                let address = if subject == Subject::Parse { self.parse } else { self.rest };
                self.send(subject, address, self.connections, requests, 1, time)
            }
            Subject::BatchBytes | Subject::BatchJson => {
                let is_json = subject == Subject::BatchJson;
                let part = self.stock.make_contiguous();
                let part = &part[..wanted];
                let request = |batch: &[Transaction]| {
                    if is_json {
                        let all: Vec<_> = batch.iter().collect();
                        return post("/rpc/sendTxs", "application/json", &json(&all));
                    }
                    let bytes: Vec<u8> = batch.iter().flat_map(Canonical::encode).collect();
                    post("/rpc/sendTxs", "application/octet-stream", &bytes)
                };
                let requests = Requests::new(part.chunks(CHUNK).map(request).collect(), false);
                self.send(subject, self.rest, BATCH_CONNECTIONS, requests, CHUNK, time)
            }
            Subject::Direct => self.feed(wanted, time),
        };
        self.rates[subject as usize] = rate;
        self.settle();
        rate
    }

    fn send(
        &mut self,
        subject: Subject,
        address: SocketAddr,
        connections: usize,
        requests: Requests,
        batch: usize,
        time: Duration,
    ) -> f64 {
        let requests = Arc::new(requests);
        let is_node = subject != Subject::Parse;
        let under_way_max = if is_node { UNDER_WAY } else { u64::MAX };
        let how = Drive { address, connections, time, batch: batch as u64, under_way_max };
        let under_way = if is_node { Arc::clone(&self.under_way) } else { Arc::default() };
        let (answered, took) = drive(how, &requests, &under_way);
        if is_node {
            self.stock.drain(..requests.taken() * batch);
        }
        (answered * batch as u64) as f64 / took.as_secs_f64()
    }

    /// As the load generator feeds an embedded node.
    fn feed(&mut self, wanted: usize, time: Duration) -> f64 {
        let waiting = std::sync::Mutex::new(self.stock.drain(..wanted));
        let (under_way, node) = (&self.under_way, &self.node);
        let began = Instant::now();
        let task = || async {
            let mut answered = 0_u64;
            loop {
                under_way.wait_below(UNDER_WAY).await;
                if began.elapsed() >= time {
                    return answered;
                }
                let chunk: Vec<_> = waiting.lock().unwrap().by_ref().take(CHUNK).collect();
                if chunk.is_empty() {
                    return answered;
                }
                under_way.handed.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                for result in node.ingress().submit_many(chunk).await {
                    result.unwrap();
                    answered += 1;
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (one, other) = runtime.block_on(async { tokio::join!(task(), task()) });
        let took = began.elapsed();
        // What was not sent goes first again.
        let rest: Vec<_> = waiting.into_inner().unwrap().collect();
        for transaction in rest.into_iter().rev() {
            self.stock.push_front(transaction);
        }
        (one + other) as f64 / took.as_secs_f64()
    }

    /// Waits until all is final and indexed, so that nothing of a measurement weighs on the
    /// next.
    fn settle(&self) {
        let chain = self.node.chain();
        while self.under_way.count() > 0 || chain.indexed_height() < chain.head().height {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn json(transactions: &[&Transaction]) -> Vec<u8> {
    match transactions {
        [one] => serde_json::to_vec(&TransactionJson::from(*one)).unwrap(),
        all => {
            let all: Vec<_> = all.iter().map(|one| TransactionJson::from(*one)).collect();
            serde_json::to_vec(&all).unwrap()
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (least, values.iter().copied().fold(0.0, f64::max))
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    // `cargo test` runs benches with this flag to see that they start.
    if has("--test") {
        return;
    }
    let (seconds, rounds) = if has("--quick") { (2, 1) } else { (3, 5) };
    let time = Duration::from_secs(variable("AIT_BENCH_SECONDS", seconds));
    let rounds = variable("AIT_BENCH_ROUNDS", rounds);
    let chosen: Vec<_> = Subject::ALL.into_iter().filter(|one| has(one.name())).collect();
    let subjects = if chosen.is_empty() { Subject::ALL.to_vec() } else { chosen };
    let accounts = account_count();
    let senders = variable("AIT_BENCH_SENDERS", 100_000).min(accounts / 2);
    let connections = variable("AIT_BENCH_CONNECTIONS", 256) as usize;
    let document = genesis(accounts, senders);
    let directory = tempfile::tempdir().unwrap();
    let build = || document.build().map_err(ChainError::from);
    let source = GenesisSource { fingerprint: [7; 32], build: &build };
    let mut options = NodeOptions::new(directory.path(), StorageEngine::Redb);
    options.sequencer.block_interval = Duration::from_millis(variable("AIT_BENCH_INTERVAL", 100));
    options.sequencer.candidates_max = 10_000;
    options.ingress.queue_max = 100_000;
    let clock = ait_node::clock::system();
    let node = Node::start(&options, &source, validator(), &clock, &mut |_| {}).unwrap();
    let under_way = Arc::new(UnderWay::default());
    let (mut events, noted) = (node.chain().events(), Arc::clone(&under_way));
    std::thread::spawn(move || {
        while let Ok(block) = events.blocking_recv() {
            noted.finals.fetch_add(block.tx_hashes.len() as u64, Ordering::Relaxed);
        }
    });
    // As a node's.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(TASKS_BETWEEN_EVENTS)
        .build()
        .unwrap();
    let page = ait_node::telemetry::metrics::install(false).unwrap();
    let backend = node.backend(&clock, page);
    let (rest, parse) = runtime.block_on(async {
        let config = rpc_config(directory.path());
        let (rest, _) =
            ait_node::rpc::serve(config, backend, std::future::pending()).await.unwrap();
        (rest, parse_only().await)
    });
    let (stock, rates) = (VecDeque::new(), [60_000.0, 30_000.0, 40_000.0, 40_000.0, 40_000.0]);
    let nonce = 0;
    let mut bench =
        Bench { node, rest, parse, stock, accounts, senders, nonce, under_way, connections, rates };
    println!(
        "{senders} senders over {accounts} accounts, {connections} connections, {rounds} rounds of {time:?} each"
    );
    let mut found: [Vec<f64>; 5] = Default::default();
    for round in 0..=rounds {
        for subject in &subjects {
            let rate = bench.measure(*subject, time);
            // The first warms up.
            if round > 0 {
                found[*subject as usize].push(rate);
            }
        }
    }
    for subject in subjects {
        let rates = &found[subject as usize];
        let (least, most) = spread(rates);
        let name = subject.about();
        println!("{name}: {:.0} a second ({least:.0} to {most:.0})", median(rates));
        let Some((base, target)) = subject.target() else { continue };
        let pairs = rates.iter().zip(&found[base as usize]);
        let ratios: Vec<f64> = pairs.map(|(rate, base)| rate / base).collect();
        if !ratios.is_empty() {
            let (least, most) = spread(&ratios);
            let name = base.about();
            println!(
                "  {:.2} x {name} ({least:.2} to {most:.2}), target {target}",
                median(&ratios)
            );
        }
    }
    runtime.shutdown_background();
    bench.node.stop().unwrap();
}

//! Requests to the REST interface of a devnet in this process, over a real connection. The
//! first line is method and path, and `token` if that of an administrator goes with it; the rest
//! is the body. Every answer comes in time, is none of
//! the server's own fault, and a refusal has the one shape that all have.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use ait_engine::codec::Canonical;
use ait_engine::types::Height;
use ait_net::wire::{ErrorBody, TransactionJson, canonical_block};
use ait_node::chain::{GenesisSource, StorageEngine};
use ait_node::config::{Layers, NodeConfig};
use ait_node::coordinator::Coordinator;
use ait_node::node::{Node, NodeOptions};
use ait_node::rpc::{self, AdminToken, DevEdge};
use ait_node::telemetry::metrics;
use serde_json::json;

use crate::world::{BEGINS, WORLD, claim, directory, plan, transactions};

/// A server, kept as long as the process.
struct Server {
    address: SocketAddr,
    token: String,
    _node: Node,
    _runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let (folder, document, plan) = (directory(), plan().document, plan());
    let mut options = NodeOptions::new(folder.path(), StorageEngine::Memory);
    options.sequencer.block_interval = Duration::from_millis(5);
    (options.disk.free_bytes_min, options.disk.reserve_bytes) = (0, 0);
    let text = &WORLD.genesis;
    let build = || Ok(document.build()?);
    let fingerprint = GenesisSource::fingerprint(text.as_bytes());
    let source = GenesisSource { fingerprint, build: &build };
    let (key, clock) = (plan.validator, ait_node::clock::system());
    let node = Node::start(&options, &source, key, &clock, &mut |_| {}).unwrap();
    let mut backend = node.backend(&clock, metrics::install(false).unwrap());
    let token = AdminToken::load_or_create(&folder.path().join("admin_token")).unwrap();
    let known = token.reveal().to_owned();
    backend.admin_token = Some(token);
    backend.dev = Some(DevEdge {
        coordinator: Coordinator::new(plan.coordinator, Some(plan.names.clone()), BEGINS),
        names: plan.names,
        minter: plan.minter,
        governor: plan.governor,
        signing: tokio::sync::Mutex::default(),
    });
    let mut layers = Layers::default();
    layers.read_toml("[rpc]\nbind = \"127.0.0.1:0\"\nrate_limit_per_minute = 0", Path::new(""));
    let config = NodeConfig::from_layers(&layers).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let serving = rpc::serve(config.rpc, backend, std::future::pending());
    let (address, _) = runtime.block_on(serving).unwrap();
    Server { address, token: known, _node: node, _runtime: runtime, _folder: folder }
});

/// One connection for all requests, as long as the server keeps it.
static CONNECTION: Mutex<Option<BufReader<TcpStream>>> = Mutex::new(None);

struct Answer {
    status: u16,
    kind: String,
    body: Vec<u8>,
}

fn connect() -> BufReader<TcpStream> {
    let stream = TcpStream::connect(SERVER.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

/// Sends a request and reads its answer; whether the connection goes on.
fn exchange(
    connection: &mut BufReader<TcpStream>,
    request: &[u8],
) -> std::io::Result<(Answer, bool)> {
    connection.get_mut().write_all(request)?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.get(9..12).and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no answer: {line:?}")))?;
    let (mut kind, mut length, mut goes_on) = (String::new(), None, true);
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-type" => kind = value.to_owned(),
            "content-length" => length = value.parse::<usize>().ok(),
            "connection" => goes_on = value != "close",
            _ => {}
        }
    }
    // A stream of events has no end.
    let mut body = vec![0; length.unwrap_or(0)];
    connection.read_exact(&mut body)?;
    Ok((Answer { status, kind, body }, goes_on && length.is_some()))
}

fn ask(request: &[u8]) -> Answer {
    let mut kept = CONNECTION.lock().unwrap_or_else(PoisonError::into_inner);
    // The server may have closed one that was idle.
    let first = kept.take().and_then(|mut old| Some((exchange(&mut old, request).ok()?, old)));
    let ((answer, goes_on), connection) = first.unwrap_or_else(|| {
        let mut connection = connect();
        let answer = exchange(&mut connection, request);
        (answer.unwrap_or_else(|error| panic!("no answer: {error}")), connection)
    });
    if goes_on {
        *kept = Some(connection);
    }
    answer
}

pub fn run(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (line, body) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    let Ok(line) = std::str::from_utf8(line) else { return };
    let (line, is_admin) = match line.strip_suffix(" token") {
        Some(line) => (line, true),
        None => (line, false),
    };
    let Some((method, path)) = line.split_once(' ') else { return };
    // What is no URI is refused before it is a request.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&b);
    let is_request = ["GET", "POST", "PUT", "DELETE", "OPTIONS"].contains(&method)
        && path.bytes().all(is_plain)
        && path.starts_with('/');
    if !is_request {
        return;
    }
    let token = match is_admin {
        true => format!("authorization: Bearer {}\r\n", SERVER.token),
        false => String::new(),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{token}content-length: {}\r\n\r\n",
        body.len()
    );
    let answer = ask(&[head.as_bytes(), body].concat());
    let Answer { status, kind, body } = answer;
    let text = String::from_utf8_lossy(&body);
    assert!(status < 500, "{status} {text}");
    if kind.contains("json") && !body.is_empty() {
        assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "not JSON: {text}");
    }
    if status >= 400 {
        let error = serde_json::from_slice::<ErrorBody>(&body);
        let error = error.unwrap_or_else(|error| panic!("{status} {text:?}: {error}"));
        assert!(!error.code.is_empty() && !error.detail.is_empty(), "{text}");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let post = |path: &str, body: &[u8]| [format!("POST {path}\n").as_bytes(), body].concat();
    let all = transactions();
    let jsons: Vec<_> =
        all.iter().map(|t| serde_json::to_value(TransactionJson::from(t)).unwrap()).collect();
    let mut seeds: Vec<_> =
        jsons.iter().map(|json| post("/rpc/sendTx", json.to_string().as_bytes())).collect();
    seeds.push(post("/rpc/sendTxs", serde_json::to_string(&jsons).unwrap().as_bytes()));
    seeds.push(post("/rpc/sendTxs", &[all[0].encode(), all[1].encode()].concat()));
    let signed = claim(&WORLD.plan, 9).to_signed_json().unwrap();
    let unsigned = [
        (
            "/rpc/sendTx",
            json!({"type": "TRANSFER", "sender": "alice", "nonce": 0, "fee": 10, "payload": {"to": "bob", "amount": 5}}),
        ),
        (
            "/rpc/submitReceipt",
            json!({"sender": "miner-0", "nonce": 5, "fee": 0, "payload": {"receipt_id": "r/1", "job_id": "job_1", "client_addr": "client-0", "miner_addr": "miner-0", "compute_units": "2500", "price": 50000.0, "output_hash": "sha256:00", "miner_sig": "x"}}),
        ),
        (
            "/rpc/submitReceipt",
            json!({"sender": "miner-0", "payload": serde_json::from_str::<serde_json::Value>(&signed).unwrap()}),
        ),
        ("/rpc/estimateFee", json!({"type": "TRANSFER", "payload": {"to": "bob", "amount": 5}})),
        ("/rpc/attest", json!({"job_id": "job_1", "miner_id": "miner-0"})),
        ("/rpc/admin/mintFaucet", json!({"address": "bob", "amount": 5})),
        ("/rpc/admin/paramSet", json!({"param": "mint_per_unit", "value": 7})),
    ];
    seeds.extend(unsigned.iter().map(|(path, body)| post(path, body.to_string().as_bytes())));
    let (block, certificate) = &WORLD.blocks[0];
    let import = json!({ "canonical": canonical_block(block, certificate) });
    seeds.push(post("/rpc/blocks/import", import.to_string().as_bytes()));
    seeds.push(post("/rpc/importBlock", import.to_string().as_bytes()));
    let (hash, height) = (all[0].hash(), Height::saturating(0));
    for path in [
        "/rpc/head",
        "/rpc/getHead",
        "/rpc/blocks?limit=2&offset=1",
        "/rpc/blocks-range?start=0&end=1",
        "/rpc/blocks-range?start_height=0&end_height=3&limit=2&canonical=true",
        "/rpc/transactions?cursor=1.2",
        "/rpc/mempool?limit=3",
        "/rpc/receipts/r%2F1",
        "/rpc/receipts",
        "/rpc/getBalance/alice",
        "/rpc/getBalance?address=bob",
        "/rpc/address/alice?limit=1&sent_cursor=1",
        "/rpc/addresses?min_balance=5",
        "/rpc/proof/account/alice",
        "/rpc/proof/receipt/r1",
        "/health",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/rpc/info",
        "/rpc/supply",
        "/rpc/validators",
        "/rpc/params",
        "/rpc/syncStatus",
        "/rpc/peers",
    ] {
        seeds.push(format!("GET {path}\n").into_bytes());
    }
    for path in [
        format!("/rpc/tx/{hash}"),
        format!("/rpc/tx/{hash}/why"),
        format!("/rpc/getTx/{hash}"),
        format!("/rpc/blocks/{height}?canonical=1"),
        format!("/rpc/proof/transaction/{hash}"),
    ] {
        seeds.push(format!("GET {path}\n").into_bytes());
    }
    let admin = [
        ("/rpc/admin/paramSet", json!({"param": "mint_per_unit", "value": 7})),
        ("/rpc/admin/paramSet", json!({"param": "no_such_param", "value": "7"})),
        ("/rpc/admin/peers/add", json!({"peer": "00@127.0.0.1:1"})),
    ];
    let with_token = |path: &str| format!("{path} token");
    seeds.extend(
        admin.iter().map(|(path, body)| post(&with_token(path), body.to_string().as_bytes())),
    );
    seeds
}

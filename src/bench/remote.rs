//! Running nodes, by their REST interface: transactions one a request or in batches,
//! blocks as the first of the nodes tells of them over a WebSocket.

use std::time::{Duration, Instant};

use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, ChainId, Nonce, TxHash};
use ait_net::rest::{RestClient, RestError};
use ait_net::wire::{
    AccountBalance, BlockRange, FeeEstimate, Head, SendTxsItem, WhyResponse, read_canonical,
};
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::mpsc;

use super::BenchError;
use super::target::{FinalBlock, Refused};
use super::workload::Senders;

/// What a funded sender gets at least, and up to which it is filled.
const FUNDS_LEAST: u64 = 1_000_000;
const FUNDS: u64 = 100_000_000;
/// Funding transfers under way at once; below what a node takes of one sender.
const FUNDING_CHUNK: usize = 256;
const FUNDING_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// Largest page of blocks with bodies.
const RANGE_MAX: u64 = 100;

/// Running nodes of one chain.
#[derive(Debug)]
pub(super) struct Remote {
    clients: Vec<RestClient>,
    socket: String,
    head: Head,
}

impl Remote {
    /// The nodes at these URLs.
    ///
    /// # Errors
    /// [`BenchError`] if one does not answer, or they are of different chains.
    pub(super) async fn connect(urls: &[String]) -> Result<Self, BenchError> {
        let first = urls.first().ok_or(BenchError::NoNode)?;
        let base = first.trim_end_matches('/').trim_end_matches("/rpc");
        let socket = base
            .strip_prefix("http://")
            .map(|rest| format!("ws://{rest}/rpc/ws/blocks"))
            .ok_or_else(|| BenchError::NotHttp { url: first.clone() })?;
        let clients: Vec<RestClient> =
            urls.iter().map(|url| RestClient::new(url)).collect::<Result<_, _>>()?;
        let mut head: Option<Head> = None;
        for (client, url) in clients.iter().zip(urls) {
            let found: Head = client.get("/rpc/head").await?;
            match &head {
                Some(head) if head.chain_id != found.chain_id => {
                    return Err(BenchError::OtherChain { url: url.clone() });
                }
                Some(_) => {}
                None => head = Some(found),
            }
        }
        let head = head.ok_or(BenchError::NoNode)?;
        Ok(Self { clients, socket, head })
    }

    /// The chain.
    #[must_use]
    pub(super) const fn chain_id(&self) -> ChainId {
        self.head.chain_id
    }

    fn client(&self, connection: usize) -> Option<&RestClient> {
        self.clients.get(connection % self.clients.len().max(1))
    }

    fn first(&self) -> Result<&RestClient, BenchError> {
        self.clients.first().ok_or(BenchError::NoNode)
    }

    /// The least fee of a payload of this type.
    ///
    /// # Errors
    /// [`BenchError`] if the node does not say.
    pub(super) async fn fee(
        &self,
        kind: &str,
        payload: serde_json::Value,
    ) -> Result<Amount, BenchError> {
        let body = json!({ "type": kind, "payload": payload });
        let estimate: FeeEstimate = self.first()?.post("/rpc/estimateFee", &body).await?;
        Ok(Amount::saturating(estimate.min_fee.max(1)))
    }

    pub(super) async fn submit(
        &self,
        transactions: Vec<Transaction>,
        connection: usize,
    ) -> Vec<Result<(), Refused>> {
        if transactions.len() > 1 {
            return self.submit_many(&transactions, connection).await;
        }
        let mut results = Vec::with_capacity(transactions.len());
        for transaction in transactions {
            results.push(match self.client(connection) {
                Some(client) => client.send(&transaction).await.map(|_| ()).map_err(Refused::from),
                None => Err(Refused { code: "no_node".to_owned(), is_temporary: false }),
            });
        }
        results
    }

    /// In one request, as canonical bytes.
    async fn submit_many(
        &self,
        transactions: &[Transaction],
        connection: usize,
    ) -> Vec<Result<(), Refused>> {
        let all = |refused: Refused| vec![Err(refused); transactions.len()];
        let Some(client) = self.client(connection) else {
            return all(Refused { code: "no_node".to_owned(), is_temporary: false });
        };
        match client.send_many(transactions).await {
            Ok(items) => items.into_iter().map(became).collect(),
            Err(error) => all(error.into()),
        }
    }

    pub(super) async fn metrics(&self) -> Option<String> {
        self.first().ok()?.text("/metrics").await.ok()
    }

    pub(super) async fn why(&self, hash: &TxHash) -> String {
        let path = format!("/rpc/tx/{hash}/why");
        let asked = match self.first() {
            Ok(client) => client.get::<WhyResponse>(&path).await,
            Err(error) => return error.to_string(),
        };
        asked.map_or_else(|error| error.to_string(), |why| why.detail)
    }

    pub(super) async fn height(&self) -> Option<u64> {
        let head: Head = self.first().ok()?.get("/rpc/head").await.ok()?;
        Some(head.height.get())
    }

    pub(super) async fn finals(&self) -> Result<mpsc::UnboundedReceiver<FinalBlock>, BenchError> {
        let client = self.first()?.clone();
        let refused = |reason: String| BenchError::Subscription { reason };
        let connected = tokio_tungstenite::connect_async(&self.socket).await;
        let (mut socket, _) = connected.map_err(|error| refused(error.to_string()))?;
        let head: Head = client.get("/rpc/head").await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let (heard, mut heights) = mpsc::unbounded_channel::<(u64, Instant)>();
        tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                let now = Instant::now();
                let Ok(text) = message.to_text() else { continue };
                let block: Option<serde_json::Value> = serde_json::from_str(text).ok();
                let height = block.and_then(|block| block["height"].as_u64());
                if height.is_some_and(|height| heard.send((height, now)).is_err()) {
                    return;
                }
            }
        });
        let mut next = head.height.get() + 1;
        tokio::spawn(async move {
            while let Some((height, at)) = heights.recv().await {
                while next <= height {
                    let last = height.min(next + RANGE_MAX - 1);
                    let Ok(blocks) = bodies(&client, next, last).await else { return };
                    if blocks.is_empty() {
                        return;
                    }
                    for hashes in blocks {
                        next += 1;
                        if sender.send(FinalBlock { at, hashes }).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(receiver)
    }

    /// Sees to it that every sender can pay, from the account of `key`, and asks for their
    /// nonces. `progress` is told how many are done.
    ///
    /// # Errors
    /// [`BenchError`] if a node refuses, or the transfers are not final in time.
    pub(super) async fn fund(
        &self,
        key: &SecretKey,
        senders: &mut Senders,
        fee: Amount,
        progress: impl Fn(u64),
    ) -> Result<(), BenchError> {
        let client = self.first()?;
        let payer = key.public_key().address();
        let mut nonce = client.account(&payer).await?.nonce;
        let addresses = senders.addresses().to_vec();
        for (part, chunk) in addresses.chunks(FUNDING_CHUNK).enumerate() {
            let mut funded = Vec::new();
            for (at, address) in chunk.iter().enumerate() {
                let account = client.account(address).await?;
                senders.set_nonce(part * FUNDING_CHUNK + at, account.nonce);
                if account.balance >= FUNDS_LEAST {
                    continue;
                }
                let payload = Payload::Transfer { to: *address, amount: Amount::saturating(FUNDS) };
                let transfer = Transaction::sign(
                    key,
                    self.head.chain_id,
                    Nonce::saturating(nonce),
                    fee,
                    None,
                    payload,
                );
                client.send(&transfer).await?;
                nonce += 1;
                funded.push(*address);
            }
            self.wait_until_funded(&funded).await?;
            progress(((part + 1) * FUNDING_CHUNK).min(addresses.len()) as u64);
        }
        Ok(())
    }

    async fn wait_until_funded(&self, addresses: &[Address]) -> Result<(), BenchError> {
        let began = Instant::now();
        // At every node: a load that is spread must find its senders everywhere.
        for client in &self.clients {
            for address in addresses {
                loop {
                    let account: AccountBalance = client.account(address).await?;
                    if account.balance >= FUNDS_LEAST {
                        break;
                    }
                    if began.elapsed() > FUNDING_TIMEOUT {
                        return Err(BenchError::NotFunded { address: *address });
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        }
        Ok(())
    }
}

/// Hashes of the transactions of each block of a range, as far as one answer goes.
async fn bodies(client: &RestClient, from: u64, to: u64) -> Result<Vec<Vec<TxHash>>, RestError> {
    let path = format!("/rpc/blocks-range?start={from}&end={to}&canonical=true");
    let range: BlockRange = client.get(&path).await?;
    let hashes = |canonical: &String| {
        let (block, _) = read_canonical(canonical).ok()?;
        Some(block.transactions.iter().map(Transaction::hash).collect())
    };
    Ok(range.blocks.iter().map_while(|block| hashes(block.canonical.as_ref()?)).collect())
}

/// What became of one of a batch.
fn became(item: SendTxsItem) -> Result<(), Refused> {
    match item.code {
        None => Ok(()),
        Some(code) => Err(Refused { code, is_temporary: matches!(item.status, Some(429 | 503)) }),
    }
}

impl From<RestError> for Refused {
    fn from(error: RestError) -> Self {
        match error {
            RestError::Refused { status, body } => {
                Self { code: body.code.clone(), is_temporary: matches!(status, 429 | 503) }
            }
            RestError::Unreachable { .. } => {
                Self { code: "unreachable".to_owned(), is_temporary: true }
            }
            RestError::Url { .. } | RestError::Answer { .. } => {
                Self { code: "bad_answer".to_owned(), is_temporary: false }
            }
        }
    }
}

//! What is asked of a remote over HTTP: every answer is bounded while it is read.

use std::fmt;
use std::time::Duration;

use ait_engine::transaction::Transaction;
use ait_engine::types::{BlockId, Height, TxHash};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::core::RANGE_BLOCKS_MAX;
use super::port::{Failure, MempoolPage, RemoteBlock, RemoteHead, RemoteUrl};
use crate::rest::{error_body, innermost};
use crate::wire::{Info, TransactionJson, read_canonical};

/// Time of a call; of one that brings blocks, time without anything coming.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Time of a call that brings blocks.
const BLOCKS_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest small answer, in bytes.
const SMALL_BYTES_MAX: usize = 64 * 1024;
/// Largest answer with blocks, in bytes: 8 MiB, and one block of the largest size in base64.
const BLOCKS_BYTES_MAX: usize = 56 * 1024 * 1024;
/// Pending transactions of one page.
const PAGE_COUNT: usize = 200;
/// Largest page, in bytes.
const PAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most certificates of authorities in a file, in bytes.
const CA_BYTES_MAX: usize = 1024 * 1024;

/// Why remotes cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The certificates of authorities cannot be used.
    #[error("the certificates of authorities cannot be used: {reason}")]
    Authorities {
        /// Why.
        reason: String,
    },
    /// TLS cannot be had on this machine.
    #[error("no HTTP client: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
}

/// A client of one remote.
#[derive(Debug, Clone)]
pub struct RemoteClient {
    url: RemoteUrl,
    http: reqwest::Client,
}

impl RemoteClient {
    /// A client of the remote at `url`, which trusts the machine's authorities and those of
    /// `authorities`, a bundle in PEM.
    ///
    /// # Errors
    /// [`ClientError`] when the bundle or TLS cannot be used.
    pub fn new(url: RemoteUrl, authorities: Option<&[u8]>) -> Result<Self, ClientError> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CALL_TIMEOUT)
            .read_timeout(CALL_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if url.is_local() {
            builder = builder.no_proxy();
        }
        if let Some(bundle) = authorities {
            let wrong = |reason: &str| ClientError::Authorities { reason: reason.to_owned() };
            if bundle.len() > CA_BYTES_MAX {
                return Err(wrong("longer than a bundle can be"));
            }
            let certificates = reqwest::Certificate::from_pem_bundle(bundle)
                .map_err(|error| wrong(&innermost(&error)))?;
            if certificates.is_empty() {
                return Err(wrong("there is none in the file; expected PEM"));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let http =
            builder.build().map_err(|error| ClientError::Client { reason: innermost(&error) })?;
        Ok(Self { url, http })
    }

    /// The remote's URL.
    #[must_use]
    pub const fn url(&self) -> &RemoteUrl {
        &self.url
    }

    /// Its chain and its newest block.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn head(&self) -> Result<RemoteHead, Failure> {
        let request = self.http.get(self.url.endpoint("info")).timeout(CALL_TIMEOUT);
        let (_, body) = answer(request, SMALL_BYTES_MAX).await?;
        let info: Info = serde_json::from_slice(&body).map_err(not_read)?;
        let genesis: BlockId = info.genesis_hash.parse().map_err(not_read)?;
        let height = Height::new(info.height).ok_or_else(|| not_read("height is too large"))?;
        Ok(RemoteHead { genesis, height })
    }

    /// Certified blocks of these heights; fewer if the answer would be too long.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn blocks(&self, first: Height, last: Height) -> Result<Vec<RemoteBlock>, Failure> {
        let path = format!("blocks-range?start={first}&end={last}&canonical=true");
        let request = self.http.get(self.url.endpoint(&path)).timeout(BLOCKS_TIMEOUT);
        let (_, body) = answer(request, BLOCKS_BYTES_MAX).await?;
        // Long texts are not read on the threads that speak with others.
        let read = tokio::task::spawn_blocking(move || read_blocks(&body)).await;
        read.map_err(not_read)?
    }

    /// Pending transactions after a cursor.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn mempool(&self, cursor: Option<u64>) -> Result<MempoolPage, Failure> {
        let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let path = format!("mempool?limit={PAGE_COUNT}{after}");
        let request = self.http.get(self.url.endpoint(&path)).timeout(CALL_TIMEOUT);
        let (next, body) = answer(request, PAGE_BYTES_MAX).await?;
        let read = tokio::task::spawn_blocking(move || read_page(&body, next)).await;
        read.map_err(not_read)?
    }

    /// Sends a transaction; whether it need not be sent again.
    pub async fn send(&self, transaction: &Transaction) -> bool {
        let request = self.http.post(self.url.endpoint("sendTx")).timeout(CALL_TIMEOUT);
        let request = request.json(&TransactionJson::from(transaction));
        match request.send().await.map(|response| response.status()) {
            Ok(status) => !is_temporary(status),
            Err(_) => false,
        }
    }
}

fn is_temporary(status: StatusCode) -> bool {
    let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || again.contains(&status)
}

fn not_read(reason: impl ToString) -> Failure {
    Failure::Answer(reason.to_string())
}

/// The cursor and the body of an answer.
async fn answer(request: RequestBuilder, max: usize) -> Result<(Option<u64>, Vec<u8>), Failure> {
    let unreachable = |error: reqwest::Error| Failure::Unreachable(innermost(&error));
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let max = if status.is_success() { max } else { SMALL_BYTES_MAX };
    let next = cursor(&response);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len().saturating_add(chunk.len()) > max {
            return Err(not_read(format!("longer than {max} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok((next, body));
    }
    let detail: String = error_body(&body).detail.chars().take(200).collect();
    let refused = format!("it answers {}: {detail}", status.as_u16());
    Err(if is_temporary(status) { Failure::Unreachable(refused) } else { not_read(refused) })
}

fn cursor(response: &Response) -> Option<u64> {
    response.headers().get("x-next-cursor")?.to_str().ok()?.parse().ok()
}

#[derive(Deserialize)]
struct Range<'a> {
    #[serde(borrow)]
    blocks: Few<'a>,
}

#[derive(Deserialize)]
struct RangeBlock<'a> {
    #[serde(borrow, default)]
    canonical: Option<&'a str>,
}

fn read_blocks(body: &[u8]) -> Result<Vec<RemoteBlock>, Failure> {
    let range: Range<'_> = serde_json::from_slice(body).map_err(not_read)?;
    if range.blocks.0.len() as u64 > RANGE_BLOCKS_MAX {
        return Err(not_read("more blocks than were asked for"));
    }
    let read = |raw: &RawValue| {
        let block: RangeBlock<'_> = serde_json::from_str(raw.get()).map_err(not_read)?;
        let text = block.canonical.ok_or_else(|| {
            not_read("its blocks come without canonical bytes; its program is too old")
        })?;
        read_canonical(text).map_err(not_read)
    };
    range.blocks.0.into_iter().map(read).collect()
}

fn read_page(body: &[u8], next: Option<u64>) -> Result<MempoolPage, Failure> {
    let Few(list) = serde_json::from_slice(body).map_err(not_read)?;
    let is_full = list.len() >= PAGE_COUNT;
    let read = |raw: &RawValue| -> Option<(TxHash, Transaction)> {
        // What only old software understands is passed over; the hash it claims is nothing.
        let json: TransactionJson = serde_json::from_str(raw.get()).ok()?;
        let transaction = Transaction::try_from(&json).ok()?;
        Some((transaction.hash(), transaction))
    };
    let transactions = list.into_iter().filter_map(read).collect();
    Ok(MempoolPage { transactions, next, is_full })
}

/// A list of few items, unread.
struct Few<'a>(Vec<&'a RawValue>);

impl Few<'_> {
    const COUNT_MAX: usize = 1_000;
}

impl<'de: 'a, 'a> Deserialize<'de> for Few<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FewVisitor).map(Few)
    }
}

struct FewVisitor;

impl<'de> Visitor<'de> for FewVisitor {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == Few::COUNT_MAX {
                return Err(serde::de::Error::custom("a longer list than was asked for"));
            }
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_bounded_before_they_are_read() {
        let long = format!("[{}1]", "1,".repeat(Few::COUNT_MAX));
        assert!(serde_json::from_str::<Few<'_>>(&long).is_err());
        let blocks = format!("{{\"blocks\":[{}1]}}", "1,".repeat(100));
        assert!(read_blocks(blocks.as_bytes()).is_err());
        assert!(read_blocks(b"{\"blocks\":[{\"height\":1}]}").is_err());
        assert_eq!(read_blocks(b"{\"blocks\":[]}"), Ok(Vec::new()));
        let page = read_page(b"[{\"hash\":\"0x00\"},7]", Some(3));
        assert_eq!(page, Ok(MempoolPage { next: Some(3), ..MempoolPage::default() }));
        assert!(read_page(b"{}", None).is_err());
    }
}

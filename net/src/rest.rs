//! A REST client of one node: bounded answers, time-outs, and repeated tries of
//! what may be repeated.
//!
//! Nothing is believed here: proofs are verified in [`crate::light`].

use std::time::Duration;

use ait_engine::codec::Canonical;
use ait_engine::transaction::Transaction;
use ait_engine::types::Address;
use backon::{ExponentialBuilder, Retryable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::wire::{ErrorBody, SendTxResponse, SendTxsItem, TransactionJson};

/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const TRIES: usize = 3;

/// Why a request gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// Not a URL that can be asked.
    #[error("{found:?} is not the URL of a node: {reason}")]
    Url {
        /// What was given.
        found: String,
        /// What is wrong.
        reason: String,
    },
    /// The node cannot be reached, or does not answer in time.
    #[error("no answer from {url}: {reason}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// The answer is not what was asked for.
    #[error("the answer of {url} cannot be read: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The node refused the request.
    #[error("the node refused the request ({status}): {}", .body.detail)]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        body: Box<ErrorBody>,
    },
}

impl RestError {
    /// Whether the node says that there is no such thing.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    const fn may_repeat(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { status: 503, .. })
    }
}

/// A client of one node.
#[derive(Clone)]
pub struct RestClient {
    base: String,
    /// The same without a password: what messages show.
    shown: String,
    http: reqwest::Client,
}

impl std::fmt::Debug for RestClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RestClient({})", self.shown)
    }
}

impl RestClient {
    /// A client of the node at `url`, with or without `/rpc` at its end.
    ///
    /// # Errors
    /// [`RestError::Url`] if it is no HTTP URL.
    pub fn new(url: &str) -> Result<Self, RestError> {
        let wrong = |reason: String| RestError::Url { found: without_password(url), reason };
        let parsed = reqwest::Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("expected http:// or https://".to_owned()));
        }
        let base = url.trim_end_matches('/');
        let base = base.strip_suffix("/rpc").unwrap_or(base).to_owned();
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        let local = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let builder = if local { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| wrong(error.to_string()))?;
        Ok(Self { shown: without_password(&base), base, http })
    }

    /// Asks for a path; tries again if the node cannot be reached or is busy.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RestError> {
        let url = self.url(path);
        let ask = || async { self.answer(path, self.http.get(&url)).await };
        let delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_times(TRIES - 1);
        ask.retry(delays).when(RestError::may_repeat).await
    }

    /// Posts a JSON body, once.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, RestError> {
        self.answer(path, self.http.post(self.url(path)).json(body)).await
    }

    /// Posts a JSON text as it is, once.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn post_text<T: DeserializeOwned>(
        &self,
        path: &str,
        body: String,
    ) -> Result<T, RestError> {
        let request = self.http.post(self.url(path));
        let request = request.header("content-type", "application/json").body(body);
        self.answer(path, request).await
    }

    /// Sends a transaction. Sending the same one twice is harmless.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn send(&self, transaction: &Transaction) -> Result<SendTxResponse, RestError> {
        self.post("/rpc/sendTx", &TransactionJson::from(transaction)).await
    }

    /// Sends transactions as canonical bytes, once; the answers stand in their order. Sending
    /// the same ones twice is harmless.
    ///
    /// # Errors
    /// [`RestError`], also if there are not as many answers as transactions.
    pub async fn send_many(
        &self,
        transactions: &[Transaction],
    ) -> Result<Vec<SendTxsItem>, RestError> {
        let path = "/rpc/sendTxs";
        let mut body = Vec::new();
        for transaction in transactions {
            transaction.encode_to(&mut body);
        }
        let request = self.http.post(self.url(path));
        let request = request.header("content-type", "application/octet-stream").body(body);
        let items: Vec<SendTxsItem> = self.answer(path, request).await?;
        if items.len() == transactions.len() {
            return Ok(items);
        }
        let reason = format!("{} answers to {} transactions", items.len(), transactions.len());
        Err(self.unreadable(path, reason))
    }

    /// Balance and next nonce of an account, as the node says without proof.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn account(
        &self,
        address: &Address,
    ) -> Result<crate::wire::AccountBalance, RestError> {
        self.get(&format!("/rpc/getBalance/{address}")).await
    }

    /// Asks for a page of text, once.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn text(&self, path: &str) -> Result<String, RestError> {
        let bytes = self.bytes(path, self.http.get(self.url(path))).await?;
        String::from_utf8(bytes).map_err(|error| self.unreadable(path, error))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn unreadable(&self, path: &str, reason: impl ToString) -> RestError {
        let url = format!("{}{path}", self.shown);
        RestError::Answer { url, reason: reason.to_string() }
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<T, RestError> {
        let bytes = self.bytes(path, request).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.unreadable(path, error))
    }

    async fn bytes(
        &self,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<Vec<u8>, RestError> {
        let unreachable = |error: reqwest::Error| RestError::Unreachable {
            url: format!("{}{path}", self.shown),
            reason: innermost(&error),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
                let reason = format!("longer than {ANSWER_BYTES_MAX} bytes");
                return Err(self.unreadable(path, reason));
            }
            bytes.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let body = Box::new(error_body(&bytes));
            return Err(RestError::Refused { status: status.as_u16(), body });
        }
        Ok(bytes)
    }
}

/// A URL without user and password, also one that cannot be read.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.to_owned(),
        (_, None) => url.to_owned(),
    }
}

/// What a refusal says, also in the old node's shapes and those of a proxy.
pub(crate) fn error_body(bytes: &[u8]) -> ErrorBody {
    if let Ok(body) = serde_json::from_slice::<ErrorBody>(bytes) {
        return body;
    }
    let detail = match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => value.get("detail").unwrap_or(&value).to_string(),
        Err(_) => String::from_utf8_lossy(bytes).chars().take(500).collect(),
    };
    ErrorBody { detail, ..ErrorBody::default() }
}

/// The cause behind the causes: "connection refused" rather than "error sending request".
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A text as one segment of a URL's path.
#[must_use]
pub fn path_segment(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes()
        .map(|byte| match byte {
            byte if plain(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_http_url() {
        for url in ["", "127.0.0.1:8080", "ftp://127.0.0.1", "http://"] {
            assert!(matches!(RestClient::new(url), Err(RestError::Url { .. })), "{url}");
        }
        for url in ["http://127.0.0.1:8080", "https://example.org/rpc/"] {
            assert!(RestClient::new(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn no_message_shows_a_password() {
        for url in [
            "http://user:hidden@127.0.0.1:1/rpc",
            "http://user:hid/hidden@127.0.0.1:1",
            "user:hidden@127.0.0.1",
        ] {
            let said = match RestClient::new(url) {
                Ok(client) => format!("{client:?} {}", client.unreadable("/rpc/head", "cut")),
                Err(error) => error.to_string(),
            };
            assert!(said.contains("127.0.0.1") && !said.contains("hidden"), "{said}");
        }
    }

    #[test]
    fn path_segments_cannot_leave_their_place() {
        assert_eq!(path_segment("a/../b?c#d é"), "a%2F..%2Fb%3Fc%23d%20%C3%A9");
    }

    #[test]
    fn reads_refusals_of_every_shape() {
        assert_eq!(error_body(br#"{"detail":"no","code":"c"}"#).code, "c");
        assert_eq!(error_body(br#"{"detail":[{"msg":"x"}]}"#).detail, r#"[{"msg":"x"}]"#);
        assert_eq!(error_body(b"<html>").detail, "<html>");
    }
}

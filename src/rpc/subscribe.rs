//! Subscriptions: new blocks, accepted transactions and claimed receipts, over WebSocket
//! and as server-sent events.
//!
//! A reader that is too slow is told how many messages it missed; nothing waits for it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ait_engine::transaction::{Payload, VerifiedTransaction};
use ait_net::wire::payload_to_json;
use futures_util::{SinkExt, Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use warp::Reply;
use warp::http::StatusCode;
use warp::reply::Response;
use warp::ws::{Message, WebSocket, Ws};

use super::call::{Answer, Call};
use super::hub::{self, Told};
use super::{Api, ApiError, Shared};
use crate::behind;
use crate::http::{Offence, Share, is_exempt, share_of};

/// How often a silent connection is pinged, to notice that it is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Time that a reader has to take a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest message that a client may send; none is read.
const CLIENT_MESSAGE_BYTES_MAX: usize = 4_096;

/// What can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// Every committed block.
    Blocks,
    /// Every transaction that becomes pending.
    Transactions,
    /// Every claimed receipt.
    Receipts,
}

impl Topic {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "blocks" | "heads" => Some(Self::Blocks),
            "transactions" => Some(Self::Transactions),
            "receipts" => Some(Self::Receipts),
            _ => None,
        }
    }

    const fn event(self) -> &'static str {
        match self {
            Self::Blocks => "block",
            Self::Transactions => "transaction",
            Self::Receipts => "receipt",
        }
    }
}

fn topic(name: &str) -> Result<Topic, ApiError> {
    Topic::from_name(name).ok_or_else(|| {
        let hint = "subscribe to blocks, transactions or receipts";
        ApiError { hint: hint.to_owned(), ..ApiError::not_found("there is no such topic") }
    })
}

pub(super) fn transaction(api: &Api, transaction: &VerifiedTransaction) -> Value {
    let hash = transaction.hash();
    let transaction = transaction.transaction();
    let recipient = match &transaction.payload {
        Payload::Transfer { to, .. } | Payload::Mint { to, .. } => api.shown(to),
        _ => String::new(),
    };
    json!({
        "tx_hash": hash,
        "sender": api.shown(&transaction.sender()),
        "sender_address": transaction.sender(),
        "recipient": recipient,
        "payload": payload_to_json(&transaction.payload),
        "nonce": transaction.nonce,
        "fee": transaction.fee,
        "type": transaction.payload.kind().name(),
    })
}

/// A subscriber's place, and its share of them.
struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Share,
}

impl Place {
    fn take(api: &Api, client: IpAddr) -> Result<Self, ApiError> {
        let hint = "close another subscription, or ask again later";
        let all = api.options.websocket_subscribers_max;
        let is_exempt = is_exempt(client, &api.options.trusted_proxies);
        let max = if is_exempt { usize::MAX } else { share_of(all) };
        let share = api.subscriptions.enter(client, 1, max).ok_or_else(|| {
            let detail = "this client has as many subscriptions as one may have";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "subscriptions_too_many", detail, hint)
        })?;
        let permit = Arc::clone(&api.subscribers).try_acquire_owned().map_err(|_| {
            let detail = "as many subscribers as this node serves are connected";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "subscribers_full", detail, hint)
        })?;
        Ok(Self { _permit: permit, _share: share })
    }
}

/// `GET /rpc/events/{topic}`: server-sent events.
pub(super) async fn events(call: Call) -> Answer {
    let topic = topic(call.param(0))?;
    let place = Place::take(&call.api, call.client.ip)?;
    let told = hub::batches(&call.api, topic).flat_map(stream::iter);
    let events = told.map(move |told| {
        // Held as long as the stream lives.
        let _place = &place;
        let name = if matches!(told, Told::Missed(_)) { "lagged" } else { topic.event() };
        let event = warp::sse::Event::default().event(name);
        Ok::<_, Infallible>(event.data(told.text()))
    });
    let events = warp::sse::keep_alive().interval(PING_INTERVAL).stream(events);
    Ok(warp::sse::reply(events).into_response())
}

/// `GET /rpc/ws/{topic}` without an upgrade.
pub(super) async fn not_upgraded(call: Call) -> Answer {
    topic(call.param(0))?;
    let hint = "connect with a WebSocket client, or use /rpc/events/{topic} for server-sent events";
    let detail = "this path speaks WebSocket";
    Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail, hint))
}

/// `GET /rpc/ws/{topic}`: a WebSocket.
pub(super) fn upgrade(
    api: Shared,
    name: &str,
    ws: Ws,
    client: IpAddr,
) -> Result<Response, ApiError> {
    let topic = topic(name)?;
    let place = Place::take(&api, client)?;
    let ws = ws.max_message_size(CLIENT_MESSAGE_BYTES_MAX).max_frame_size(CLIENT_MESSAGE_BYTES_MAX);
    let reply = ws.on_upgrade(move |socket| async move {
        let sending = async move {
            let _place = place;
            let offenders = api.offenders.clone();
            if !send_all(socket, hub::batches(&api, topic), SEND_TIMEOUT).await {
                offenders.note(client, Offence::UnreadMessages);
            }
        };
        // There may be hundreds that are all told at once.
        behind::spawn(sending);
    });
    Ok(reply.into_response())
}

/// Sends messages until either side ends it; whether what was sent was taken.
async fn send_all(
    socket: WebSocket,
    batches: impl Stream<Item = Vec<Told>>,
    patience: Duration,
) -> bool {
    let (mut to, mut from) = socket.split();
    let mut batches = std::pin::pin!(batches);
    let mut ping = tokio::time::interval(PING_INTERVAL);
    ping.reset();
    let mut heard = true;
    loop {
        let messages = tokio::select! {
            batch = batches.next() => match batch {
                Some(batch) => batch.iter().map(|told| Message::text(told.text())).collect(),
                None => break,
            },
            received = from.next() => match received {
                // Whatever it says, it lives; pongs are answered below us.
                Some(Ok(message)) if !message.is_close() => {
                    heard = true;
                    continue;
                }
                _ => break,
            },
            _ = ping.tick() => {
                if !std::mem::take(&mut heard) {
                    break;
                }
                vec![Message::ping(Vec::new())]
            }
        };
        let mut messages = stream::iter(messages.into_iter().map(Ok));
        // Written at once.
        match tokio::time::timeout(patience, to.send_all(&mut messages)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return true,
            Err(_) => return false,
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), to.send(Message::close())).await;
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use warp::Filter;

    use super::*;

    /// Whether a subscriber took all that it was sent; it reads so many bytes.
    async fn takes(bytes: usize) -> bool {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let route = warp::ws().map(move |ws: Ws| {
            let tell = tell.clone();
            ws.on_upgrade(move |socket| async move {
                // Far more than the system keeps for who does not read.
                let batch = vec![Told::Message("x".repeat(64 << 10).into())];
                let batches = stream::iter(std::iter::repeat_n(batch, 512));
                tell.send(send_all(socket, batches, Duration::from_millis(500)).await).unwrap();
            })
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(warp::serve(route).incoming(listener).run());
        let mut stream = TcpStream::connect(address).await.unwrap();
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let head = format!(
            "GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut read = 0;
        let mut piece = vec![0; 64 << 10];
        while read < bytes {
            match stream.read(&mut piece).await {
                Ok(count) if count > 0 => read += count,
                _ => break,
            }
        }
        tokio::time::timeout(Duration::from_secs(60), told.recv()).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_subscriber_that_does_not_take_its_messages_is_found_out() {
        assert!(takes(usize::MAX).await);
        assert!(!takes(0).await);
    }
}

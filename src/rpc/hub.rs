//! Messages of subscriptions, written once for all subscribers of a topic.
//!
//! What happened within a moment is one batch: a subscriber is woken, and its socket written to,
//! once for all of it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ait_net::wire::BlockSummary;
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender, channel};

use super::subscribe::{Topic, transaction};
use super::{Api, Shared, views};

/// How long the first of a batch of transactions waits for others.
const LINGER: Duration = Duration::from_millis(25);
/// Messages of a batch, and batches that a subscriber may be behind.
const TOGETHER_MAX: usize = 256;
const BATCHES_MAX: usize = 64;

/// Messages that are told of together.
#[derive(Debug)]
struct Batch {
    /// How many there were before.
    before: u64,
    texts: Vec<Arc<str>>,
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// What happened, as JSON.
    Message(Arc<str>),
    /// How many messages it missed.
    Missed(u64),
}

impl Told {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Message(text) => text.as_ref().to_owned(),
            Self::Missed(missed) => json!({ "type": "lagged", "missed": missed }).to_string(),
        }
    }
}

/// A writer for each topic that somebody asked for.
#[derive(Debug, Default)]
pub(super) struct Hub {
    blocks: OnceLock<Sender<Arc<Batch>>>,
    transactions: OnceLock<Sender<Arc<Batch>>>,
    receipts: OnceLock<Sender<Arc<Batch>>>,
}

/// What a topic tells from now on, in batches, until the server closes.
pub(super) fn batches(
    api: &Shared,
    topic: Topic,
) -> impl Stream<Item = Vec<Told>> + Send + Sync + use<> {
    let place = match topic {
        Topic::Blocks => &api.hub.blocks,
        Topic::Transactions => &api.hub.transactions,
        Topic::Receipts => &api.hub.receipts,
    };
    let batches = place.get_or_init(|| start(api, topic)).subscribe();
    told(batches).take_until(Box::pin(closed(api)))
}

fn closed(api: &Api) -> impl Future<Output = ()> + Send + Sync + use<> {
    let mut closing = api.closing.clone();
    async move {
        let _ = closing.wait_for(|closing| *closing).await;
    }
}

/// Starts the writer of a topic.
fn start(api: &Shared, topic: Topic) -> Sender<Arc<Batch>> {
    let (sender, _) = channel(BATCHES_MAX);
    let (to, closed) = (sender.clone(), closed(api));
    match topic {
        Topic::Transactions => {
            let (accepted, api) = (api.mempool.subscribe_accepted(), api.clone());
            let write = write(accepted, to, LINGER, move |tx| vec![transaction(&api, tx)]);
            tokio::spawn(until(closed, write));
        }
        Topic::Blocks => {
            let write = write(api.chain.events(), to, Duration::ZERO, |block| {
                vec![json!(BlockSummary::from(&block.block.header))]
            });
            tokio::spawn(until(closed, write));
        }
        Topic::Receipts => {
            let write = write(api.chain.events(), to, Duration::ZERO, |block| {
                let indices = 0..u32::try_from(block.tx_hashes.len()).unwrap_or(0);
                let receipts = indices.filter_map(|index| views::receipt(block, index));
                receipts.map(|receipt| json!(receipt)).collect()
            });
            tokio::spawn(until(closed, write));
        }
    }
    sender
}

async fn until(closed: impl Future<Output = ()>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = closed => {}
        () = work => {}
    }
}

/// Writes what comes out of `source`, as long as somebody listens.
async fn write<T: Clone>(
    mut source: Receiver<T>,
    to: Sender<Arc<Batch>>,
    linger: Duration,
    show: impl Fn(&T) -> Vec<Value>,
) {
    let mut before = 0_u64;
    loop {
        let mut items = match source.recv().await {
            Ok(first) => vec![first],
            Err(RecvError::Lagged(missed)) => {
                before = before.saturating_add(missed);
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        if source.is_empty() && !linger.is_zero() {
            tokio::time::sleep(linger).await;
        }
        let mut missed = 0;
        while items.len() < TOGETHER_MAX {
            match source.try_recv() {
                Ok(item) => items.push(item),
                Err(TryRecvError::Lagged(lost)) => {
                    missed = lost;
                    break;
                }
                Err(_) => break,
            }
        }
        let mut count = items.len() as u64;
        if to.receiver_count() > 0 {
            let texts: Vec<_> =
                items.iter().flat_map(&show).map(|v| v.to_string().into()).collect();
            count = texts.len() as u64;
            if !texts.is_empty() {
                // Whoever listened may have gone.
                let _ = to.send(Arc::new(Batch { before, texts }));
            }
        }
        before = before.saturating_add(count).saturating_add(missed);
    }
}

/// The messages of batches, and how many are missing between them.
fn told(batches: Receiver<Arc<Batch>>) -> impl Stream<Item = Vec<Told>> + Send + Sync {
    stream::unfold((batches, None), |(mut batches, expected)| async move {
        loop {
            let batch = match batches.recv().await {
                Ok(batch) => batch,
                // The next batch tells how many.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return None,
            };
            let missed = expected.map_or(0, |expected| batch.before.saturating_sub(expected));
            let mut all = Vec::with_capacity(batch.texts.len().saturating_add(1));
            if missed > 0 {
                all.push(Told::Missed(missed));
            }
            all.extend(batch.texts.iter().cloned().map(Told::Message));
            let expected = Some(batch.before.saturating_add(batch.texts.len() as u64));
            return Some((all, (batches, expected)));
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_message_is_written_once_and_told_to_all() {
        let (source, messages) = channel(1_000);
        let (to, first) = channel(BATCHES_MAX);
        let second = to.subscribe();
        let written = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&written);
        let show = move |number: &u64| {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            vec![json!(number)]
        };
        (0..100_u64).for_each(|number| {
            source.send(number).unwrap();
        });
        drop(source);
        write(messages, to, LINGER, show).await;
        let expected: Vec<_> = (0..100_u64).map(|n| Told::Message(n.to_string().into())).collect();
        for batches in [first, second] {
            assert_eq!(told(batches).concat().await, expected);
        }
        assert_eq!(written.load(std::sync::atomic::Ordering::SeqCst), 100);
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_how_many_messages_it_missed() {
        let (to, batches) = channel(BATCHES_MAX);
        let mut told = Box::pin(told(batches));
        let send = |before, texts: &[&str]| {
            let texts = texts.iter().map(|text| (*text).into()).collect();
            to.send(Arc::new(Batch { before, texts })).unwrap();
        };
        let message = |text: &str| Told::Message(text.into());
        send(5, &["a", "b"]);
        assert_eq!(told.next().await.unwrap(), [message("a"), message("b")]);
        for n in 0..BATCHES_MAX as u64 + 10 {
            send(7 + 2 * n, &["c", "d"]);
        }
        let next = told.next().await.unwrap();
        assert_eq!(next, [Told::Missed(20), message("c"), message("d")]);
    }
}

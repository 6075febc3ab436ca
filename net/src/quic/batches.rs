//! Batches of transactions on a connection: how they are written, and read.
//!
//! What waits for peers to take it has a bound over all of them, and who takes nothing for a while is
//! sent nothing that waits. What comes has another: one stream of a peer is read at a time, and
//! a batch that has begun ends soon.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use quinn::{Connection, RecvStream, SendStream, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::frames::{self, FrameError};
use super::link::{Event, Reader, SLOW, TRANSACTIONS};
use crate::gossip::{BATCH_BYTES_MAX, TransactionBatch};
use crate::limits::{BATCHES_IN_BYTES_MAX, BATCHES_OUT_BYTES_MAX};
use crate::peer::Fault;

/// How long a peer may take for a batch. One that does not read a flood of refused transactions for
/// a while (`Pause`) is back before.
const TAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a batch may take to come once it has begun.
const COME_TIMEOUT: Duration = Duration::from_secs(30);
/// A batch that is decoded takes so many times its bytes.
const DECODED_FACTOR: usize = 3;

/// Room for what waits to be taken by peers, and for what came of them and waits for the node.
#[derive(Debug, Clone)]
pub(super) struct BatchesRoom {
    going: Arc<Semaphore>,
    coming: Arc<Semaphore>,
}

/// A batch that waits for peers, and its room until the last of them has it.
#[derive(Debug)]
pub(super) struct Going {
    batch: Arc<TransactionBatch>,
    _room: OwnedSemaphorePermit,
}

/// The room of a batch that came, until it is dropped.
#[derive(Debug)]
pub struct Came {
    _room: OwnedSemaphorePermit,
}

impl Default for BatchesRoom {
    fn default() -> Self {
        let room = |bytes| Arc::new(Semaphore::new(bytes));
        Self { going: room(BATCHES_OUT_BYTES_MAX), coming: room(BATCHES_IN_BYTES_MAX) }
    }
}

impl BatchesRoom {
    /// Room for a batch that is sent, however many peers it goes to, if there is.
    pub(super) fn go(&self, batch: &Arc<TransactionBatch>) -> Option<Arc<Going>> {
        let bytes = u32::try_from(batch.bytes().len()).ok()?;
        let room = Arc::clone(&self.going).try_acquire_many_owned(bytes).ok()?;
        Some(Arc::new(Going { batch: Arc::clone(batch), _room: room }))
    }

    /// Bytes that wait for peers.
    #[cfg(test)]
    pub(super) fn going_bytes(&self) -> usize {
        BATCHES_OUT_BYTES_MAX.saturating_sub(self.going.available_permits())
    }

    /// Waits for room for a batch of so many bytes that is to be decoded.
    async fn come(&self, bytes: usize) -> Option<Came> {
        let bytes = u32::try_from(bytes.saturating_mul(DECODED_FACTOR)).ok()?;
        let room = Arc::clone(&self.coming).acquire_many_owned(bytes).await.ok()?;
        Some(Came { _room: room })
    }
}

impl Going {
    pub(super) fn count(&self) -> usize {
        self.batch.count()
    }
}

/// Batches that a peer is not sent.
pub(super) fn dropped(reason: &'static str, count: usize) {
    counter!("gossip_dropped_total", "backend" => "quic", "reason" => reason)
        .increment(count as u64);
}

/// Writes what is queued until the connection ends.
pub(super) async fn write(connection: Connection, mut queue: mpsc::Receiver<Arc<Going>>) {
    let mut stream = None;
    while let Some(going) = queue.recv().await {
        let bytes = going.batch.bytes();
        let writing = write_one(&connection, &mut stream, bytes);
        match tokio::time::timeout(TAKE_TIMEOUT, writing).await {
            Ok(Ok(())) => {
                counter!("peer_sent_bytes_total", "kind" => "transactions")
                    .increment(bytes.len() as u64);
            }
            // It wants no more of this stream. The next batch has another.
            Ok(Err(WriteError::Stopped(_))) => {
                stream = None;
                dropped("stopped", going.count());
            }
            Ok(Err(_)) => return,
            Err(_) => {
                let waiting = std::iter::from_fn(|| queue.try_recv().ok());
                let count =
                    waiting.map(|one| one.count()).fold(going.count(), usize::saturating_add);
                dropped("untaken", count);
                // What is written of it, and not taken, lies in memory, too.
                if let Some(mut stream) = stream.take() {
                    let _ = stream.reset(SLOW.into());
                }
            }
        }
    }
}

/// Writes a batch; the stream is opened when there is something to say: an idle node has none.
async fn write_one(
    connection: &Connection,
    stream: &mut Option<SendStream>,
    bytes: &[u8],
) -> Result<(), WriteError> {
    if let Some(out) = stream {
        return frames::write(out, bytes).await;
    }
    let out = stream.insert(connection.open_uni().await?);
    let _ = out.set_priority(0);
    out.write_all(&[TRANSACTIONS]).await?;
    frames::write(out, bytes).await
}

impl Reader {
    /// Reads batches until the stream ends, or another takes its place.
    pub(super) async fn read_batches(self, mut stream: RecvStream) {
        loop {
            let paused_until = *self.paused.borrow();
            tokio::time::sleep_until(paused_until).await;
            let frame = match frames::length(&mut stream, BATCH_BYTES_MAX).await {
                Ok(length) => tokio::time::timeout(COME_TIMEOUT, frames::rest(&mut stream, length)),
                Err(FrameError::Ended) => return,
                Err(error) => return self.fault(Fault::Malformed, error.to_string()).await,
            };
            let Ok(frame) = frame.await else {
                counter!("peer_batches_cut_total").increment(1);
                let _ = stream.stop(SLOW.into());
                return;
            };
            let Ok(bytes) = frame else { return };
            counter!("peer_received_bytes_total", "kind" => "transactions")
                .increment(bytes.len() as u64);
            let Some(room) = self.sinks.batches.come(bytes.len()).await else { return };
            let transactions = match TransactionBatch::decode(&bytes) {
                Ok((_, transactions)) => transactions,
                Err(error) => return self.fault(Fault::Malformed, error.to_string()).await,
            };
            let transactions = transactions.into_iter().map(|one| (one.hash(), one)).collect();
            let event = Event::Transactions { peer: self.peer, transactions, room };
            if self.sinks.bulk.send(event).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ait_engine::crypto::SecretKey;
    use ait_engine::transaction::{Payload, Transaction};
    use ait_engine::types::{Address, Amount, ChainId, Nonce, TxHash};

    use super::*;

    fn transfers(count: usize) -> Vec<Transaction> {
        let payload = Payload::Transfer { to: Address([1; 32]), amount: Amount::new(1).unwrap() };
        let (key, chain) = (SecretKey::from_seed([1; 32]), ChainId::from_bytes(b"a").unwrap());
        let one = Transaction::sign(&key, chain, Nonce::ZERO, Amount::ZERO, None, payload);
        vec![one; count]
    }

    fn batch(count: usize) -> Arc<TransactionBatch> {
        Arc::new(TransactionBatch::split(&transfers(count)).remove(0))
    }

    #[test]
    fn what_waits_for_peers_has_room_once_and_until_the_last_has_it() {
        let room = BatchesRoom::default();
        let batch = batch(512);
        let all = BATCHES_OUT_BYTES_MAX / batch.bytes().len();
        let mut held: Vec<_> = std::iter::from_fn(|| room.go(&batch)).collect();
        assert_eq!(held.len(), all);
        let for_another = Arc::clone(&held[0]);
        held.remove(0);
        assert!(room.go(&batch).is_none());
        drop(for_another);
        assert!(room.go(&batch).is_some());
    }

    #[test]
    fn a_decoded_batch_takes_no_more_than_is_counted() {
        let batch = batch(512);
        let decoded = 512 * size_of::<(TxHash, Transaction)>();
        let counted = batch.bytes().len() * DECODED_FACTOR;
        assert!(decoded <= counted, "{decoded} bytes, {counted} are counted");
    }
}

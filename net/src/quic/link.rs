//! A connection at work: tasks that write what is queued and read what comes.
//!
//! Every queue is bounded. A peer that does not read its control messages is cut off;
//! transactions that do not fit are dropped and counted. What is read waits for the node,
//! so that a busy node slows its peers down instead of piling up their data.

use std::sync::Arc;
use std::time::Duration;

use ait_engine::codec::Canonical;
use ait_engine::transaction::Transaction;
use ait_engine::types::{BlockId, TxHash};
use metrics::counter;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::answers::{AnswersRoom, Given};
use super::batches::{self, BatchesRoom, Came, Going};
use super::bodies::BodiesRoom;
use super::frames::{self, FrameError};
use crate::limits::{ANSWER_BYTES_MAX, CONTROL_FRAME_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::message::{Blocks, Body, Control, Hello, Request};
use crate::peer::{Fault, PeerId};
use crate::protocol::Frame;

/// Kinds of streams, as their first byte says.
pub(super) const CONTROL: u8 = 1;
pub(super) const TRANSACTIONS: u8 = 2;
pub(super) const BODY: u8 = 3;

/// Control messages and batches of transactions that wait to be written.
const CONTROL_QUEUE_MAX: usize = 4_096;
const BATCH_QUEUE_MAX: usize = 64;
/// Bodies that are written at once, and read at once.
const BODIES_OUT_MAX: usize = 4;
const BODIES_IN_MAX: usize = 2;
/// Requests of a peer that are answered at once.
const REQUESTS_MAX: usize = 4;
/// How long a body may take to come: who is slower has the block when others have it.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(14);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take to be written: after [`ANSWER_TIMEOUT`] whoever asked has given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// Where an answer goes; none: there is none.
pub type Reply = oneshot::Sender<Option<Vec<u8>>>;

/// What the transport has to tell.
#[derive(Debug)]
pub enum Event {
    /// A connection is up.
    Connected {
        /// With whom.
        peer: PeerId,
        /// Whether we called.
        is_outbound: bool,
        /// Where its packets come from.
        host: String,
        /// What it said first.
        hello: Hello,
    },
    /// A connection ended.
    Disconnected {
        /// With whom.
        peer: PeerId,
        /// Why.
        reason: String,
    },
    /// A call led to nothing.
    DialFailed {
        /// Whom we called.
        peer: PeerId,
        /// Why.
        reason: String,
    },
    /// A control message.
    Control {
        /// From whom.
        peer: PeerId,
        /// What.
        control: Control,
    },
    /// A batch of transactions, with their hashes.
    Transactions {
        /// From whom.
        peer: PeerId,
        /// The transactions.
        transactions: Vec<(TxHash, Transaction)>,
        /// What they take of the room of all, until it is dropped.
        room: Came,
    },
    /// A proposed block.
    Body {
        /// From whom.
        peer: PeerId,
        /// What.
        body: Box<Body>,
    },
    /// An answer to a request for blocks.
    Blocks {
        /// Number of the request.
        id: u64,
        /// The blocks, if they came.
        blocks: Option<Blocks>,
    },
    /// A body that was asked for did not come.
    NoBody {
        /// From whom.
        peer: PeerId,
        /// Which.
        block_id: BlockId,
    },
    /// A peer asks.
    Request {
        /// Who.
        peer: PeerId,
        /// What.
        request: Request,
        /// Where the answer goes.
        reply: Reply,
    },
    /// A peer sent what no correct node sends.
    Fault {
        /// Who.
        peer: PeerId,
        /// What.
        fault: Fault,
        /// For the log.
        reason: String,
    },
}

/// Where events go: those that votes depend on apart from the rest.
#[derive(Debug, Clone)]
pub(super) struct Sinks {
    pub(super) urgent: mpsc::Sender<Event>,
    pub(super) bulk: mpsc::Sender<Event>,
    /// Room for answers to all peers.
    pub(super) answers: AnswersRoom,
    /// Room for the bodies that all peers are sending.
    pub(super) bodies: BodiesRoom,
    /// Room for batches of transactions that all peers are sent, and send.
    pub(super) batches: BatchesRoom,
}

/// A connection that can be written to.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) generation: u64,
    pub(super) is_outbound: bool,
    pub(super) since: std::time::Instant,
    peer: PeerId,
    control: mpsc::Sender<Arc<Vec<u8>>>,
    batches: mpsc::Sender<Arc<Going>>,
    bodies: Arc<Semaphore>,
    /// Until when no transactions are read.
    paused_until: watch::Sender<Instant>,
    pub(super) given: Arc<Given>,
}

impl Link {
    /// Starts the tasks of a connection. They end with it.
    pub(super) fn start(
        connection: Connection,
        generation: u64,
        is_outbound: bool,
        peer: PeerId,
        streams: (SendStream, RecvStream),
        sinks: &Sinks,
    ) -> Self {
        let (control, to_write) = mpsc::channel(CONTROL_QUEUE_MAX);
        let (batches, to_send) = mpsc::channel(BATCH_QUEUE_MAX);
        let (control_out, control_in) = streams;
        tokio::spawn(write_control(control_out, to_write));
        tokio::spawn(batches::write(connection.clone(), to_send));
        let (paused_until, paused) = watch::channel(Instant::now());
        let (sinks, given) = (sinks.clone(), Arc::<Given>::default());
        let answered = Arc::clone(&given);
        let reader =
            Reader { connection: connection.clone(), peer, sinks, paused, given: answered };
        tokio::spawn(reader.clone().read_control(control_in));
        tokio::spawn(reader.clone().accept_streams());
        tokio::spawn(reader.answer_requests());
        let bodies = Arc::new(Semaphore::new(BODIES_OUT_MAX));
        let since = std::time::Instant::now();
        Self {
            connection,
            generation,
            is_outbound,
            since,
            peer,
            control,
            batches,
            bodies,
            paused_until,
            given,
        }
    }

    /// Reads no transactions for so long: what the peer sends of them then waits at the peer.
    pub(super) fn pause(&self, lasting: Duration) {
        let now = Instant::now();
        self.paused_until.send_replace(now.checked_add(lasting).unwrap_or(now));
    }

    /// Whether no batch waits to be written.
    pub(super) fn takes_batches(&self) -> bool {
        self.batches.capacity() == BATCH_QUEUE_MAX
    }

    pub(super) fn send_batch(&self, batch: Arc<Going>) {
        if let Err(error) = self.batches.try_send(batch) {
            batches::dropped("queue_full", error.into_inner().count());
        }
    }

    /// All but batches, which have their own way.
    pub(super) fn send(&self, frame: &Frame) {
        match frame {
            Frame::Transactions(_) => {}
            Frame::Control(bytes) => {
                counter!("peer_sent_bytes_total", "kind" => "control")
                    .increment(bytes.len() as u64);
                if self.control.try_send(Arc::clone(bytes)).is_err() {
                    self.connection.close(SLOW.into(), b"too slow: control messages pile up");
                }
            }
            Frame::Body(bytes) => {
                let Ok(permit) = Arc::clone(&self.bodies).try_acquire_owned() else {
                    // The peer asks for it when it learns of it.
                    counter!("peer_bodies_dropped_total").increment(1);
                    return;
                };
                counter!("peer_sent_bytes_total", "kind" => "body").increment(bytes.len() as u64);
                let (connection, bytes) = (self.connection.clone(), Arc::clone(bytes));
                tokio::spawn(async move {
                    let _permit = permit;
                    // A connection that broke is told of by its readers.
                    let _ = write_body(&connection, &bytes).await;
                });
            }
        }
    }

    /// Asks; the answer, or that there is none, becomes an event.
    pub(super) fn ask(&self, id: u64, request: Request, sinks: &Sinks) {
        let (connection, peer, sinks) = (self.connection.clone(), self.peer, sinks.clone());
        tokio::spawn(async move {
            let answered = tokio::time::timeout(ANSWER_TIMEOUT, ask(&connection, request)).await;
            let bytes = answered.ok().flatten();
            counter!("peer_received_bytes_total", "kind" => "sync")
                .increment(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
            let (event, is_answer) = match request {
                Request::Blocks { .. } => {
                    let blocks = bytes.as_ref().and_then(|bytes| Blocks::decode(bytes).ok());
                    let is_answer = blocks.is_some();
                    (Event::Blocks { id, blocks }, is_answer)
                }
                Request::Body { block_id, .. } => {
                    match bytes.as_ref().and_then(|bytes| Body::decode(bytes).ok()) {
                        Some(body) if body.proposal.proposal.block_id == block_id => {
                            (Event::Body { peer, body: Box::new(body) }, true)
                        }
                        _ => (Event::NoBody { peer, block_id }, false),
                    }
                }
            };
            // To give no answer is no fault, to give nonsense is one.
            if bytes.is_some() && !is_answer {
                let reason = "an answer that is none".to_owned();
                let fault = Event::Fault { peer, fault: Fault::BadAnswer, reason };
                let _ = sinks.urgent.send(fault).await;
            }
            let _ = sinks.bulk.send(event).await;
        });
    }
}

/// Code of a close because the peer does not keep up.
pub(super) const SLOW: u32 = 3;

async fn ask(connection: &Connection, request: Request) -> Option<Vec<u8>> {
    let (mut out, mut answer) = connection.open_bi().await.ok()?;
    out.write_all(&request.encode()).await.ok()?;
    out.finish().ok()?;
    let mut bytes = answer.read_to_end(ANSWER_BYTES_MAX + 1).await.ok()?;
    // The first byte says whether there is an answer.
    if bytes.first() != Some(&1) {
        return None;
    }
    bytes.remove(0);
    Some(bytes)
}

async fn write_control(mut out: SendStream, mut queue: mpsc::Receiver<Arc<Vec<u8>>>) {
    while let Some(bytes) = queue.recv().await {
        if frames::write(&mut out, &bytes).await.is_err() {
            return;
        }
    }
}

async fn write_body(connection: &Connection, bytes: &[u8]) -> Option<()> {
    let mut out = connection.open_uni().await.ok()?;
    let _ = out.set_priority(1);
    out.write_all(&[BODY]).await.ok()?;
    out.write_all(bytes).await.ok()?;
    out.finish().ok()?;
    // Holds the permit until the peer has it, or is gone.
    let _ = out.stopped().await;
    Some(())
}

#[derive(Clone)]
pub(super) struct Reader {
    connection: Connection,
    pub(super) peer: PeerId,
    pub(super) sinks: Sinks,
    pub(super) paused: watch::Receiver<Instant>,
    given: Arc<Given>,
}

impl Reader {
    pub(super) async fn fault(&self, fault: Fault, reason: String) {
        let _ = self.sinks.urgent.send(Event::Fault { peer: self.peer, fault, reason }).await;
    }

    async fn read_control(self, mut stream: RecvStream) {
        loop {
            let bytes = match frames::read(&mut stream, CONTROL_FRAME_BYTES_MAX).await {
                Ok(bytes) => bytes,
                Err(FrameError::Ended) => return,
                Err(error) => return self.fault(Fault::Malformed, error.to_string()).await,
            };
            counter!("peer_received_bytes_total", "kind" => "control")
                .increment(bytes.len() as u64);
            let event = match Control::decode(&bytes) {
                Ok(control) => Event::Control { peer: self.peer, control },
                Err(error) => return self.fault(Fault::Malformed, error.to_string()).await,
            };
            if self.sinks.urgent.send(event).await.is_err() {
                return;
            }
        }
    }

    async fn accept_streams(self) {
        let bodies = Arc::new(Semaphore::new(BODIES_IN_MAX));
        let mut batches: Option<AbortHandle> = None;
        while let Ok(mut stream) = self.connection.accept_uni().await {
            let mut kind = [0];
            if stream.read_exact(&mut kind).await.is_err() {
                continue;
            }
            match kind[0] {
                TRANSACTIONS => {
                    // A correct peer begins another when it has given up the one before.
                    let reading = tokio::spawn(self.clone().read_batches(stream));
                    if let Some(before) = batches.replace(reading.abort_handle()) {
                        before.abort();
                    }
                }
                BODY => {
                    let Ok(permit) = Arc::clone(&bodies).acquire_owned().await else { return };
                    let reader = self.clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        reader.read_body(stream).await;
                    });
                }
                other => {
                    let reason = format!("a stream of the unknown kind {other}");
                    return self.fault(Fault::Malformed, reason).await;
                }
            }
        }
    }

    async fn read_body(self, mut stream: RecvStream) {
        let coming = self.sinks.bodies.begin(self.connection.remote_address().ip().into());
        let cut = |reason| counter!("peer_bodies_cut_total", "reason" => reason).increment(1);
        let bytes = tokio::select! {
            bytes = coming.read(&mut stream) => bytes,
            () = coming.cut() => return cut("room"),
            () = tokio::time::sleep(BODY_TIMEOUT) => return cut("late"),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(quinn::ReadToEndError::TooLong) => {
                return self.fault(Fault::Malformed, "a body without end".to_owned()).await;
            }
            Err(_) => return,
        };
        counter!("peer_received_bytes_total", "kind" => "body").increment(bytes.len() as u64);
        match Body::decode(&bytes) {
            Ok(body) => {
                let event = Event::Body { peer: self.peer, body: Box::new(body) };
                let _ = self.sinks.urgent.send(event).await;
            }
            Err(error) => self.fault(Fault::Malformed, format!("a body: {error}")).await,
        }
    }

    async fn answer_requests(self) {
        let slots = Arc::new(Semaphore::new(REQUESTS_MAX));
        while let Ok((out, stream)) = self.connection.accept_bi().await {
            let Ok(permit) = Arc::clone(&slots).acquire_owned().await else { return };
            let reader = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
                reader.answer(out, stream).await;
            });
        }
    }

    async fn answer(self, mut out: SendStream, mut stream: RecvStream) {
        let _ = out.set_priority(-1);
        let read = stream.read_to_end(REQUEST_BYTES_MAX);
        let Ok(Ok(bytes)) = tokio::time::timeout(REQUEST_TIMEOUT, read).await else { return };
        let Ok(request) = Request::decode(&bytes) else {
            return self.fault(Fault::Malformed, "a request that is none".to_owned()).await;
        };
        let room = self.sinks.answers.enter(self.connection.remote_address().ip().into());
        let answer = async {
            let room = tokio::time::timeout(WRITE_TIMEOUT, room).await.ok()??;
            let (reply, answer) = oneshot::channel();
            let event = Event::Request { peer: self.peer, request, reply };
            self.sinks.bulk.send(event).await.ok()?;
            let bytes = answer.await.ok()??;
            let room = room.fit(bytes.len())?;
            Some((bytes, room))
        };
        let answer = tokio::select! {
            answer = answer => answer,
            // Whoever asked has given up: nothing is read from the disk for it.
            _ = out.stopped() => return,
        };
        let _giving = answer.as_ref().map(|(bytes, _)| self.given.begin(bytes.len()));
        let write = async {
            match &answer {
                Some((bytes, _room)) => {
                    counter!("peer_sent_bytes_total", "kind" => "sync")
                        .increment(bytes.len() as u64);
                    out.write_all(&[1]).await?;
                    out.write_all(bytes).await?;
                }
                None => out.write_all(&[0]).await?,
            }
            // What is written lies in memory until the peer has it.
            let _ = out.finish();
            let _ = out.stopped().await;
            Ok::<_, quinn::WriteError>(())
        };
        // Who does not take it gives up its place.
        if tokio::time::timeout(WRITE_TIMEOUT, write).await.is_err() {
            self.given.note_untaken();
            let _ = out.reset(VarInt::from_u32(SLOW));
        }
    }
}

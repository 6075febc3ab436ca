//! What goes in and what comes out.

use std::sync::Arc;

use ait_engine::block::Block;
use ait_engine::certificate::Certificate;
use ait_engine::message::Message;
use ait_engine::transaction::{Transaction, VerifiedTransaction};
use ait_engine::types::{BlockId, Height, TxHash};
use ait_engine::vote::SignedProposal;

use crate::gossip::TransactionBatch;
use crate::message::{Blocks, Body, Control, Hello, Request};
use crate::peer::{Fault, PeerAddress, PeerId, Tally};

/// What happened on the transport or in the node.
#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A connection is up and hellos agree.
    Connected {
        /// With whom.
        peer: PeerId,
        /// Whether we called.
        is_outbound: bool,
        /// Where the peer's packets come from, as a host name.
        host: String,
        /// What it said first.
        hello: Hello,
    },
    /// A connection ended.
    Disconnected {
        /// With whom.
        peer: PeerId,
    },
    /// A call led to nothing.
    DialFailed {
        /// Whom we called.
        peer: PeerId,
    },
    /// A control message came.
    Control {
        /// From whom.
        peer: PeerId,
        /// What.
        control: Control,
    },
    /// A batch of transactions came.
    Transactions {
        /// From whom.
        peer: PeerId,
        /// The transactions, decoded, with their hashes.
        transactions: Vec<(TxHash, Transaction)>,
    },
    /// A proposed block came, pushed or asked for.
    Body {
        /// From whom.
        peer: PeerId,
        /// What.
        body: Box<Body>,
    },
    /// An answer to [`Output::Ask`]; none if there is none or it cannot be read.
    Blocks {
        /// Number of the request.
        id: u64,
        /// The blocks.
        blocks: Option<Blocks>,
    },
    /// The body that was asked for did not come.
    NoBody {
        /// From whom.
        peer: PeerId,
        /// Which.
        block_id: BlockId,
    },
    /// A peer sent what no correct node sends.
    Fault {
        /// Which.
        peer: PeerId,
        /// What.
        fault: Fault,
        /// For the log.
        reason: String,
    },
    /// The node has to say something.
    Local(Local),
}

/// What the node has to say.
#[derive(Debug)]
pub enum Local {
    /// A message of this validator, for all.
    Publish(Message),
    /// A message of this validator, for one.
    Send {
        /// For whom.
        peer: PeerId,
        /// The message.
        message: Message,
    },
    /// A message of another validator was verified.
    Forward {
        /// Who sent it here.
        from: PeerId,
        /// The message.
        message: Message,
    },
    /// A block of this validator, for all.
    PublishBody {
        /// The proposal that it belongs to.
        proposal: SignedProposal,
        /// The block.
        block: Arc<Block>,
    },
    /// A block of another validator was executed and is good.
    BodyAccepted {
        /// Who sent it here.
        from: PeerId,
        /// The proposal that it belongs to.
        proposal: SignedProposal,
    },
    /// Tell a peer that the body of a proposal is here.
    OfferBody {
        /// Whom.
        peer: PeerId,
        /// The proposal.
        proposal: SignedProposal,
    },
    /// The body of a proposal is not here.
    WantBody {
        /// Who sent the proposal.
        from: PeerId,
        /// The block's height.
        height: Height,
        /// The block.
        block_id: BlockId,
    },
    /// A block was committed.
    Committed {
        /// Its height.
        height: Height,
        /// Why it is final.
        certificate: Option<Certificate>,
    },
    /// A block from sync was refused.
    Refused {
        /// Who sent it.
        peer: PeerId,
        /// Whether it is at fault.
        is_senders_fault: bool,
    },
    /// Transactions were accepted here, or wait for so long that they are told of again.
    Accepted(Vec<Arc<VerifiedTransaction>>),
    /// Pending transactions, for a peer that is new.
    Share {
        /// For whom.
        peer: PeerId,
        /// The transactions.
        transactions: Vec<Arc<VerifiedTransaction>>,
    },
    /// What became of transactions of a peer.
    Judged {
        /// Who sent them here.
        peer: PeerId,
        /// How many were taken, and not.
        tally: Tally,
        /// Those that were not taken, and may come again.
        not_taken: Vec<TxHash>,
    },
    /// The operator names a peer.
    AddPeer(PeerAddress),
    /// The operator wants a peer gone.
    Drop(PeerId),
}

/// What is to be written to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// On the control stream.
    Control(Arc<Vec<u8>>),
    /// On a stream of its own.
    Body(Arc<Vec<u8>>),
    /// On the stream of transactions.
    Transactions(Arc<TransactionBatch>),
}

/// What is for the node.
#[derive(Debug)]
pub enum Delivery {
    /// A validator's message, unverified.
    Message {
        /// Who sent it here.
        from: PeerId,
        /// The message.
        message: Message,
    },
    /// A proposed block, unverified.
    Body {
        /// Who sent it here.
        from: PeerId,
        /// The proposal and the block.
        body: Box<Body>,
    },
    /// A certificate of a block, unverified.
    Final {
        /// Who sent it here.
        from: PeerId,
        /// The certificate.
        certificate: Certificate,
    },
    /// Transactions that were not seen before, unverified.
    Transactions {
        /// Who sent them here.
        from: PeerId,
        /// The transactions.
        transactions: Vec<(TxHash, Transaction)>,
    },
    /// A block to import, from sync.
    Import {
        /// Who sent it.
        from: PeerId,
        /// The block.
        block: Box<Block>,
        /// Its certificate.
        certificate: Certificate,
    },
    /// A peer is connected: tell it what was said, and share pending transactions.
    Connected {
        /// Which.
        peer: PeerId,
    },
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Call a peer.
    Dial(PeerAddress),
    /// Write to these peers.
    Send {
        /// To whom.
        peers: Vec<PeerId>,
        /// What.
        frame: Frame,
    },
    /// Ask a peer; the answer comes back as [`Input::Blocks`] with this number, or as
    /// [`Input::Body`] or [`Input::NoBody`].
    Ask {
        /// Number of the request.
        id: u64,
        /// Whom.
        peer: PeerId,
        /// What.
        request: Request,
    },
    /// End the connection.
    Disconnect {
        /// With whom.
        peer: PeerId,
        /// Why, for both sides' logs.
        reason: String,
    },
    /// Read no transactions of a peer for a while; a connection that is new reads again.
    Pause {
        /// Whose.
        peer: PeerId,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// Give to the node.
    Deliver(Delivery),
    /// The address book changed.
    BookChanged,
}

/// A peer, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// Its id.
    pub id: PeerId,
    /// Where it is.
    pub address: String,
    /// Whether a connection is up.
    pub is_connected: bool,
    /// Whether we called.
    pub is_outbound: bool,
    /// Whether the operator named it.
    pub is_static: bool,
    /// Its newest block.
    pub height: Option<Height>,
    /// Its program.
    pub agent: String,
    /// Milliseconds since it is connected.
    pub connected_ms: u64,
    /// Points against it, of 100 that lead to a ban.
    pub points: u32,
    /// Milliseconds until its ban ends.
    pub banned_ms: Option<u64>,
    /// Milliseconds until its transactions are looked at again.
    pub paused_ms: Option<u64>,
    /// What refused transactions took of its allowance, of 8,000 after which it is paused.
    pub spent: u32,
}

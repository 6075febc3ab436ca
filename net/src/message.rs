//! What nodes say to each other, as canonical bytes. `specs/network.md` has the layout.
//!
//! Decoding is bounded before it allocates; nothing is verified here.

use ait_engine::block::Block;
use ait_engine::certificate::Certificate;
use ait_engine::codec::{Canonical, DecodeError, Reader, Writer};
use ait_engine::message::Message;
use ait_engine::types::{BlockId, ChainId, Hash, Height};
use ait_engine::vote::SignedProposal;

use crate::limits::{
    ADDRESSES_MAX, AGENT_BYTES_MAX, ANSWER_BLOCKS_MAX, NEIGHBOURS_MAX, PROTOCOL_VERSION,
};
use crate::peer::{ADDRESS_BYTES_MAX, PeerAddress, PeerId};

const CONSENSUS: u8 = 1;
const OFFER: u8 = 2;
const FINAL: u8 = 3;
const STATUS: u8 = 4;
const ASK_ADDRESSES: u8 = 5;
const ADDRESSES: u8 = 6;

const BLOCKS: u8 = 1;
const BODY: u8 = 2;

/// The first thing said on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Version of the protocol.
    pub version: u8,
    /// Name of the chain.
    pub chain_id: ChainId,
    /// Its genesis block.
    pub genesis: BlockId,
    /// Hash of what validators must agree on besides the genesis.
    pub consensus: Hash,
    /// Height of the newest block.
    pub height: Height,
    /// UDP port on which the node listens; 0 if nobody can call it.
    pub port: u16,
    /// Program and version, for people.
    pub agent: String,
}

/// A field of a hello that is not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its {field} is {found}, ours is {expected}")]
pub struct HelloMismatch {
    /// Which.
    pub field: &'static str,
    /// What we have.
    pub expected: String,
    /// What the other has.
    pub found: String,
}

impl Hello {
    /// Whether both are of one chain and protocol.
    ///
    /// # Errors
    /// [`HelloMismatch`]: the first field that differs.
    pub fn check(&self, other: &Self) -> Result<(), HelloMismatch> {
        let fields = [
            ("protocol version", self.version.to_string(), other.version.to_string()),
            ("chain id", self.chain_id.to_string(), other.chain_id.to_string()),
            ("genesis hash", self.genesis.to_string(), other.genesis.to_string()),
            ("consensus parameters hash", self.consensus.to_string(), other.consensus.to_string()),
        ];
        match fields.into_iter().find(|(_, ours, theirs)| ours != theirs) {
            Some((field, expected, found)) => Err(HelloMismatch { field, expected, found }),
            None => Ok(()),
        }
    }
}

impl Canonical for Hello {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(self.version);
        out.put_chain_id(&self.chain_id);
        out.put(&self.genesis.0);
        out.put(self.consensus.as_bytes());
        out.put_u64(self.height.get());
        out.put(&self.port.to_le_bytes());
        out.put_bytes(self.agent.as_bytes());
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: reader.u8()?,
            chain_id: reader.chain_id()?,
            genesis: reader.block_id()?,
            consensus: Hash(reader.array()?),
            height: reader.height()?,
            port: reader.u16()?,
            agent: printable(reader.text("agent", AGENT_BYTES_MAX)?),
        })
    }
}

/// What a stranger wrote, fit for a log.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect()
}

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Height of its newest block.
    pub height: Height,
    /// Peers that it is connected with: they need not be told what it was told.
    pub neighbours: Vec<PeerId>,
}

/// A message on the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// A validator's message.
    Consensus(Message),
    /// The body of this proposal can be had here.
    Offer(SignedProposal),
    /// This block is final.
    Final(Certificate),
    /// How the node stands.
    Status(Status),
    /// Tell me of others.
    AskAddresses,
    /// Others.
    Addresses(Vec<PeerAddress>),
}

impl Canonical for Control {
    fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Consensus(message) => {
                out.put_u8(CONSENSUS);
                message.encode_to(out);
            }
            Self::Offer(proposal) => {
                out.put_u8(OFFER);
                proposal.encode_to(out);
            }
            Self::Final(certificate) => {
                out.put_u8(FINAL);
                certificate.encode_to(out);
            }
            Self::Status(status) => {
                out.put_u8(STATUS);
                out.put_u64(status.height.get());
                out.put_count(status.neighbours.len());
                for neighbour in &status.neighbours {
                    out.put(&neighbour.0);
                }
            }
            Self::AskAddresses => out.put_u8(ASK_ADDRESSES),
            Self::Addresses(addresses) => {
                out.put_u8(ADDRESSES);
                out.put_count(addresses.len());
                for address in addresses {
                    out.put_bytes(address.to_string().as_bytes());
                }
            }
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            CONSENSUS => Self::Consensus(Message::decode_from(reader)?),
            OFFER => Self::Offer(SignedProposal::decode_from(reader)?),
            FINAL => Self::Final(Certificate::decode_from(reader)?),
            STATUS => {
                let height = reader.height()?;
                let count = reader.count("neighbour count", NEIGHBOURS_MAX)?;
                let neighbours = (0..count).map(|_| Ok(PeerId(reader.array()?)));
                Self::Status(Status { height, neighbours: neighbours.collect::<Result<_, _>>()? })
            }
            ASK_ADDRESSES => Self::AskAddresses,
            ADDRESSES => {
                let count = reader.count("address count", ADDRESSES_MAX)?;
                let addresses = (0..count).map(|_| {
                    let text = reader.text("peer address", ADDRESS_BYTES_MAX)?;
                    text.parse().map_err(|_| DecodeError::Invalid { what: "peer address" })
                });
                Self::Addresses(addresses.collect::<Result<_, _>>()?)
            }
            found => {
                let found = u64::from(found);
                return Err(DecodeError::Unknown { what: "control message", found });
            }
        })
    }
}

/// A proposed block as it travels: the proposal, then the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The proposal that it belongs to.
    pub proposal: SignedProposal,
    /// The block.
    pub block: Block,
}

impl Canonical for Body {
    fn encode_to(&self, out: &mut Vec<u8>) {
        self.proposal.encode_to(out);
        self.block.encode_to(out);
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let proposal = SignedProposal::decode_from(reader)?;
        Ok(Self { proposal, block: Block::decode_from(reader)? })
    }
}

/// Asks for blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Certified blocks from a height on, as many as there are and fit.
    Blocks {
        /// The first height.
        from: Height,
        /// Blocks at most.
        count: u32,
    },
    /// The body of a proposed block.
    Body {
        /// Its height.
        height: Height,
        /// Its id.
        block_id: BlockId,
    },
}

impl Canonical for Request {
    fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Blocks { from, count } => {
                out.put_u8(BLOCKS);
                out.put_u64(from.get());
                out.put_u32(*count);
            }
            Self::Body { height, block_id } => {
                out.put_u8(BODY);
                out.put_u64(height.get());
                out.put(&block_id.0);
            }
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            BLOCKS => {
                let from = reader.height()?;
                let count = reader.count("block count", ANSWER_BLOCKS_MAX as usize)?;
                Self::Blocks { from, count: u32::try_from(count).unwrap_or(u32::MAX) }
            }
            BODY => Self::Body { height: reader.height()?, block_id: reader.block_id()? },
            found => {
                let found = u64::from(found);
                return Err(DecodeError::Unknown { what: "request", found });
            }
        })
    }
}

/// Certified blocks, as the answer to [`Request::Blocks`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocks(pub Vec<(Block, Certificate)>);

impl Canonical for Blocks {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_count(self.0.len());
        for (block, certificate) in &self.0 {
            block.encode_to(out);
            certificate.encode_to(out);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count("block count", ANSWER_BLOCKS_MAX as usize)?;
        let mut blocks = Vec::new();
        for _ in 0..count {
            blocks.push((Block::decode_from(reader)?, Certificate::decode_from(reader)?));
        }
        Ok(Self(blocks))
    }
}

/// The hello of this program.
#[must_use]
pub fn hello(chain_id: ChainId, genesis: BlockId, consensus: Hash) -> Hello {
    Hello {
        version: PROTOCOL_VERSION,
        chain_id,
        genesis,
        consensus,
        height: Height::ZERO,
        port: 0,
        agent: format!("ait-node/{}", env!("CARGO_PKG_VERSION")),
    }
}

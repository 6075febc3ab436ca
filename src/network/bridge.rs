//! Between the protocol and the sequencer: what one says in the other's words. Without
//! socket, task or clock, so that the simulator runs it as it ships.

use std::sync::Arc;

use ait_engine::block::Block;
use ait_engine::certificate::Certificate;
use ait_engine::transaction::Transaction;
use ait_engine::types::TxHash;
use ait_net::peer::{Fault, PeerId};
use ait_net::protocol::{Delivery, Input, Local};

use super::serve::Bodies;
use crate::import::ImportError;
use crate::sequencer::{self, Effect, Offence};

/// What a delivery of the protocol asks of the node.
pub(crate) enum Given {
    /// For the sequencer.
    Sequencer(sequencer::Input),
    /// For the sequencer, and the peer is to be told of pending transactions.
    Connected(PeerId),
    /// For the ingress.
    Transactions(PeerId, Vec<(TxHash, Transaction)>),
    /// For the importer.
    Import(PeerId, Box<Block>, Certificate),
}

/// What the protocol is to say of an effect; nothing if it is not for the network.
pub(crate) fn said(effect: Effect, bodies: &mut Bodies) -> Option<Input> {
    let local = match effect {
        Effect::Publish(message) => Local::Publish(message),
        Effect::Send { peer, message } => Local::Send { peer, message },
        Effect::Forward { from, message } => Local::Forward { from, message: message.into_inner() },
        Effect::PublishBody { proposal, block } => {
            bodies.put(proposal, Arc::clone(&block));
            Local::PublishBody { proposal, block }
        }
        Effect::BodyAccepted { from, proposal, block } => {
            // Not before: whoever asks would blame this node for a bad one.
            bodies.put(proposal, block);
            Local::BodyAccepted { from, proposal }
        }
        Effect::OfferBody { peer, proposal } => Local::OfferBody { peer, proposal },
        Effect::WantBody { from, height, block_id, .. } => {
            Local::WantBody { from, height, block_id }
        }
        Effect::Misbehaved { peer, offence } => {
            let (fault, reason) = match offence {
                Offence::BadMessage { reason } => (Fault::BadMessage, reason),
                Offence::BadBlock { reason } => (Fault::BadBlock, reason),
                Offence::BadCertificate { reason } => (Fault::BadCertificate, reason),
            };
            return Some(Input::Fault { peer, fault, reason });
        }
        Effect::Committed(block) => {
            Local::Committed { height: block.height(), certificate: block.certificate.clone() }
        }
        // They are handled where the sequencer is started.
        Effect::Diverged { .. } | Effect::Imported { .. } | Effect::Equivocated { .. } => {
            return None;
        }
    };
    Some(Input::Local(local))
}

/// Who is to do something with a delivery.
pub(crate) fn given(delivery: Delivery) -> Given {
    Given::Sequencer(match delivery {
        Delivery::Message { from, message } => sequencer::Input::Message { from, message },
        Delivery::Final { from, certificate } => sequencer::Input::Final { from, certificate },
        Delivery::Body { from, body } => {
            let block = Arc::new(body.block);
            sequencer::Input::Body { from, proposal: body.proposal, block }
        }
        Delivery::Connected { peer } => return Given::Connected(peer),
        Delivery::Transactions { from, transactions } => {
            return Given::Transactions(from, transactions);
        }
        Delivery::Import { from, block, certificate } => {
            return Given::Import(from, block, certificate);
        }
    })
}

/// What the protocol is to be told of a block that was not imported.
pub(crate) fn refused(peer: PeerId, error: &ImportError) -> Vec<Input> {
    let is_senders_fault = error.is_senders_fault();
    let mut inputs = vec![Input::Local(Local::Refused { peer, is_senders_fault })];
    if is_senders_fault {
        let (fault, reason) = (Fault::BadBlock, error.to_string());
        inputs.push(Input::Fault { peer, fault, reason });
    }
    inputs
}

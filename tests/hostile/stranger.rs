//! Peers that are no nodes: a key, an address, and the transport that nodes have.

use std::net::Ipv4Addr;
use std::time::Duration;

use ait_engine::genesis::GenesisDocument;
use ait_net::message::hello;
use ait_net::quic::{Event, Events, PeerKey, QuicOptions, Transport};
use ait_node::keystore;

use crate::target::Plan;

/// A peer under a new key.
pub struct Stranger {
    pub transport: Transport,
    pub events: Events,
}

impl Stranger {
    /// One at this address.
    pub fn new(plan: &Plan, at: Ipv4Addr) -> Self {
        let text = std::fs::read_to_string(plan.data_dir.join("genesis.json")).unwrap();
        let document: GenesisDocument = serde_json::from_str(&text).unwrap();
        let genesis = document.build().unwrap();
        let rules = ait_node::network::consensus_hash();
        let hello = hello(plan.chain_id, genesis.block_id, rules);
        let bind = (at, 0).into();
        let key = PeerKey::new(&keystore::generate().unwrap()).unwrap();
        let (transport, events) = Transport::bind(QuicOptions { bind, key, hello }).unwrap();
        Self { transport, events }
    }

    /// Calls the node until it is connected, or it is over.
    pub async fn connect(&mut self, plan: &Plan, until: tokio::time::Instant) -> bool {
        while tokio::time::Instant::now() < until {
            self.transport.dial(plan.peer.clone());
            loop {
                match tokio::time::timeout_at(until, self.events.urgent.recv()).await {
                    Ok(Some(Event::Connected { .. })) => return true,
                    Ok(Some(Event::DialFailed { .. })) => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        break;
                    }
                    Ok(Some(_)) => {}
                    _ => return false,
                }
            }
        }
        false
    }
}

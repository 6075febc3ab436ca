//! A peer's id, and where it is reached.

use std::fmt;
use std::str::FromStr;

use ait_engine::crypto::PublicKey;

/// Longest address of a peer in text, in bytes.
pub(crate) const ADDRESS_BYTES_MAX: usize = 320;
/// Longest host name, in bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// A node on the network: its Ed25519 network key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

impl PeerId {
    /// The first eight digits, for logs and tables.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl From<PublicKey> for PeerId {
    fn from(key: PublicKey) -> Self {
        Self(key.0)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.short())
    }
}

impl FromStr for PeerId {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut key = [0; 32];
        // With 0x as keys are shown elsewhere, without as peers are.
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut key)
            .map_err(|_| PeerAddressError)?;
        Ok(Self(key))
    }
}

/// Where a peer is reached, and which key must answer there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// The key.
    pub id: PeerId,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

/// A text that is no peer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a peer is written ID@HOST:PORT, ID being 64 hex digits, an IPv6 host in brackets")]
pub struct PeerAddressError;

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}@[{}]:{}", self.id, self.host, self.port)
        } else {
            write!(f, "{}@{}:{}", self.id, self.host, self.port)
        }
    }
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, place) = text.split_once('@').ok_or(PeerAddressError)?;
        let (host, port) = place.rsplit_once(':').ok_or(PeerAddressError)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(PeerAddressError)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => {
                inner.parse::<std::net::Ipv6Addr>().map_err(|_| PeerAddressError)?.to_string()
            }
            None => host.to_owned(),
        };
        let is_ip = host.parse::<std::net::IpAddr>().is_ok();
        let is_name = !host.is_empty()
            && host.len() <= HOST_BYTES_MAX
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !is_ip && !is_name {
            return Err(PeerAddressError);
        }
        Ok(Self { id: id.parse()?, host, port })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        let id = "ab".repeat(32);
        for place in ["10.0.0.1:7070", "node-1.example.org:1", "[fd00::1]:65535"] {
            let text = format!("{id}@{place}");
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(format!("0x{text}").parse(), Ok(address));
        }
        for wrong in [
            "10.0.0.1:7070".to_owned(),
            format!("{id}@10.0.0.1"),
            format!("{id}@:7070"),
            format!("{id}@10.0.0.1:0"),
            format!("{id}@fd00::1:70000"),
            format!("{id}@a b:1"),
            format!("{}@10.0.0.1:7070", "ab".repeat(31)),
            format!("{id}@{}:1", "a".repeat(254)),
        ] {
            assert!(wrong.parse::<PeerAddress>().is_err(), "{wrong}");
        }
    }
}

//! Where a peer's packets come from, as what its owner cannot have many of.

use std::net::IpAddr;

/// An address, or the 64-bit network of an IPv6 one; any other name as it is. Whoever has many
/// network keys still has few of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host([u8; 16]);

impl Host {
    /// The host of this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        match name.parse::<IpAddr>() {
            Ok(ip) => Self::from(ip),
            Err(_) => {
                let mut short = [0; 16];
                let hash = blake3::hash(name.as_bytes());
                short.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
                Self(short)
            }
        }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => Self((u128::from(v6) >> 64 << 64).to_be_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_its_network_is_one_host() {
        let same = |a: &str, b: &str| Host::of(a) == Host::of(b);
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(same("2001:db8::1", "2001:db8::2") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(!same("192.0.2.1", "192.0.2.2") && !same("node-1", "node-2"));
    }
}

//! Quantities and identifiers, each a type of its own.
//!
//! Quantities are unsigned integers with checked arithmetic only, and no
//! `From<u64>`: a height is never an amount by accident. Identifiers are 32
//! bytes, shown as `0x` and lower-case hex; an address is shown as bech32m.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::bech32m;
use crate::limits::{AMOUNT_MAX, CHAIN_ID_BYTES_MAX};

/// Why a text is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not 32 bytes of hex after an optional `0x`.
    #[error("expected 0x and 64 hex digits, found {found:?}")]
    Hash {
        /// The beginning of what was found.
        found: String,
    },
    /// Not a bech32m address.
    #[error(
        "expected an address such as {example}, found {found:?}: {reason}",
        example = Address::EXAMPLE
    )]
    Address {
        /// The beginning of what was found.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a chain id.
    #[error(
        "expected a chain id of 1 to {CHAIN_ID_BYTES_MAX} characters of a-z, 0-9, '-', '_' and '.', found {found:?}"
    )]
    ChainId {
        /// The beginning of what was found.
        found: String,
    },
}

fn excerpt(text: &str) -> String {
    text.chars().take(96).collect()
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, max = $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);
            /// The largest value.
            pub const MAX: Self = Self($max);

            /// The quantity of this value, if it is in bounds.
            #[must_use]
            pub const fn new(value: u64) -> Option<Self> {
                if value <= $max { Some(Self(value)) } else { None }
            }

            /// The quantity of this value, cut to the bound. For values that are in bounds by construction.
            #[must_use]
            pub const fn saturating(value: u64) -> Self {
                if value <= $max { Self(value) } else { Self($max) }
            }

            /// The plain integer.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The sum, if it is in bounds.
            #[must_use]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Self::new(sum),
                    None => None,
                }
            }

            /// The difference, if it is not negative.
            #[must_use]
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(difference) => Some(Self(difference)),
                    None => None,
                }
            }

            /// One more, if it is in bounds.
            #[must_use]
            pub const fn next(self) -> Option<Self> {
                self.checked_add(Self(1))
            }

            /// One less, if it is not negative.
            #[must_use]
            pub const fn previous(self) -> Option<Self> {
                self.checked_sub(Self(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = u64::deserialize(deserializer)?;
                Self::new(value).ok_or_else(|| {
                    D::Error::custom(format_args!("{value} is over the maximum of {}", Self::MAX))
                })
            }
        }
    };
}

quantity!(
    /// Position of a block in the chain; genesis is 0.
    Height, max = u64::MAX
);
quantity!(
    /// Attempt at a height; the first is 0.
    Round, max = u32::MAX as u64
);
quantity!(
    /// The next transaction number that an account must use; starts at 0.
    Nonce, max = u64::MAX
);
quantity!(
    /// Base units of the token, at most 2^63 - 1.
    Amount, max = AMOUNT_MAX
);
quantity!(
    /// Integer weight of a validator.
    VotingPower, max = crate::limits::VOTING_POWER_MAX
);
quantity!(
    /// Milliseconds since 1970-01-01T00:00:00Z. The bound is year 9999, the last that RFC 3339 can write.
    TimestampMs, max = 253_402_300_799_999
);
quantity!(
    /// Attested compute units in millionths of a unit.
    MicroUnits, max = u64::MAX
);

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// All zero bytes: the parent of genesis, the root of nothing.
            pub const ZERO: Self = Self([0; 32]);

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                $crate::types::write_hex::<64>(f, &self.0)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::types::ParseError;

            /// Reads 64 hex digits of either case, with or without `0x`.
            fn from_str(text: &str) -> Result<Self, $crate::types::ParseError> {
                $crate::types::parse_hex32(text).map(Self)
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <::std::borrow::Cow<'de, str> as ::serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(::serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use hash_type;

/// Reads 32 bytes from 64 hex digits of either case, with or without `0x`.
///
/// # Errors
/// [`ParseError::Hash`] for anything else.
pub fn parse_hex32(text: &str) -> Result<[u8; 32], ParseError> {
    read_hex(text).ok_or_else(|| ParseError::Hash { found: excerpt(text) })
}

/// Reads so many bytes from hex digits of either case, with or without `0x`.
pub(crate) fn read_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let mut bytes = [0; BYTES];
    // Decoding wants to be given as many as there are.
    HEXLOWER_PERMISSIVE.decode_len(digits.len()).ok().filter(|length| *length == BYTES)?;
    HEXLOWER_PERMISSIVE.decode_mut(digits, &mut bytes).ok()?;
    Some(bytes)
}

/// Writes `0x` and bytes as `DIGITS` hex digits, two for each.
pub(crate) fn write_hex<const DIGITS: usize>(
    f: &mut fmt::Formatter<'_>,
    bytes: &[u8],
) -> fmt::Result {
    f.write_str("0x")?;
    f.write_str(HEXLOWER.encode_mut_str(bytes, &mut [0; DIGITS]))
}

hash_type!(
    /// Any 32-byte hash without a type of its own: roots of Merkle trees, set hashes.
    Hash
);
hash_type!(
    /// Hash of a canonical block header.
    BlockId
);
hash_type!(
    /// Hash of a transaction without its signature.
    TxHash
);
hash_type!(
    /// Root over the whole state after a block.
    StateRoot
);

/// An account's address: 32-byte hash of (scheme, public key), shown as bech32m
/// with the prefix `ait` (`specs/encoding.md`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(pub [u8; 32]);

impl Address {
    /// No account: the proposer of genesis.
    pub const ZERO: Self = Self([0; 32]);
    /// A valid address, for error messages (it belongs to the all-zero seed's key).
    pub const EXAMPLE: &'static str =
        "ait1vm2adt33jk7fg9pt9xdupz0m4xpymvm3w0yf3p6khxahq2a3p8fs2rzds9";

    const HRP: bech32::Hrp = bech32::Hrp::parse_unchecked("ait");

    /// Zero bytes at the beginning of what is no account's address.
    pub const RESERVED_BYTES: usize = 8;

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it begins with [`Self::RESERVED_BYTES`] zero bytes: the state keeps entries of
    /// other kinds under such keys, so that no tokens can be sent there. No key's address is
    /// one but with a chance of 1 in 2^64.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(&[0; Self::RESERVED_BYTES])
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 32 bytes always fit, so that the only error left is the writer's.
        bech32::encode_lower_to_fmt::<bech32::Bech32m, _>(f, Self::HRP, &self.0)
            .map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        bech32m::decode(text).map_or_else(|| Self::by_library(text), |bytes| Ok(Self(bytes)))
    }
}

impl Address {
    /// Reads what is not written as it should be, or says what is wrong with it.
    pub(crate) fn by_library(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason: String| ParseError::Address { found: excerpt(text), reason };
        if text.len() > 90 {
            return Err(wrong("longer than an address can be".to_owned()));
        }
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<bech32::Bech32m>(text)
            .map_err(|error| wrong(format!("not bech32m ({error})")))?;
        if checked.hrp() != Self::HRP {
            return Err(wrong("the prefix is not 'ait'".to_owned()));
        }
        let mut bytes = [0; 32];
        let data = checked.byte_iter();
        if data.len() != bytes.len() {
            return Err(wrong(format!("{} bytes instead of 32", data.len())));
        }
        bytes.iter_mut().zip(data).for_each(|(to, byte)| *to = byte);
        Ok(Self(bytes))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Name of a chain, part of everything that is signed.
///
/// 1 to 32 characters of `a-z`, `0-9`, `-`, `_` and `.`; held inline, so that a
/// transaction allocates nothing for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    bytes: [u8; CHAIN_ID_BYTES_MAX],
    length: u8,
}

impl ChainId {
    /// The chain id in these bytes.
    ///
    /// # Errors
    /// [`ParseError::ChainId`] for an empty, too long or otherwise spelled name.
    pub fn from_bytes(text: &[u8]) -> Result<Self, ParseError> {
        let allowed = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > CHAIN_ID_BYTES_MAX || !text.iter().all(allowed) {
            return Err(ParseError::ChainId { found: excerpt(&String::from_utf8_lossy(text)) });
        }
        let mut bytes = [0; CHAIN_ID_BYTES_MAX];
        for (place, byte) in bytes.iter_mut().zip(text) {
            *place = *byte;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 32, checked above")]
        Ok(Self { bytes, length: text.len() as u8 })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in.
        let name = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainId({self})")
    }
}

impl FromStr for ChainId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::from_bytes(text.as_bytes())
    }
}

impl Serialize for ChainId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ChainId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

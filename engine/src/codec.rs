//! The canonical encoding: what is hashed, signed and sent.
//!
//! Fixed-width little-endian integers, length-prefixed bytes, a version byte at
//! the head of every top-level object, one byte 0 or 1 for an optional part. One
//! value has one encoding: a decoder refuses every other spelling, and bytes left
//! over. Lengths are checked against a bound before anything is allocated.
//! Written down in `specs/encoding.md`; frozen by `fixtures/vectors`.

use crate::types::{Address, Amount, BlockId, ChainId, Hash, Height, Nonce};

/// Why bytes are not a canonical encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends before the object does.
    #[error("input ends after {at} bytes, {needed} more needed")]
    Truncated {
        /// Offset at which the missing part begins.
        at: usize,
        /// How many bytes are missing at least.
        needed: usize,
    },
    /// The object ends before the input does.
    #[error("{count} bytes left over after the object")]
    Trailing {
        /// How many bytes are left.
        count: usize,
    },
    /// A length or count is over its bound.
    #[error("{what} is {found}, over the maximum of {max}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The value found.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// A tag, version or flag with no meaning.
    #[error("{what} has the unknown value {found}")]
    Unknown {
        /// What is unknown.
        what: &'static str,
        /// The value found.
        found: u64,
    },
    /// A value that breaks a rule of its type.
    #[error("{what} is not valid")]
    Invalid {
        /// What is wrong.
        what: &'static str,
    },
}

/// Reads a canonical encoding from a slice, front to back.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input, length: input.len() }
    }

    /// How many bytes were read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            let needed = count.saturating_sub(self.rest.len());
            return Err(DecodeError::Truncated { at: self.position(), needed });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A 16-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// A 32-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A 64-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A flag: 0 or 1.
    ///
    /// # Errors
    /// [`DecodeError::Unknown`] for any other byte.
    pub fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(DecodeError::Unknown { what, found: u64::from(found) }),
        }
    }

    /// A byte that must be `expected`.
    ///
    /// # Errors
    /// [`DecodeError::Unknown`] for any other.
    pub fn tag(&mut self, what: &'static str, expected: u8) -> Result<(), DecodeError> {
        let found = self.u8()?;
        if found == expected {
            Ok(())
        } else {
            Err(DecodeError::Unknown { what, found: u64::from(found) })
        }
    }

    /// A count or length as u32, at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] over the bound.
    pub fn count(&mut self, what: &'static str, max: usize) -> Result<usize, DecodeError> {
        let found = self.u32()?;
        match usize::try_from(found) {
            Ok(count) if count <= max => Ok(count),
            _ => Err(DecodeError::TooLarge { what, found: u64::from(found), max: max as u64 }),
        }
    }

    /// Bytes behind their length as u32, at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] over the bound, [`DecodeError::Truncated`] at the end.
    pub fn bytes(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], DecodeError> {
        let count = self.count(what, max)?;
        self.take(count)
    }

    /// UTF-8 text behind its length, at most `max` bytes.
    ///
    /// # Errors
    /// As [`Reader::bytes`], and [`DecodeError::Invalid`] if it is not UTF-8.
    pub fn text(&mut self, what: &'static str, max: usize) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(what, max)?).map_err(|_| DecodeError::Invalid { what })
    }

    /// A chain id: length as one byte, then its characters.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if it is not one.
    pub fn chain_id(&mut self) -> Result<ChainId, DecodeError> {
        let length = self.u8()?;
        ChainId::from_bytes(self.take(usize::from(length))?)
            .map_err(|_| DecodeError::Invalid { what: "chain id" })
    }

    /// An amount.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] over 2^63 - 1.
    pub fn amount(&mut self) -> Result<Amount, DecodeError> {
        let found = self.u64()?;
        Amount::new(found).ok_or(DecodeError::TooLarge {
            what: "amount",
            found,
            max: Amount::MAX.get(),
        })
    }

    /// A height.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn height(&mut self) -> Result<Height, DecodeError> {
        self.u64().map(Height::saturating)
    }

    /// A nonce.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn nonce(&mut self) -> Result<Nonce, DecodeError> {
        self.u64().map(Nonce::saturating)
    }

    /// An address.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn address(&mut self) -> Result<Address, DecodeError> {
        self.array().map(Address)
    }

    /// A hash.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn hash(&mut self) -> Result<Hash, DecodeError> {
        self.array().map(Hash)
    }

    /// A block id.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn block_id(&mut self) -> Result<BlockId, DecodeError> {
        self.array().map(BlockId)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] if bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { count }),
        }
    }
}

/// Appends to a canonical encoding.
pub trait Writer {
    /// Raw bytes without a length.
    fn put(&mut self, bytes: &[u8]);

    /// One byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    /// A 16-bit integer.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    /// A 32-bit integer.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    /// A 64-bit integer.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    /// A count as u32. Counts are bounded far below 2^32 where objects are made.
    fn put_count(&mut self, count: usize) {
        self.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
    }
    /// Bytes behind their length as u32.
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_count(bytes.len());
        self.put(bytes);
    }
    /// A chain id behind its length as one byte.
    fn put_chain_id(&mut self, chain_id: &ChainId) {
        let text = chain_id.as_str().as_bytes();
        self.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.put(text);
    }
}

impl Writer for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// An object with a canonical encoding.
pub trait Canonical: Sized {
    /// Appends the canonical encoding.
    fn encode_to(&self, out: &mut Vec<u8>);

    /// Reads one object; bytes may follow.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but a canonical encoding.
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// The canonical encoding.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_to(&mut out);
        out
    }

    /// Reads an object that fills `input`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but a canonical encoding.
    fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(input);
        let object = Self::decode_from(&mut reader)?;
        reader.finish()?;
        Ok(object)
    }
}

//! Unlocked development accounts: a plain name stands for the key derived from the
//! devnet's seed and that name.
//!
//! A key is derived each time it is asked for; only names and addresses are remembered.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ait_engine::crypto::SecretKey;
use ait_engine::hash::Domain;
use ait_engine::types::{Address, ParseError};
use zeroize::Zeroizing;

/// Longest plain name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Most names that are remembered; the oldest is forgotten first.
const NAME_COUNT_MAX: usize = 10_000;
/// Lengths of a text with an address's prefix that is taken for a misspelled address
/// (one has 62 characters) and not for a name.
const ADDRESS_LIKE_CHARS: std::ops::RangeInclusive<usize> = 56..=NAME_BYTES_MAX;

/// Whether a text is a plain name: 1 to 64 of `a-z`, `A-Z`, `0-9`, `_`, `.` and `-`,
/// and neither an address nor nearly one.
#[must_use]
pub fn is_plain_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let address_like = text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("ait1"))
        && ADDRESS_LIKE_CHARS.contains(&text.len());
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && !address_like
        && text.parse::<Address>().is_err()
}

/// A text that is neither an address nor a plain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address}; a development account's name has 1 to {NAME_BYTES_MAX} characters of a-z, A-Z, 0-9, '_', '.' and '-'"
)]
pub struct NameError {
    /// Why it is no address.
    #[from]
    pub address: ParseError,
}

#[derive(Default)]
struct Names {
    by_address: HashMap<Address, String>,
    by_name: HashMap<String, Address>,
    order: VecDeque<Address>,
    /// Those that a request named: they are shown by name.
    spoken: HashSet<Address>,
}

struct Inner {
    seed: Zeroizing<[u8; 32]>,
    names: Mutex<Names>,
}

/// The development accounts of one devnet. Clones share what they remember.
#[derive(Clone)]
pub struct DevAccounts(Arc<Inner>);

impl fmt::Debug for DevAccounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.names().order.len();
        f.debug_struct("DevAccounts").field("names", &count).finish_non_exhaustive()
    }
}

impl DevAccounts {
    /// The accounts of the devnet with this seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let names = Mutex::new(Names::default());
        Self(Arc::new(Inner { seed: Zeroizing::new(seed), names }))
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        // Both maps are only a memory of what can be derived again.
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of a name. The devnet's own roles have names that are no plain names.
    #[must_use]
    pub fn secret_key(&self, name: &str) -> SecretKey {
        let from = [self.0.seed.as_slice(), name.as_bytes()];
        SecretKey::from_seed(*Zeroizing::new(Domain::DevelopmentKey.hash(&from).0))
    }

    /// The address that a text stands for: itself, or that of the account of this name.
    ///
    /// # Errors
    /// [`NameError`] if it is neither an address nor a plain name.
    pub fn resolve(&self, text: &str) -> Result<Address, NameError> {
        match text.parse() {
            Ok(address) => Ok(address),
            Err(_) if is_plain_name(text) => Ok(self.remember(text)),
            Err(error) => Err(NameError { address: error }),
        }
    }

    /// As [`DevAccounts::resolve`], without remembering a name.
    ///
    /// # Errors
    /// [`NameError`] if it is neither an address nor a plain name.
    pub fn peek(&self, text: &str) -> Result<Address, NameError> {
        match text.parse() {
            Ok(address) => Ok(address),
            Err(_) if is_plain_name(text) => Ok(self.secret_key(text).public_key().address()),
            Err(error) => Err(NameError { address: error }),
        }
    }

    fn remember(&self, name: &str) -> Address {
        if let Some(address) = self.names().by_name.get(name) {
            return *address;
        }
        let address = self.secret_key(name).public_key().address();
        let mut names = self.names();
        if names.by_name.insert(name.to_owned(), address).is_none() {
            names.by_address.insert(address, name.to_owned());
            // The funded ones are never forgotten.
            if !super::FUNDED_NAMES.contains(&name) {
                names.order.push_back(address);
            }
        }
        if names.order.len() > NAME_COUNT_MAX
            && let Some(oldest) = names.order.pop_front()
            && let Some(name) = names.by_address.remove(&oldest)
        {
            names.spoken.remove(&oldest);
            names.by_name.remove(&name);
        }
        address
    }

    /// As [`DevAccounts::resolve`], and the account is shown by its name from now on if it
    /// was named: so those who speak of addresses read addresses, and the others names.
    ///
    /// # Errors
    /// [`NameError`] if it is neither an address nor a plain name.
    pub fn speak(&self, text: &str) -> Result<Address, NameError> {
        let address = self.resolve(text)?;
        let mut names = self.names();
        if names.by_name.contains_key(text) {
            names.spoken.insert(address);
        }
        Ok(address)
    }

    /// The name of an account that was spoken of by name.
    #[must_use]
    pub fn spoken(&self, address: &Address) -> Option<String> {
        let names = self.names();
        names.by_address.get(address).filter(|_| names.spoken.contains(address)).cloned()
    }

    /// The name under which an address was used here, if it was.
    #[must_use]
    pub fn name_of(&self, address: &Address) -> Option<String> {
        self.names().by_address.get(address).cloned()
    }

    /// The key of what a text stands for: of a plain name, or of the address of one
    /// that was used here.
    #[must_use]
    pub fn unlocked(&self, text: &str) -> Option<SecretKey> {
        let address = self.resolve(text).ok()?;
        self.name_of(&address).map(|name| self.secret_key(&name))
    }
}

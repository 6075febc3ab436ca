//! Bytes read from a snapshot, borrowed from the engine where it can lend them.
//!
//! A value never changes after it was read.

use std::{fmt, ops::Deref, sync::Arc};

/// Bytes of a key or of a stored value.
///
/// Those that came from redb lie in its page cache and keep the snapshot they were read from
/// alive: copy with [`Value::into_vec`] what is kept for longer than the work at hand, or pages
/// that were freed since cannot be used again.
pub struct Value(Repr);

enum Repr {
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    Redb(redb::OwnedAccessGuard<&'static [u8]>),
}

impl Value {
    /// The bytes, copied unless this value already owns them.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Repr::Owned(bytes) => bytes,
            Repr::Shared(bytes) => bytes.to_vec(),
            Repr::Redb(guard) => guard.value().to_vec(),
        }
    }

    pub(crate) fn shared(bytes: Arc<[u8]>) -> Self {
        Self(Repr::Shared(bytes))
    }

    /// Reads the value once: where the page is damaged that panics here, and not at its use.
    pub(crate) fn redb(guard: redb::OwnedAccessGuard<&'static [u8]>) -> Self {
        let _ = guard.value();
        Self(Repr::Redb(guard))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Repr::Owned(bytes))
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Owned(bytes) => bytes,
            Repr::Shared(bytes) => bytes,
            Repr::Redb(guard) => guard.value(),
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

/// Shows the length only: this crate does not know what is secret.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.len())
    }
}

/// Values cross threads: a reader's result is answered by another task.
const _: fn() = || {
    fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<Value>();
};

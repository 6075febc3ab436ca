//! The name of a table.
//!
//! Which tables exist and what they hold is the chain's business, not this crate's.

use std::fmt;

use crate::limits::TABLE_NAME_BYTES_MAX;

/// A named, ordered set of entries. A table nothing was ever put into reads as empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(&'static str);

impl Table {
    /// Names a table.
    ///
    /// # Panics
    ///
    /// If the name is empty or longer than [`TABLE_NAME_BYTES_MAX`]. Names are constants of the
    /// program: in a `const` this is a compile error.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty(), "a table name is not empty");
        assert!(name.len() <= TABLE_NAME_BYTES_MAX, "a table name is short");
        Self(name)
    }

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

//! What a table costs.
//!
//! Figures for people and metrics; nothing decides by them.

/// Size of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStats {
    /// The table's name, as the engine has it.
    pub name: String,
    /// Number of entries.
    pub entries: u64,
    /// Bytes of the keys and values themselves.
    pub stored_bytes: u64,
    /// Bytes the engine adds to find them.
    pub metadata_bytes: u64,
    /// Bytes allocated to the table and unused.
    pub fragmented_bytes: u64,
}

//! The way in: from a decoded transaction to a pending one.

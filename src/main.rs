//! The node's program.
//!
//! Nothing but the call into the library belongs here.

fn main() {}

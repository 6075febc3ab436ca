//! Tests of the way in.

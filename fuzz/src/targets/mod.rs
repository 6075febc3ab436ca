//! One file for each target: the property, and good inputs.

pub mod canonical;
pub mod certificate;
pub mod proof;
pub mod wire;

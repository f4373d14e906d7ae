//! The gates' evaluations: pure, each its own file.

pub mod ci;
pub mod freshness;

pub mod security;

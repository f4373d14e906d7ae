//! The gates' evaluations: pure, each its own file.

pub mod freshness;
//! Exit gates: pure verdicts over evidence.

pub mod security;

//! L2: pure decisions. `decide(&Snapshot, &Policy) -> Plan`; no I/O, clock, randomness or logging. Used by `engine`, rendered by `cli`.

pub mod deploy_result;
pub mod gates;
pub mod notify;
pub mod staging;
pub mod watch;

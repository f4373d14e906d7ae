//! L2: pure decisions. `decide(&Snapshot, &Policy) -> Plan`; no I/O, clock, randomness or logging. Used by `engine`, rendered by `cli`.

//! The security scan's tools (SHIP-1): gitleaks over the commits of a range, dependency audits over its lock files.
//!
//! [`range`] reads what is to be scanned, [`run`] scans it. Nothing here judges: `decide::gates::security` does.
//! Used by `engine` (with a mirror) and by `orch security-scan` (with any checkout). No store, no configuration.

mod call;

//! Reserved jobs: long deterministic work under its own supervisor, once per commit and rule set (RUN-1).

pub(super) mod bench;
mod build;
mod ci;
mod deploy;
mod image;
mod output;
mod red_ci;
mod scan;
mod staging;

pub use build::build;
pub use ci::ci;
pub use deploy::{deploy, finalizer};
pub use output::is_gone as build_is_gone;
pub use scan::{Range, apply_settings, request as scan_request, rules as scan_rules, scan};
pub use staging::staging;

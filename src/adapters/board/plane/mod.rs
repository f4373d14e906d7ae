//! Plane's REST API v1 (services.md §1). `client` asks, `wire` reads.

mod client;
pub mod wire;

pub use client::{ItemPath, Plane, Probe, Project, find_project};

//! `orch`: from an issue on a board to a healthy deploy, by idempotent steps and no resident process.
//!
//! Layers, imports go down only: `cli` → `engine` → (`decide` | `adapters` | `config`, `render`) → `model` → `yaml`.
//! `tests/architecture.rs` holds the direction, the purity of `decide`, `model` and `render`, and file sizes.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm, reason = "tests may fail loudly")
)]

pub mod adapters;
pub mod cli;
pub mod config;
pub mod decide;
pub mod engine;
pub mod failpoint;
#[doc(hidden)]
pub mod fuzzing;
pub mod model;
pub mod render;
pub mod short;
pub mod yaml;

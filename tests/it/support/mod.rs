//! Shared by the tests: hermetic environments, fakes of the services, git helpers.

/// The program under test. No other file names its place.
pub const ORCH: &str = env!("CARGO_BIN_EXE_orch");

pub mod anthropic;
pub mod attacks;
pub mod confined;
pub mod crash;
pub mod git;
pub mod gitea;
pub mod github;
pub mod graphql;
pub mod house;
pub mod http;
pub mod json_board;
pub mod net;
#[cfg(feature = "failpoints")]
pub mod night;
pub mod nspawn;
pub mod openapi;
pub mod pipe;
pub mod plane;
pub mod procs;
pub mod rows;
pub mod scan;
pub mod scene;
pub mod secrets;
pub mod seeded;
pub mod slurm;
pub mod slurm_world;
pub mod source;
pub mod telegram;
pub mod tools;
pub mod wait;
pub mod web;
pub mod world;

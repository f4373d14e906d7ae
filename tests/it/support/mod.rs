//! What the tests share: hermetic environments, fakes of the services, git helpers.
pub mod anthropic;
pub mod crash;
pub mod git;
pub mod gitea;
pub mod house;
pub mod http;
pub mod nspawn;
pub mod pipe;
pub mod plane;
pub mod scan;
pub mod scene;
pub mod secrets;
pub mod seeded;
pub mod telegram;
pub mod tools;
pub mod web;
pub mod world;

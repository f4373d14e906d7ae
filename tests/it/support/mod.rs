//! What the tests share: hermetic environments, fakes of the services, git helpers.
pub mod git;
pub mod http;
pub mod web;

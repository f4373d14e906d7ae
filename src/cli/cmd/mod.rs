//! One file per subcommand: an `Args` struct whose doc comment is the help, and `run`.

pub mod advance;
pub mod config;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod gate;
pub mod init;
pub mod logs;
pub mod metrics;
pub mod new;
pub mod operate;
pub mod post_deploy_probe;
pub mod prune;
pub mod reap;
pub mod reconcile;
pub mod report;
pub mod run_job;
pub mod security_scan;
pub mod shell;
pub mod show;
pub mod staging_check;
pub mod status;
pub mod stop;
pub mod tick;
pub mod timeline;

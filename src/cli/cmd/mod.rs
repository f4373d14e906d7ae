//! One file per subcommand: an `Args` struct whose doc comment is the help, and `run`.

pub mod post_deploy_probe;
pub mod security_scan;
pub mod staging_check;

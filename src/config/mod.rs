//! L2: the configuration file, environment and secrets (CFG-1..3). Used by `engine` and `cli`.

pub mod standalone;

//! One file per subcommand: an `Args` struct whose doc comment is the help, and `run`.

//! L2: the configuration file, environment and secrets (CFG-1..3). Used by `engine` and `cli`.

mod answers;
mod check;
mod confine;
pub mod docs;
mod error;
mod git;
mod known;
mod layers;
mod load;
pub mod locate;
mod notify;
mod parts;
mod paths;
mod project;
mod read;
mod repository;
mod runtimes;
mod scalar;
mod secret;
mod settings;
mod show;
mod slurm;
pub mod standalone;
#[cfg(test)]
mod tests;
mod types;
mod vars;
mod waivers;

pub use crate::model::sides::{Account, Board, Forge, Method, Update, Via};
pub use confine::{List, NetworkWord, UIDS};
pub use error::ConfigError;
pub use load::{fuzz, load, load_or_bare, process_env, schema, search};
pub use paths::same_remote;
pub use repository::{FILE as REPOSITORY_FILE, Repository};
pub use scalar::{KofM, Text};
pub use secret::{EnvValue, Secret, SecretError, SecretRef, resolve_env, take_over};
pub use settings::{Setting, settings};
pub use show::Shown;
pub use slurm::{SlurmJob, SlurmKind, installation};
pub use types::*;
pub use vars::OF_A_RUN;
pub use waivers::waivers;

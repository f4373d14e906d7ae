//! L1: plain data and state machines. No I/O, clock, randomness or logging. Everyone may use it.

pub mod agent_prompt;
pub mod artefact;
pub mod board;
pub mod card;
pub mod card_steps;
pub mod ci;
pub mod decision;
pub mod deploy;
pub mod frontmatter;
pub mod ids;
pub mod mask;
pub mod outcome;
pub mod policy;
pub mod probe;
pub mod report;
pub mod scan;
pub mod seen;
pub mod stage;
pub mod staging;
pub mod status;
pub mod summary;
pub mod task;
pub mod text;
pub mod time;
pub mod view;
pub mod watch;

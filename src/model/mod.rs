//! L1: plain data and state machines. No I/O, clock, randomness or logging. Everyone may use it.

pub mod board;
pub mod card;
pub mod ci;
pub mod decision;
pub mod deploy;
pub mod ids;
pub mod policy;
pub mod probe;
pub mod report;
pub mod scan;
pub mod seen;
pub mod stage;
pub mod staging;
pub mod task;
pub mod time;
pub mod view;
pub mod watch;

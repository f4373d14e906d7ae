//! L1: plain data and state machines. No I/O, clock, randomness or logging. Everyone may use it.

pub mod ids;
pub mod report;
pub mod stage;
pub mod task;
pub mod time;

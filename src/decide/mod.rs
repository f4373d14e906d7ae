//! L2: pure decisions, data in and data out; no I/O, clock, randomness or logging. Used by `engine`, rendered by `cli`.

pub mod advice;
pub mod again;
pub mod awaits;
pub mod back_off;
pub mod base;
pub mod board;
pub mod caller;
pub mod changes;
pub mod chat;
pub mod command;
pub mod definitions;
pub mod deploy_result;
pub mod dispatch;
pub mod gates;
pub mod guards;
pub mod inputs;
pub mod landing;
pub mod lease;
pub mod left;
pub mod merge;
pub mod notify;
pub mod outages;
pub mod prune;
pub mod queue;
pub mod ran;
pub mod reap;
pub mod reconcile;
pub mod refused;
pub mod report;
pub mod run_end;
pub mod said;
pub mod serial;
pub mod staging;
pub mod stop;
pub mod transition;
pub mod undecided;
pub mod units;
pub mod verdicts;
pub mod watch;
pub mod workflows;

#[cfg(test)]
mod tests;

//! L2: turns data into text: card, reports, prompts, tables. Pure: no I/O, clock, randomness or logging.

pub mod alert;
pub mod board;
pub mod card;
pub mod cause;
pub mod cells;
pub mod chat;
pub mod deploy;
pub mod events;
pub mod evidence;
pub mod explain;
pub mod junit;
pub mod locale;
pub mod metrics;
pub mod notes;
pub mod page;
pub mod paint;
pub mod prompt;
pub mod report;
pub mod security;
pub mod shown;
pub mod staging;
pub mod story;
pub mod summary;
pub mod view;
pub mod watch;

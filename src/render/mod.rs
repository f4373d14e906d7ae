//! L2: pure text out of data: card, reports, prompts, tables. No I/O, clock, randomness or logging.

pub mod alert;
pub mod card;
pub mod deploy;
pub mod events;
pub mod evidence;
pub mod junit;
pub mod locale;
pub mod prompt;
pub mod report;
pub mod security;
pub mod shown;
pub mod staging;
pub mod watch;

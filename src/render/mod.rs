//! L2: pure text out of data: card, reports, prompts, tables. No I/O, clock, randomness or logging.
pub mod security;

//! Asking a person on a terminal; without one the answer is the default.

use crate::cli::Invocation;
use std::io::{BufRead, IsTerminal};

/// Whether a person is at the terminal and wants no JSON.
pub fn is_person(call: &Invocation) -> bool {
    !call.out.is_json() && std::io::stdin().is_terminal() && call.out.is_error_terminal()
}

/// A yes-or-no question whose default is yes. Not asked without a terminal, with `--json`, or where `given` already
/// answers it.
pub fn yes(call: &Invocation, given: bool, question: &str) -> bool {
    if given || !is_person(call) {
        return true;
    }
    call.out.ask(&format!("{question} [Y/n] "));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.is_ok_and(|n| n > 0) && !line.trim().to_ascii_lowercase().starts_with('n')
}

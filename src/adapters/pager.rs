//! The person's pager, for texts longer than a screen (ORD-5). Started only if standard output is a terminal.

use std::io::Write;
use std::process::{Command, Stdio};

/// The pager's command line: `$ORCH_PAGER`, else `$GIT_PAGER`, else `$PAGER`, else `less`. `None`: print without a
/// pager (a variable that is set but empty, or `cat`).
pub fn wanted(var: impl Fn(&str) -> Option<String>) -> Option<String> {
    let named = ["ORCH_PAGER", "GIT_PAGER", "PAGER"].into_iter().find_map(var);
    let line = named.unwrap_or_else(|| "less".to_owned());
    let line = line.trim();
    (!line.is_empty() && line != "cat").then(|| line.to_owned())
}

/// Shows a text in the pager and waits until the person quits. False: it could not be started, and nothing was shown.
pub fn show(line: &str, text: &str) -> bool {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        // Quit if it fits one screen; leave the text on the screen.
        command.env("LESS", "FRX");
    }
    let Ok(mut child) = command.spawn() else { return false };
    if let Some(mut input) = child.stdin.take() {
        // A pager that is quit early closes its end; that is no error.
        drop(input.write_all(text.as_bytes()));
    }
    child.wait().is_ok_and(|status| status.code() != Some(127))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let of = |set: &'static [(&str, &str)]| {
            wanted(move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(of(&[]).as_deref(), Some("less"));
        assert_eq!(of(&[("PAGER", "more"), ("GIT_PAGER", "delta")]).as_deref(), Some("delta"));
        assert_eq!(of(&[("ORCH_PAGER", ""), ("PAGER", "more")]), None);
        assert_eq!(of(&[("ORCH_PAGER", "cat")]), None);
    }
}

//! Whether text is coloured (DSK-1): `--color` beats `CLICOLOR_FORCE` beats `NO_COLOR` beats terminal or not.

use super::Global;
use clap::ColorChoice;
use std::ffi::OsString;

/// The decision. `flag`: the value of `--color`; `var`: the environment.
pub fn wanted(flag: &str, var: impl Fn(&str) -> Option<OsString>, terminal: bool) -> bool {
    let set = |name: &str| var(name).filter(|v| !v.is_empty());
    match flag {
        "always" => true,
        "never" => false,
        _ if set("CLICOLOR_FORCE").is_some_and(|v| v != "0") => true,
        _ if set("NO_COLOR").is_some() => false,
        _ => terminal,
    }
}

/// As [`wanted`], with this process's environment. JSON is never coloured.
pub fn of(global: &Global, terminal: bool) -> bool {
    !global.json && wanted(&global.color, |name| std::env::var_os(name), terminal)
}

/// The setting for clap's own texts (help, usage errors), before the command line is parsed; clap reads the variables
/// differently.
pub fn of_help(words: &[String], terminal: bool) -> ColorChoice {
    let flag = |(i, word): (usize, &String)| match word.strip_prefix("--color") {
        Some("") => words.get(i + 1).cloned(),
        Some(rest) => rest.strip_prefix('=').map(str::to_owned),
        None => None,
    };
    let flag = words.iter().enumerate().filter_map(flag).next_back().unwrap_or_default();
    if wanted(&flag, |name| std::env::var_os(name), terminal) { ColorChoice::Always } else { ColorChoice::Never }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_beats_force_beats_no_color_beats_the_terminal() {
        for (flag, force, no, terminal, wanted_colour) in [
            ("auto", "", "", true, true),
            ("auto", "", "", false, false),
            ("auto", "", "1", true, false),
            ("auto", "1", "1", false, true),
            ("auto", "0", "", true, true),
            ("auto", "0", "1", true, false),
            ("never", "1", "", true, false),
            ("always", "", "1", false, true),
        ] {
            let var = |name: &str| match name {
                "CLICOLOR_FORCE" => Some(OsString::from(force)),
                "NO_COLOR" => Some(OsString::from(no)),
                _ => None,
            };
            assert_eq!(wanted(flag, var, terminal), wanted_colour, "{flag} {force:?} {no:?} {terminal}");
        }
    }

    #[test]
    fn help_knows_the_flag_before_the_command_line_is_read() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of_help(&words("status --color=always --help"), false), ColorChoice::Always);
        assert_eq!(of_help(&words("--color never help"), true), ColorChoice::Never);
    }
}

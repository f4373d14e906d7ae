//! Programs that this shell finds but the timers' units do not, or find elsewhere (ORD-4): units only have `orch.env`,
//! nothing of the shell.

use super::Chart;
use crate::adapters::toolbox;
use crate::cli::init::envfile;
use crate::cli::{Invocation, open};
use crate::config::{Config, REPOSITORY_FILE};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A line for each program that shell and units find differently. None without an `orch.env`.
pub fn all(config: &Config, chart: &mut Chart) {
    let path = envfile::place(&config.file);
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let unit = envfile::settings(&text).remove("PATH").unwrap_or_default();
    let shell = std::env::var_os("PATH").unwrap_or_default();
    let mut same = true;
    for (name, needed) in programs(config) {
        let (here, there) = (find(&name, &shell), find(&name, OsStr::new(&unit)));
        let place = |found: &Option<PathBuf>| found.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        if here == there {
            continue;
        }
        same = false;
        let fix = format!("set PATH in {} as the shell has it", path.display());
        match (&here, &there) {
            (Some(_), None) if needed => {
                let message = format!("this shell finds {}, the timers' units find none", place(&here));
                chart.fail("timers", &name, message, format!("add its folder to PATH in {}", path.display()));
            }
            (Some(_), None) => {
                chart.warn(
                    "timers",
                    &name,
                    format!("this shell finds {}, the timers' units find none", place(&here)),
                    fix,
                );
            }
            (None, Some(_)) => {
                chart.warn(
                    "timers",
                    &name,
                    format!("the timers' units find {}, this shell finds none", place(&there)),
                    fix,
                );
            }
            _ => {
                let message =
                    format!("this shell finds {}, but the timers' units find {}", place(&here), place(&there));
                chart.warn("timers", &name, message, fix);
            }
        }
    }
    let lacking: Vec<String> = envfile::lacking(config, &text).into_iter().filter(|n| n != "PATH").collect();
    let unset: Vec<String> = lacking.into_iter().filter(|name| std::env::var_os(name).is_some()).collect();
    if !unset.is_empty() {
        let message = format!("this shell has {}, but the timers' units do not", unset.join(", "));
        chart.warn("timers", "variables", message, format!("set them in {}, or name files instead", path.display()));
        same = false;
    }
    if same {
        chart.ok("timers", "orch.env", format!("{}: units find the same programs as this shell", path.display()));
    }
}

/// Whether the repositories' own configuration files are valid, as found in the mirrors (ORD-3).
pub fn repositories(call: &Invocation, config: &Config, chart: &mut Chart) {
    if !config.projects.iter().any(|p| p.repository_config) {
        return;
    }
    // A database that can't be opened has its own check.
    let Ok(ctx) = open::view(call, "doctor") else { return };
    for project in ctx.config.projects.iter().filter(|p| p.repository_config) {
        match &project.fault {
            Some(why) => chart.warn(
                &project.key,
                REPOSITORY_FILE,
                why,
                "fix it on the default branch; until then nothing starts",
            ),
            None => chart.ok(&project.key, REPOSITORY_FILE, "supplies the keys that this configuration does not set"),
        }
    }
}

/// Searches a path list, then the tools cache, as every step does.
fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    let found = which::which_in(name, Some(path), "/").ok();
    found.or_else(|| toolbox::cached(name))
}

/// Programs that this configuration finds by name, and whether anything fails without them.
fn programs(config: &Config) -> BTreeMap<String, bool> {
    let mut all: BTreeMap<String, bool> = BTreeMap::new();
    let mut add = |name: &str, needed: bool| {
        if !name.is_empty() && !name.contains('/') {
            *all.entry(name.to_owned()).or_default() |= needed;
        }
    };
    let t = &config.tools;
    add(&t.git, true);
    add(&t.gitleaks, config.projects.iter().any(|p| config.security_gate(p)));
    for audit in [&t.pip_audit, &t.cargo_audit, &t.npm, &t.osv_scanner] {
        add(audit, false);
    }
    for (_, runtime) in config.runtimes.iter().filter(|(name, _)| config.plays(name)) {
        add(runtime.kind.argv().1.first().map_or("", String::as_str), true);
    }
    for (_, argv) in config.commands() {
        started(&argv).into_iter().for_each(|name| add(&name, true));
    }
    all
}

/// The programs that a command starts by name: its first word or, for `sh -c`, the first word of each part.
fn started(argv: &[String]) -> Vec<String> {
    let Some((program, arguments)) = argv.split_first() else { return Vec::new() };
    let mut all = vec![program.clone()];
    let shell = Path::new(program).file_name().is_some_and(|n| ["sh", "bash", "dash"].iter().any(|s| n == *s));
    let script = arguments.windows(2).find(|w| w[0].starts_with('-') && w[0].ends_with('c')).map(|w| w[1].as_str());
    if let Some(script) = script.filter(|_| shell) {
        let parts = script.split(['\n', ';', '|', '&']);
        let words = parts.filter_map(|part| part.split_whitespace().next());
        let plain = |w: &&str| w.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
        all.extend(words.filter(plain).map(str::to_owned));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ord_4_what_a_command_starts_is_known_by_its_words() {
        let of = |argv: &[&str]| started(&argv.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["cargo", "test"]), ["cargo"]);
        assert_eq!(of(&["sh", "-ec", "npm ci && npm test; cd x\n./y $Z"]), ["sh", "npm", "npm", "cd"]);
        assert_eq!(of(&["./ci.sh"]), ["./ci.sh"]);
        assert!(of(&[]).is_empty());
    }
}

//! The house rules that a compiler does not enforce: direction of imports, purity, who prints, who exits, file sizes.
//!
//! The source is read as text: comments, string contents and test modules are removed first. Every rule is about
//! folders and words, so it applies to a new file from its first line.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[path = "architecture/graph.rs"]
mod graph;
#[path = "it/support/source.rs"]
mod source;
use source::{blank, product_files, rust_files, without_tests, word};

/// Layers, from the top; a file may import from levels below its own and from its own layer, not from a sibling.
const LEVELS: &[&[&str]] = &[
    &["main", "fuzzing"],
    &["cli"],
    &["engine"],
    &["decide", "adapters", "config", "render"],
    &["model"],
    &["yaml", "failpoint", "short"],
];
/// Layers without I/O, clock, randomness or logging.
const PURE: &[&str] = &["decide", "model", "render"];
/// Prefixes of paths that a pure layer must not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "crate::short",
    "std::env",
    "std::thread",
    "std::os",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::time::SystemTime",
    "std::time::Instant",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "rand",
    "getrandom",
    "tracing",
    "log",
    "rusqlite",
    "reqwest",
    "rustls",
    "rustix",
    "tempfile",
    "which",
    "signal_hook",
    "indicatif",
    "tracing_subscriber",
    "clap",
];
const LONGEST_SOURCE: usize = 600;
const LONGEST_TEST: usize = 900;
/// A file of `src/cli/cmd`: one subcommand with its `Args`. Rules and texts belong to `decide`, `engine`, `render`.
const LONGEST_COMMAND: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One file, in three readings.
struct Source {
    /// From the root of the checkout.
    name: String,
    whole: String,
    /// Without comments, string contents and test modules.
    code: String,
    /// Contents of its string literals outside test modules, with their lines.
    strings: Vec<(usize, String)>,
}

impl Source {
    /// `decide::gates::ci` as parts; `main.rs` and `lib.rs` are `[main]` and `[]`.
    fn module(&self) -> Vec<&str> {
        let inner = self.name.trim_start_matches("src/").trim_end_matches(".rs");
        let mut parts: Vec<&str> = inner.split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib")) {
            parts.pop();
        }
        parts
    }

    fn layer(&self) -> &str {
        self.module().first().copied().unwrap_or("lib")
    }
}

fn read(path: &Path) -> Source {
    let whole = std::fs::read_to_string(path).unwrap();
    let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let (blank, strings) = blank(&whole);
    let (code, cut) = without_tests(&blank);
    let strings = strings.into_iter().filter(|(line, _)| !cut.iter().any(|c| c.contains(line))).collect();
    Source { name, whole, code, strings }
}

fn product() -> Vec<Source> {
    product_files().iter().map(|p| read(p)).collect()
}

/// Every path of a text (`a::b::c`), with braces of `use` trees expanded and whitespace removed.
fn paths(code: &str) -> Vec<(usize, String)> {
    let c: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < c.len() {
        if word(c[i]) && !(i > 0 && (word(c[i - 1]) || c[i - 1] == ':' || c[i - 1] == '.')) {
            let start = line;
            let mut end = i;
            let mut all = Vec::new();
            tree(&c, &mut end, String::new(), &mut all);
            found.extend(all.into_iter().map(|p| (start, p)));
            let next = end.max(i + 1);
            line += c[i..next.min(c.len())].iter().filter(|c| **c == '\n').count();
            i = next;
        } else {
            line += usize::from(c[i] == '\n');
            i += 1;
        }
    }
    found
}

/// Reads one path or `use` tree from `i` on.
fn tree(c: &[char], i: &mut usize, prefix: String, all: &mut Vec<String>) {
    let mut path = prefix;
    loop {
        let mut name = String::new();
        while *i < c.len() && word(c[*i]) {
            name.push(c[*i]);
            *i += 1;
        }
        if !path.is_empty() {
            path.push_str("::");
        }
        path.push_str(&name);
        let mut j = *i;
        while j < c.len() && c[j].is_whitespace() {
            j += 1;
        }
        if c.get(j) != Some(&':') || c.get(j + 1) != Some(&':') {
            break;
        }
        j += 2;
        while j < c.len() && c[j].is_whitespace() {
            j += 1;
        }
        match c.get(j) {
            Some('{') => {
                *i = j + 1;
                branches(c, i, &path, all);
                return;
            }
            Some(x) if word(*x) => *i = j,
            _ => {
                *i = j;
                break;
            }
        }
    }
    all.push(path);
}

fn branches(c: &[char], i: &mut usize, prefix: &str, all: &mut Vec<String>) {
    while *i < c.len() {
        match c[*i] {
            '}' => {
                *i += 1;
                return;
            }
            x if word(x) => {
                tree(c, i, prefix.to_owned(), all);
                // `as name` behind a branch is not a path of its own.
                while *i < c.len() && c[*i] != ',' && c[*i] != '}' {
                    *i += 1;
                }
            }
            _ => *i += 1,
        }
    }
}

/// A path from the crate's root, if it is one: `crate::…`, or `super::…` from a module.
fn from_root(module: &[&str], path: &str) -> Option<Vec<String>> {
    let parts: Vec<&str> = path.split("::").collect();
    match parts.first() {
        Some(&"crate" | &"orch") => Some(parts.iter().skip(1).map(|p| (*p).to_owned()).collect()),
        Some(&"super") => {
            let up = parts.iter().take_while(|p| **p == "super").count();
            let kept = module.get(..module.len().checked_sub(up)?)?;
            Some(kept.iter().chain(parts.get(up..)?).map(|p| (*p).to_owned()).collect())
        }
        _ => None,
    }
}

fn level(layer: &str) -> Option<usize> {
    LEVELS.iter().position(|names| names.contains(&layer))
}

/// Why a layer may not name another, if so.
fn forbidden(from: &str, to: &str) -> Option<String> {
    if from == to {
        return None;
    }
    let (above, below) = (level(from)?, level(to)?);
    (below <= above).then(|| format!("{from} may not import {to}: imports go down only, and not between siblings"))
}

fn hold(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn every_layer_is_known() {
    let mut faults = Vec::new();
    for file in product() {
        let layer = file.layer().to_owned();
        if layer != "lib" && level(&layer).is_none() {
            faults.push(format!("{}: {layer} is in no layer; add it to LEVELS with its place", file.name));
        }
    }
    hold("layers", &faults);
}

#[test]
fn imports_go_down_only() {
    let mut faults = Vec::new();
    for file in product() {
        let module = file.module();
        for (line, path) in paths(&file.code) {
            let Some(target) = from_root(&module, &path) else { continue };
            let Some(to) = target.first() else { continue };
            if let Some(why) = forbidden(file.layer(), to) {
                faults.push(format!("{}:{line}: {path}: {why}", file.name));
            }
        }
    }
    hold("direction of imports", &faults);
}

/// The adapters know neither each other nor the store: they may share only what they are all built on.
#[test]
fn an_adapter_knows_no_other() {
    // `http` is the client of every service; `github` is the base of that service's board and forge; `git` is the base
    // of a forge without a service; the rest belongs to the machine.
    let shared: BTreeSet<&str> = [
        "http",
        "git",
        "github",
        "locks",
        "process",
        "accounts",
        "files",
        "handed",
        "modes",
        "net",
        "toolbox",
        "confine",
        "child",
        "environment",
    ]
    .into();
    let mut faults = Vec::new();
    for file in product() {
        let module = file.module();
        let (Some(&"adapters"), Some(own)) = (module.first(), module.get(1)) else { continue };
        for (line, path) in paths(&file.code) {
            let Some(target) = from_root(&module, &path) else { continue };
            let (Some("adapters"), Some(other)) = (target.first().map(String::as_str), target.get(1)) else { continue };
            let is_module = other.chars().all(|c| c.is_lowercase() || c == '_');
            if is_module && other != own && !shared.contains(other.as_str()) {
                faults
                    .push(format!("{}:{line}: {path}: engine joins adapters, they do not know each other", file.name));
            }
        }
    }
    hold("adapters", &faults);
}

/// The kinds, the home of each, and who else names one: a new kind touches each of these with a line or two.
const KINDS: [(&str, &[&str], &[&str]); 2] = [
    (
        "src/adapters/board/",
        &["LocalBoard", "PlaneBoard", "GithubBoard", "board::local", "board::plane", "board::github"],
        &["src/model/sides.rs", "src/model/sides_github.rs"],
    ),
    (
        "src/adapters/forge/",
        &["GiteaForge", "GithubForge", "forge::gitea", "forge::github", "forge::local"],
        &["src/model/sides.rs", "src/model/sides_github.rs"],
    ),
];

/// A board or forge is one folder, and its address and keys: one file in addition to it. Whoever else depends on
/// a kind's properties asks `model::sides` before it is opened, and the trait afterwards.
#[test]
fn a_kind_is_named_only_where_it_is_at_home() {
    let variants = ["Local", "Plane", "Github", "Gitea"];
    let matched = |path: &str| {
        let mut parts = path.rsplit("::");
        let (variant, of) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        variants.contains(&variant) && ["Board", "Forge", "Address"].contains(&of)
    };
    let mut faults = Vec::new();
    for file in product() {
        // Its targets are the kinds' own parsers.
        if file.name == "src/fuzzing.rs" || file.name == "src/config/mod.rs" {
            continue;
        }
        for (home, words, others) in KINDS {
            if file.name.starts_with(home) || others.contains(&file.name.as_str()) {
                continue;
            }
            for (line, path) in paths(&file.code) {
                let word = words
                    .iter()
                    .any(|w| path == *w || path.ends_with(&format!("::{w}")) || path.contains(&format!("{w}::")));
                if (word || matched(&path)) && !file.name.starts_with("src/adapters/") {
                    faults.push(format!(
                        "{}:{line}: {path}: ask what it can do (model::sides, or the trait of {home})",
                        file.name
                    ));
                }
            }
        }
    }
    faults.sort();
    faults.dedup();
    hold("kinds", &faults);
}

/// BND-2: whatever an agent or a branch names is started through `adapters::confine`. This list names who starts a
/// program under the operator's own account, and which one.
#[test]
fn only_what_is_the_operators_starts_outside_the_confinement() {
    let operators = [
        "src/adapters/child/launch.rs", // the boundary itself
        "src/adapters/confine/",        // the engines
        "src/engine/reserved/bench.rs", // deploy and staging's own build, by `By::Operator`
        "src/engine/watch.rs",          // rollback
        "src/cli/doctor/fix.rs",        // the repairs of `--fix`: an installer, loginctl
        "src/cli/doctor/machine.rs",    // `--version` of configured programs
    ];
    let starters = [
        "src/adapters/child/launch.rs",
        "src/adapters/confine/",
        "src/adapters/executor/",        // supervisors
        "src/adapters/git/cmd.rs",       // git, never on what a run left
        "src/adapters/handed.rs",        // this program again, without secrets in its environment
        "src/adapters/notify/sinks.rs",  // notify.command
        "src/adapters/pager.rs",         // the person's pager
        "src/adapters/probe/command.rs", // revisions and error counts; checks go through the child
        "src/adapters/scan/call.rs",     // scanners
        "src/cli/demo/world.rs",         // this program
        "src/config/secret.rs",          // commands that print a secret
        "src/engine/staging.rs",         // this program
    ];
    let mut faults = Vec::new();
    for file in product() {
        let listed =
            |list: &[&str]| list.iter().any(|l| file.name == *l || (l.ends_with('/') && file.name.starts_with(l)));
        for (line, path) in paths(&file.code) {
            if path.ends_with("Boundary::Operator") && !listed(&operators) {
                faults.push(format!("{}:{line}: {path}: is this the operator's? then list it here", file.name));
            }
            if path.ends_with("Command::new") && !path.contains("clap") && !listed(&starters) {
                faults.push(format!("{}:{line}: {path}: start it through adapters::child with a boundary", file.name));
            }
        }
    }
    hold("programs outside the confinement", &faults);
}

#[test]
fn decide_model_and_render_are_pure() {
    let mut faults = Vec::new();
    for file in product().iter().filter(|f| PURE.contains(&f.layer())) {
        // `use std::time::Instant` makes a bare `Instant::now` mean the clock; a type of ours of that name is allowed.
        for (line, path) in paths(&file.code) {
            let named = |rule: &&&str| path == **rule || path.starts_with(&format!("{rule}::"));
            let bare = |rule: &str| !rule.contains("::") && !path.contains("::");
            if let Some(rule) = IMPURE.iter().find(named)
                && !bare(rule)
            {
                faults.push(format!("{}:{line}: {path} (no {rule} in a pure layer: pass it in as data)", file.name));
            }
        }
    }
    hold("purity", &faults);
}

#[test]
fn serde_yaml_is_named_in_one_file() {
    let mut faults = Vec::new();
    for file in product().iter().filter(|f| f.name != "src/yaml.rs") {
        for (line, path) in paths(&file.code) {
            if path.split("::").any(|p| p == "serde_yaml") {
                faults.push(format!("{}:{line}: {path}: use crate::yaml", file.name));
            }
        }
    }
    hold("serde_yaml", &faults);
}

#[test]
fn one_place_prints() {
    let mut faults = Vec::new();
    for file in product() {
        // `process` checks whether they are a terminal, and writes to none; `person` connects them to an `orch shell`;
        // a node uses its own to report its job to the host.
        let known = ["src/adapters/process.rs", "src/adapters/child/person.rs", "src/adapters/executor/slurm/node.rs"];
        let logs = ["src/cli/output.rs", "src/cli/logging.rs", "src/cli/progress.rs"].contains(&file.name.as_str())
            || known.contains(&file.name.as_str());
        for (line, path) in paths(&file.code) {
            // `std::io`, `rustix::stdio` and whatever else names a stream of the process.
            let stream = ["stdout", "stderr"].iter().any(|s| {
                ["io::", "stdio::"].iter().any(|of| path.ends_with(&format!("{of}{s}")) || path == format!("{of}{s}"))
            });
            if stream && !logs {
                faults.push(format!("{}:{line}: {path}", file.name));
            }
        }
        if file.name != "src/cli/output.rs" {
            for (n, line) in file.code.lines().enumerate() {
                let printed = ["println!", "print!", "eprintln!", "eprint!", "dbg!"].iter().find(|m| {
                    line.match_indices(**m).any(|(at, _)| !line.get(..at).is_some_and(|b| b.ends_with(word)))
                });
                // clap's errors print themselves, and ignore write errors.
                let printed = printed.or_else(|| [".print()"].iter().find(|m| line.contains(**m)));
                if let Some(what) = printed {
                    faults.push(format!("{}:{}: {what}", file.name, n + 1));
                }
            }
        }
    }
    hold("only cli/output.rs prints (cli/logging.rs and cli/progress.rs may name the streams)", &faults);
}

#[test]
fn one_place_knows_exit_codes() {
    let mut faults = Vec::new();
    for file in product().iter().filter(|f| f.name != "src/cli/exit.rs") {
        for (line, path) in paths(&file.code) {
            let leaves = path.ends_with("process::exit") || path.ends_with("process::abort");
            let code = path.contains("ExitCode::");
            let names = path.split("::").any(|p| p == "ExitCode");
            let may_name = file.layer() == "main" || file.name == "src/cli/mod.rs";
            if leaves || code || (names && !may_name) {
                faults.push(format!("{}:{line}: {path}: give a cli::exit::Exit back", file.name));
            }
        }
    }
    hold("exit codes", &faults);
}

/// The contents of the repository's top level, apart from dot files (DSK-4).
const TOP_LEVEL: [&str; 11] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "agents",
    "docs",
    "scripts",
    "src",
    "tests",
];

#[test]
fn the_top_level_holds_nothing_else() {
    let out = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    let listed = String::from_utf8(out.stdout).unwrap();
    // Outside a checkout (a packed crate) git lists nothing.
    let extra: std::collections::BTreeSet<&str> = listed
        .split('\0')
        .filter_map(|path| path.split('/').next())
        .filter(|name| !name.is_empty() && !name.starts_with('.') && !TOP_LEVEL.contains(name))
        .collect();
    assert!(extra.is_empty(), "not for the top level: {extra:?}");
}

#[test]
fn files_stay_readable() {
    let mut faults = Vec::new();
    for (folder, longest) in [("src", LONGEST_SOURCE), ("src/cli/cmd", LONGEST_COMMAND), ("tests", LONGEST_TEST)] {
        for path in rust_files(folder) {
            let file = read(&path);
            let lines = file.whole.lines().count();
            if lines > longest {
                faults.push(format!("{}: {lines} lines, at most {longest}; cut out a module", file.name));
            }
        }
    }
    hold("file sizes", &faults);
}

/// A subcommand reads and prints: what changes a row is `engine`'s.
#[test]
fn no_subcommand_writes_to_the_store() {
    let writes = |line: &str| line.contains("store.write");
    let mut faults = Vec::new();
    for file in product().iter().filter(|f| f.name.starts_with("src/cli/cmd/")) {
        let found = file.code.lines().enumerate().filter(|(_, line)| writes(line));
        faults.extend(found.map(|(n, _)| format!("{}:{}: a rule of `engine`", file.name, n + 1)));
    }
    hold("subcommands", &faults);
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut faults = Vec::new();
    for file in product() {
        if !file.whole.trim_start().starts_with("//!") {
            faults.push(format!("{}: begins without a //! comment", file.name));
        }
    }
    hold("module comments", &faults);
}

#[test]
fn every_file_of_the_integration_tests_is_listed() {
    let mut faults = Vec::new();
    for (folder, list) in [("tests/it", "main.rs"), ("tests/it/support", "mod.rs")] {
        let main = std::fs::read_to_string(root().join(folder).join(list)).unwrap();
        let listed: BTreeSet<&str> = main
            .lines()
            .filter_map(|l| l.trim().trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
            .collect();
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let counts = path.is_dir() || path.extension().is_some_and(|e| e == "rs");
            if counts && stem != list.trim_end_matches(".rs") && !listed.contains(stem.as_str()) {
                faults.push(format!("{}: not listed in {folder}/{list}, so it never runs", path.display()));
            }
        }
    }
    hold("integration tests", &faults);
}

/// The rulings of `docs/spec/rulings.md`: each has a test of its number.
#[test]
fn every_ruling_has_a_test_of_its_number() {
    let mut numbers = BTreeSet::new();
    let mut open = vec![root().join("src"), root().join("tests")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (n, line) in lines.iter().enumerate() {
            let Some((number, claim)) = line.strip_prefix("fn rule_").and_then(|l| l.split_once('_')) else { continue };
            let above = lines[..n].iter().rev().take_while(|l| l.starts_with("#["));
            if !claim.starts_with('(') && above.into_iter().any(|l| *l == "#[test]") {
                numbers.extend(number.parse::<u32>());
            }
        }
    }
    let page = std::fs::read_to_string(root().join("docs/spec/rulings.md")).unwrap();
    let number = |t: &str| t.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok());
    let stated: BTreeSet<u32> = page.split("**RULE-").skip(1).filter_map(number).collect();
    assert!(stated.len() > 40, "{stated:?}");
    let without: Vec<&u32> = stated.difference(&numbers).collect();
    assert!(without.is_empty(), "no test is named rule_N_… for {without:?}");
}

#[test]
fn nothing_is_left_for_later() {
    let mut faults = Vec::new();
    let own = root().join("tests/architecture.rs");
    for path in rust_files("src").into_iter().chain(rust_files("tests")) {
        if path == own {
            continue;
        }
        let whole = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        // Test modules count as well: an ignored test is no test.
        let (code, _) = blank(&whole);
        for (n, line) in code.lines().enumerate() {
            for word in ["#[ignore", "todo!", "unimplemented!", "#[should_panic]"] {
                if line.contains(word) {
                    faults.push(format!("{name}:{}: {word}", n + 1));
                }
            }
        }
        for (n, line) in whole.lines().enumerate() {
            if ["TODO", "FIXME", "XXX:"].iter().any(|mark| line.contains(mark)) {
                faults.push(format!("{name}:{}: a note for later; do it, or write it into an issue", n + 1));
            }
        }
    }
    hold("left for later", &faults);
}

/// PIPE-1: the stage table is the only source of the order and of the words.
#[test]
fn stages_are_named_only_through_the_table() {
    let table = std::fs::read_to_string(root().join("src/model/stage.rs")).unwrap();
    let section = table.split("Stage {").nth(1).unwrap().split('}').next().unwrap();
    let words: BTreeSet<String> = section
        .lines()
        .filter_map(|l| l.split('"').nth(1))
        // Some are also verbs of ours or another enum's words: only unmistakable stage names are checked.
        .filter(|w| !["created", "done", "cancelled", "deploy", "review"].contains(w))
        .map(str::to_owned)
        .collect();
    assert!(words.len() >= 5, "the table was not read: {words:?}");
    let mut faults = Vec::new();
    for file in product().iter().filter(|f| f.name != "src/model/stage.rs") {
        for (line, text) in &file.strings {
            // A table of words in `model` may use the same word for something else (a board's status).
            let source = file.whole.lines().nth(line - 1).unwrap_or_default();
            let table = file.layer() == "model" && source.trim().ends_with(&format!("= {text:?},"));
            if words.contains(text) && !table {
                faults.push(format!("{}:{line}: {text:?}; use model::stage::Stage", file.name));
            }
        }
    }
    hold("stages", &faults);
}

/// PIPE-1: a task's row changes through `Task::apply`, which knows the table of edges; no other file writes these
/// fields.
#[test]
fn one_place_changes_a_tasks_row() {
    let fields = [
        "stage",
        "epoch",
        "attempt",
        "attempt_base",
        "waiting_for",
        "waiting_since",
        "wait_no",
        "asked_at",
        "released",
        "blocked_reason",
        "block_no",
        "held_findings",
        "findings",
        "findings_same",
        "rework",
        "withdrawn",
        "critical",
        "stop_requested_at",
        "stop_reason",
        "stopped_stage",
        "started_at",
        "in_serial",
        "landed_sha",
        "watch",
        "finished_at",
        "branch",
        "base_sha",
        "head_sha",
        "head_tree",
        "pr",
        "refused",
        "blocked_by",
    ];
    let writes = |line: &str, field: &str| {
        let mut rest = line;
        while let Some(at) = rest.find(&format!(".{field}")) {
            rest = &rest[at + 1 + field.len()..];
            let next = rest.trim_start();
            let set = next.starts_with('=') && !next.starts_with("==") && !next.starts_with("=>");
            // As one of several: `(t.stage, t.epoch) = …`.
            let among = next.starts_with([',', ')']) && rest.contains(") = ") && line.trim_start().starts_with('(');
            if set || among || ["+=", "-=", ".take()", ".clone_from(", ".insert("].iter().any(|s| next.starts_with(s)) {
                return true;
            }
        }
        false
    };
    let mut faults = Vec::new();
    for file in product().iter().filter(|f| ["engine", "cli", "adapters"].contains(&f.layer())) {
        // A copy of a row as it was written, to be judged again; nothing of it is saved.
        if file.name == "src/engine/replay.rs" {
            continue;
        }
        for (n, line) in file.code.lines().enumerate() {
            if let Some(field) = fields.iter().find(|f| writes(line, f)) {
                faults.push(format!("{}:{}: .{field} is written; make it a Change of model::change", file.name, n + 1));
            }
        }
    }
    hold("changes of a task's row", &faults);
}

/// Only `engine::record` saves a task's row and writes events, messages and intents, and only `engine::services` keeps a service's answers: every call to a
/// board, a forge or a remote goes through it, so that no answer is forgotten.
#[test]
fn one_place_saves_a_task_and_one_keeps_what_services_answer() {
    let only = [
        ("save_task", "src/engine/record/"),
        ("tx.audit", "src/engine/record/"),
        ("tx.post", "src/engine/record/"),
        ("tx.intend", "src/engine/record/"),
        ("tx.record_outcome", "src/engine/record/"),
        ("throttle::noted", "src/engine/services.rs"),
        ("outages::noted", "src/engine/throttle.rs"),
        ("outages::forge_answered", "src/engine/services.rs"),
        ("outages::git_answered", "src/engine/services.rs"),
        ("projects::forge", "src/engine/services.rs"),
    ];
    // It tries the forge itself: its findings are for a person.
    let tries = ["src/engine/staging.rs", "src/cli/doctor/forge.rs"];
    let mut faults = Vec::new();
    for file in product().iter().filter(|f| ["engine", "cli"].contains(&f.layer())) {
        for (n, line) in file.code.lines().enumerate() {
            for (call, place) in only {
                let called = line.match_indices(&format!("{call}(")).any(|(at, _)| !line[..at].ends_with("fn "));
                let may = file.name == place
                    || (place.ends_with('/') && file.name.starts_with(place))
                    || (call == "projects::forge" && tries.contains(&file.name.as_str()));
                if called && !may {
                    faults.push(format!("{}:{}: {call} is {place}'s to call", file.name, n + 1));
                }
            }
        }
    }
    hold("one writer, one way to the services", &faults);
}

/// An effect holds every detail, and what its report means is decided elsewhere: whoever carries it out chooses nothing.
#[test]
fn perform_knows_no_decision() {
    let mut faults = Vec::new();
    for file in product().iter().filter(|f| f.name.starts_with("src/engine/perform/")) {
        let module = file.module();
        for (line, path) in paths(&file.code) {
            if from_root(&module, &path).is_some_and(|p| p.first().is_some_and(|l| l == "decide")) {
                faults
                    .push(format!("{}:{line}: {path}: report the fact; decide::report says what it means", file.name));
            }
        }
    }
    hold("effects", &faults);
}

/// `docs/dependencies.md` names each dependency of `Cargo.toml` with its reason, and nothing else.
#[test]
fn every_dependency_has_a_reason() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut used: BTreeMap<String, &str> = BTreeMap::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if section.ends_with("dependencies")
            && let Some((name, _)) = line.split_once('=')
            && !line.starts_with([' ', '#', '}', ']'])
        {
            used.insert(name.trim().split('.').next().unwrap().to_owned(), section);
        }
    }
    assert!(used.len() > 10, "Cargo.toml was not read: {used:?}");
    let page = std::fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let mut named = BTreeSet::new();
    let mut faults = Vec::new();
    for line in page.lines().filter(|l| l.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let name = cells.next().unwrap().trim_matches('`').to_owned();
        if cells.next().is_none_or(|reason| reason.len() < 20) {
            faults.push(format!("{name}: docs/dependencies.md gives no reason"));
        }
        if !used.contains_key(&name) {
            faults.push(format!("{name}: in docs/dependencies.md, not in Cargo.toml"));
        }
        if !named.insert(name.clone()) {
            faults.push(format!("{name}: twice in docs/dependencies.md"));
        }
    }
    faults.extend(used.keys().filter(|n| !named.contains(*n)).map(|n| format!("{n}: not in docs/dependencies.md")));
    hold("dependencies", &faults);
}

/// Which program is tested is defined once, so that a suite can test another build.
#[test]
fn one_file_of_the_tests_knows_where_the_program_is() {
    let word = concat!("CARGO_BIN_EXE", "_orch");
    let names = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap().contains(word);
    let found: Vec<_> = rust_files("tests/it").into_iter().filter(names).collect();
    assert!(found.len() == 1 && found[0].ends_with("support/mod.rs"), "{found:?}");
}

/// A test reads tables and changes rows through `support::rows`, so that the schema can change in one place. The
/// benchmarks measure SQL itself.
#[test]
fn one_file_of_the_tests_holds_sql() {
    let own = "tests/it/support/rows.rs";
    let starts = ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "CREATE TABLE ", "CREATE TRIGGER ", "PRAGMA "];
    let mut faults = Vec::new();
    for file in rust_files("tests/it").iter().map(|p| read(p)).filter(|f| f.name != own) {
        let (_, strings) = blank(&file.whole);
        let sql = |text: &str| {
            let text = text.trim_start().to_ascii_uppercase();
            starts.iter().any(|s| text.starts_with(s))
        };
        faults.extend(strings.iter().filter(|(_, s)| sql(s)).map(|(line, s)| format!("{}:{line}: {s:?}", file.name)));
        let opened = paths(&blank(&file.whole).0).into_iter().filter(|(_, path)| path.starts_with("rusqlite"));
        faults.extend(opened.map(|(line, path)| format!("{}:{line}: {path}", file.name)));
    }
    hold(&format!("SQL outside {own}"), &faults);
}

/// The code names every dependency that has a reason: a program's in `src`, a test's in `tests`.
#[test]
fn every_dependency_is_used() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let named = |folder: &str| -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for path in rust_files(folder) {
            let (code, _) = blank(&std::fs::read_to_string(&path).unwrap());
            all.extend(paths(&code).into_iter().filter_map(|(_, p)| Some(p.split_once("::")?.0.to_owned())));
        }
        all
    };
    let (product, tests) = (named("src"), named("tests"));
    let mut section = "";
    let mut faults = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if section.ends_with("dependencies")
            && let Some((name, _)) = line.split_once('=')
            && !line.starts_with([' ', '#', '}', ']'])
        {
            let name = name.trim().split('.').next().unwrap();
            let word = name.replace('-', "_");
            let used = product.contains(&word) || (section == "dev-dependencies" && tests.contains(&word));
            if !used {
                faults.push(format!("{name}: in Cargo.toml under {section}, and nothing names it"));
            }
        }
    }
    hold("use of dependencies", &faults);
}

/// The rules above detect what they should.
#[test]
fn the_reader_sees_through_trees_strings_and_comments() {
    let (code, strings) = blank(
        "use a::{b, c::{d, e as f}};\n// use x::y;\nlet s = \"p::q\"; let r = r#\"t::u\"#; 'x: loop { '\"' }\nz ::w::<T>();",
    );
    let all: Vec<String> = paths(&code).into_iter().map(|(_, p)| p).filter(|p| p.contains("::")).collect();
    assert_eq!(all, ["a::b", "a::c::d", "a::c::e", "z::w"]);
    assert_eq!(strings, [(3, "p::q".to_owned()), (3, "t::u".to_owned())]);
    let (code, cut) = without_tests("a\n#[cfg(test)]\nmod tests {\n  fn x() { }\n}\nb\n#[cfg(test)]\nmod more;\nc");
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(cut, [2..=5, 7..=8]);
    assert_eq!(from_root(&["decide", "gates"], "super::super::engine::x").unwrap(), ["engine", "x"]);
    assert_eq!(from_root(&["decide", "gates"], "crate::engine").unwrap(), ["engine"]);
    assert!(forbidden("decide", "adapters").is_some() && forbidden("model", "decide").is_some());
    assert!(forbidden("cli", "adapters").is_none() && forbidden("engine", "yaml").is_none());
    assert!(forbidden("render", "decide").is_some() && forbidden("engine", "cli").is_some());
}

//! What no run may change (BND-5): a built-in list, the operator's additions, and the files that configured commands
//! name.

use super::tree_rules::fold;
use globset::{Glob, GlobBuilder, GlobMatcher};

/// Protected in every repository. `git.protected_paths` adds to these and removes what begins with `!`.
pub const BUILT_IN: &[&str] = &[
    ".ci/**",
    ".github/**",
    ".gitea/**",
    ".forgejo/**",
    ".woodpecker*",
    ".gitlab-ci.yml",
    ".circleci/**",
    ".travis.yml",
    ".drone.yml",
    ".tekton/**",
    ".buildkite/**",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "Jenkinsfile",
    ".husky/**",
    ".githooks/**",
    ".pre-commit-config.yaml",
    ".envrc",
    ".vscode/**",
    ".devcontainer/**",
    ".lfsconfig",
    ".gitmodules",
    "orch.yaml",
    ".orch.yaml",
    ".gitleaks.toml",
    "ci.sh",
    "deploy.sh",
    "**/CLAUDE.md",
    "**/CLAUDE.local.md",
    "**/AGENTS.md",
    "**/GEMINI.md",
    "**/.claude/**",
    "**/.mcp.json",
    "**/opencode.json",
    "**/.opencode/**",
    "**/.gemini/**",
    "**/.codex/**",
    "**/.cursor/**",
    "**/.cursorrules",
    "**/.windsurfrules",
];

/// The compiled patterns. Names are compared case-folded, so that a variant spelling is the same name.
#[derive(Debug, Clone)]
pub struct Protection {
    guards: Vec<GlobMatcher>,
    exempt: Vec<GlobMatcher>,
    /// A pattern can't be read: then everything is protected.
    all: bool,
}

impl Protection {
    /// `patterns`: globs; those with a leading `!` remove. `*` stays within a folder, `**` does not.
    pub fn new(patterns: &[String]) -> Self {
        let mut made = Self { guards: Vec::new(), exempt: Vec::new(), all: false };
        for pattern in patterns.iter().map(|p| p.trim()).filter(|p| !p.is_empty()) {
            let (to, pattern) = match pattern.strip_prefix('!') {
                Some(rest) => (&mut made.exempt, vec![rest.to_owned(), format!("{}/**", rest.trim_end_matches('/'))]),
                None => (&mut made.guards, widened(pattern)),
            };
            for wide in pattern {
                match glob(&fold(&wide)) {
                    Ok(glob) => to.push(glob.compile_matcher()),
                    Err(_) => made.all = true,
                }
            }
        }
        made
    }

    /// Whether a run may not change this path. A protected folder's contents are protected, and so is every name on the
    /// way to a protected path, which could become a link.
    pub fn covers(&self, path: &str) -> bool {
        let path = fold(path);
        self.all || (self.guards.iter().any(|g| g.is_match(&path)) && !self.exempt.iter().any(|g| g.is_match(&path)))
    }
}

/// `*` stays within a folder, `**` does not.
pub fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern.strip_prefix("./").unwrap_or(pattern)).literal_separator(true).build()
}

/// A protected pattern, all below it, and the fixed names that lead to it.
fn widened(pattern: &str) -> Vec<String> {
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern).trim_end_matches('/');
    let mut all = vec![pattern.to_owned(), format!("{pattern}/**")];
    all.extend(pattern.strip_suffix("/**").map(str::to_owned));
    let mut lead = String::new();
    for part in pattern.split('/') {
        if part.contains(['*', '?', '[', '{', '\\']) {
            break;
        }
        lead.push_str(part);
        all.push(lead.clone());
        lead.push('/');
    }
    all
}

/// Programs that run what follows them.
const WRAPPERS: &[&str] = &["env", "sudo", "exec", "nice", "time", "timeout", "nohup", "xargs", "command", "setsid"];
/// Programs whose first argument is a file to run.
const INTERPRETERS: &[&str] = &[
    "sh", "bash", "dash", "zsh", "ksh", "source", ".", "python", "python3", "node", "ruby", "perl", "php", "deno",
    "bun",
];
/// Programs that take their rules from a file named after `-f`.
const BY_FILE: &[&str] = &["make", "gmake", "just", "task", "rake", "ant", "mvn", "ninja"];
const FILE_OPTIONS: &[&str] = &["-f", "--file", "--makefile", "--justfile", "--taskfile", "--rakefile"];
const ENDINGS: &[&str] = &["sh", "bash", "py", "pl", "rb", "js", "mjs", "ts", "php"];

/// The paths inside the repository that a command names: what it runs (`./x`, `x/y`, `sh x`), scripts among its
/// arguments (`x/y.sh`, `./x`), and rule files (`make -f x`). They are protected and come from the default branch
/// (RULE-23).
pub fn named_by(argv: &[String]) -> Vec<String> {
    let mut paths = Vec::new();
    let mut next = Next::Program;
    // The folder of the last `cd`, and whether a program that takes `-f FILE` was named.
    let (mut folder, mut by_file) = (None, false);
    for word in argv.iter().flat_map(|word| pieces(word)) {
        let name = word.rsplit('/').next().unwrap_or(word);
        if matches!(word, "&&" | "||" | ";" | "|") {
            next = Next::Program;
            continue;
        }
        if next == Next::Folder {
            folder = Some(word);
            next = Next::Argument;
            continue;
        }
        if next == Next::Script && is_command_option(word) {
            // A shell's command, or a module's name.
            next = if word == "-m" { Next::Argument } else { Next::Program };
            continue;
        }
        if by_file && FILE_OPTIONS.contains(&word) {
            next = Next::Script;
            continue;
        }
        let rules = word.split_once('=').filter(|(option, _)| by_file && FILE_OPTIONS.contains(option));
        let option = word.starts_with('-') || word.contains('=') || word.bytes().all(|b| b.is_ascii_digit());
        let ending = word.rsplit_once('.').is_some_and(|(_, e)| ENDINGS.contains(&e));
        let run = (next == Next::Program && word.contains('/')) || next == Next::Script;
        let named = match rules {
            Some((_, file)) => Some(file),
            None => (!option && (run || ending || word.starts_with("./"))).then_some(word),
        };
        paths.extend(named.into_iter().flat_map(|word| [inside(word), below(folder, word)]).flatten());
        if option {
            continue;
        }
        let wraps = next == Next::Program && WRAPPERS.contains(&name);
        if next == Next::Program {
            by_file = BY_FILE.contains(&name);
        }
        next = match next {
            Next::Program if matches!(word, "cd" | "pushd") => Next::Folder,
            Next::Program if INTERPRETERS.contains(&name) => Next::Script,
            Next::Program if wraps => Next::Program,
            Next::Program | Next::Script | Next::Folder | Next::Argument => Next::Argument,
        };
    }
    paths.sort();
    paths.dedup();
    paths
}

/// What the next word of a command is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Program,
    /// A file to run, or options before it.
    Script,
    /// The folder that a shell changes to.
    Folder,
    Argument,
}

/// `-c`, also among others (`-ec`), and `-m`.
fn is_command_option(word: &str) -> bool {
    let letters = word.strip_prefix('-').filter(|l| l.bytes().all(|b| b.is_ascii_alphabetic()));
    word == "-m" || letters.is_some_and(|l| l.ends_with('c'))
}

/// A word as a path below the folder that a shell changed to.
fn below(folder: Option<&str>, word: &str) -> Option<String> {
    inside(&format!("{}/{word}", folder?)).filter(|_| !word.starts_with(['/', '~', '$']))
}

/// A word of an argv, or the words of a shell command in it.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    word.split(|c: char| c.is_whitespace() || "()'\"`{}<>".contains(c))
        .flat_map(|piece| piece.split_inclusive([';', '&', '|']))
        .flat_map(|piece| {
            let plain = piece.trim_end_matches([';', '&', '|']);
            let end = (plain.len() < piece.len()).then_some(";");
            [Some(plain), end].into_iter().flatten()
        })
        .filter(|piece| !piece.is_empty())
}

/// A word as a path from the repository's root; `None` where it leads elsewhere.
fn inside(word: &str) -> Option<String> {
    if word.starts_with(['/', '-', '~', '$']) || word.contains("://") || word.chars().any(char::is_control) {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in word.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/")).filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in(more: &[&str]) -> Protection {
        Protection::new(&BUILT_IN.iter().chain(more).map(|p| (*p).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_built_in_list_is_protected_in_any_case_and_only_that() {
        let p = built_in(&[]);
        for path in [
            ".github/workflows/x.yml",
            ".GitHub/workflows/x.yml",
            ".github",
            ".woodpecker.yml",
            ".woodpecker/a.yml",
            ".gitlab-ci.yml",
            ".GITLAB-CI.YML",
            "Jenkinsfile",
            "jenkinsfile",
            ".vscode/tasks.json",
            "CLAUDE.md",
            "claude.md",
            "pkg/deep/CLAUDE.md",
            "pkg/AGENTS.md",
            "pkg/.claude/settings.json",
            ".claude",
            "web/.mcp.json",
            "web/.cursor/rules/a",
            ".gitmodules",
            ".gitleaks.toml",
            ".g\u{200c}ithub/x",
        ] {
            assert!(p.covers(path), "{path}");
        }
        for path in
            ["src/a.rs", "github/x", "docs/CLAUDE.md.txt", "sub/.github/x", "Makefile", "src/ci.sh.md", ".gitignore"]
        {
            assert!(!p.covers(path), "{path}");
        }
    }

    #[test]
    fn an_exception_takes_out_what_it_matches_and_nothing_else() {
        let p = built_in(&["!.vscode/**", "!docs/AGENTS.md", "ops/*.sh"]);
        assert!(!p.covers(".vscode/settings.json") && !p.covers("docs/agents.md"));
        assert!(p.covers("AGENTS.md") && p.covers("ops/x.sh") && p.covers(".devcontainer/x") && p.covers("ops"));
        assert!(Protection::new(&["[".to_owned()]).covers("anything"));
        assert!(Protection::new(&["![".to_owned()]).covers("anything"));
    }

    #[test]
    fn a_commands_files_are_found_however_it_names_them() {
        let named = |argv: &[&str]| named_by(&argv.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let one = |argv: &[&str], path: &str| assert_eq!(named(argv), [path], "{argv:?}");
        one(&["./ci.sh"], "ci.sh");
        one(&["scripts/ci.sh", "--fast"], "scripts/ci.sh");
        one(&["scripts/ci"], "scripts/ci");
        one(&["sh", "x.sh"], "x.sh");
        one(&["sh", "-e", "x"], "x");
        one(&["bash", "-eu", "tools/ci"], "tools/ci");
        one(&["env", "A=1", "tools/ci"], "tools/ci");
        one(&["timeout", "60", "bash", "tools/ci"], "tools/ci");
        one(&["python3", "tools/check.py"], "tools/check.py");
        assert_eq!(named(&["sh", "-c", "cd x && ./ci.sh; true"]), ["ci.sh", "x/ci.sh"]);
        assert_eq!(named(&["bash", "-euc", "set -x; cd web/app; sh ci"]), ["ci", "web/app/ci"]);
        one(&["sh", "-ec", "cd /srv && ./ci.sh"], "ci.sh");
        one(&["bash", "-c", "tools/ci"], "tools/ci");
        one(&["make", "-f", "./Makefile.ci"], "Makefile.ci");
        one(&["make", "-f", "build/ci.mk", "all"], "build/ci.mk");
        one(&["env", "A=1", "just", "--justfile=ci.just", "test"], "ci.just");
        one(&["sh", "-c", "true && make -s -f ci.mk"], "ci.mk");
        one(&["a/../b/run"], "b/run");
        assert_eq!(named(&["sh", "a.sh", "b.sh"]), ["a.sh", "b.sh"]);
        for none in [
            &["pytest", "tests/unit"][..],
            &["cargo", "test"],
            &["/usr/bin/deploy"],
            &["make", "ci"],
            &["rm", "-f", "target/report"],
            &["sh", "-c", "cd web && npm test"],
            &["~/x.sh"],
            &["../x.sh"],
            &["curl", "https://h/x.sh"],
            &[],
        ] {
            assert_eq!(named(none), Vec::<String>::new(), "{none:?}");
        }
    }
}

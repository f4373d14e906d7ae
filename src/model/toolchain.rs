//! Tool chains of the operator's account: which of its folders a confined run may read, and with which variables
//! (BND-3). Never a folder that contains credentials, and never one that a run can write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One tool chain. Its root is the value of `variable`, else `usual` below the home.
struct Chain {
    variable: &'static str,
    usual: &'static str,
    /// The parts of its root that are offered; empty: the root.
    parts: &'static [&'static str],
    /// The run gets the variable with the root as its value. Else the root is in the run's own home.
    kept: bool,
}

const CHAINS: &[Chain] = &[
    Chain { variable: "RUSTUP_HOME", usual: ".rustup", parts: &[], kept: true },
    // Its root contains credentials, and every build writes it: the run has its own.
    Chain { variable: "CARGO_HOME", usual: ".cargo", parts: &["bin"], kept: false },
    Chain { variable: "NVM_DIR", usual: ".nvm", parts: &[], kept: true },
    Chain { variable: "FNM_DIR", usual: ".local/share/fnm", parts: &[], kept: true },
    Chain { variable: "VOLTA_HOME", usual: ".volta", parts: &[], kept: true },
    Chain { variable: "PYENV_ROOT", usual: ".pyenv", parts: &[], kept: true },
    // Next to them it keeps credentials.
    Chain { variable: "UV_PYTHON_INSTALL_DIR", usual: ".local/share/uv/python", parts: &[], kept: true },
    Chain { variable: "UV_TOOL_DIR", usual: ".local/share/uv/tools", parts: &[], kept: false },
    Chain { variable: "PIPX_HOME", usual: ".local/share/pipx", parts: &["venvs"], kept: false },
    Chain { variable: "ASDF_DATA_DIR", usual: ".asdf", parts: &[], kept: true },
    Chain { variable: "MISE_DATA_DIR", usual: ".local/share/mise", parts: &[], kept: true },
    Chain { variable: "SDKMAN_DIR", usual: ".sdkman", parts: &[], kept: true },
    Chain { variable: "GOROOT", usual: "sdk", parts: &[], kept: true },
    Chain { variable: "GOPATH", usual: "go", parts: &["bin"], kept: false },
    Chain { variable: "DENO_INSTALL", usual: ".deno", parts: &["bin"], kept: false },
    Chain { variable: "BUN_INSTALL", usual: ".bun", parts: &["bin", "install/global"], kept: false },
    Chain { variable: "JAVA_HOME", usual: ".jdks", parts: &[], kept: true },
    // Claude Code's own installer puts its program there, behind a link in ~/.local/bin.
    Chain { variable: "", usual: ".local/share/claude", parts: &["versions"], kept: false },
];

/// Below the home: what contains credentials, or settings that include them.
pub const CREDENTIALS: &[&str] = &[
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".npmrc",
    ".yarnrc.yml",
    ".config",
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".pypirc",
    ".pgpass",
    ".git-credentials",
    ".gitconfig",
    ".m2/settings.xml",
    ".gradle/gradle.properties",
    ".gem/credentials",
    ".local/share/uv/credentials",
    ".local/share/keyrings",
    ".password-store",
    ".mozilla",
    ".claude",
    ".claude.json",
    ".codex",
    ".gemini",
];

/// Below a run's home: download and build caches of tool chains, which another run may begin with. None contains
/// settings, or a folder of programs that is in `PATH`.
pub const CACHES: &[&str] = &[
    ".cache",
    ".cargo/registry",
    ".cargo/git",
    "go/pkg/mod",
    ".m2/repository",
    ".gradle/caches",
    ".npm/_cacache",
    ".local/share/pnpm/store",
    ".yarn/berry/cache",
    ".bun/install/cache",
];

/// What a run is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offered {
    /// Folders to read, in the table's order, those of `PATH` last.
    pub read: Vec<PathBuf>,
    /// Variables and their values.
    pub env: Vec<(&'static str, PathBuf)>,
    /// Folders of `PATH` that were left out, and why.
    pub left_out: Vec<String>,
}

/// Every folder of the home that a tool chain may be in, whether it exists or not: what no run may write.
pub fn roots(home: &Path, vars: &BTreeMap<String, String>) -> Vec<PathBuf> {
    CHAINS.iter().map(|c| c.root(home, vars).0).collect()
}

impl Chain {
    /// The root, and whether a variable names it.
    fn root(&self, home: &Path, vars: &BTreeMap<String, String>) -> (PathBuf, bool) {
        match vars.get(self.variable).filter(|v| v.starts_with('/')) {
            Some(named) => (named.into(), true),
            None => (home.join(self.usual), false),
        }
    }
}

/// What is offered to a run. `home`: the operator's; `vars`: the operator's environment; `is_dir`: whether a folder
/// exists; `withheld`: what no run may see, whatever names it (state directory, area).
pub fn offered(
    home: &Path,
    vars: &BTreeMap<String, String>,
    is_dir: &dyn Fn(&Path) -> bool,
    withheld: &[PathBuf],
) -> Offered {
    let mut out = Offered::default();
    let secret = |path: &Path| {
        let of_home = CREDENTIALS.iter().map(|c| home.join(c)).chain([home.to_owned()]);
        of_home.chain(withheld.iter().cloned()).any(|c| c.starts_with(path) || (c != *home && path.starts_with(&c)))
    };
    let add = |out: &mut Offered, path: PathBuf| {
        if is_dir(&path) && !out.read.iter().any(|p| path.starts_with(p)) {
            out.read.push(path);
        }
    };
    for chain in CHAINS {
        let (root, named) = chain.root(home, vars);
        if !is_dir(&root) || root.parent().is_none() {
            continue;
        }
        let parts: Vec<PathBuf> = match chain.parts {
            [] => vec![root.clone()],
            parts => parts.iter().map(|p| root.join(p)).collect(),
        };
        let open: Vec<PathBuf> = parts.into_iter().filter(|p| !secret(p)).collect();
        // `~/sdk` and `~/.jdks` are collections: the variable is for the one that is named.
        let collection = !named && matches!(chain.usual, "sdk" | ".jdks");
        if chain.kept && !collection && !open.is_empty() {
            out.env.push((chain.variable, root));
        }
        open.into_iter().for_each(|p| add(&mut out, p));
    }
    let path = vars.get("PATH").map(String::as_str).unwrap_or_default();
    for folder in path.split(':').map(Path::new).filter(|p| p.starts_with(home)) {
        if secret(folder) {
            out.left_out.push(format!("{} holds credentials or is one of orch's own folders", folder.display()));
            continue;
        }
        add(&mut out, folder.to_owned());
        // npm's global packages are links into the neighbouring folder.
        if let Some(prefix) = folder.parent().filter(|p| *p != home) {
            add(&mut out, prefix.join("lib/node_modules"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn offer(pairs: &[(&str, &str)], there: &[&str]) -> Offered {
        let is_dir = |p: &Path| there.iter().any(|t| Path::new(t) == p);
        offered(Path::new("/home/me"), &vars(pairs), &is_dir, &["/srv/state".into(), "/home/me/area".into()])
    }

    fn reads(o: &Offered) -> Vec<&str> {
        o.read.iter().filter_map(|p| p.to_str()).collect()
    }

    #[test]
    fn what_is_there_is_offered_with_its_variable_and_credentials_are_not() {
        let there = ["/home/me/.rustup", "/home/me/.cargo", "/home/me/.cargo/bin", "/home/me/.nvm", "/opt/jdk"];
        let o = offer(&[("JAVA_HOME", "/opt/jdk"), ("PATH", "/usr/bin:/home/me/.cargo/bin")], &there);
        assert_eq!(reads(&o), ["/home/me/.rustup", "/home/me/.cargo/bin", "/home/me/.nvm", "/opt/jdk"]);
        let names: Vec<_> = o.env.iter().map(|(n, _)| *n).collect();
        assert_eq!(names, ["RUSTUP_HOME", "NVM_DIR", "JAVA_HOME"], "cargo's own folder is the run's");
        for name in CREDENTIALS {
            let secret = Path::new("/home/me").join(name);
            assert!(o.read.iter().all(|p| !secret.starts_with(p) && !p.starts_with(&secret)), "{name}");
        }
    }

    #[test]
    fn a_folder_of_path_is_offered_unless_it_gives_away_more() {
        let path = "/home/me/bin:/home/me:/home/me/.config/x/bin:/home/me/.npm-global/bin:relative:/home/me/area/x";
        let there = [
            "/home/me/bin",
            "/home/me",
            "/home/me/.config/x/bin",
            "/home/me/.npm-global/bin",
            "/home/me/.npm-global/lib/node_modules",
            "/home/me/area/x",
        ];
        let o = offer(&[("PATH", path)], &there);
        assert_eq!(reads(&o), ["/home/me/bin", "/home/me/.npm-global/bin", "/home/me/.npm-global/lib/node_modules"]);
        assert_eq!(o.left_out.len(), 3, "{:?}", o.left_out);
    }

    #[test]
    fn a_variable_that_names_too_much_opens_nothing() {
        for root in ["/", "/home", "/home/me", "/srv", "/srv/state/x", "/home/me/.ssh"] {
            let o = offer(&[("RUSTUP_HOME", root)], &[root]);
            assert_eq!((o.read.len(), o.env.len()), (0, 0), "{root}: {o:?}");
        }
    }

    #[test]
    fn bnd_3_no_cache_holds_a_credential_or_programs_of_path() {
        for cache in CACHES.iter().map(Path::new) {
            for other in
                CREDENTIALS.iter().chain(&[".cargo/bin", "go/bin", ".local/bin", ".bun/bin", ".cargo/config.toml"])
            {
                assert!(!Path::new(other).starts_with(cache) && !cache.starts_with(other), "{cache:?} {other}");
            }
        }
    }

    #[test]
    fn a_collection_has_no_variable_of_its_own() {
        let o = offer(&[], &["/home/me/sdk"]);
        assert_eq!((reads(&o), o.env.len()), (vec!["/home/me/sdk"], 0));
    }
}

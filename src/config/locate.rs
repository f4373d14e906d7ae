//! Which file belongs to the installation (ORD-3). An `orch.yaml` in a checkout is whatever the checkout's author
//! wrote, and a configuration starts programs: it only counts if this account has said so. git is not asked, because
//! running it in a hostile clone starts whatever that clone names.

use super::error::ConfigError;
use super::paths::under;
use crate::model::text::one_line;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A machine-wide installation, used after the account's own.
const SYSTEM: &str = "/etc/orch/orch.yaml";
/// A list of trusted files is never longer.
const MOST: u64 = 256 << 10;

/// The result of a search without `--config`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sought {
    /// The file to use; `None`: there is none.
    pub file: Option<PathBuf>,
    /// An `orch.yaml` of this folder or a parent that does not count.
    pub passed: Option<Passed>,
    /// The paths that were checked, in order.
    pub searched: Vec<PathBuf>,
    /// Whether `file` belongs to a checkout and is on the account's list.
    pub listed: bool,
}

/// A file that does not count, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    pub file: PathBuf,
    why: String,
    /// How to make it count, if there is a way.
    way_out: String,
}

impl Passed {
    /// The one-line warning of a command that needs no configuration.
    pub fn warning(&self) -> String {
        format!("{} is ignored: {}; {}", one_line(&self.file.display().to_string()), self.why, self.way_out)
    }

    /// The error of a command that needs one. Exit 2.
    pub(super) fn refusal(&self) -> ConfigError {
        let name = one_line(&self.file.display().to_string());
        ConfigError::new(format!("the configuration {name} does not count: {}", self.why)).hint(self.way_out.clone())
    }
}

/// A folder from a variable, if absolute: a relative one would depend on the current folder.
fn folder(env: &BTreeMap<String, String>, name: &str) -> Option<PathBuf> {
    env.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// `$XDG_CONFIG_HOME/orch`, else `~/.config/orch`; `None` without a home.
pub fn account_folder(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let base = folder(env, "XDG_CONFIG_HOME").or_else(|| folder(env, "HOME").map(|home| home.join(".config")));
    base.map(|base| base.join("orch"))
}

/// The account's own installation, whether it exists or not.
pub fn account_file(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    account_folder(env).map(|dir| dir.join("orch.yaml"))
}

/// The account's list of trusted files, whether it exists or not: one canonical path per line.
pub fn known_list(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    account_folder(env).map(|dir| dir.join("known"))
}

/// The trusted files. A list that another account owns or can write to is ignored; the error says why.
pub fn known(env: &BTreeMap<String, String>) -> Result<Vec<PathBuf>, String> {
    let Some(list) = known_list(env) else { return Ok(Vec::new()) };
    let Ok(file) = std::fs::File::open(&list) else { return Ok(Vec::new()) };
    let meta = file.metadata().map_err(|e| format!("{} can't be read: {e}", list.display()))?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(format!("{} belongs to another account, or others can write it: chmod 600 it", list.display()));
    }
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text).map_err(|e| format!("{} can't be read: {e}", list.display()))?;
    Ok(text.lines().filter(|line| line.starts_with('/')).map(PathBuf::from).collect())
}

/// The root of the checkout that contains a folder, recognised by its `.git` alone.
pub fn top(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|dir| dir.join(".git").symlink_metadata().is_ok())
}

/// The nearest `orch.yaml` from a folder up to its checkout's root; outside a checkout only the folder itself counts.
fn nearest(cwd: &Path) -> Option<PathBuf> {
    let last = top(cwd).unwrap_or(cwd);
    let within = cwd.ancestors().take_while(|dir| dir.starts_with(last));
    within.map(|dir| dir.join("orch.yaml")).find(|file| file.exists())
}

/// Whether a file exists. One that this account can't read counts as existing: denying it would be false, and moving on
/// to the next would run another installation's work.
fn is_there(exists_result: std::io::Result<bool>) -> bool {
    exists_result.unwrap_or_else(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
}

/// Searches as for a command without `--config`. `areas`: the run areas of a configuration, in which no file ever
/// counts. Changes nothing.
pub fn sought(env: &BTreeMap<String, String>, cwd: &Path, areas: &dyn Fn(&Path) -> Option<PathBuf>) -> Sought {
    let account = account_file(env);
    let usual: Vec<PathBuf> = account.into_iter().chain([SYSTEM.into()]).collect();
    let mut found = Sought { searched: vec![cwd.join("orch.yaml")], ..Sought::default() };
    found.searched.extend(usual.iter().cloned());
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if let Some(file) = nearest(cwd) {
        let canonical = real(&file);
        match usual.iter().find(|u| canonical.is_some() && real(u) == canonical) {
            Some(same) => found.file = Some(same.clone()),
            None => match counts(&file, canonical.as_deref(), env, &usual, areas) {
                Ok(canonical) => {
                    found.file = Some(canonical);
                    found.listed = true;
                }
                Err(passed) => found.passed = Some(passed),
            },
        }
    }
    if found.file.is_none() {
        found.file = usual.into_iter().find(|file| is_there(file.try_exists()));
    }
    found
}

/// The canonical path of a checkout's own file, if it counts.
fn counts(
    file: &Path,
    canonical: Option<&Path>,
    env: &BTreeMap<String, String>,
    usual: &[PathBuf],
    areas: &dyn Fn(&Path) -> Option<PathBuf>,
) -> Result<PathBuf, Passed> {
    let passed = |why: &str, way_out: String| Passed { file: file.to_owned(), why: why.to_owned(), way_out };
    let elsewhere = "name a configuration with --config FILE";
    let Some(canonical) = canonical else {
        return Err(passed("its real path can't be found", elsewhere.to_owned()));
    };
    let (list, broken) = match known(env) {
        Ok(list) => (list, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let of = [canonical].into_iter().chain(usual.iter().map(PathBuf::as_path)).chain(list.iter().map(PathBuf::as_path));
    let listed = list.iter().any(|known| known == canonical);
    // A file that is not listed is not even read.
    let area = of.filter(|f| listed || *f != canonical).filter_map(areas).find(|area| canonical.starts_with(area));
    if let Some(area) = area {
        let why = format!("it is in {}, where runs write", area.display());
        return Err(passed(&why, elsewhere.to_owned()));
    }
    if listed {
        return Ok(canonical.to_owned());
    }
    let name = shell(&canonical.display().to_string());
    let (why, way_out) = match broken {
        Some(why) => (why, elsewhere.to_owned()),
        None => (
            "this account does not trust it".to_owned(),
            format!("if you trust who wrote it: orch config trust {name}"),
        ),
    };
    Err(passed(&why, way_out))
}

/// A path quoted as one shell word.
pub fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", one_line(text).replace('\'', "'\\''"))
}

/// The path of a file named on the command line or by `ORCH_CONFIG`.
pub(super) fn named(file: Option<&Path>, env: &BTreeMap<String, String>, cwd: &Path) -> Option<PathBuf> {
    let variable = env.get("ORCH_CONFIG").filter(|v| !v.is_empty()).map(Path::new);
    file.filter(|f| !f.as_os_str().is_empty()).or(variable).map(|file| under(cwd, file))
}

/// The error if there is no file anywhere.
pub(super) fn nowhere(found: &Sought) -> ConfigError {
    let exists_result: Vec<String> = found.searched.iter().map(|c| c.display().to_string()).collect();
    ConfigError::new(format!("there is no configuration; searched {}", exists_result.join(", ")))
        .hint("orch init in a checkout writes one; or name one with --config FILE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Home {
        dir: tempfile::TempDir,
        env: BTreeMap<String, String>,
    }

    fn home() -> Home {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let env = BTreeMap::from([("HOME".to_owned(), root.join("home").display().to_string())]);
        std::fs::create_dir_all(root.join("home/.config/orch")).unwrap();
        std::fs::create_dir_all(root.join("clone/.git")).unwrap();
        std::fs::create_dir_all(root.join("clone/src/deep")).unwrap();
        Home { dir, env }
    }

    impl Home {
        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join(name)
        }
        fn put(&self, name: &str, text: &str) -> PathBuf {
            std::fs::write(self.at(name), text).unwrap();
            self.at(name)
        }
        fn sought(&self, dir: &str) -> Sought {
            sought(&self.env, &self.at(dir), &|_| None)
        }
        fn trust(&self, file: &Path) {
            let list = known_list(&self.env).unwrap();
            std::fs::write(&list, format!("# mine\n{}\n", file.display())).unwrap();
            std::fs::set_permissions(list, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    #[test]
    fn ord_3_a_checkouts_file_counts_only_when_listed() {
        let h = home();
        let file = h.put("clone/orch.yaml", "x");
        let own = h.put("home/.config/orch/orch.yaml", "x");
        for dir in ["clone", "clone/src/deep"] {
            let found = h.sought(dir);
            assert_eq!(found.passed.as_ref().map(|p| p.file.clone()), Some(file.clone()), "{dir}");
            assert_eq!(found.file, Some(own.clone()), "what passes it over takes the account's");
            assert!(
                found.passed.unwrap().refusal().hint.unwrap().contains(&format!("config trust {}", file.display()))
            );
        }
        h.trust(&file);
        let found = h.sought("clone/src");
        assert_eq!((found.file, found.passed, found.listed), (Some(file.clone()), None, true));
        // Above the checkout's root, and in a folder next to it, it is not even seen.
        std::fs::create_dir_all(h.at("clone/inner/.git")).unwrap();
        for dir in ["clone/inner", "home"] {
            assert_eq!((h.sought(dir).file, h.sought(dir).passed), (Some(own.clone()), None), "{dir}");
        }
        // A list that others can write to is ignored.
        std::fs::set_permissions(known_list(&h.env).unwrap(), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(h.sought("clone").passed.unwrap().warning().contains("chmod 600"));
    }

    #[test]
    fn ord_3_a_file_that_is_unreadable_counts_as_existing_and_one_below_a_file_is_not() {
        use rustix::io::Errno;
        assert!(is_there(Err(Errno::ACCESS.into())) && is_there(Ok(true)));
        assert!(!is_there(Err(Errno::NOTDIR.into())) && !is_there(Ok(false)));
    }

    #[test]
    fn ord_3_a_link_counts_as_what_it_leads_to() {
        let h = home();
        let real = h.put("elsewhere.yaml", "x");
        std::os::unix::fs::symlink(&real, h.at("clone/orch.yaml")).unwrap();
        h.trust(&h.at("clone/orch.yaml"));
        assert!(h.sought("clone").passed.is_some());
        h.trust(&real);
        assert_eq!(h.sought("clone").file, Some(real));
        // The account's own file is never foreign, wherever it is named from.
        let own = h.put("home/.config/orch/orch.yaml", "x");
        let found = h.sought("home/.config/orch");
        assert_eq!((found.file, found.passed, found.listed), (Some(own), None, false));
    }

    #[test]
    fn ord_3_nothing_counts_where_runs_write() {
        let h = home();
        let file = h.put("clone/orch.yaml", "x");
        h.trust(&file);
        let area = h.at("clone");
        let found = sought(&h.env, &h.at("clone"), &|_| Some(area.clone()));
        assert!(found.file.is_none_or(|f| f == Path::new(SYSTEM)));
        assert!(found.passed.unwrap().refusal().to_string().contains("where runs write"));
    }

    #[test]
    fn ord_3_a_relative_home_is_none() {
        let env = BTreeMap::from([("XDG_CONFIG_HOME".to_owned(), ".config".to_owned())]);
        assert_eq!(account_file(&env), None);
        assert_eq!(shell("/a/b.yaml"), "/a/b.yaml");
        assert_eq!(shell("/a b/\u{1b}'x"), "'/a b/ '\\''x'");
    }
}

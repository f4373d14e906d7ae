//! Programs that `orch` starts by name: from `PATH`, else from the tools cache that `scripts/tools` fills (ORD-2).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// This program's file. If it was replaced while this process runs, the new one: the old has no path any more.
///
/// # Errors
/// The kernel does not say.
pub fn own() -> std::io::Result<PathBuf> {
    std::env::current_exe().map(|path| present(&path))
}

fn present(path: &Path) -> PathBuf {
    path.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map_or_else(|| path.to_owned(), PathBuf::from)
}

/// Finds a program: a path is used as it is; a name is searched on `PATH`, then in the cache's `bin`. `None`: not
/// found.
pub fn find(named: impl AsRef<Path>) -> Option<PathBuf> {
    let named = named.as_ref();
    which::which(named).ok().or_else(|| cached(named))
}

/// Finds a program by name in the tools cache only.
pub fn cached(named: impl AsRef<Path>) -> Option<PathBuf> {
    let named = named.as_ref();
    let name = named.file_name().filter(|name| *name == named.as_os_str())?;
    which::which(cache(&|name| std::env::var_os(name))?.join("bin").join(name)).ok()
}

/// `$ORCH_TOOLS_CACHE`, else `$XDG_CACHE_HOME/orch/tools`, else `~/.cache/orch/tools`.
fn cache(var: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| var(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("ORCH_TOOLS_CACHE").or_else(|| {
        let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        base.map(|base| base.join("orch/tools"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clu_2_a_program_that_was_replaced_is_found_at_its_path() {
        for (path, found) in [("/usr/bin/orch", "/usr/bin/orch"), ("/usr/bin/orch (deleted)", "/usr/bin/orch")] {
            assert_eq!(present(Path::new(path)), Path::new(found));
        }
        assert_eq!(own().unwrap(), std::env::current_exe().unwrap());
    }

    #[test]
    fn the_cache_is_where_it_is_said_to_be() {
        for (vars, place) in [
            (vec![("ORCH_TOOLS_CACHE", "/t"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/t")),
            (vec![("ORCH_TOOLS_CACHE", ""), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/x/orch/tools")),
            (vec![("HOME", "/h")], Some("/h/.cache/orch/tools")),
            (vec![], None),
        ] {
            let of = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
            assert_eq!(cache(&of), place.map(PathBuf::from), "{vars:?}");
        }
    }

    #[test]
    fn a_path_is_never_searched_elsewhere() {
        assert_eq!(find("/bin/sh"), Some("/bin/sh".into()));
        assert_eq!(find("/nonexistent/sh"), None);
        assert!(find("sh").is_some());
    }
}

//! Landlock: the scopes that every run gets, and the path rules of a run without another engine (BND-2).

use super::plan::{Reach, Rule};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use std::io;
use std::path::Path;

/// Lowest version that can confine a run on its own: kernel 6.12, the first with scopes.
const LEAST: ABI = ABI::V6;

/// Whether this kernel supports everything the engine needs.
pub(super) fn there() -> bool {
    ruleset(CompatLevel::HardRequirement)
        .and_then(|set| set.handle_access(AccessFs::from_all(LEAST)).map_err(io::Error::other))
        .and_then(|set| set.create().map_err(io::Error::other))
        .is_ok()
}

/// No signals and abstract sockets to the outside, if the kernel has scopes. Needs `no_new_privs`.
pub(super) fn scopes() -> io::Result<()> {
    let set = ruleset(CompatLevel::BestEffort)?.create().map_err(io::Error::other)?;
    set.restrict_self().map_err(io::Error::other)?;
    Ok(())
}

/// Allows only `rules`, and sets the scopes. A missing path is skipped unless it is a [`Reach::Own`].
///
/// # Errors
/// The kernel lacks a part of it, or an own folder can't be opened: the run must not start.
pub(super) fn paths(rules: &[Rule]) -> io::Result<()> {
    let all = AccessFs::from_all(LEAST);
    let set = ruleset(CompatLevel::HardRequirement)?.handle_access(all).map_err(io::Error::other)?;
    let mut set = set.create().map_err(io::Error::other)?;
    for rule in rules {
        let path = Path::new(&rule.path);
        let fd = match PathFd::new(path) {
            Ok(fd) => fd,
            Err(e) if rule.reach == Reach::Own => return Err(io::Error::other(e)),
            Err(_) => continue,
        };
        let access = access(rule.reach);
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(LEAST) };
        set = set.add_rule(PathBeneath::new(fd, access)).map_err(io::Error::other)?;
    }
    let status = set.restrict_self().map_err(io::Error::other)?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err(io::Error::other("Landlock enforces only part of what is needed"));
    }
    Ok(())
}

fn ruleset(level: CompatLevel) -> io::Result<Ruleset> {
    Ruleset::default().set_compatibility(level).scope(Scope::from_all(LEAST)).map_err(io::Error::other)
}

fn access(reach: Reach) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match reach {
        Reach::Read => read | AccessFs::Execute,
        Reach::ReadOnly => read,
        Reach::Use => read | AccessFs::WriteFile | AccessFs::IoctlDev,
        Reach::Own => AccessFs::from_all(LEAST) & !(AccessFs::MakeBlock | AccessFs::MakeChar),
    }
}

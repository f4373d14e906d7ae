//! Which of two confinements is the stricter (BND-2): a project or a runtime may only add to the top level's.

use super::confine::{Choice, Limits, Network, Policy};
use std::path::PathBuf;

/// A key of `confine` that is looser than the top level's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looser {
    pub key: &'static str,
    /// As written in the file.
    pub own: String,
    pub top: String,
}

impl Network {
    /// From the loosest to the strictest.
    const fn rank(&self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Internet => 1,
            Self::Hosts(_) => 2,
            Self::Closed => 3,
        }
    }

    /// The word in the file.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Internet => "internet",
            Self::Hosts(_) => "hosts",
            Self::Closed => "closed",
        }
    }
}

fn list<T: ToString>(all: &[T]) -> String {
    format!("[{}]", all.iter().map(T::to_string).collect::<Vec<_>>().join(", "))
}

fn shown(paths: &[PathBuf]) -> String {
    list(&paths.iter().map(|p| p.display()).collect::<Vec<_>>())
}

/// Whether `own` is at least as strict as `top`, key by key. Fails with the first key that is not.
pub fn stricter(own: &Policy, top: &Policy) -> Result<(), Looser> {
    let looser = |key, own: String, top: String| Err(Looser { key, own, top });
    if own.mode < top.mode {
        return looser("mode", own.mode.to_string(), top.mode.to_string());
    }
    if own.choice != top.choice
        && !matches!((top.choice, own.choice), (Choice::Auto | Choice::Landlock, Choice::Bubblewrap))
    {
        return looser("engine", own.choice.to_string(), top.choice.to_string());
    }
    if own.command != top.command {
        return looser("command", list(&own.command), list(&top.command));
    }
    if own.network.rank() < top.network.rank() {
        return looser("network", own.network.word().to_owned(), top.network.word().to_owned());
    }
    if let (Network::Hosts(own), Network::Hosts(top)) = (&own.network, &top.network)
        && !own.iter().all(|h| top.contains(h))
    {
        return looser("hosts", list(own), list(top));
    }
    for (key, own, top) in [("read", &own.read, &top.read), ("write", &own.write, &top.write)] {
        if !own.iter().all(|p| top.contains(p)) {
            return looser(key, shown(own), shown(top));
        }
    }
    if own.user != top.user && !top.user.is_empty() {
        return looser("user", own.user.clone(), top.user.clone());
    }
    if own.uid_base != top.uid_base {
        return looser("uid_base", own.uid_base.to_string(), top.uid_base.to_string());
    }
    for ((key, own), (_, top)) in numbers(&own.limits).into_iter().zip(numbers(&top.limits)) {
        if own > top {
            return looser(key, own.to_string(), top.to_string());
        }
    }
    Ok(())
}

/// The limits by their keys.
fn numbers(limits: &Limits) -> [(&'static str, u64); 5] {
    [
        ("memory_mb", limits.memory_mb),
        ("processes", limits.processes),
        ("files", limits.files),
        ("disk_mb", limits.disk_mb),
        ("cache_copy_max_mb", limits.cache_copy_max_mb),
    ]
}

/// A confinement as strict as both: a project's and its runtime's, each at least as strict as the top level's. Where
/// both name a host list, a path list or an account, the result is what both allow.
pub fn both(a: &Policy, b: &Policy) -> Policy {
    let common = |a: &[PathBuf], b: &[PathBuf]| a.iter().filter(|p| b.contains(p)).cloned().collect();
    let network = match (&a.network, &b.network) {
        (Network::Hosts(a), Network::Hosts(b)) => Network::Hosts(a.iter().filter(|h| b.contains(h)).cloned().collect()),
        (a, b) if a.rank() >= b.rank() => a.clone(),
        (_, b) => b.clone(),
    };
    Policy {
        mode: a.mode.max(b.mode),
        choice: if b.choice == Choice::Bubblewrap { b.choice } else { a.choice },
        command: a.command.clone(),
        network,
        read: common(&a.read, &b.read),
        write: common(&a.write, &b.write),
        user: if a.user.is_empty() { b.user.clone() } else { a.user.clone() },
        uid_base: a.uid_base,
        limits: Limits {
            memory_mb: a.limits.memory_mb.min(b.limits.memory_mb),
            processes: a.limits.processes.min(b.limits.processes),
            files: a.limits.files.min(b.limits.files),
            disk_mb: a.limits.disk_mb.min(b.limits.disk_mb),
            cache_copy_max_mb: a.limits.cache_copy_max_mb.min(b.limits.cache_copy_max_mb),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::confine::{Host, Mode};
    use super::*;

    fn top() -> Policy {
        Policy { mode: Mode::Auto, read: vec!["/a".into(), "/b".into()], ..Policy::default() }
    }

    fn hosts(names: &[&str]) -> Network {
        Network::Hosts(names.iter().map(|n| n.parse::<Host>().unwrap()).collect())
    }

    fn key(own: &Policy, top: &Policy) -> Option<&'static str> {
        stricter(own, top).err().map(|e| e.key)
    }

    #[test]
    fn additions_are_stricter_and_removals_are_named() {
        let top = top();
        assert_eq!(key(&top, &top), None);
        let with = |change: &dyn Fn(&mut Policy)| {
            let mut own = top.clone();
            change(&mut own);
            own
        };
        for fine in [
            with(&|p| p.mode = Mode::Required),
            with(&|p| p.choice = Choice::Bubblewrap),
            with(&|p| p.network = hosts(&["a:1"])),
            with(&|p| p.network = Network::Closed),
            with(&|p| p.read = vec!["/b".into()]),
            with(&|p| p.user = "runner".into()),
            with(&|p| p.limits.files = 1),
        ] {
            assert_eq!(key(&fine, &top), None, "{fine:?}");
        }
        for (looser, named) in [
            (with(&|p| p.mode = Mode::Off), "mode"),
            (with(&|p| p.choice = Choice::Landlock), "engine"),
            (with(&|p| p.choice = Choice::Command), "engine"),
            (with(&|p| p.command = vec!["podman".into()]), "command"),
            (with(&|p| p.read.push("/c".into())), "read"),
            (with(&|p| p.write.push("/c".into())), "write"),
            (with(&|p| p.uid_base = 1), "uid_base"),
            (with(&|p| p.limits.processes += 1), "processes"),
        ] {
            assert_eq!(key(&looser, &top), Some(named));
        }
    }

    #[test]
    fn networks_engines_and_accounts_have_an_order() {
        let of = |network: Network| Policy { network, ..Policy::default() };
        let order = [Network::Open, Network::Internet, hosts(&["a:1", "b:1"]), Network::Closed];
        for (n, own) in order.iter().enumerate() {
            for (m, top) in order.iter().enumerate() {
                assert_eq!(key(&of(own.clone()), &of(top.clone())).is_none(), n >= m, "{own:?} {top:?}");
            }
        }
        assert_eq!(key(&of(hosts(&["b:1"])), &of(hosts(&["a:1", "b:1"]))), None);
        assert_eq!(key(&of(hosts(&["c:1"])), &of(hosts(&["a:1", "b:1"]))), Some("hosts"));
        let engine = |choice| Policy { choice, ..Policy::default() };
        assert_eq!(key(&engine(Choice::Bubblewrap), &engine(Choice::Landlock)), None);
        assert_eq!(key(&engine(Choice::Landlock), &engine(Choice::Bubblewrap)), Some("engine"));
        assert_eq!(key(&engine(Choice::Auto), &engine(Choice::Bubblewrap)), Some("engine"));
        let user = |user: &str| Policy { user: user.into(), ..Policy::default() };
        assert_eq!(key(&user(""), &user("a")), Some("user"));
        assert_eq!(key(&user("b"), &user("a")), Some("user"));
    }

    #[test]
    fn both_holds_as_much_as_each() {
        let a = Policy { network: hosts(&["a:1", "b:1"]), mode: Mode::Required, ..top() };
        let mut b = Policy { choice: Choice::Bubblewrap, network: hosts(&["b:1"]), user: "u".into(), ..top() };
        b.limits.files = 3;
        b.read = vec!["/b".into()];
        for joined in [both(&a, &b), both(&b, &a)] {
            assert_eq!((key(&joined, &a), key(&joined, &b)), (None, None));
            assert_eq!((joined.limits.files, joined.user.as_str()), (3, "u"));
        }
        assert_eq!(both(&top(), &Policy { network: Network::Closed, ..top() }).network, Network::Closed);
    }
}

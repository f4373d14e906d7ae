//! Which file imports which: the graph of modules, read from the sources, its circles, and the layers of the engine.

use super::{Source, from_root, hold, paths, product};
use std::collections::{BTreeMap, BTreeSet};

type Name = Vec<String>;

/// Circles that are left, each by a folder that holds all of it and the most files it may have. The list may only
/// shrink: a circle is cut by moving what both sides need into a file below them.
const CIRCLES: [(&str, usize); 15] = [
    ("adapters::board", 8),
    ("adapters::executor", 3),
    ("adapters::forge", 7),
    ("adapters::github", 2),
    ("adapters::notify", 2),
    ("adapters::runtime", 6),
    ("adapters::scan", 12),
    // The child process and its confinement.
    ("adapters", 13),
    // git, its environment and the network.
    ("adapters", 17),
    ("cli", 83),
    ("config", 20),
    ("decide::report", 5),
    // A kind's own keys, and the enum of the kinds.
    ("model", 2),
    ("engine::outbox", 2),
    ("engine", 9),
];

/// The engine from the bottom up: a file imports from its own layer and from those below it.
const ENGINE: [(&str, &[&str]); 7] = [
    (
        "record | ctx",
        &[
            "",
            "memory",
            "paths",
            "policy",
            "record",
            "stopwatch",
            "awaits",
            "errors",
            "cache_rows",
            "operator",
            "way",
            "mirrors",
            "area",
            "bound",
            "binding",
            "run_env",
            "base_rows",
        ],
    ),
    (
        "services",
        &[
            "services",
            "throttle",
            "outages",
            "projects",
            "default_branch",
            "tree",
            "cluster",
            "confine",
            "run_files",
            "launch",
            "caller",
        ],
    ),
    (
        "observe",
        &[
            "view", "blockers", "boards", "comments", "labels", "deciders", "approval", "inputs", "lease", "standing",
            "folder",
        ],
    ),
    (
        "perform | outbox | read",
        &[
            "perform",
            "base",
            "artefacts",
            "red_ci",
            "outbox",
            "notices",
            "asks",
            "chat_acts",
            "chat_fault",
            "card",
            "show",
            "explain",
            "status",
            "replay",
            "page",
            "repository",
            "guard",
            "guards",
        ],
    ),
    ("loop", &["steps", "landing", "pulls", "refused", "branches", "apply"]),
    (
        "run",
        &[
            "supervise",
            "agent",
            "finalize",
            "judge",
            "settle",
            "left",
            "site",
            "cache",
            "reserved",
            "watch",
            "base_job",
            "base_look",
            "deploy",
            "session",
            "runtimes",
            "handed",
            "shell",
            "staging",
            "logs",
            "scan_alone",
            "staging_alone",
            "observe",
        ],
    ),
    (
        "step",
        &["tick", "reap", "reconcile", "advance", "stop", "run_job", "chat", "by_hand", "intents", "prune", "brakes"],
    ),
];
/// Upward imports inside the engine that are left.
const UPWARD: [(&str, &str); 3] = [("perform", "deploy"), ("perform", "reserved"), ("perform", "watch")];

/// Who imports whom. A re-export is no import: a name that goes through one belongs to the file that declares it.
struct Graph {
    edges: BTreeMap<Name, BTreeSet<Name>>,
}

/// The module of a file, its code without declarations of modules and re-exports, and the latter.
struct Module {
    code: String,
    shown: BTreeMap<String, Name>,
}

impl Graph {
    fn of(files: &[Source]) -> Self {
        let name = |f: &Source| -> Name { f.module().iter().map(|p| (*p).to_owned()).collect() };
        let names: BTreeSet<Name> = files.iter().map(name).collect();
        let modules: BTreeMap<Name, Module> = files.iter().map(|f| (name(f), module(&name(f), f, &names))).collect();
        let mut edges: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
        for (from, module) in &modules {
            let used = |word: &String| paths(&module.code).iter().any(|(_, p)| p.split("::").any(|part| part == word));
            let own = module.shown.iter().filter(|(word, _)| used(word)).map(|(_, target)| target.clone());
            let named = paths(&module.code).into_iter().filter(|(_, p)| p.contains("::"));
            let named = named.filter_map(|(_, p)| target(from, &p, &names));
            let all: BTreeSet<Name> = named.chain(own).map(|t| home(t, &modules)).filter(|t| t != from).collect();
            edges.insert(from.clone(), all);
        }
        Self { edges }
    }

    fn reached(&self, from: &Name) -> BTreeSet<&Name> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&Name> = self.edges.get(from).into_iter().flatten().collect();
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(self.edges.get(next).into_iter().flatten());
            }
        }
        seen
    }

    /// Groups of files that import one another, whatever the way.
    fn circles(&self) -> Vec<Vec<&Name>> {
        let reached: BTreeMap<&Name, BTreeSet<&Name>> = self.edges.keys().map(|n| (n, self.reached(n))).collect();
        let mut done = BTreeSet::new();
        let mut circles = Vec::new();
        for (name, there) in &reached {
            if there.contains(name) && !done.contains(name) {
                let circle: Vec<&Name> = there.iter().filter(|o| reached[**o].contains(name)).copied().collect();
                done.extend(circle.iter().copied());
                circles.push(circle);
            }
        }
        circles
    }
}

/// What a path of a module names, from the crate's root; `None`: nothing of this crate.
fn target(from: &Name, path: &str, names: &BTreeSet<Name>) -> Option<Name> {
    let module: Vec<&str> = from.iter().map(String::as_str).collect();
    if let Some(found) = from_root(&module, path) {
        return Some(found);
    }
    let mut parts = path.split("::").map(str::to_owned);
    let first = parts.next()?;
    let child: Name = from.iter().cloned().chain([first.clone()]).collect();
    match first.as_str() {
        "self" => Some(from.iter().cloned().chain(parts).collect()),
        _ if names.contains(&child) => Some(child.into_iter().chain(parts).collect()),
        _ => None,
    }
}

/// The file that declares what a path names.
fn home(path: Name, modules: &BTreeMap<Name, Module>) -> Name {
    let mut path = path;
    // More re-exports than any path passes.
    for _ in 0..8 {
        let of = (0..=path.len()).rev().find(|n| modules.contains_key(&path[..*n])).unwrap_or(0);
        let Some(module) = modules.get(&path[..of]) else { return path };
        let Some(next) = path.get(of).and_then(|word| module.shown.get(word)) else { return path[..of].to_vec() };
        path = next.iter().chain(&path[of + 1..]).cloned().collect();
    }
    path
}

fn module(name: &Name, file: &Source, names: &BTreeSet<Name>) -> Module {
    let mut code = String::new();
    let mut shown = BTreeMap::new();
    for statement in file.code.split_inclusive(';') {
        let start = statement.rfind('}').map_or(0, |n| n + 1);
        let (before, last) = if statement.contains("use ") { use_of(statement) } else { statement.split_at(start) };
        code.push_str(before);
        let words: Vec<&str> = last.split_whitespace().filter(|w| !w.starts_with("#[")).collect();
        let public = words.first().is_some_and(|w| w.starts_with("pub"));
        match words.iter().position(|w| *w == "use") {
            Some(_) if public => {
                let tree = last.split_once("use ").map_or("", |(_, tree)| tree).replace(" as ", "::AS::");
                for (_, path) in paths(&tree) {
                    let (path, alias) = path.split_once("::AS::").map_or((path.as_str(), None), |(p, a)| (p, Some(a)));
                    if let Some(found) = target(name, path, names)
                        && let Some(word) = alias.map(str::to_owned).or_else(|| found.last().cloned())
                    {
                        shown.insert(word, found);
                    }
                }
            }
            // `mod name;`
            None if words.iter().rev().nth(1) == Some(&"mod") => {}
            Some(_) | None => code.push_str(last),
        }
    }
    Module { code, shown }
}

/// A statement cut before its last `use`, with `pub` in front of it.
fn use_of(statement: &str) -> (&str, &str) {
    let Some(at) = statement.rfind("use ") else { return (statement, "") };
    let start = statement[..at].rfind(['}', ']', '\n']).map_or(0, |n| n + 1);
    statement.split_at(start)
}

#[test]
fn no_module_imports_itself_through_others() {
    let files = product();
    let graph = Graph::of(&files);
    let mut left = CIRCLES.to_vec();
    let mut faults = Vec::new();
    for circle in graph.circles() {
        let names: Vec<String> = circle.iter().map(|n| n.join("::")).collect();
        let holds = |(folder, most): &(&str, usize)| {
            names.len() <= *most && names.iter().all(|n| n == folder || n.starts_with(&format!("{folder}::")))
        };
        match left.iter().position(holds) {
            Some(known) => drop(left.remove(known)),
            None => faults.push(format!("{} files import one another: {}", names.len(), names.join(", "))),
        }
    }
    hold("circles of imports", &faults);
}

/// `step → run → loop → perform | outbox | read → observe → services → record | ctx`: what a service answers is recorded.
#[test]
fn the_engine_imports_downward_only() {
    let graph = Graph::of(&product());
    let part = |name: &Name| name.get(1).cloned().unwrap_or_default();
    let layer = |part: &str| ENGINE.iter().position(|(_, files)| files.contains(&part));
    let mut faults = Vec::new();
    for (from, all) in graph.edges.iter().filter(|(n, _)| n.first().is_some_and(|f| f == "engine")) {
        let (name, Some(at)) = (part(from), layer(&part(from))) else {
            faults.push(format!("engine::{} is in no layer; add it to ENGINE", part(from)));
            continue;
        };
        for to in all.iter().filter(|n| n.first().is_some_and(|f| f == "engine")) {
            let above = layer(&part(to)).is_some_and(|l| l > at);
            if above && !UPWARD.contains(&(name.as_str(), part(to).as_str())) {
                faults.push(format!(
                    "engine::{name} ({}) imports engine::{}, which is above it",
                    ENGINE[at].0,
                    part(to)
                ));
            }
        }
    }
    hold("layers of the engine", &faults);
}

/// The graph sees through re-exports, and a circle through a third file.
#[test]
fn a_circle_is_found_and_a_re_export_is_none() {
    let file = |name: &str, code: &str| Source {
        name: format!("src/{name}.rs"),
        whole: String::new(),
        code: code.to_owned(),
        strings: Vec::new(),
    };
    let facade = [
        file("a/mod", "mod b;\nmod c;\npub use c::{C as D};\npub fn open() { b::go() }"),
        file("a/b", "use super::D;\npub fn go() -> D { D }"),
        file("a/c", "pub struct C;"),
    ];
    let graph = Graph::of(&facade);
    assert!(graph.circles().is_empty(), "{:?}", graph.edges);
    let circle = [
        file("a/mod", "mod b;\nmod c;"),
        file("a/b", "use super::c::two;\npub fn one() { two() }"),
        file("a/c", "pub fn two() { crate::a::d::three() }"),
        file("a/d", "pub fn three() { super::b::one() }"),
    ];
    let graph = Graph::of(&circle);
    let names: Vec<String> = graph.circles().concat().iter().map(|n| n.join("::")).collect();
    assert_eq!(names, ["a::b", "a::c", "a::d"]);
}

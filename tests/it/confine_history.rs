//! BND-3: above `worktree.copy_max_mb` a checkout reads the default branch's history from a store that no run can
//! write, and which contains nothing else.

use crate::support::git::{World, person_git, raw};
use crate::support::pipe::{Pipe, Setup};
use orch::adapters::git::CheckoutPlan;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn has(store: &Path, id: &str) -> bool {
    let git_dir = store.parent().unwrap();
    std::fs::create_dir_all(git_dir.join("refs")).unwrap();
    std::fs::write(git_dir.join("HEAD"), "ref: refs/heads/none\n").unwrap();
    person_git(git_dir, &["--git-dir=.", "cat-file", "-e", id]).status.success()
}

#[test]
fn bnd_3_the_store_holds_what_the_default_branch_reaches_and_nothing_else() {
    let world = World::new();
    let first = world.commit(&[("a", "1\n")], "one");
    world.push("main");
    world.switch("other", "main");
    let other = world.commit(&[("secret", "of another task\n")], "other");
    world.push("other");
    let mirror = world.mirror();
    let root = world.path("area/r/history");
    let shared = mirror.shared(&root, &first).unwrap();
    assert!(has(&shared.objects, first.as_str()) && !has(&shared.objects, other.as_str()));
    assert_eq!(mirror.shared(&root, &first).unwrap(), shared, "what is there is enough");
    // A checkout of a branch has that branch's own objects, and no more.
    let dest = world.path("area/checkout");
    let plan = CheckoutPlan { branch: Some("other"), shared: Some(&shared), ..CheckoutPlan::of(&other) };
    mirror.check_out(&dest, &plan).unwrap();
    assert_eq!(raw(&dest, &["log", "--format=%s"]), "other\none\nfirst");
    assert_eq!(raw(&dest, &["status", "--porcelain"]), "");
    raw(&dest, &["fsck", "--full"]);
    let own = raw(&dest, &["count-objects", "-v"]);
    assert!(own.contains("in-pack: 3\n"), "commit, tree, blob: {own}");
    // The default branch advances, and so does the store. It is written afresh: what it had is in no store that is
    // handed out.
    world.switch("main", first.as_str());
    let second = world.commit(&[("a", "2\n")], "two");
    world.push("main");
    mirror.fetch().unwrap();
    let more = mirror.shared(&root, &second).unwrap();
    assert!(more.objects == shared.objects && has(&more.objects, second.as_str()));
    world.switch("main", first.as_str());
    let rewritten = world.commit(&[("a", "3\n")], "instead of two");
    world.push("main");
    mirror.fetch().unwrap();
    let started_again = mirror.shared(&root, &rewritten).unwrap();
    assert!(started_again.objects != shared.objects && has(&started_again.objects, rewritten.as_str()));
    assert!(!has(&started_again.objects, second.as_str()) && shared.objects.is_dir(), "runs may read the old one");
    // Until nobody can any more.
    let replaced = shared.objects.with_file_name("replaced");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 86_400);
    std::fs::File::options().write(true).open(&replaced).unwrap().set_modified(long_ago).unwrap();
    mirror.shared(&root, &second).unwrap();
    assert!(!shared.objects.exists() && started_again.objects.is_dir());
    // Gone with its folder: created again.
    std::fs::remove_dir_all(&root).unwrap();
    assert!(has(&mirror.shared(&root, &rewritten).unwrap().objects, first.as_str()));
}

/// What a run sees of it; each line is read from the branch.
const PROBE_SCRIPT: &str = r#"
store=$(cat .git/objects/info/alternates || true)
{ echo "log: $(git log --format=%s | tr '\n' ' ')"; echo "store: $store"
git -c user.name=a -c user.email=a@b commit -q --allow-empty -m mine && echo "commits: yes"
touch "$store/planted" 2>/dev/null && echo "planted: yes"
for pack in "$store"/pack/*; do chmod 777 "$pack" 2>/dev/null && echo "mode: yes"; echo x 2>/dev/null >> "$pack" && echo "written: yes"; rm -f "$pack" 2>/dev/null && echo "deleted: yes"; done
mkdir "$store/../../new" 2>/dev/null && echo "new: yes"
ls HERE/state 2>/dev/null && echo "state: yes"
} > LOOKED
"#;

fn shares(engine: &str) {
    let pipe =
        Pipe::new(Setup { project: "worktree: {copy_max_mb: 0}\nboard: {kind: local}".into(), ..Setup::default() });
    let here = pipe.dir.path().to_str().unwrap().to_owned();
    let confine = format!("confine: {{engine: {engine}, read: [{here}/do], write: [{here}/prompts]}}");
    let text = pipe.read("orch.yaml").replace("confine: {mode: off}", &confine);
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(pipe.dir.path(), 0o711);
    mode(&pipe.at("prompts"), 0o777);
    let probe_script = PROBE_SCRIPT.replace("HERE", &here);
    pipe.agent("development", &format!("{}\necho work > work.txt\n", probe_script.replace("LOOKED", "agent.out")));
    pipe.put_person(
        "ci.sh",
        &format!(
            "#!/bin/sh\n{}\ncat ci.log; ! grep yes ci.log | grep -v commits\n",
            probe_script.replace("LOOKED", "ci.log")
        ),
    );
    pipe.commit("two");
    let key = pipe.item("Look at the history");
    pipe.until_stage(&key, "done");
    let seen = pipe.remote(&["show", "main:agent.out"]);
    let yes: Vec<&str> = seen.lines().filter(|l| l.ends_with("yes")).collect();
    assert_eq!(yes, ["commits: yes"], "{seen}");
    assert!(seen.contains("log: two first ") && seen.contains("/demo/history/"), "{seen}");
    let record = pipe.read("state/repos/demo.git.history");
    assert!(record.contains("\"packs\":"), "{record}");
}

#[test]
fn bnd_3_a_large_history_is_read_and_not_written_under_bubblewrap() {
    shares("bubblewrap");
}

#[test]
fn bnd_3_a_large_history_is_read_and_not_written_under_landlock() {
    shares("landlock");
}

/// If nothing prevents a run from writing there, it gets its own copy; an invalid value is reported as such.
#[test]
fn bnd_3_an_unconfined_run_copies_and_a_bad_bound_is_exit_2() {
    let pipe = Pipe::new(Setup { project: "worktree: {copy_max_mb: 0}".into(), ..Setup::default() });
    pipe.agent(
        "development",
        "cat .git/objects/info/alternates > alternates.txt 2>/dev/null || echo none > alternates.txt\n",
    );
    let key = pipe.item("Copy");
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.remote(&["show", "main:alternates.txt"]).trim(), "none");
    let shown = pipe.orch(&["config", "show", "--json"]).json();
    let setting =
        shown["settings"].as_array().unwrap().iter().find(|s| s["path"] == "projects.ORCH.worktree.copy_max_mb");
    assert_eq!(setting.unwrap()["value"], 0);
    let text = pipe.read("orch.yaml");
    for bad in ["-1", "1.5", "many", "[1]", "99999999999999999999"] {
        std::fs::write(pipe.at("orch.yaml"), text.replace("copy_max_mb: 0", &format!("copy_max_mb: {bad}"))).unwrap();
        let said = pipe.orch(&["config", "check"]);
        assert!(said.code == 2 && said.all().contains("copy_max_mb"), "{bad}: {}", said.all());
    }
}

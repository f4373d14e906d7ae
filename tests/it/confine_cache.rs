//! BND-3: with whose caches a run begins, and with which of the operator's settings.

use super::support::pipe::{Pipe, Setup};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Notes what it began with, leaves its name, and puts a link where cargo would have a cache.
const CI: &str = "#!/bin/sh\nmkdir -p \"$HOME/.cache/t\"\ntouch \"$HOME/.cache/t/ci-${ORCH_TASK:-base}\"\n\
                  rm -rf \"$HOME/.cargo\"; ln -s HERE/victim \"$HOME/.cargo\"\nmkfifo \"$HOME/.cache/fifo\" 2> /dev/null; exit 0\n";
/// The first run of each task fails after it left its name.
const AGENT: &str = "rm -f HERE/prompts/*; mkdir -p \"$HOME/.cache/t\" \"$HOME/bin\"; ls \"$HOME/.cache/t\" > seen.txt; touch \"$HOME/bin/planted\"\n\
                     test ! -e \"$HOME/fifo\"; cp \"$HOME/.npmrc\" npmrc.txt\n\
                     if [ ! -e \"$HOME/.cache/t/agent-$ORCH_TASK\" ]; then touch \"$HOME/.cache/t/agent-$ORCH_TASK\"; exit 1; fi\n\
                     test \"$(ls \"$HOME/bin\")\" = planted; echo \"$ORCH_TASK\" >> \"$ORCH_TASK.txt\"\n";

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}

fn world() -> Pipe {
    let pipe = Pipe::new(Setup::default());
    let here = pipe.dir.path().to_str().unwrap().to_owned();
    let confine = format!("confine: {{engine: bubblewrap, read: [{here}/do], write: [{here}/prompts]}}");
    let text = pipe.read("orch.yaml").replace("confine: {mode: off}", &confine).replace("base: {enabled: false}\n", "");
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    std::fs::set_permissions(pipe.at("prompts"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::create_dir_all(pipe.at("victim/registry")).unwrap();
    std::fs::write(pipe.at(".npmrc"), "registry=https://npm.example/\n//npm.example/:_authToken=hidden\n").unwrap();
    pipe.put_person("ci.sh", &CI.replace("HERE", &here));
    pipe.commit("CI that fills caches");
    pipe.agent("development", &AGENT.replace("HERE", &here));
    pipe
}

#[test]
fn bnd_3_a_task_s_caches_are_its_own_and_the_base_s_are_of_base_checks_alone() {
    let pipe = world();
    let area = pipe.at("state-area/demo");
    let base = area.join("cache/base");
    let seen = || pipe.remote(&["show", "main:seen.txt"]);
    let first = pipe.item("Fill the caches");
    pipe.until_stage(&first, "done");
    // Its second run on the same code tree began with what its first one left, on top of the base's.
    assert_eq!(
        seen().lines().collect::<Vec<_>>(),
        [format!("agent-{first}"), "ci-base".to_owned()],
        "{}",
        pipe.story()
    );
    assert_eq!(pipe.remote(&["show", "main:npmrc.txt"]).trim(), "registry=https://npm.example/");
    let trees = names(&area.join(&first).join("cache/ci"));
    assert_eq!(trees.len(), 1, "{trees:?}");
    let of_ci = area.join(&first).join("cache/ci").join(&trees[0]);
    assert_eq!(names(&of_ci.join(".cache/t")), [format!("ci-{first}"), "ci-base".to_owned()]);
    assert_eq!(names(&of_ci), [".cache"], "nothing but caches, and no link");
    assert_eq!(names(&base.join(".cache/t")), ["ci-base"], "no task writes it");
    assert!(pipe.at("victim/registry").is_dir(), "a link of a run moved it");
    // Another task gets nothing of the first one's.
    let second = pipe.item("Begin with the base's");
    pipe.until_stage(&second, "done");
    assert_eq!(seen().lines().collect::<Vec<_>>(), [format!("agent-{second}"), "ci-base".to_owned()]);
    // A freeze and its end drop the base's, whatever is still there.
    assert_eq!(pipe.orch(&["freeze", "demo", "--reason", "doubt"]).code, 0);
    assert_eq!(pipe.orch(&["unfreeze", "demo"]).code, 0);
    let third = pipe.item("Begin with nothing");
    pipe.until_stage(&third, "done");
    assert_eq!(seen().lines().collect::<Vec<_>>(), [format!("agent-{third}")]);
    for dropped in [true, false] {
        let said = pipe.orch(&["cache", "drop", "demo", "--json"]);
        assert_eq!((said.code, said.json()["dropped"].as_bool()), (0, Some(dropped)), "{}", said.all());
    }
    assert!(!base.exists());
    assert_eq!(pipe.orch(&["cache", "drop", "nobody"]).code, 2);
}

#[test]
fn bnd_3_with_a_bound_of_nothing_every_run_begins_empty() {
    let pipe = world();
    let text = pipe.read("orch.yaml").replace("{engine: bubblewrap,", "{engine: bubblewrap, cache_copy_max_mb: 0,");
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    pipe.agent(
        "development",
        "test ! -e \"$HOME/.cache\"; test -s \"$HOME/.npmrc\"; mkdir \"$HOME/.cache\"; echo x > x.txt",
    );
    let key = pipe.item("Begin empty");
    pipe.until_stage(&key, "done");
    assert!(!pipe.at("state-area/demo/cache").exists());
    assert!(!pipe.at("state-area/demo").join(&key).join("cache").exists());
}

//! BND-3: the build of a tree is confined and finishes before anything lands, and the operator's command gets its
//! result alone. Each attack on the way succeeds without confinement (BND-7).

use super::support::attacks::{self, Held};
use super::support::confined::Place;
use super::support::pipe::{Pipe, Setup};
use orch::adapters::process;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What a hostile build tries. Each success is a line of `reached`, which is part of its output.
const BUILD: &str = r##"#!/bin/sh
. ./build-lib.sh
out=$ORCH_BUILD_OUTPUT
test -d "$out" && test -z "$(ls -A "$out")" || exit 9
try() { if "$@" >/dev/null 2>&1; then echo "$*" >> "$out/reached"; fi; }
try ls HERE/state
try cat HERE/state/orch.db
try cat HERE/orch.yaml
try cat HERE/key
try ls HERE/prod
try touch HERE/planted
try kill -0 VICTIM
SCRIPT
mkdir -p "$out/bin" "$out/empty"
cp app.txt "$out/bin/app"; chmod 755 "$out/bin/app"; chmod 4755 "$out/bin/app" 2>/dev/null; ln -s bin/app "$out/app"
echo '*' > "$out/.gitignore"
ls docs/work-items 2>/dev/null | grep . > "$out/documents"
echo "$ORCH_REVISION $ORCH_STAGE" > "$out/revision"
exit 0
"##;

/// What the deploy command sees.
const DEPLOY: &str = r##"#!/bin/sh
{
  echo "here: $(find . -mindepth 1 | sort | tr '\n' ' ')"
  echo "home: $HOME"; echo "kept: $KEPT"; echo "hidden: $HIDDEN"
  echo "input: $(cd "$ORCH_DEPLOY_INPUT" && find . -mindepth 1 | sort | tr '\n' ' ')"
  echo "reached: $(cat "$ORCH_DEPLOY_INPUT/reached" 2>/dev/null | tr '\n' ';')"
  echo "app: $(cat "$ORCH_DEPLOY_INPUT/app" | tail -1)"; echo "mode: $(stat -c %a "$ORCH_DEPLOY_INPUT/bin/app")"
  echo "built: $(cat "$ORCH_DEPLOY_INPUT/revision")"; echo "documents: $(cat "$ORCH_DEPLOY_INPUT/documents")"
} > "$TARGET/seen"
exit 0
"##;

struct World {
    pipe: Pipe,
    victim: std::process::Child,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

/// bubblewrap mounts the protected scripts read-only; elsewhere this makes the build red.
const SCRIPT: &str = "try sh -c 'echo exit 0 > deploy.sh'";

fn world(confine: &str, more: &str) -> World {
    let victim = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let mut pipe = Pipe::new(Setup {
        project: "deploy: {command: [./deploy.sh], env: {TARGET: PROD}, build: {command: [./build.sh], timeout_s: 60}}\nboard: {kind: local}"
            .into(),
        top: "notify: {webhook: {url: \"http://127.0.0.1:9/\", token: {env: HIDDEN}}}".into(),
        files: vec![("deploy.sh", DEPLOY.into()), ("build-lib.sh", String::new())],
        ..Setup::default()
    });
    pipe.env = [("KEPT", "a kubeconfig"), ("HIDDEN", "another-sections-secret")]
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .to_vec();
    let here = pipe.dir.path().to_str().unwrap().to_owned();
    let build = BUILD.replace("SCRIPT", more).replace("HERE", &here).replace("VICTIM", &victim.id().to_string());
    pipe.put_person("build.sh", &build);
    pipe.commit("The build");
    let text = pipe.read("orch.yaml").replace("confine: {mode: off}", &confine.replace("HERE", &here));
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    // Landlock's account needs ordinary rights to reach the area.
    mode(pipe.dir.path(), 0o711);
    std::fs::write(pipe.at("key"), "hidden").unwrap();
    mode(&pipe.at("key"), 0o600);
    mode(&pipe.at("prompts"), 0o777);
    mode(&pipe.at("prod"), 0o700);
    World { pipe, victim }
}

/// Runs the task to its end; returns what the deploy command saw, by name.
fn seen(pipe: &Pipe) -> impl Fn(&str) -> String + use<> {
    let key = pipe.item("Build it");
    pipe.until("Confirm Deploy is wanted", |p| p.of(&key, "waiting_for") == "confirm_deploy");
    let explained = pipe.orch(&["explain", &key]);
    assert!(!explained.out.contains("landed code"), "{}", explained.all());
    let advanced = pipe.events("stage_advanced");
    assert!(advanced.iter().any(|e| e.contains("deploy.build passed")), "{advanced:?}");
    let said = pipe.orch(&["advance", &key, "--confirm-deploy"]);
    assert_eq!(said.code, 0, "{}", said.all());
    pipe.until_stage(&key, "done");
    let events = pipe.table("audit").lines(&["event", "detail"]);
    let at =
        |what: &str| events.iter().position(|e| e.contains(what)).unwrap_or_else(|| panic!("{what}: {}", pipe.story()));
    assert!(at("\"deploy_build\"") < at("deploy_initiated"), "nothing of the branch runs in the window");
    // It is no longer needed, and takes space.
    let build = pipe.table("runs").with("kind", "build").one("id");
    assert!(!pipe.at(&format!("state/runs/{build}/output")).exists());
    let (text, head) = (pipe.read("prod/seen"), pipe.of(&key, "head_sha"));
    assert!(text.contains(&format!("built: {head}")), "{text}\n{}", pipe.story());
    move |name: &str| {
        let line =
            text.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")).or((l == format!("{name}:")).then_some("")));
        line.unwrap_or_else(|| panic!("{name}: {text}")).trim().to_owned()
    }
}

fn built_confined(engine: &str, more: &str) {
    let w = world(&format!("confine: {{engine: {engine}, read: [HERE/do], write: [HERE/prompts]}}"), more);
    let pipe = &w.pipe;
    let seen = seen(pipe);
    // Planted files may be below the run's own /tmp; they are judged below, from outside.
    let reached: Vec<String> =
        seen("reached").split_terminator(';').filter(|l| !l.contains("planted")).map(str::to_owned).collect();
    assert!(reached.is_empty(), "{reached:?}\n{}", pipe.story());
    let held = if engine == "landlock" { Held::Landlock } else { Held::Bubblewrap };
    records(held, false);
    assert!(!pipe.at("planted").exists());
    // The protected scripts and nothing else; no repository.
    assert_eq!(seen("here"), "./build.sh ./ci.sh ./deploy.sh");
    assert_eq!(
        seen("input").replace("./reached ", ""),
        "./.gitignore ./app ./bin ./bin/app ./documents ./empty ./revision"
    );
    assert_eq!((seen("app"), seen("mode")), ("three".into(), "755".into()));
    assert_eq!(seen("documents"), "");
    // The operator's own home and environment, without another section's secret.
    assert_eq!((seen("home"), seen("kept")), (pipe.dir.path().display().to_string(), "a kubeconfig".into()));
    assert_eq!(seen("hidden"), "");
    assert!(pipe.orch(&["config", "show"]).out.contains("deploy.build"));
}

#[test]
fn bnd_3_a_deploy_is_built_by_bubblewrap_and_gets_that_alone() {
    built_confined("bubblewrap", SCRIPT);
}

#[test]
fn bnd_3_a_deploy_is_built_by_landlock_and_gets_that_alone() {
    built_confined("landlock", "");
}

#[test]
fn bnd_7_an_unconfined_build_reaches_everything() {
    let w = world("confine: {mode: off}", SCRIPT);
    let key = w.pipe.item("Reach everything");
    // The last attack changes a protected script: red, whatever the exit code.
    w.pipe.until("the build is red", |p| p.of(&key, "attempt") == "2");
    let rolled = &w.pipe.events("stage_rolled_back")[0];
    assert!(rolled.contains("the protected script deploy.sh was changed while it ran"), "{rolled}");
    assert_eq!(w.pipe.orch(&["stop", &key]).code, 0);
    w.pipe.until_stage(&key, "cancelled");
    let text = w.pipe.read("person/build.sh").replace(SCRIPT, "");
    w.pipe.person_changes(&[("build.sh", &text)], "Leave the script alone");
    let seen = seen(&w.pipe);
    let tried = BUILD.lines().filter(|l| l.starts_with("try ")).count();
    assert_eq!(seen("reached").matches(';').count(), tried, "{}", seen("reached"));
    records(Held::Off, true);
}

fn records(held: Held, done: bool) {
    for attack in BUILD.lines().filter_map(|l| l.strip_prefix("try ")) {
        attacks::seen("from inside deploy.build", attack, held, done);
    }
}

fn built(build: &str) -> Pipe {
    Pipe::new(Setup {
        project: "deploy: {confirm: false, command: [./deploy.sh], env: {TARGET: PROD}, build: {command: [./build.sh], timeout_s: 60, env: {TARGET: PROD}}}".into(),
        files: vec![
            ("build.sh", format!("#!/bin/sh\n{build}\n")),
            ("deploy.sh", "#!/bin/sh\ncat \"$ORCH_DEPLOY_INPUT/app\" >> \"$TARGET/deploys\"\n".into()),
        ],
        ..Setup::default()
    })
}

#[test]
fn bnd_3_a_build_that_fails_or_leaves_more_than_data_is_red_ci() {
    let pipe = built(
        "cd $ORCH_BUILD_OUTPUT; echo said in round $ORCH_ATTEMPT; echo $ORCH_ATTEMPT > app\ncase $ORCH_ATTEMPT in 1) exit 3;; 2) mkfifo pipe; ln -s /etc/shadow out;; esac",
    );
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    assert_eq!((pipe.of(&key, "attempt"), pipe.read("prod/deploys")), ("3".into(), "3\n".into()), "{}", pipe.story());
    let prompt_of = |round: u32| pipe.read(&format!("prompts/{key}-development-{round}.md"));
    assert!(
        prompt_of(2).contains("deploy.build: exit 3") && prompt_of(2).contains("said in round 1"),
        "{}",
        prompt_of(2)
    );
    let broken = prompt_of(3);
    assert!(broken.contains("pipe (it is a FIFO)") && broken.contains("/etc/shadow"), "{broken}");
    let logs = pipe.orch(&["logs", &key, "--run", &pipe.table("runs").with("kind", "build").one("id")]);
    assert!(logs.out.contains("said in round 1"), "{}", logs.all());
}

/// However often it is checked: nobody is blocked, and no attempt is spent.
#[test]
fn rule_45_a_build_whose_program_is_missing_is_held_by_its_rule_and_spends_nothing() {
    let pipe = built("[ -e $TARGET/there ] || exec no-such-program-here\ncp app.txt $ORCH_BUILD_OUTPUT/app");
    let key = pipe.item("One");
    let held = || pipe.orch(&["explain", &key, "--json"]).json()["held_by"].clone();
    pipe.until("the fourth build", |p| {
        p.hurry();
        p.table("runs").with("kind", "build").set("ended_at").len() >= 4
    });
    pipe.until("it is held", |_| held()["rule"] == "environment");
    let why = held()["why"].to_string();
    assert!(why.contains("deploy.build") && why.contains("exit 127") && why.contains("fix what is named"), "{why}");
    let builds = pipe.table("jobs").with("kind", "build");
    assert!(builds.clone().with("spent", 1).is_empty() && builds.with("status", "failed").is_empty());
    assert_eq!((pipe.of(&key, "attempt"), pipe.of(&key, "landed_sha")), ("1".into(), String::new()));
    assert_eq!(pipe.of(&key, "blocked_reason"), "");
    std::fs::write(pipe.at("prod/there"), "").unwrap();
    assert_eq!(pipe.orch(&["retry", &key]).code, 0);
    pipe.until_stage(&key, "done");
    assert_eq!((pipe.of(&key, "attempt"), pipe.read("prod/deploys").lines().count()), ("1".into(), 3));
}

/// A killed build runs again, a stopped one ends with all that it started, and neither lands anything on its own.
#[test]
fn a_build_that_is_killed_runs_again_and_one_that_is_stopped_ends() {
    let pipe = built(
        "n=$(ls $TARGET | grep -c begun)\necho $$ > $TARGET/new; mv $TARGET/new $TARGET/begun-$n\n[ $n = 1 ] || exec sleep 600\ncp app.txt $ORCH_BUILD_OUTPUT/app",
    );
    let key = pipe.item("One");
    pipe.until("the build", |p| p.at("prod/begun-0").exists());
    let supervisor = pipe.table("runs").with("kind", "build").one("supervisor/pid");
    let pid = |text: &str| rustix::process::Pid::from_raw(text.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid(&supervisor), rustix::process::Signal::KILL).unwrap();
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.table("runs").with("kind", "deploy").len(), 1);
    let second = pipe.item("Two");
    pipe.until("its build", |p| p.at("prod/begun-2").exists());
    let child = process::identify(pipe.read("prod/begun-2").trim().parse().unwrap()).unwrap();
    assert_eq!(process::life(&child), process::Life::Alive);
    assert_eq!(pipe.orch(&["halt", "--reason", "night"]).code, 0);
    let said = pipe.orch(&["stop", &second]);
    assert_eq!(said.code, 0, "{}", said.all());
    pipe.until_stage(&second, "cancelled");
    assert_eq!(process::life(&child), process::Life::Dead, "the build is still there");
    assert_eq!((pipe.of(&second, "landed_sha"), pipe.events("deploy_initiated").len()), (String::new(), 1));
}

/// A build is declared while the task waits: without an engine it is held, and nothing is spent. A build result that is
/// gone is built again before anything lands, and a changed one is never deployed.
#[test]
fn bnd_2_a_build_without_an_engine_is_held_and_one_that_is_lost_is_made_again() {
    let pipe = built("date +%N > $ORCH_BUILD_OUTPUT/app; echo built >> $TARGET/builds");
    let text = pipe.read("orch.yaml").replace("confirm: false", "confirm: true");
    let (bare, _) = text.split_once(", build: {").unwrap();
    let rest = text.split_once("env: {TARGET: ").unwrap().1;
    let bare = format!("{bare}}}\n{}", rest.split_once("}}}\n").map_or("", |(_, tail)| tail));
    std::fs::write(pipe.at("orch.yaml"), bare).unwrap();
    let key = pipe.item("One");
    pipe.until("Confirm Deploy is wanted", |p| p.of(&key, "waiting_for") == "confirm_deploy");
    // Without a build, the person sees what the command runs.
    let user = String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let prompt_of = format!("deploy runs the landed code as {}", user.trim());
    let alert = pipe.table("outbox").like("payload", "confirm_deploy_wanted").one("payload");
    assert!(alert.contains(&prompt_of), "{alert}");
    for words in [vec!["explain", &key], vec!["status", &key], vec!["doctor"]] {
        let said = pipe.orch(&words);
        assert!(said.all().contains(&prompt_of), "{words:?}: {}", said.all());
    }
    let missing = text.replace("confine: {mode: off}", "confine: {engine: command, command: [/nonexistent/wrapper]}");
    std::fs::write(pipe.at("orch.yaml"), missing).unwrap();
    assert_eq!(pipe.orch(&["advance", &key, "--confirm-deploy"]).code, 0);
    for _ in 0..2 {
        let said = pipe.orch(&["tick", "--json"]);
        let held = said.json()["skipped"].clone();
        assert!(held.as_array().unwrap().iter().any(|h| h["rule"] == "confinement"), "{}", said.all());
    }
    let count = |kind: &str| pipe.table("runs").with("kind", kind).len().to_string();
    assert_eq!((count("build").as_str(), pipe.of(&key, "attempt").as_str()), ("0", "1"));
    assert!(pipe.events("deploy_initiated").is_empty());
    // With an engine and HALT, it is built but does not land.
    std::fs::write(pipe.at("orch.yaml"), &text).unwrap();
    assert_eq!(pipe.orch(&["halt", "--reason", "night"]).code, 0);
    pipe.until("the build", |p| p.events("evidence").iter().any(|e| e.contains("deploy_build")));
    let output =
        |n: usize| pipe.at(&format!("state/runs/{}/output", pipe.table("runs").with("kind", "build").texts("id")[n]));
    std::fs::remove_dir_all(output(0)).unwrap();
    assert_eq!(pipe.orch(&["resume"]).code, 0);
    pipe.until("the second build", |p| {
        p.hurry();
        p.read("prod/builds").lines().count() == 2
    });
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.read("prod/deploys").lines().count(), 1);
    // Changed after it was taken: it lands, since that part is as tested, but is not deployed.
    let second = pipe.item("Two");
    pipe.until("Confirm Deploy is wanted", |p| p.of(&second, "waiting_for") == "confirm_deploy");
    std::fs::write(output(2).join("app"), "another\n").unwrap();
    assert_eq!(pipe.orch(&["advance", &second, "--confirm-deploy"]).code, 0);
    let why = pipe.hurried_to_a_block(&second);
    assert!(why.contains("could not be started") && why.contains("was changed"), "{why}");
    assert_eq!(pipe.read("prod/deploys").lines().count(), 1);
}

#[test]
fn ship_4_staging_is_built_confined_and_taken_there_by_the_operators_command() {
    let pipe = Pipe::new(Setup {
        project: "staging: {revision: {command: [./revision.sh], timeout_s: 2}, build: {command: [./build.sh], timeout_s: 20}, deploy: {command: [./stage.sh], timeout_s: 20, env: {TARGET: PROD}}}".into(),
        files: vec![
            ("revision.sh", "#!/bin/sh\ncat PROD/staged/revision 2>/dev/null || echo none\n".into()),
            ("build.sh", "#!/bin/sh\necho touched > revision.sh.new\necho \"$ORCH_REVISION\" > \"$ORCH_BUILD_OUTPUT/revision\"; test -z \"$TARGET\" || exit 1\nORCH --config HERE/orch.yaml new refused; echo $? > \"$ORCH_BUILD_OUTPUT/code\"\n".into()),
            ("stage.sh", "#!/bin/sh\nls > \"$TARGET/seen\"; echo \"$HOME\" >> \"$TARGET/seen\"; mkdir -p \"$TARGET/staged\"; cp \"$ORCH_DEPLOY_INPUT\"/* \"$TARGET/staged\"\n[ -e \"$TARGET/called\" ] || { ORCH --config HERE/orch.yaml new Two; echo $? > \"$TARGET/called\"; }\n".into()),
        ],
        ..Setup::default()
    });
    let here = pipe.dir.path().to_str().unwrap();
    let placed = ["revision.sh", "build.sh", "stage.sh"].map(|name| {
        let text = pipe.read(&format!("person/{name}")).replace("PROD", pipe.at("prod").to_str().unwrap());
        (name, text.replace("HERE", here).replace("ORCH --config", &format!("{} --config", Place::program().display())))
    });
    let placed: Vec<(&str, &str)> = placed.iter().map(|(name, text)| (*name, text.as_str())).collect();
    pipe.person_changes(&placed, "Place the scripts");
    let key = pipe.item("One");
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.read("prod/staged/revision").trim(), pipe.of(&key, "head_sha"));
    // BND-6: the build may not call orch, the operator's command may.
    assert_eq!((pipe.read("prod/staged/code"), pipe.read("prod/called")), ("4\n".into(), "0\n".into()));
    let home = pipe.dir.path().display();
    assert_eq!(pipe.read("prod/seen"), format!("build.sh\nci.sh\ndeploy.sh\nrevision.sh\nstage.sh\n{home}\n"));
    let build = pipe.table("runs").with("kind", "build").one("id");
    assert!(!pipe.at(&format!("state/runs/{build}/output")).exists());
}

//! The systemd executor and `orch init --systemd` under a systemd that was booted for the test (RUN-4, RUN-9, RULE-10):
//! timers fire, an agent outlives its tick, a stop leaves nothing, a killed step does no harm.

use crate::support::crash::{Plan, World, said};
use crate::support::git::raw;
use crate::support::nspawn::{self, Machine, ORCH, not_tested};
use crate::support::procs;
use std::process::Output;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(90);
const TIMERS: [&str; 3] = ["orch-tick.timer", "orch-reap.timer", "orch-reconcile.timer"];

/// About twice a second, as a printf format.
const OFTEN: &str =
    r"[Timer]\nOnBootSec=\nOnActiveSec=0\nOnUnitInactiveSec=500ms\nAccuracySec=1ms\nRandomizedDelaySec=0\n";

/// A world and the machine that runs it; both see it under the same path.
struct Site {
    machine: Machine,
    world: World,
}

impl Site {
    fn new(executor: &str, plan: Plan) -> Option<Self> {
        if !Machine::possible() {
            return None;
        }
        let world = World::under(&nspawn::ground(), plan);
        let file = world.path("orch.yaml");
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, config.replace("executor: detach", &format!("executor: {executor}"))).unwrap();
        let machine = Machine::boot(world.root())?;
        let site = Self { machine, world };
        // The scripted agent keeps its logs next to the state directory, where an agent's unit may not write by
        // default.
        let also = format!("[Service]\nReadWritePaths={}\n", site.world.root().display());
        site.machine.write("/etc/systemd/system/orch-.service.d/also.conf", &also);
        site.machine.ok(&["systemctl", "daemon-reload"]);
        Some(site)
    }

    /// Runs a command of orch inside, manually.
    fn orch(&self, args: &[&str]) -> Output {
        let (state, file) = (self.world.path("state"), self.world.path("orch.yaml"));
        let mut all = vec![ORCH, "--state-dir", state.to_str().unwrap(), "--config", file.to_str().unwrap()];
        all.extend(args);
        self.machine.run(&all)
    }

    fn new_item(&self, project: &str, title: &str) {
        let body = self.world.path("orch.yaml");
        self.step(&["new", title, "--project", project, "--body", body.to_str().unwrap()]);
    }

    /// Approves whatever waits for a person.
    fn release(&self) {
        for task in self.world.tasks() {
            match task.waiting.as_deref() {
                Some("approval") => drop(self.orch(&["advance", &task.key, "--approve"])),
                Some("confirm_deploy") => drop(self.orch(&["advance", &task.key, "--confirm-deploy"])),
                _ => {}
            }
        }
    }

    fn step(&self, args: &[&str]) -> Output {
        let out = self.orch(args);
        assert!(out.status.success(), "orch {args:?}: {}\n{}", out.status, said(&out));
        out
    }

    /// Units of the system's manager as `orch init` writes them, with timers that fire often.
    fn units(&self, enabled: &[&str]) {
        let file = self.world.path("orch.yaml");
        self.machine.ok(&[ORCH, "--config", file.to_str().unwrap(), "init", "--systemd"]);
        for timer in enabled {
            let text = self.machine.ok(&["printf", OFTEN]);
            self.machine.write(&format!("/etc/systemd/system/{timer}.d/often.conf"), &text);
        }
        self.machine.ok(&["systemctl", "daemon-reload"]);
        if !enabled.is_empty() {
            self.machine.ok(&[&["systemctl", "enable", "--quiet", "--now"][..], enabled].concat());
        }
    }

    /// Waits for what the world shows on its own; no step is started manually.
    fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < BOUND, "{what} did not come\n{}", self.story());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn story(&self) -> String {
        let journal = self.machine.run(&["journalctl", "--no-pager", "-o", "cat", "-n", "80"]);
        let units = self.machine.run(&["systemctl", "list-units", "--all", "--no-pager", "orch-*"]);
        let log = self.orch(&["status", "--all"]);
        format!("{}\n{}\n{}\n{}", said(&units), said(&journal), said(&log), self.world.lines("agents.log").join("\n"))
    }

    /// Living processes of that kind, recognised only by their command line.
    fn nappers(&self) -> usize {
        let napper = self.world.path("state/napper").display().to_string();
        self.world.alive().into_iter().filter(|pid| procs::says(*pid, &napper)).count()
    }

    /// Agents that were started, each by its task, stage and attempt.
    fn started(&self) -> Vec<String> {
        let lines = self.world.lines("agents.log");
        lines.iter().filter(|l| l.starts_with("start ")).map(|l| l.split(" run=").next().unwrap().to_owned()).collect()
    }

    fn waits(&self, key: &str) -> Option<String> {
        self.world.tasks().into_iter().find(|t| t.key == key)?.waiting
    }
}

/// The agent of a stage waits for a signal file.
fn waiting(stage: &str) -> String {
    format!(
        "if [ \"$ORCH_STAGE\" = {stage} ]; then : > \"$world/waits\"; while [ ! -e \"$world/go\" ]; do sleep 0.05; done; fi\n"
    )
}

#[test]
fn run_4_timers_fire_and_an_agent_outlives_the_tick_that_started_it() {
    let tries = r#"for place in /etc /usr /root "$world" "$world/state" "$HOME" "$ORCH_WORKTREE" /tmp /var/tmp; do
    touch "$place/was-here" 2>/dev/null && echo "$place" >> "$world/state/written"
done
cat /proc/self/cgroup > "$world/state/cgroup"
rm -f "$ORCH_WORKTREE/was-here"
"#;
    let extra = format!("if [ \"$ORCH_STAGE\" = analysis ]; then\n{tries}fi\n{}", waiting("analysis"));
    let limits = "executor_limits: {memory_max: 3G, cpu_quota: 200%, tasks_max: 77}\n".to_owned();
    let Some(site) = Site::new("auto", Plan { nap: "0.01", extra, config: limits, ..Plan::default() }) else { return };
    site.units(&TIMERS);
    let written = site.machine.ok(&[
        "sh",
        "-c",
        "systemd-analyze verify --man=no /etc/systemd/system/orch-*.service /etc/systemd/system/orch-*.timer 2>&1",
    ]);
    assert_eq!(written, "");
    site.new_item("AA", "one thing");
    site.until("the agent", |s| s.world.path("waits").exists());
    let of = |unit: &str| site.machine.show(unit, "InvocationID");
    for step in ["orch-tick.service", "orch-reap.service", "orch-reconcile.service"] {
        for _ in 0..2 {
            let before = of(step);
            site.until(step, |_| of(step) != before);
        }
        site.until(step, |s| s.machine.show(step, "ActiveState") == "inactive");
        assert_eq!(site.machine.show(step, "Result"), "success", "{}", site.story());
    }
    // The agent is in its own unit, named by installation and run (RULE-10), under the limits.
    let groups = std::fs::read_to_string(site.world.path("state/cgroup")).unwrap();
    let unit = groups.trim().rsplit('/').next().unwrap().to_owned();
    assert!(
        unit.starts_with("orch-") && unit.ends_with("-run-1.service") && groups.contains("orch-agents.slice"),
        "{groups}"
    );
    for (property, wanted) in [
        ("ActiveState", "active"),
        ("KillMode", "control-group"),
        ("MemoryMax", "3221225472"),
        ("CPUQuotaPerSecUSec", "2s"),
        ("TasksMax", "77"),
        ("RuntimeMaxUSec", "4h 1min 3s"),
        ("TimeoutStopUSec", "6s"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "read-only"),
        ("NoNewPrivileges", "yes"),
        // A runtime's own sandbox needs them.
        ("RestrictNamespaces", "no"),
    ] {
        assert_eq!(site.machine.show(&unit, property), wanted, "{property}");
    }
    let root = site.world.root().display().to_string();
    let written: Vec<String> = site.world.lines("state/written").iter().map(|l| l.replace(&root, "")).collect();
    let (task, run) = ("/state-area/aa/AA-1/agent/checkout", "/state-area/aa/AA-1/agent/home");
    assert_eq!(written, ["", "/state", run, task, "/tmp", "/var/tmp"], "the first by a drop-in of ours");
    std::fs::write(site.world.path("go"), "").unwrap();
    site.until("the wait for approval", |s| s.waits("AA-1").as_deref() == Some("approval"));
    assert_eq!(site.started(), ["start AA-1 analysis 1"], "{}", site.story());
}

/// The agent of a stage hangs and ignores TERM; next to it hangs another that ignores TERM, whose parent is gone and
/// whose environment is cleared; with `setsid` no session links it to the run either.
fn hanging(stage: &str, how: &str) -> String {
    format!(
        r#"if [ "$ORCH_STAGE" = {stage} ]; then
    cp /bin/sleep "$world/state/napper"
    trap '' TERM
    (env -i {how} "$world/state/napper" 86400 &)
    : > "$world/hangs"
    while :; do sleep 1000 & wait; done
fi
"#
    )
}

/// A site whose one agent hangs, with its napper next to it.
fn hung() -> Option<Site> {
    let plan = Plan { nap: "0.01", extra: hanging("analysis", "setsid"), ..Plan::default() };
    let site = Site::new("systemd", plan)?;
    site.new_item("AA", "one thing");
    site.step(&["tick"]);
    site.until("the hanging agent", |s| s.world.path("hangs").exists());
    site.until("the napper", |s| s.nappers() == 1);
    Some(site)
}

/// Reaps until the one run is settled; nothing of it is left then.
fn reaped(site: &Site, how: &str) {
    site.step(&["halt", "--reason", "no retry in this test"]);
    site.until("the settlement", |s| {
        s.step(&["reap"]);
        s.world.table("runs").with("state", "settled").len() == 1
    });
    assert_eq!((site.nappers(), site.world.alive()), (0, vec![]), "{how}: a process is left");
    assert_eq!(site.world.table("audit").with("event", "job_reaped").len(), 1);
}

#[test]
fn run_8_a_unit_that_its_manager_stops_is_gone_whole_and_is_settled_as_lost() {
    let Some(site) = hung() else { return };
    let unit = site.machine.ok(&["systemctl", "list-units", "--plain", "--no-legend", "orch-*-run-1.service"]);
    site.machine.ok(&["systemctl", "stop", unit.split(' ').next().unwrap()]);
    assert_eq!((site.nappers(), site.world.alive()), (0, vec![]), "the manager left a process");
    reaped(&site, "stopped by its manager");
}

#[test]
fn run_8_a_killed_tick_harms_nothing_and_the_next_one_continues() {
    let keys = ["AA-1", "BB-1"];
    let plan = Plan { nap: "0.01", projects: vec!["AA", "BB"], ..Plan::default() };
    let Some(site) = Site::new("auto", plan) else { return };
    for key in keys {
        site.new_item(&key[..2], "one thing");
    }
    site.units(&TIMERS);
    let mut killed = 0;
    site.until("the end of all work", |s| {
        // Fails if no tick runs at this moment.
        let kill = ["systemctl", "kill", "--kill-who=main", "--signal=KILL", "orch-tick.service"];
        killed += usize::from(killed < 12 && s.machine.run(&kill).status.success());
        s.release();
        s.world.tasks().len() == 2 && s.world.tasks().iter().all(|t| t.stage == "done")
    });
    // How many are hit while they run depends on the machine.
    assert!(killed > 0, "the work was done before it was disturbed");
    let mut started = site.started();
    started.sort();
    let all = started.len();
    started.dedup();
    assert_eq!((all, started.len()), (12, 12), "a job was started twice\n{}", site.story());
    assert_eq!(site.world.lines("violations.log"), Vec::<String>::new());
    for key in keys {
        assert_eq!((site.world.deploys()[key], site.world.merges(&key[..2])[key]), (1, 1), "{key}\n{}", site.story());
    }
    // Nor does the environment of a service that was being started stay.
    for run in std::fs::read_dir(site.world.path("state/runs")).unwrap().flatten() {
        for file in std::fs::read_dir(run.path()).unwrap().flatten() {
            assert!(!file.file_name().to_string_lossy().starts_with("environment-"), "{:?}", file.path());
        }
    }
    site.until("a good tick", |s| s.machine.show("orch-tick.service", "Result") == "success");
    site.step(&["audit", "verify"]);
}

#[test]
fn run_4_a_step_in_a_unit_that_would_kill_what_it_starts_starts_nothing_and_says_so() {
    let plan = Plan { nap: "0.01", extra: waiting("analysis"), ..Plan::default() };
    let Some(site) = Site::new("auto", plan) else { return };
    site.units(&[]);
    // No manager can be asked to start a unit: auto would detach.
    site.machine.ok(&["rm", "/usr/bin/systemd-run"]);
    site.new_item("AA", "one thing");
    assert!(!site.machine.run(&["systemctl", "start", "orch-tick.service"]).status.success());
    let said = site.machine.ok(&["journalctl", "--no-pager", "-o", "cat", "-u", "orch-tick.service"]);
    assert!(said.contains("orch-tick.service, whose KillMode would kill what it starts"), "{said}");
    assert_eq!((site.started().len(), site.world.alive()), (0, vec![]));
    // That spends nothing, and if the unit spares what it started, the run continues.
    site.machine.write("/etc/systemd/system/orch-tick.service.d/spare.conf", "[Service]\nKillMode=process\n");
    site.machine.ok(&["systemctl", "daemon-reload"]);
    site.until("the agent", |s| {
        s.machine.ok(&["systemctl", "start", "orch-tick.service"]);
        s.world.path("waits").exists()
    });
    assert_eq!(site.machine.show("orch-tick.service", "ActiveState"), "inactive");
    std::fs::write(site.world.path("go"), "").unwrap();
    site.until("the wait for approval", |s| s.waits("AA-1").as_deref() == Some("approval"));
    assert_eq!(site.started(), ["start AA-1 analysis 1"], "{}", site.story());
}

/// What a confined agent records: its secret's digest only, who it is, and what it can't see.
const HELD: &str = r#"#!/bin/sh
set -e
d="$ORCH_ARTEFACTS"; mkdir -p "$d"
digest=$(printf %s "$KEY" | sha256sum | cut -c1-16)
state=$(ls @WORLD@/state > /dev/null 2>&1 && echo seen || echo hidden)
units=$(ls /run/systemd > /dev/null 2>&1 && echo seen || echo hidden)
sleep 4
for f in 01-brief 02-requirements 03-acceptance-criteria 04-test-plan; do
printf -- '---\nwork_item: %s\nstage: %s\nagent: %s\ncreated: 2026-01-01T00:00:00Z\n---\n\n# %s\n\nIt is %s uid %s state %s units %s.\n' "$ORCH_TASK" "$ORCH_STAGE" "$ORCH_AGENT" $f "$digest" "$(id -u)" "$state" "$units" > "$d/$f.md"
done
echo '{"cost_usd":0.01,"input_tokens":10,"output_tokens":5}'
"#;

/// BND-2, BND-4: inside a real unit the probe passes and the engine confines the run. The secret of its environment
/// came through a named pipe that is gone, and only the agent's own environment, arguments and unit may contain it.
#[test]
fn bnd_4_a_unit_s_run_is_held_and_gets_its_secret_through_a_pipe() {
    if which::which("bwrap").is_err() {
        assert!(std::env::var_os("ORCH_TOOLS_REQUIRED").is_none(), "bubblewrap is not here");
        return not_tested("bubblewrap is not here");
    }
    let Some(site) = Site::new("systemd", Plan::default()) else { return };
    let file = site.world.path("orch.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("confine: {mode: off}", "confine: {engine: bubblewrap}");
    let text = text.replace("command: [\"./agent.sh\"]", "command: [\"./agent.sh\"], env: {KEY: {env: AGENT_KEY}}");
    std::fs::write(&file, text).unwrap();
    let agent = HELD.replace("@WORLD@", &site.world.root().display().to_string());
    std::fs::write(site.world.path("agent.sh"), agent).unwrap();
    let secret = "c0ffee-of-the-operator";
    let (state, config) = (site.world.path("state"), file.to_str().unwrap().to_owned());
    let tick = |site: &Site| {
        let given = format!("AGENT_KEY={secret}");
        let own = ["env", &given, ORCH, "--state-dir", state.to_str().unwrap(), "--config", &config, "tick"];
        site.machine.ok(&own);
    };
    site.new_item("AA", "one thing");
    // Which processes have the secret in their environment or arguments: only the agent's own.
    let holders = |site: &Site| {
        let script = format!(
            "for p in /proc/[0-9]*; do grep -q -s {secret} $p/environ $p/cmdline && cat $p/comm; done; systemctl show 'orch-*' --no-pager | grep -c {secret}"
        );
        let said = site.machine.run(&["sh", "-c", &script]);
        String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    tick(&site);
    let mut seen = Vec::new();
    site.until("the agent has it", |s| {
        // The shell that searches has it in its own arguments.
        seen = holders(s);
        seen.iter().any(|name| name == "agent.sh")
    });
    let others: Vec<_> =
        seen.iter().filter(|name| !["agent.sh", "sleep", "sh", "grep", "0"].contains(&name.as_str())).collect();
    assert!(others.is_empty(), "{seen:?}");
    site.until("the wait for approval", |s| {
        tick(s);
        s.waits("AA-1").as_deref() == Some("approval")
    });
    let runs = site.world.path("state/runs");
    let pipes = std::process::Command::new("find").arg(&runs).args(["-type", "p"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&pipes.stdout), "");
    let branch = raw(&site.world.path("aa.git"), &["for-each-ref", "--format=%(refname)", "refs/heads/feature"]);
    let brief = raw(&site.world.path("aa.git"), &["show", &format!("{branch}:docs/work-items/AA-1/01-brief.md")]);
    use sha2::{Digest, Sha256};
    let digest: String = Sha256::digest(secret).iter().map(|b| format!("{b:02x}")).take(8).collect();
    assert!(brief.contains(&format!("It is {digest} uid 2")) && brief.contains("state hidden units hidden"), "{brief}");
    let status = String::from_utf8_lossy(&site.orch(&["status", "--json"]).stdout).into_owned();
    assert!(status.contains("\"held\":\"bubblewrap\""), "{status}");
}

#[test]
fn cli_4_units_of_a_user_of_its_own_take_a_task_through_the_pipeline() {
    let second = "if [ \"$ORCH_TASK\" = AA-2 ]; then : > \"$world/waits\"; while [ ! -e \"$world/go\" ]; do sleep 0.05; done; fi\n";
    let extra = format!("cat /proc/self/cgroup >> \"$world/cgroups\"\n{second}");
    let Some(site) = Site::new("auto", Plan { nap: "0.01", extra, ..Plan::default() }) else { return };
    let machine = &site.machine;
    let root = site.world.root().to_str().unwrap().to_owned();
    let needed = "command -v useradd loginctl && ls /lib/*/security/pam_systemd.so";
    if !machine.run(&["sh", "-c", needed]).status.success() {
        return not_tested("a user's manager needs libpam-systemd");
    }
    machine.ok(&["useradd", "--create-home", "--shell", "/bin/sh", "keeper"]);
    machine.ok(&["chown", "-R", "keeper:", &root]);
    // In the container alone: the checkout may be where only root can read.
    for above in site.world.root().ancestors().skip(1) {
        machine.ok(&["chmod", "o+x", above.to_str().unwrap()]);
    }
    machine.ok(&["systemctl", "start", "dbus.socket", "systemd-logind.service"]);
    machine.ok(&["loginctl", "enable-linger", "keeper"]);
    let id = machine.ok(&["id", "-u", "keeper"]).trim().to_owned();
    site.until("the user's manager", |s| s.machine.show(&format!("user@{id}.service"), "ActiveState") == "active");
    let own = |args: &[&str]| {
        let runtime = format!("XDG_RUNTIME_DIR=/run/user/{id}");
        let head =
            ["setpriv", "--reuid=keeper", "--regid=keeper", "--init-groups", "env", "HOME=/home/keeper", &runtime];
        machine.ok(&[&head[..], args].concat())
    };
    let file = site.world.path("orch.yaml");
    let file = file.to_str().unwrap();
    own(&[ORCH, "--config", file, "init", "--systemd", "--user"]);
    own(&["sh", "-c", "systemd-analyze --user verify --man=no ~/.config/systemd/user/orch-*"]);
    for timer in TIMERS {
        let place = format!("/home/keeper/.config/systemd/user/{timer}.d");
        own(&["sh", "-c", &format!("mkdir -p {place} && printf '{OFTEN}' > {place}/often.conf")]);
    }
    own(&["systemctl", "--user", "daemon-reload"]);
    own(&[ORCH, "--config", file, "new", "one thing", "--project", "AA", "--body", file]);
    own(&[&["systemctl", "--user", "enable", "--quiet", "--now"][..], &TIMERS[..]].concat());
    site.until("the wait for approval", |s| s.waits("AA-1").as_deref() == Some("approval"));
    own(&[ORCH, "--config", file, "advance", "AA-1", "--approve"]);
    site.until("the wait for the word to deploy", |s| s.waits("AA-1").as_deref() == Some("confirm_deploy"));
    let groups = site.world.lines("cgroups").join("\n");
    assert!(groups.contains(&format!("/user@{id}.service/orch.slice/orch-agents.slice/orch-")), "{groups}");
    own(&[ORCH, "--config", file, "stop", "AA-1"]);
    assert_eq!(site.world.task("AA-1").stage, "cancelled");
    // Units and doctor see the same (ORD-4).
    let checks = own(&["sh", "-c", &format!("{ORCH} --config {file} doctor --quick --json || true")]);
    let checks: serde_json::Value = serde_json::from_str(&checks).unwrap();
    let timers: Vec<_> = checks["checks"].as_array().unwrap().iter().filter(|c| c["area"] == "timers").collect();
    assert!(!timers.is_empty() && timers.iter().all(|c| c["level"] == "ok"), "{timers:#?}");
    // A run in progress outlives the removal of the units, and its own supervisor settles it.
    own(&[ORCH, "--config", file, "new", "other thing", "--project", "AA", "--body", file]);
    site.until("a run by the timer", |s| s.world.path("waits").exists());
    let gone = own(&[ORCH, "--config", file, "init", "--uninstall", "--json"]);
    let gone: serde_json::Value = serde_json::from_str(&gone).unwrap();
    assert!(
        gone["removed"].to_string().contains("orch-tick.timer")
            && gone["next"].to_string().contains("after the current runs have ended: loginctl disable-linger keeper"),
        "{gone:#}"
    );
    let units = own(&["systemctl", "--user", "list-units", "--all", "--no-pager", "--plain", "--no-legend", "orch-*"]);
    assert!(!units.contains(".timer") && units.contains("-run-"), "{units}");
    std::fs::write(site.world.path("go"), "").unwrap();
    site.until("the end of the run", |s| s.waits("AA-2").as_deref() == Some("approval"));
    let again = own(&[ORCH, "--config", file, "init", "--uninstall"]);
    assert!(again.contains("nothing is installed"), "{again}");
}

//! What a run may rely on, wherever it is executed (RUN-4, RUN-8, RUN-9, CLU-3): on this machine, as a unit of a real systemd,
//! as a job of a real Slurm. One suite for all; what only one of them has is tested in `systemd_real` and `slurm_real`.

use super::support::nspawn::{self, Machine};
use super::support::pipe::{Pipe, Setup};
use super::support::procs::{self, holds, pids, read, says};
use super::support::slurm::Cluster;
use super::support::slurm_world::{World, world};
use std::time::{Duration, Instant};

/// The agent marks that it works and waits for leave to end. It ignores TERM, and so does a process next to it that has
/// left the session (`@LEFT@`) and lost its parent.
const AGENT: &str = r#"trap '' TERM
(trap '' TERM; @LEFT@ /bin/sleep @NAP@ &)
rm -f "@HERE@/prompts/at-$ORCH_TASK"; echo here > "@HERE@/prompts/at-$ORCH_TASK"
while [ ! -e "@HERE@/prompts/go-$ORCH_TASK" ]; do sleep 0.1; done
echo "$ORCH_TASK round $ORCH_ATTEMPT" >> "$ORCH_TASK.txt"
"#;

/// Where runs are executed.
struct Ground {
    name: &'static str,
    pipe: Pipe,
    /// Ends with the ground.
    cluster: Option<Cluster>,
    /// Nobody else sleeps for so many seconds.
    nap: u32,
}

impl Ground {
    fn host() -> Option<Self> {
        Some(Self { name: "host", pipe: Pipe::new(Setup::default()), cluster: None, nap: 86_411 })
    }

    fn systemd() -> Option<Self> {
        if !Machine::possible() {
            return None;
        }
        let mut pipe = Pipe::new(Setup { base: Some(nspawn::ground()), ..Setup::default() });
        let text = pipe.read("orch.yaml").replace("executor: detach", "executor: systemd");
        std::fs::write(pipe.at("orch.yaml"), text).unwrap();
        let machine = Machine::boot(pipe.dir.path())?;
        // The agent marks its work next to the state directory, where a unit may not write by default.
        let also = format!("[Service]\nReadWritePaths={}\n", pipe.dir.path().display());
        machine.write("/etc/systemd/system/orch-.service.d/also.conf", &also);
        machine.ok(&["systemctl", "daemon-reload"]);
        pipe.inside = Some(machine);
        Some(Self { name: "systemd", pipe, cluster: None, nap: 86_412 })
    }

    fn slurm() -> Option<Self> {
        let World { pipe, cluster } = world("", "", "")?;
        Some(Self { name: "slurm", pipe, cluster: Some(cluster), nap: 86_413 })
    }

    /// What the agent of the next tasks does. `left`: how the process next to it leaves.
    fn agent(&self, left: &str) {
        let here = self.pipe.dir.path().to_str().unwrap();
        let text = AGENT.replace("@HERE@", here).replace("@LEFT@", left).replace("@NAP@", &self.nap.to_string());
        self.pipe.agent("development", &text);
    }

    /// A task whose agent works.
    fn at_work(&self, title: &str) -> String {
        let key = self.pipe.item(title);
        self.until_at(&key);
        key
    }

    fn until_at(&self, key: &str) {
        let at = self.pipe.at(&format!("prompts/at-{key}"));
        self.pipe.until(&format!("{}: the agent of {key}", self.name), |_| at.exists());
    }

    fn go(&self, key: &str) {
        std::fs::write(self.pipe.at(&format!("prompts/go-{key}")), "").unwrap();
        self.pipe.until_stage(key, "done");
    }

    /// Processes of runs that are alive.
    fn alive(&self) -> Vec<String> {
        let (here, nap) = (self.pipe.dir.path().to_str().unwrap(), self.nap.to_string());
        let of_run =
            |pid: &i32| says(*pid, &nap) || (holds(*pid, "environ", here) && holds(*pid, "cmdline", "agent.sh"));
        pids().filter(of_run).map(|pid| String::from_utf8_lossy(&read(pid, "cmdline")).replace('\0', " ")).collect()
    }

    fn until_alone(&self, what: &str) {
        let begun = Instant::now();
        while !self.alive().is_empty() {
            let story = || format!("{:?}\n{}", self.alive(), self.pipe.story());
            assert!(begun.elapsed() < Duration::from_secs(30), "{} {what}: {}", self.name, story());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Nothing of the attempt was spent.
    fn unspent(&self, key: &str, what: &str) {
        let spent = self.pipe.table("jobs").with("spent", 1).texts("id");
        let attempt = self.pipe.of(key, "attempt");
        assert_eq!((attempt.as_str(), spent.len()), ("1", 0), "{} {what}\n{}", self.name, self.pipe.story());
    }

    fn kill(&self, pid: &str) {
        match &self.pipe.inside {
            Some(machine) => drop(machine.ok(&["kill", "-KILL", pid])),
            None => procs::kill(pid.parse().unwrap()),
        }
    }
}

/// Plays a contract on every executor, side by side. One that this machine can't have says so loudly.
fn on_every_executor(contract: fn(&Ground)) {
    std::thread::scope(|scope| {
        for ground in [Ground::host, Ground::systemd, Ground::slurm] {
            scope.spawn(move || ground().iter().for_each(contract));
        }
    });
}

/// An agent outlives the step that started it, is played once, and leaves nothing when it ends.
fn outlives_its_step(ground: &Ground) {
    ground.agent("setsid");
    let key = ground.at_work("Outlive the step");
    ground.go(&key);
    let agents = ground.pipe.table("runs").with("kind", "agent");
    assert_eq!(agents.texts("result"), ["done"], "{}\n{}", ground.name, ground.pipe.story());
    ground.until_alone("after its end");
    ground.unspent(&key, "outlives");
}

/// A stop ends all of a run: what ignores TERM, what left its session, what cleared its environment.
fn is_stopped_whole(ground: &Ground) {
    ground.agent("env -i setsid");
    let key = ground.at_work("Stop me");
    assert!(!ground.alive().is_empty());
    let said = ground.pipe.orch(&["stop", &key]);
    assert_eq!(said.code, 0, "{}: {}", ground.name, said.all());
    ground.pipe.until_stage(&key, "cancelled");
    ground.until_alone("after a stop");
    assert_eq!(ground.pipe.table("runs").last("result"), "cancelled", "{}", ground.name);
}

/// What a killed supervisor leaves is ended before its stage is played again, and a lost run spends nothing.
fn is_lost_without_its_supervisor(ground: &Ground) {
    // Without a unit, nothing links a process to its run that left the session and lost its parent, but its environment.
    ground.agent("setsid");
    let key = ground.at_work("Lose the supervisor");
    let supervisor = ground.pipe.table("runs").with("ended_at", "").one("supervisor/pid");
    std::fs::remove_file(ground.pipe.at(&format!("prompts/at-{key}"))).unwrap();
    ground.kill(&supervisor);
    ground.until_at(&key);
    let nap = ground.nap.to_string();
    let naps = ground.alive().iter().filter(|words| words.contains(&nap)).count();
    assert_eq!(naps, 1, "{}: of the run at work, none of the lost one", ground.name);
    ground.go(&key);
    assert_eq!(ground.pipe.table("runs").with("result", "lost").len(), 1, "{}", ground.name);
    ground.unspent(&key, "lost");
    ground.until_alone("after a lost run");
}

#[test]
fn run_4_a_run_is_what_it_is_on_every_executor() {
    on_every_executor(|ground| {
        outlives_its_step(ground);
        is_stopped_whole(ground);
        is_lost_without_its_supervisor(ground);
        if let Some(cluster) = &ground.cluster {
            cluster.wait("no job is left", |c| c.queue().is_empty());
        }
    });
}

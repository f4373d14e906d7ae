//! A pipeline whose runs are jobs of a real Slurm, and what is left of them.

use super::pipe::{Pipe, Setup, files};
use super::procs::{contains, pids, read};
use super::slurm::{Cluster, With};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub struct World {
    pub pipe: Pipe,
    pub cluster: Cluster,
}

pub const SECRET: &str = "planted-5f1c9e77-a-secret-of-the-runtime";

/// An agent that waits for the file `go`, and records that it has started.
pub const HOLD: &str = r#"rm -f "HERE/prompts/at-$ORCH_TASK"; echo here > "HERE/prompts/at-$ORCH_TASK"; while [ ! -e "HERE/prompts/go-$ORCH_TASK" ]; do sleep 0.1; done; echo "$ORCH_TASK round $ORCH_ATTEMPT" >> "$ORCH_TASK.txt"
"#;

/// `slurm`: further keys of the section; `top`: of the file; `project`: of the project.
pub fn world(slurm: &str, top: &str, project: &str) -> Option<World> {
    Some(on(Cluster::start()?, slurm, top, project))
}

/// The same, on a cluster with more.
pub fn world_with(with: With, slurm: &str, top: &str, project: &str) -> Option<World> {
    Some(on(Cluster::start_with(with)?, slurm, top, project))
}

fn on(cluster: Cluster, slurm: &str, top: &str, project: &str) -> World {
    let mut pipe = Pipe::new(Setup { top: top.into(), project: project.into(), ..Setup::default() });
    let here = pipe.dir.path().to_str().unwrap().to_owned();
    let conf = cluster.conf().to_str().unwrap().to_owned();
    pipe.env.extend([("SLURM_CONF".to_owned(), conf), ("PLANTED".to_owned(), SECRET.to_owned())]);
    let confine = format!("confine: {{engine: bubblewrap, read: [{here}/do], write: [{here}/prompts]}}");
    let section = format!(
        "slurm: {{work_dir: {}, cpus: 1, memory: 300M, time: \"00:30:00\", settle_s: 1, silence_s: 20{slurm}}}",
        cluster.shared().display()
    );
    let text = pipe
        .read("orch.yaml")
        .replace("confine: {mode: off}", &format!("{confine}\n{section}"))
        .replace("executor: detach", "executor: slurm")
        .replace("reaper: {interval_s: 1}", "reaper: {interval_s: 1, finalize_grace_s: 1}")
        .replace("retry_backoff_s: 1}", "retry_backoff_s: 1, stop_grace_s: 1}")
        .replace("command: [./agent.sh]}", "command: [./agent.sh], env: {TOKEN: {env: PLANTED}}}");
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
    std::fs::set_permissions(pipe.at("prompts"), open).unwrap();
    // A later run of another account could not overwrite an earlier one's prompt.
    let script = pipe.read("agent.sh");
    let line = script.lines().find(|line| line.starts_with("cat > ")).unwrap();
    pipe.script("agent.sh", &script.replace(line, "cat > \"$TMPDIR/prompt\""));
    World { pipe, cluster }
}

impl World {
    pub fn agent(&self, stage: &str, text: &str) {
        self.pipe.agent(stage, &text.replace("HERE", self.pipe.dir.path().to_str().unwrap()));
    }

    pub fn is_at(&self, key: &str) -> bool {
        self.pipe.at(&format!("prompts/at-{key}")).exists()
    }

    pub fn until_at(&self, key: &str) {
        self.pipe.until("the agent works", |_| self.is_at(key));
    }

    /// The agent has to come there again.
    pub fn forget_at(&self, key: &str) {
        std::fs::remove_file(self.pipe.at(&format!("prompts/at-{key}"))).unwrap();
    }

    pub fn go(&self, key: &str) {
        std::fs::write(self.pipe.at(&format!("prompts/go-{key}")), "").unwrap();
    }

    /// Corrects the configuration, and makes what waits for that due.
    pub fn configure(&self, from: &str, to: &str) {
        let text = self.pipe.read("orch.yaml");
        assert!(text.contains(from), "{text}");
        std::fs::write(self.pipe.at("orch.yaml"), text.replace(from, to)).unwrap();
        if self.pipe.at("state/orch.db").exists() {
            self.pipe.hurry();
        }
    }

    /// What holds a task: the rule and the reason.
    pub fn held(&self, key: &str) -> (String, String) {
        let said = self.pipe.orch(&["explain", key, "--json"]).json()["held_by"].clone();
        let word = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        (word("rule"), word("why"))
    }

    /// Until the environment holds it, with this word.
    pub fn until_environment(&self, key: &str, word: &str) {
        self.pipe.until(word, |_| {
            let (rule, why) = self.held(key);
            rule == "environment" && why.contains(word)
        });
    }

    /// The folder of each agent's run, by its name.
    pub fn folders(&self) -> Vec<std::ffi::OsString> {
        let of = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
        let agents = of(self.cluster.shared()).map(|r| r.path().join("demo")).flat_map(of);
        agents.flat_map(|task| of(task.path().join("agent"))).map(|run| run.file_name()).collect()
    }

    /// Nothing of any run is left: no process of the area, no job, no ledger.
    fn is_clean(&self) -> Result<(), String> {
        let area = self.cluster.shared().to_str().unwrap().to_owned();
        let of_area = |pid: &i32| {
            let at = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            at.starts_with(&area) || String::from_utf8_lossy(&read(*pid, "cmdline")).contains(&area)
        };
        let left: Vec<i32> = pids().filter(of_area).collect();
        let ledgers = files(&self.pipe.at("state/runs"));
        let ledgers: Vec<_> = ledgers.iter().filter(|p| p.ends_with("slurm.json")).collect();
        let queue = self.cluster.queue();
        if left.is_empty() && ledgers.is_empty() && queue.is_empty() {
            return Ok(());
        }
        Err(format!("processes {left:?}, ledgers {ledgers:?}, queue {queue:?}"))
    }

    /// The same, within a minute; what the end of a run could not see in Slurm, a reap sees.
    pub fn until_clean(&self) {
        let begun = Instant::now();
        while let Err(left) = self.is_clean() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{left}\n{}", self.pipe.story());
            std::thread::park_timeout(Duration::from_millis(200));
            self.pipe.orch(&["reap"]);
        }
    }

    /// Jobs that counted as failures.
    pub fn spent(&self) -> Vec<String> {
        self.pipe.table("jobs").with("spent", 1).texts("id")
    }
}

/// The files below a folder with these bytes.
pub fn in_files(folder: &Path, needle: &str) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|p| contains(&std::fs::read(p).unwrap_or_default(), needle)).collect()
}

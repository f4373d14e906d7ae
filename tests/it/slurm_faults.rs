//! What can be wrong with a cluster, on a real Slurm: a bad configuration, a node that lacks something, Slurm's own
//! limits, a node that is cut off, a controller that does not come back for long (CLU-1 to CLU-5, ORD-1).

use super::support::procs::{kill, pids, read, says};
use super::support::slurm::With;
use super::support::slurm_world::{HOLD, World, world, world_with};
use std::time::{Duration, Instant};

/// What `doctor` says of the cluster: name, level, message, way out.
fn doctor(w: &World) -> Vec<(String, String, String, String)> {
    let said = w.pipe.orch(&["doctor", "--quick", "--json"]).json();
    let checks = said["checks"].as_array().unwrap().iter().filter(|c| c["area"] == "cluster");
    let word = |c: &serde_json::Value, name: &str| c[name].as_str().unwrap_or_default().to_owned();
    checks.map(|c| (word(c, "name"), word(c, "level"), word(c, "message"), word(c, "fix"))).collect()
}

/// ORD-1, CLU-4: whatever is wrong with the settings or a node holds the task by the environment, with the way out, and
/// spends nothing; and `doctor` finds it first.
#[test]
fn clu_4_a_bad_configuration_is_the_environments_with_the_way_out() {
    let Some(mut w) = world_with(With::Odd, ", partition: closed, account: bad", "", "") else { return };
    // Nobody at the controller's port; a munge with another key.
    for conf in [w.cluster.conf_of_nobody(), w.cluster.conf_of_another_key()] {
        let own = std::mem::take(&mut w.pipe.env);
        w.pipe.env = own.iter().filter(|(name, _)| name != "SLURM_CONF").cloned().collect();
        w.pipe.env.push(("SLURM_CONF".to_owned(), conf.to_str().unwrap().to_owned()));
        let said = doctor(&w);
        let told = said.iter().find(|(name, ..)| name == "controller").unwrap_or_else(|| panic!("{said:?}"));
        assert!(told.1 == "failed" && told.3.contains("slurmctld") && told.3.contains("munge"), "{told:?}");
        w.pipe.env = own;
    }
    let key = w.pipe.item("Never");
    // As Slurm says it, without a word of its own for the reason.
    w.until_environment(&key, "use this partition");
    let cases = [
        ("partition: closed, account: bad", "partition: work, gres: \"gpu:9\"", "gres"),
        ("gres: \"gpu:9\"", "constraint: fast", "feature"),
        ("constraint: fast", "per_kind: {agent: {memory: 900G}}", "emory"),
        // Its program is not there; one that sees the program and not the folder is in the contract of the executor.
        ("partition: work, per_kind: {agent: {memory: 900G}}", "partition: apart", "slurm.work_dir"),
        ("partition: apart", "partition: bare", "bubblewrap"),
    ];
    for (from, to, word) in cases {
        w.configure(from, to);
        w.until_environment(&key, word);
        assert_eq!((w.pipe.of(&key, "attempt"), w.spent()), ("1".into(), vec![]), "{to}");
    }
    let (_, why) = w.held(&key);
    assert!(why.contains("on bare") && why.contains("install"), "{why}");
    for (partition, word) in [("bare", "bubblewrap"), ("apart", "work_dir")] {
        w.configure("partition: bare", &format!("partition: {partition}"));
        let said = doctor(&w);
        let told = said.iter().find(|(name, ..)| name == partition).unwrap_or_else(|| panic!("{said:?}"));
        assert!(told.1 == "failed" && told.2.contains(word) && told.3.contains("docs/scale.md"), "{told:?}");
        w.configure(&format!("partition: {partition}"), "partition: bare");
    }
    // A file where the folder should be.
    let shared = w.cluster.shared().display().to_string();
    std::fs::write(w.pipe.at("file"), "").unwrap();
    let file = w.pipe.at("file").display().to_string();
    w.configure(&format!("work_dir: {shared}"), &format!("work_dir: {file}"));
    w.until_environment(&key, "slurm.work_dir");
    w.configure(&format!("work_dir: {file}"), &format!("work_dir: {shared}"));
    // What its node writes is seen by nobody else: three times, and then the cluster is named.
    w.configure("partition: bare", "partition: stale");
    let why = w.pipe.hurried_to_a_block(&key);
    assert!(why.contains("the cluster lost 3 runs") && why.contains("not the same folder"), "{why}");
    let causes = w.pipe.table("jobs").with("status", "failed").texts("cause");
    assert!(causes.len() == 3 && causes.iter().all(|c| c == "cluster"), "{causes:?}");
    w.configure("partition: stale", "partition: work");
    assert_eq!(w.pipe.orch(&["retry", &key]).code, 0);
    w.pipe.until_stage(&key, "done");
    assert_eq!((w.pipe.of(&key, "attempt"), w.spent()), ("1".into(), vec![]));
    w.until_clean();
}

/// CLU-3: a time limit and too little memory count as failures, and are told by Slurm's names; also where a child alone was
/// killed, and its parent exits 0.
#[test]
fn clu_3_slurms_own_limits_are_told_by_name_and_count() {
    let memory = std::path::Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists();
    if !memory {
        eprintln!("\n*** NOT TESTED: OUT_OF_MEMORY on a real Slurm: no memory controller of cgroup v1 here ***\n");
    }
    let with = if memory { With::Memory } else { With::Nothing };
    let Some(w) = world_with(with, "", "limits: {max_concurrency: 2}", "") else { return };
    w.configure("stop_grace_s: 1}", "stop_grace_s: 1, run_retries: 0}");
    // 600 MB in one process, of which its parent notices nothing.
    let hungry =
        "case \"$ORCH_TASK\" in *-2) head -c 600000000 /dev/zero | tail -c 600000000 > /dev/null || :;; esac\n";
    w.agent("development", &format!("{hungry}{HOLD}"));
    let late = w.pipe.item("Too late");
    w.until_at(&late);
    let job = w.cluster.queue().split_whitespace().next().unwrap().to_owned();
    // Slurm looks at time limits twice a minute.
    w.cluster.ask(&["scontrol", "update", &format!("JobId={job}"), "EndTime=now"]);
    let mut ends = vec![(late, "TIMEOUT", "slurm.time")];
    if memory {
        let key = w.pipe.item("Too large");
        w.go(&key);
        ends.push((key, "OUT_OF_MEMORY", "slurm.memory"));
    }
    for (key, word, way_out) in &ends {
        w.pipe.until_blocked(key);
        let why = w.pipe.of(key, "blocked_reason");
        assert!(why.contains(word) && why.contains(way_out), "{why}");
    }
    assert_eq!(w.spent().len(), ends.len());
    w.until_clean();
}

/// CLU-3b, CLU-3c: a node that is cut off ends its run by itself, since nobody else can; Slurm gives it up, and the run
/// begins again elsewhere, in a new folder. When the node is back, nothing of the old run is.
#[test]
fn clu_3_a_node_that_is_cut_off_ends_its_run_alone() {
    let Some(w) = world(", silence_s: 4", "", "") else { return };
    w.configure("silence_s: 20, silence_s: 4", "silence_s: 4");
    // A child that ignores TERM, and is not the agent's own.
    w.agent("development", &format!("(trap '' TERM; setsid sleep 713) &\n{HOLD}"));
    let key = w.pipe.item("Cut off");
    w.until_at(&key);
    let old = w.folders();
    let node = w.cluster.queue().split_whitespace().last().unwrap().to_owned();
    w.forget_at(&key);
    let silenced = w.cluster.cut_off(&node);
    let alive = || pids().any(|pid| says(pid, "713"));
    assert!(alive(), "tasks of a node that is cut off live on");
    let begun = Instant::now();
    while alive() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the node goes on alone");
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert!(w.pipe.table("runs").set("ended_at").is_empty(), "nobody knows yet");
    // What Slurm does by itself after SlurmdTimeout and more.
    w.cluster.ask(&["scontrol", "update", &format!("NodeName={node}"), "State=DOWN", "Reason=silent"]);
    w.until_at(&key);
    assert!(w.folders().iter().any(|f| !old.contains(f)), "{old:?}");
    w.cluster.mend(&silenced);
    w.go(&key);
    w.pipe.until_stage(&key, "done");
    assert_eq!((w.pipe.of(&key, "attempt"), w.spent()), ("1".into(), vec![]));
    let file = w.pipe.remote(&["show", &format!("main:{key}.txt")]);
    assert_eq!(file.lines().count(), 1, "{file}");
    w.until_clean();
}

/// CLU-3c: while Slurm does not say whether a job is gone, its run is neither lost nor begun again; after a bound its
/// supervisor leaves it to later steps, a hold names the job, and once Slurm answers the run is settled.
#[test]
fn clu_3_a_run_that_slurm_says_nothing_of_stays_undecided() {
    let Some(mut w) = world("", "", "") else { return };
    w.agent("development", HOLD);
    let key = w.pipe.item("Undecided");
    w.until_at(&key);
    let name = w.cluster.queue().split_whitespace().nth(1).unwrap().to_owned();
    w.forget_at(&key);
    w.cluster.kill("slurmctld");
    // Both processes of srun: nobody cancels the job, and its node sees no end of file.
    for pid in w.cluster.processes().into_iter().filter(|pid| read(*pid, "comm") == b"srun\n") {
        kill(pid);
    }
    w.pipe.until("a hold that names the job", |_| {
        let (rule, why) = w.held(&key);
        rule == "environment" && why.contains(&name) && why.contains("squeue")
    });
    let status = w.pipe.orch(&["status", "--json"]).json();
    assert_eq!(status["tasks"][0]["held_by"]["rule"], "environment", "{status}");
    for step in ["tick", "reap"] {
        assert_eq!(w.pipe.orch(&[step]).code, 0);
    }
    assert!(w.pipe.table("runs").set("ended_at").is_empty());
    assert!(!w.is_at(&key), "nothing begins while the first may still run");
    w.cluster.controller();
    w.until_at(&key);
    w.go(&key);
    w.pipe.until_stage(&key, "done");
    assert_eq!((w.pipe.of(&key, "attempt"), w.spent()), ("1".into(), vec![]));
    assert_eq!(w.pipe.table("jobs").set("cause").texts("cause"), ["cluster"]);
    w.until_clean();
}

//! Slurm as it is (CLU-1): its clients, its settings, and a job of a second on each idle node, which says what runs would find
//! there.

use super::Chart;
use super::inside::needed;
use crate::adapters::child::{self, Control, Event, Spec};
use crate::adapters::executor::slurm::{self, Ledger, Setting};
use crate::config::{Config, SlurmKind};
use crate::engine::agent::program_files;
use crate::engine::area::Folders;
use crate::engine::confine::{self, Further};
use crate::engine::run_env::base_env;
use crate::engine::{cluster, mirrors};
use crate::model::ids::RunId;
use crate::model::text::clip;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const AREA: &str = "cluster";
/// Of the command on a node; its time in the queue is bounded by the node being idle.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many nodes are asked.
const NODES: usize = 16;
/// Above it a node that is gone holds its runs for long.
const TIMEOUT_S: u64 = 300;
/// What the command says of a program that is not there.
const MISSING: &str = "missing:";

/// With `executor: slurm` alone.
pub fn all(config: &Config, say: &dyn Fn(&str), chart: &mut Chart) {
    if !cluster::is_on(config) {
        return;
    }
    for program in ["srun", "squeue", "scancel", "scontrol", "sinfo"] {
        match which::which(program) {
            Ok(path) => chart.ok(AREA, program, path.display().to_string()),
            Err(_) => chart.fail(AREA, program, "not found on PATH", "install Slurm's clients (slurm-client)"),
        }
    }
    match slurm::settings() {
        Ok(settings) => judged(&settings, chart),
        // The clients speak through munge: what is wrong with it is said here.
        Err(e) => {
            let fix = "check that slurmctld and munge run and that this account may use them; SLURM_CONF names another configuration";
            return chart.fail(AREA, "controller", e.to_string(), fix);
        }
    }
    let root = rustix::process::geteuid().is_root();
    if let Err(why) = slurm::make_ready(Path::new(&config.slurm.work_dir), root) {
        return chart.fail(AREA, "work_dir", why, "see slurm.work_dir in docs/configuration.md");
    }
    let nodes = match slurm::nodes(&config.slurm.partition) {
        Ok(nodes) => nodes,
        Err(e) => return chart.fail(AREA, "partition", e.to_string(), "correct slurm.partition: `sinfo` lists them"),
    };
    if nodes.is_empty() {
        return chart.fail(AREA, "partition", "it has no nodes", "correct slurm.partition: `sinfo` lists them");
    }
    let idle: Vec<&str> = nodes.iter().filter(|(_, state)| state == "idle").map(|(node, _)| node.as_str()).collect();
    chart.ok(AREA, "partition", format!("{} nodes, {} of them idle", nodes.len(), idle.len()));
    for node in idle.into_iter().take(NODES) {
        say(&format!("a job on node {node}"));
        match one(config, node) {
            Ok((engine, missing)) if missing.is_empty() => {
                chart.ok(
                    AREA,
                    node,
                    format!("work_dir is readable and writable, {engine} confines runs, programs are installed"),
                );
            }
            Ok((engine, missing)) => {
                let fix = "install them on the nodes, or add their folder to confine.read";
                chart.fail(AREA, node, format!("{engine} confines runs; missing: {}", missing.join(", ")), fix);
            }
            Err(why) => chart.fail(AREA, node, why, "docs/scale.md, Slurm"),
        }
    }
}

/// What of Slurm's settings holds runs less than it could.
fn judged(settings: &[Setting], chart: &mut Chart) {
    let of = |name: &str| settings.iter().find(|s| s.name == name).map_or("", |s| s.value.as_str());
    if !of("ProctrackType").ends_with("cgroup") {
        let fix = "set ProctrackType=proctrack/cgroup in slurm.conf";
        chart.warn(
            AREA,
            "ProctrackType",
            format!("{}: Slurm does not notice when parts of a job keep running", of("ProctrackType")),
            fix,
        );
    }
    let held = of("TaskPlugin").contains("cgroup") && of("ConstrainRAMSpace") == "yes";
    if !held {
        let fix = "set TaskPlugin=task/cgroup, and ConstrainRAMSpace=yes in cgroup.conf; until then confine.memory_mb is measured once a second";
        chart.warn(AREA, "memory", "Slurm does not enforce a job's memory limit", fix);
    }
    let seconds: u64 = of("SlurmdTimeout").split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    if seconds == 0 || seconds > TIMEOUT_S {
        let fix = format!("set SlurmdTimeout={TIMEOUT_S} or less in slurm.conf");
        chart.warn(AREA, "SlurmdTimeout", format!("{seconds} s until Slurm notices that a node is gone"), fix);
    }
}

/// A job of a second on one node: the engine there, and programs of runs that are missing.
fn one(config: &Config, node: &str) -> Result<(String, Vec<String>), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let project = config.projects.first().ok_or("no project")?;
    let own = RunId(i64::from(std::process::id()));
    let hold = confine::of(config, project, None, own).map_err(|e| text(&e))?;
    std::fs::create_dir_all(&config.area_dir).map_err(|e| text(&e))?;
    let place = tempfile::Builder::new().prefix(".doctor-").tempdir_in(&config.area_dir).map_err(|e| text(&e))?;
    let logs = tempfile::tempdir().map_err(|e| text(&e))?;
    let folders = Folders::of_check(&config.area_dir, &place.path().join("run"));
    folders.renew().map_err(|e| format!("{e:#}"))?;
    std::fs::create_dir(&folders.checkout).map_err(|e| text(&e))?;
    mirrors::write(&folders.home);
    hold.hand_over(&folders).map_err(|e| format!("{e:#}"))?;
    let section = project.slurm.of(SlurmKind::Agent);
    let name = format!("orch-{}-doctor-{}", crate::config::installation(&config.state_dir), std::process::id());
    let mut job = cluster::job(config, &section, name, logs.path()).map_err(|e| format!("{e:#}"))?;
    job.resources.extra.push(format!("--nodelist={node}"));
    job.resources.time = "5".to_owned();
    let programs: BTreeSet<String> = needed(config, project).into_iter().map(|(_, program)| program).collect();
    let script =
        format!("echo it > seen && cat seen && for p; do command -v \"$p\" > /dev/null || echo \"{MISSING}$p\"; done");
    // As for a run: its own program is read where it is.
    let read = programs.iter().flat_map(|p| program_files(&[OsString::from(p)])).collect();
    let mut argv: Vec<OsString> = ["sh", "-c", &script, "sh"].map(OsString::from).to_vec();
    argv.extend(programs.into_iter().map(OsString::from));
    let mut env = base_env(&project.repo, "", &folders);
    env.extend(hold.env());
    let spec = Spec {
        argv,
        cwd: folders.checkout.clone(),
        env,
        stdin: None,
        stdout: logs.path().join("out"),
        stderr: logs.path().join("err"),
        wall: PATIENCE,
        stall: None,
        grace: Duration::from_secs(1),
        mark: ("ORCH_RUN".to_owned(), format!("doctor-{}", std::process::id())),
        cap_bytes: 1 << 16,
        boundary: hold.elsewhere(Arc::new(job)).boundary(&folders, Further { read, ..Further::default() }),
    };
    let mut engine = String::new();
    let exit = child::run(&spec, &mut |event| {
        if let Event::Started(_) = event {
            engine = Ledger::read(logs.path()).map(|l| l.engine).unwrap_or_default();
        }
        Control::Go
    })
    .map_err(|e| text(&e))?;
    let said = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let out = said(&spec.stdout);
    // Seen from here, too, after its end.
    let here = std::fs::read_to_string(folders.checkout.join("seen")).unwrap_or_default();
    if exit.code != Some(0) || !out.starts_with("it\n") || here != "it\n" {
        return Err(format!("its job failed: {}", clip(&said(&spec.stderr), 200)));
    }
    Ok((engine, out.lines().filter_map(|line| line.strip_prefix(MISSING)).map(str::to_owned).collect()))
}

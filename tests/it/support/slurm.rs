//! A real Slurm on this machine, of Debian's packages: a key, a controller and the daemons of its nodes, on loopback
//! ports of their own. Everything is started by the test and ended by its number.

use super::procs::{below, pids, read, signal};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAMS: [&str; 8] = ["munged", "slurmctld", "slurmd", "srun", "squeue", "scancel", "scontrol", "sinfo"];
const READY: Duration = Duration::from_secs(60);
/// A node of its own partition each, at which something is wrong. Each has its own view of the file system.
const ODD: [&str; 3] = ["bare", "stale", "apart"];

/// What a cluster has in addition to its two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    Nothing,
    /// The kernel holds jobs to their memory (`task/cgroup`).
    Memory,
    /// A node without bubblewrap (partition `bare`), one whose writes nobody else sees (`stale`), one that does not see
    /// the shared folder (`apart`); and a partition for another account (`closed`).
    Odd,
}

pub struct Cluster {
    dir: tempfile::TempDir,
    started: Vec<(String, Child)>,
}

/// Said loudly; a failure where this machine was to have it.
pub fn not_tested(why: &str) {
    assert!(std::env::var_os("ORCH_TOOLS_REQUIRED").is_none(), "Slurm: {why}");
    eprintln!("\n*** NOT TESTED: a real Slurm: {why} ***\n");
}

impl Cluster {
    /// Ready for jobs. `None`: it can't be had here.
    pub fn start() -> Option<Self> {
        Self::start_with(With::Nothing)
    }

    /// The same, with more.
    pub fn start_with(with: With) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("\n*** NOT TESTED: a real Slurm: only root starts one ***\n");
            return None;
        }
        if let Some(missing) = PROGRAMS.iter().find(|p| which::which_in(p, Some(path()), "/").is_err()) {
            not_tested(&format!("{missing} is not installed (apt-get install slurm-wlm munge)"));
            return None;
        }
        // munge's socket has a short path.
        let dir = tempfile::Builder::new().prefix("sl").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut cluster = Self { dir, started: Vec::new() };
        for name in ["munge", "ctld", "n1", "n2", "shared"].into_iter().chain(ODD) {
            std::fs::DirBuilder::new().mode(0o755).create(cluster.at(name)).unwrap();
        }
        std::fs::write(cluster.conf(), cluster.configuration(with)).unwrap();
        if with == With::Memory {
            let text =
                "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nConstrainRAMSpace=yes\nAllowedRAMSpace=100\n";
            std::fs::write(cluster.at("cgroup.conf"), text).unwrap();
        }
        cluster.munge("munge");
        let nodes: Vec<&str> = ["n1", "n2"].into_iter().chain(ODD.into_iter().filter(|_| with == With::Odd)).collect();
        for node in &nodes {
            cluster.node(node);
        }
        cluster.controller();
        let idle = |c: &Self| c.ask(&["sinfo", "-h", "-N", "-o", "%N %T"]);
        cluster.wait("idle nodes", |c| nodes.iter().all(|n| idle(c).lines().any(|l| l == format!("{n} idle"))));
        Some(cluster)
    }

    fn configuration(&self, with: With) -> String {
        let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let held = [port(), port(), port(), port(), port(), port()];
        let ports: Vec<u16> = held.iter().map(|l| l.local_addr().unwrap().port()).collect();
        let d = self.dir.path().display();
        let plugin = if with == With::Memory { "task/cgroup" } else { "task/none" };
        let mut odd = String::new();
        for (name, port) in ODD.iter().zip(&ports[3..]).filter(|_| with == With::Odd) {
            odd.push_str(&format!(
                "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=8 CoresPerSocket=8 RealMemory=4000\n\
                 PartitionName={name} Nodes={name} State=UP\n"
            ));
        }
        if with == With::Odd {
            odd.push_str("PartitionName=closed Nodes=n1,n2 AllowAccounts=team State=UP\n");
        }
        format!(
            "ClusterName=lab\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort={}\nSlurmUser=root\nSlurmdUser=root\n\
             AuthInfo=socket={d}/munge/s\nCommunicationParameters=NoInAddrAny,NoCtldInAddrAny\nStateSaveLocation={d}/ctld\n\
             SlurmctldPidFile={d}/ctld/pid\nSlurmdPidFile={d}/%n/pid\nSlurmdSpoolDir={d}/%n/spool\n\
             SlurmctldLogFile={d}/ctld/log\nSlurmdLogFile={d}/%n/log\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin={plugin}\nSelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core_Memory\nMpiDefault=none\nAccountingStorageType=accounting_storage/none\n\
             SchedulerParameters=sched_interval=2,bf_interval=2\nReturnToService=2\nSlurmdTimeout=6\nMessageTimeout=2\nKillWait=2\n\
             DefMemPerCPU=100\nSlurmdParameters=config_overrides\n\
             NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={} CPUs=8 CoresPerSocket=8 RealMemory=4000\n\
             NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={} CPUs=8 CoresPerSocket=8 RealMemory=4000\n\
             PreemptType=preempt/partition_prio\nPreemptMode=CANCEL\n\
             PartitionName=work Nodes=n1,n2 Default=YES State=UP PriorityTier=1\n\
             PartitionName=high Nodes=n1,n2 State=UP PriorityTier=9\n{odd}",
            ports[0], ports[1], ports[2]
        )
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn conf(&self) -> PathBuf {
        self.at("slurm.conf")
    }

    /// `slurm.work_dir` of the tests: every node sees it, apart from the odd ones.
    pub fn shared(&self) -> PathBuf {
        self.at("shared")
    }

    /// The socket of munge.
    pub fn socket(&self) -> PathBuf {
        self.at("munge/s")
    }

    fn spawn(&mut self, name: &str, words: &[&str]) {
        let log = std::fs::File::create(self.at(&format!("{name}.out"))).unwrap();
        let mut command = Command::new(which::which_in(words[0], Some(path()), "/").unwrap());
        command.args(&words[1..]).env_clear().env("PATH", path()).env("SLURM_CONF", self.conf());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.started.push((name.to_owned(), command.spawn().unwrap()));
    }

    /// A munge with a key of its own in this folder.
    fn munge(&mut self, folder: &str) {
        let at = self.at(folder);
        let key: Vec<u8> = std::iter::repeat_with(tempfile::NamedTempFile::new)
            .take(40)
            .flat_map(|f| f.unwrap().path().to_str().unwrap().as_bytes().to_vec())
            .collect();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o400).open(at.join("key")).unwrap();
        std::io::Write::write_all(&mut file, &key).unwrap();
        let of = |name: &str| format!("--{}={}", name, at.join(name.split('-').next().unwrap()).display());
        let (key, log, seed, pid) = (of("key-file"), of("log-file"), of("seed-file"), of("pid-file"));
        let socket = format!("--socket={}", at.join("s").display());
        let words = ["munged", "-F", "--force", "--num-threads=4", &key, &socket, &pid, &log, &seed];
        self.spawn("munged", &words);
        self.wait("munge", |_| at.join("s").exists());
    }

    /// The configuration of somebody whose munge has another key.
    pub fn conf_of_another_key(&mut self) -> PathBuf {
        std::fs::DirBuilder::new().mode(0o755).create(self.at("other")).unwrap();
        self.munge("other");
        let (own, other) = (self.socket(), self.at("other/s"));
        self.changed("another-key.conf", &own.to_string_lossy(), &other.to_string_lossy())
    }

    /// The configuration of somebody who looks for the controller where nobody listens.
    pub fn conf_of_nobody(&self) -> PathBuf {
        let text = std::fs::read_to_string(self.conf()).unwrap();
        let line = text.lines().find(|l| l.starts_with("SlurmctldPort=")).unwrap().to_owned();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        self.changed("nobody.conf", &line, &format!("SlurmctldPort={free}"))
    }

    fn changed(&self, name: &str, from: &str, to: &str) -> PathBuf {
        let text = std::fs::read_to_string(self.conf()).unwrap();
        assert!(text.contains(from));
        std::fs::write(self.at(name), text.replace(from, to)).unwrap();
        self.at(name)
    }

    pub fn controller(&mut self) {
        self.spawn("slurmctld", &["slurmctld", "-D"]);
        self.wait("the controller", |c| c.ask(&["scontrol", "ping"]).contains("UP"));
    }

    fn node(&mut self, name: &str) {
        let (own, shared) = (self.at(name).display().to_string(), self.shared().display().to_string());
        let view = match name {
            "bare" => "mount --bind /dev/null \"$(command -v bwrap)\"".to_owned(),
            // Reads what is there, and keeps its own writes to itself.
            "stale" => format!(
                "mount -t tmpfs none {own} && mkdir {own}/up {own}/work && \
                 mount -t overlay none -o lowerdir={shared},upperdir={own}/up,workdir={own}/work {shared}"
            ),
            "apart" => format!("mount -t tmpfs none {shared}"),
            _ => return self.spawn(name, &["slurmd", "-D", "-N", name]),
        };
        let script = format!("{view} && exec slurmd -D -N {name}");
        self.spawn(name, &["unshare", "--mount", "--propagation", "private", "sh", "-c", &script]);
    }

    /// From now on nothing comes from the node and nothing reaches it, while its tasks live on: what the others see of a
    /// node whose network is gone. Returns the silenced processes.
    pub fn cut_off(&self, node: &str) -> Vec<i32> {
        let spool = self.at(node).join("spool");
        let mut silenced: Vec<i32> =
            self.processes().into_iter().filter(|pid| is(*pid, "slurmstepd") && opens(*pid, &spool)).collect();
        let daemon = self.started.iter().rfind(|(name, _)| name == node).unwrap();
        silenced.push(i32::try_from(daemon.1.id()).unwrap());
        for pid in &silenced {
            signal(*pid, rustix::process::Signal::STOP);
        }
        silenced
    }

    /// The node is heard again.
    pub fn mend(&self, silenced: &[i32]) {
        for pid in silenced {
            signal(*pid, rustix::process::Signal::CONT);
        }
    }

    /// What one of Slurm's clients prints; empty where it fails.
    pub fn ask(&self, words: &[&str]) -> String {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("SLURM_CONF", self.conf()).stderr(Stdio::null());
        let out = command.output().unwrap();
        if out.status.success() { String::from_utf8_lossy(&out.stdout).into_owned() } else { String::new() }
    }

    /// Jobs in the queue, a line each.
    pub fn queue(&self) -> String {
        self.ask(&["squeue", "-h", "-o", "%i %j %T %N"])
    }

    pub fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            let log = std::fs::read_to_string(self.at("ctld/log")).unwrap_or_default();
            assert!(begun.elapsed() < READY, "not within {READY:?}: {what}\n{}\n{log}", self.queue());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Kills one of what was started, and sees it gone.
    pub fn kill(&mut self, name: &str) {
        let at = self.started.iter().rposition(|(n, _)| n == name).unwrap();
        let (_, mut child) = self.started.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A node goes down with all that it runs; nothing of it says goodbye.
    pub fn lose(&mut self, node: &str) {
        let spool = self.at(node).join("spool");
        let stepds: Vec<i32> =
            self.processes().into_iter().filter(|pid| is(*pid, "slurmstepd") && opens(*pid, &spool)).collect();
        for pid in &stepds {
            signal(*pid, rustix::process::Signal::STOP);
        }
        self.kill(node);
        for pid in stepds {
            for task in (1..8).flat_map(|n| below(pid, n)) {
                signal(task, rustix::process::Signal::KILL);
            }
            signal(pid, rustix::process::Signal::KILL);
        }
        // What Slurm finds out after SlurmdTimeout and more.
        self.ask(&["scontrol", "update", &format!("NodeName={node}"), "State=DOWN", "Reason=lost"]);
    }

    /// Every process that was started with this cluster's configuration.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("SLURM_CONF={}", self.conf().display());
        pids().filter(|pid| read(*pid, "environ").split(|b| *b == 0).any(|e| e == mark.as_bytes())).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid, rustix::process::Signal::KILL);
        }
        for (_, child) in &mut self.started {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn is(pid: i32, name: &str) -> bool {
    read(pid, "comm").starts_with(name.as_bytes())
}

/// Whether a step's socket of this node is the process's.
fn opens(pid: i32, spool: &Path) -> bool {
    let name = spool.to_string_lossy().into_owned();
    let of = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets: Vec<String> = of
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let unix = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    unix.lines().any(|line| {
        let parts: Vec<&str> = line.split_whitespace().collect();
        parts.last().is_some_and(|at| at.starts_with(&name))
            && parts.get(6).is_some_and(|n| sockets.iter().any(|s| s == n))
    })
}

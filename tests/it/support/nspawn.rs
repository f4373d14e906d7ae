//! A separate machine booted by systemd: a container over this machine's own files that keeps its writes in memory.
//! Root only. Everything in it ends with the process that this value holds.
#![allow(dead_code, reason = "each test uses its part")]

use super::procs::{below, kill, read};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Its mounts and processes are in namespaces of their own, so none is left, whichever process is killed. Control
/// groups are named in the machine's tree: two containers must not share one.
const BOOT: &str = r#"set -e
for tree in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -w "$tree/cgroup.procs" ] || continue
    mkdir "$tree/$1"
    echo $$ > "$tree/$1/cgroup.procs"
done
shift
exec setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child=KILL --mount-proc sh -c '
set -e
dir=$1
shift
mount -t tmpfs tmpfs "$dir"
mkdir -p "$dir/upper/etc" "$dir/work" "$dir/merged"
: > "$dir/upper/etc/machine-id"
mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/merged"
systemd-nspawn -D "$dir/merged" --register=no --keep-unit --private-network --link-journal=no --console=pipe "$@" \
    --boot systemd.unit=basic.target
exit
' sh "$@"
"#;

/// Where `orch` is in the container.
pub const ORCH: &str = "/usr/local/bin/orch";
const BOUND: Duration = Duration::from_secs(60);

pub struct Machine {
    child: Child,
    group: String,
    dir: tempfile::TempDir,
    init: i32,
}

/// Root in a container without these rights may not; then the tools are not at fault.
fn may_mount() -> bool {
    let look = "mount -t tmpfs none /mnt && mkdir /mnt/a /mnt/b /mnt/c /mnt/d && mount -t overlay none -o lowerdir=/mnt/a,upperdir=/mnt/b,workdir=/mnt/c /mnt/d";
    let tried = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "sh", "-c", look])
        .output();
    tried.is_ok_and(|out| out.status.success())
}

/// Where a world may be: not below what a unit's PrivateTmp= hides, nor a container's own /tmp.
pub fn ground() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let hidden = ["/tmp", "/var/tmp", "/run", "/dev"].iter().any(|top| target.starts_with(top));
    if hidden { "/srv".into() } else { target.to_owned() }
}

impl Machine {
    /// Whether one can be booted here: root, with the tools. If not, a loud message says so.
    pub fn possible() -> bool {
        let needed = ["systemd-nspawn", "setpriv", "unshare", "nsenter"];
        let missing: Vec<&str> = needed.into_iter().filter(|name| which::which(name).is_err()).collect();
        if !rustix::process::getuid().is_root() {
            not_tested("only root may boot a container");
        } else if !missing.is_empty() {
            not_tested(&format!("{} not here (Debian: apt-get install systemd-container)", missing.join(", ")));
        } else if !may_mount() {
            not_tested("this machine's root may not make namespaces and mounts");
        } else {
            return true;
        }
        false
    }

    /// Boots one in which `shared` is the same folder as outside. `None`, with a loud message, if the machine forbids
    /// it; in the gate that is a failure.
    pub fn boot(shared: &Path) -> Option<Self> {
        match Self::start(shared) {
            Ok(machine) => Some(machine),
            Err(why) => {
                assert!(std::env::var_os("ORCH_TOOLS_REQUIRED").is_none(), "no container: {why}");
                not_tested(&why);
                None
            }
        }
    }

    fn start(shared: &Path) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        // As unique as the folder: process numbers repeat, in another namespace even at the same time.
        let own = dir.path().file_name().unwrap_or_default().to_string_lossy();
        let group = format!("orch-test-{}", own.trim_start_matches('.'));
        let console = std::fs::File::create(dir.path().join("console")).map_err(|e| e.to_string())?;
        let program = std::env::var_os("ORCH_TEST_PROGRAM").unwrap_or_else(|| crate::support::ORCH.into());
        let mut command = Command::new("sh");
        command.args(["-c", BOOT, "sh", &group]).arg(dir.path());
        command.arg(format!("--bind={0}:{0}", shared.display()));
        command.arg(format!("--bind-ro={}:{ORCH}", Path::new(&program).display()));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let both = console.try_clone().map_err(|e| e.to_string())?;
        command.stdin(Stdio::null()).stdout(console).stderr(both).process_group(0);
        let child = command.spawn().map_err(|e| e.to_string())?;
        let mut machine = Self { child, group, dir, init: 0 };
        // unshare, its shell, systemd-nspawn, the container's init.
        let begun = Instant::now();
        let top = i32::try_from(machine.child.id()).map_err(|e| e.to_string())?;
        while machine.init == 0 || !machine.answers() {
            if begun.elapsed() > BOUND || machine.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                let said = std::fs::read_to_string(machine.dir.path().join("console")).unwrap_or_default();
                return Err(format!("it did not boot: {}", said.trim()));
            }
            machine.init = below(top, 3).into_iter().find(|pid| comm(*pid) == "systemd").unwrap_or(0);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(machine)
    }

    /// Whether its manager has finished booting.
    fn answers(&self) -> bool {
        let said = self.run(&["systemctl", "is-system-running"]);
        matches!(String::from_utf8_lossy(&said.stdout).trim(), "running" | "degraded")
    }

    /// A command inside, as root, ended if it hangs.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120", "nsenter"]);
        command.args(["-t", &self.init.to_string(), "-m", "-u", "-i", "-n", "-p", "--"]).args(args);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// A command inside that must succeed; returns its output.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{args:?}: {}{said}{}", out.status, String::from_utf8_lossy(&out.stderr));
        said
    }

    /// A property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", &format!("--property={property}"), "--", unit]).trim().to_owned()
    }

    /// Writes a file inside.
    pub fn write(&self, path: &str, text: &str) {
        let mut command = self.command(&["sh", "-c", "mkdir -p \"$(dirname \"$0\")\" && cat > \"$0\"", path]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{path}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The init of its process namespace: when it dies, the kernel ends all others.
        let top = i32::try_from(self.child.id()).unwrap_or(0);
        below(top, 1).into_iter().for_each(kill);
        let _ = self.child.kill();
        let _ = self.child.wait();
        for tree in ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"] {
            let place = Path::new(tree).join(&self.group);
            for _ in 0..100 {
                // A group can be removed once its last process has been reaped.
                if !place.exists() || remove(&place).is_ok() {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
    }
}

/// Says why systemd was not tested, even if the output of passing tests is captured.
pub fn not_tested(why: &str) {
    let _ = std::io::stderr().write_all(format!("\n*** NOT TESTED: real systemd: {why} ***\n\n").as_bytes());
}

/// A control group's folders, from the bottom up; its files belong to the kernel.
fn remove(group: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(group)?.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove(&entry.path())?;
    }
    std::fs::remove_dir(group)
}

fn comm(pid: i32) -> String {
    String::from_utf8_lossy(&read(pid, "comm")).trim().to_owned()
}

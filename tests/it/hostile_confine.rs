//! BND-2, BND-7: a hostile run under each engine, and the same run without confinement, where the same attacks succeed.

use crate::support::attacks::{self, Held};
use crate::support::confined::{PROGRAM, Place, UID, engine};
use orch::adapters::confine::Engine;
use orch::model::confine::{Choice, Network};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::NamedTempFile;

const SECRET: &str = "planted-c0ffee-planted";

/// The operator's side of the test.
struct Around {
    place: Place,
    victim: Child,
    _inherited: std::fs::File,
    _listeners: Vec<UnixListener>,
    /// Planted where every account may write.
    planted: [NamedTempFile; 2],
    /// The operator's side of a terminal, and its name.
    terminal: (OwnedFd, String),
    /// Answers every request, over TCP and UDP.
    port: u16,
    /// Name of the abstract socket.
    name: String,
    key: u32,
    queue: String,
}

impl Drop for Around {
    fn drop(&mut self) {
        // It was traced if the run was unconfined, and is stopped since. It cleans up at the end of its input.
        let pid = rustix::process::Pid::from_child(&self.victim);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
        drop(self.victim.stdin.take());
        let _ = self.victim.wait();
    }
}

impl Around {
    /// `number`: identifies this world within this program.
    fn new(number: u32) -> Self {
        let place = Place::new();
        let secret = format!("{SECRET}\n");
        for name in ["state/planted", "real-home/planted", "area/other/planted", "named/below/planted"] {
            place.write(name, &secret);
        }
        std::fs::create_dir_all(place.path("outside")).unwrap();
        let sockets = ["outside/socket", "real-home/.ssh/agent", "real-home/.cache/git/credential/socket"];
        sockets.iter().for_each(|s| std::fs::create_dir_all(place.path(s).parent().unwrap()).unwrap());
        let planted = ["/tmp", "/dev/shm"].map(|folder| {
            let mut file = NamedTempFile::new_in(folder).unwrap();
            file.write_all(secret.as_bytes()).unwrap();
            file
        });
        let (key, queue) =
            (std::process::id().wrapping_mul(100) + number, format!("orch-{}-{number}", std::process::id()));
        let mut victim = Command::new("perl")
            .args(["-e", include_str!("../fixtures/confine/victim.pl"), &key.to_string(), &queue])
            .env("PLANTED", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(victim.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let name = place.path("abstract").to_str().unwrap().to_owned();
        use std::os::linux::net::SocketAddrExt;
        let abstract_name = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let mut listeners = vec![UnixListener::bind_addr(&abstract_name).unwrap()];
        listeners.extend(sockets.iter().map(|s| UnixListener::bind(place.path(s)).unwrap()));
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&pty).and_then(|()| unlockpt(&pty)).unwrap();
        let terminal = ptsname(&pty, Vec::new()).unwrap().into_string().unwrap();
        // A descriptor that every child inherits, unless somebody closes it.
        let inherited = std::fs::File::create(place.path("inherited")).unwrap();
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
        let (terminal, port) = ((pty, terminal), answering());
        Self { place, _inherited: inherited, victim, _listeners: listeners, planted, terminal, port, name, key, queue }
    }

    /// Each attack's name, whether it succeeded, and why.
    fn attack(&self, engine: &Engine) -> BTreeMap<String, (bool, String)> {
        let mut all = self.play(engine, Network::Open, "");
        // What the run itself can't know.
        let prompt = std::fs::read_to_string(self.place.path("state/prompt.md")).unwrap();
        all.insert("write a hidden file through standard input".to_owned(), (prompt != "the prompt\n", prompt));
        // With less than the whole network, as far as each engine can.
        let less = match engine {
            Engine::Bubblewrap { .. } => Network::Internet,
            Engine::Landlock => Network::Closed,
            Engine::Command { .. } | Engine::None => Network::Open,
        };
        all.extend(self.play(engine, less, "network"));
        all
    }

    fn play(&self, engine: &Engine, network: Network, only: &str) -> BTreeMap<String, (bool, String)> {
        let place = &self.place;
        let mode = place.write("outside/mode", "");
        std::fs::set_permissions(&mode, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut run = place.run(engine);
        run.bounds.policy.network = network;
        run.bounds.policy.read = vec![place.path("named")];
        run.bounds.hidden.push(place.path("named/below"));
        let script = place.write("area/checkout/attack.pl", include_str!("../fixtures/confine/attack.pl"));
        let mut spec = place.spec(run, &["/usr/bin/perl", script.to_str().unwrap()]);
        let set = |name: &str, value: &str| (format!("ATTACK_{name}").into(), value.into());
        let at = |name: &str| place.path(name).to_str().unwrap().to_owned();
        spec.env.extend([
            set("STATE", &at("state")),
            set("HOME", &at("real-home")),
            set("OTHER", &at("area/other")),
            set("OUT", &at("outside")),
            set("HIDDEN", &at("named/below/planted")),
            set("ETC", "/etc/shadow"),
            set("PID", &self.victim.id().to_string()),
            set("SECRET", SECRET),
            set("ABSTRACT", &self.name),
            set("KEY", &self.key.to_string()),
            set("QUEUE", &self.queue),
            set("SOCKET", &at("outside/socket")),
            set("AGENT", &at("real-home/.ssh/agent")),
            set("CREDENTIALS", &at("real-home/.cache/git/credential/socket")),
            set("TMP", self.planted[0].path().to_str().unwrap()),
            set("SHM", self.planted[1].path().to_str().unwrap()),
            set("TTY", &self.terminal.1),
            set("PORT", &self.port.to_string()),
            set("ONLY", only),
        ]);
        spec.stdin = Some(place.write("state/prompt.md", "the prompt\n"));
        let exit = place.go(&spec);
        assert_eq!(exit.code, Some(0), "{}{}", place.out(), place.err());
        place
            .out()
            .lines()
            .map(|line| {
                let mut fields = line.split('\t');
                let (name, did, why) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
                (name.to_owned(), (did == "did", why.to_owned()))
            })
            .collect()
    }
}

/// A port that returns one byte to each client, over TCP and UDP.
fn answering() -> u16 {
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        // Another process may have the same number.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            break (tcp, udp);
        }
    };
    let port = tcp.local_addr().unwrap().port();
    std::thread::spawn(move || tcp.incoming().for_each(|client| drop(client.map(|mut c| c.write_all(b"x")))));
    std::thread::spawn(move || {
        let mut asked = [0; 16];
        while let Ok((_, who)) = udp.recv_from(&mut asked) {
            let _ = udp.send_to(b"x", who);
        }
    });
    port
}

/// Each attack has the result that the table says; every attack of the table is played.
fn plays(engine: &Engine, held: Held, around: &Around) {
    let said = around.attack(engine);
    let other: Vec<_> = said.iter().filter(|(name, (did, _))| *did != attacks::expected(name, held)).collect();
    assert!(other.is_empty(), "{engine:?}, otherwise than expected: {other:#?}");
    let named = attacks::OF_ROOT.iter().chain(&attacks::OPEN_UNDER_LANDLOCK);
    let missing: Vec<_> = named.filter(|name| !said.contains_key(**name)).collect();
    assert!(said.len() > 60 && missing.is_empty(), "not played: {missing:?} of {}", said.len());
    assert_eq!(around.place.path("outside/written").exists(), held == Held::Off);
    said.iter().for_each(|(name, (did, _))| attacks::seen("from inside a run", name, held, *did));
}

fn held(choice: Choice, number: u32) {
    let around = Around::new(number);
    let Some(engine) = engine(choice, Network::Open, &around.place) else { return };
    plays(&engine, Held::of(choice), &around);
}

#[test]
fn bubblewrap_holds_a_hostile_run() {
    held(Choice::Bubblewrap, 1);
}

#[test]
fn landlock_holds_a_hostile_run() {
    held(Choice::Landlock, 2);
}

/// Proves that the attacks work: without confinement, every attack that the account itself may do succeeds.
#[test]
fn without_confinement_the_same_attacks_succeed() {
    plays(&Engine::None, Held::Off, &Around::new(3));
}

/// What one command of a run left in `/tmp` and in the checkout is not followed when the next command runs there.
#[test]
fn bubblewrap_links_left_where_it_mounts_lead_nowhere() {
    let place = Place::new();
    let Some(engine) = engine(Choice::Bubblewrap, Network::Open, &place) else { return };
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let here = place.path("");
    assert!(here.starts_with("/tmp"), "this has to be below /tmp: {}", here.display());
    let top: std::path::PathBuf = here.components().take(3).collect();
    let run = |script: &str| {
        let mut run = place.run(&engine);
        run.bounds.frozen = vec![place.path("area/checkout/ci.sh"), place.path("area/checkout/dir/ci.sh")];
        let exit = place.go(&place.spec(run, &["/bin/sh", "-c", script]));
        assert_eq!(exit.code, Some(0), "{}{}", place.out(), place.err());
    };
    run(&format!(
        "set -e; mv {top} /tmp/moved; ln -s /oldroot{out} {top}; ls -l /tmp",
        top = top.display(),
        out = outside.path().display()
    ));
    // The same file, for whatever is mounted there later.
    let secret = place.write("state/secret", SECRET);
    run(&format!(
        "set -e; mv {top} /tmp/again; mkdir -p {dir}; touch {secret}; mkdir dir; ln -s ../../state/secret ci.sh; ln -s ../../../state/secret dir/ci.sh",
        top = top.display(),
        dir = place.path("state").display(),
        secret = secret.display(),
    ));
    run(&format!("cat ci.sh dir/ci.sh {}; true", secret.display()));
    assert!(!place.out().contains(SECRET), "{}", place.out());
    let made: Vec<_> = std::fs::read_dir(outside.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(made.is_empty(), "{made:?}");
}

/// The same again from an account that is not root: its runs keep its uid, in their own user namespace. For
/// `scripts/attacks`, everything that plays attacks.
#[test]
fn an_ordinary_account_holds_its_runs_as_well() {
    if !rustix::process::geteuid().is_root() {
        // Every test here ran like that already.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copied = |from: &Path, name: &str| {
        let to = dir.path().join(name);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap();
        to
    };
    let tests = copied(&std::env::current_exe().unwrap(), "it");
    let program = copied(&Place::program(), "orch");
    let tmp = dir.path().join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    chown(&tmp, Some(UID + 1), Some(UID + 1)).unwrap();
    let mut command = Command::new(tests);
    let mut tests = vec!["hostile_confine::", "confine_work::"];
    let rows = std::env::var_os("ORCH_ATTACKS");
    if rows.is_some() {
        tests.extend(attacks::TESTS);
    }
    command.args(tests).arg("--test-threads=2");
    command
        .env_clear()
        .envs(rows.map(|folder| ("ORCH_ATTACKS", folder)))
        .env("PATH", "/usr/bin:/bin")
        .env("TMPDIR", &tmp)
        .env(PROGRAM, program)
        .current_dir("/");
    if let Some(required) = std::env::var_os("ORCH_TOOLS_REQUIRED") {
        command.env("ORCH_TOOLS_REQUIRED", required);
    }
    let ended = command.uid(UID + 1).gid(UID + 1).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(!said.contains(" 0 passed"), "{said}");
}

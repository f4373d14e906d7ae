//! BND-5: files under git-lfs, with the real git-lfs and a bare remote or a server on this machine. A run's contents
//! are uploaded to the remote, whatever the branch names; unknown pointers are pushed nowhere.

use crate::hostile_git_walk::{Scene, changed};
use crate::support::attacks::{self, Held};
use crate::support::git::raw;
use crate::support::http::{Reply, Server};
use crate::support::pipe::{Pipe, Setup};
use crate::support::scan::Bench;
use crate::support::secrets::KINDS;
use crate::support::tools::Bin;
use orch::adapters::git::build::Built;
use orch::adapters::git::walk::Limits;
use orch::adapters::git::{Credential, Mirror};
use orch::model::large::Pointer;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::Path;

const ATTRIBUTES: &str = "*.bin filter=lfs diff=lfs merge=lfs -text\n";

/// Whether this machine has git-lfs; if not, a loud message, also in `scripts/check`.
fn there() -> bool {
    let there = which::which("git-lfs").is_ok();
    if !there {
        eprintln!("\n*** NOT TESTED: git-lfs is not here ***\n");
    }
    there
}

fn pointer(content: &[u8]) -> Pointer {
    let hex: String = Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect();
    Pointer::new(&hex, content.len() as u64).unwrap()
}

/// A base with one file under git-lfs and settings that name another server.
fn scene(other: &str) -> Scene {
    let settings = format!("[lfs]\n\turl = {other}\n\tpushurl = {other}\n[remote \"origin\"]\n\tlfsurl = {other}\n");
    let known = pointer(b"known\n").text();
    Scene::new(
        &[(".gitattributes", ATTRIBUTES), ("a.bin", &known), ("copy.bin", &known), (".lfsconfig", &settings)],
        &|_| (),
    )
}

fn uploaded(scene: &Scene) -> Built {
    scene.judged(&scene.mirror, &[], Limits::default(), &mut |build, built| build.upload(&built.large).unwrap())
}

fn kept(repository: &Path, content: &[u8]) -> bool {
    std::fs::read(repository.join("lfs").join(pointer(content).place())).is_ok_and(|found| found == content)
}

#[test]
fn bnd_5_a_new_content_becomes_a_pointer_and_goes_to_the_remote_alone() {
    if !there() {
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    raw(elsewhere.path(), &["init", "-q", "--bare", "."]);
    let scene = scene(&format!("file://{}", elsewhere.path().display()));
    // The checkout's own repository, its index and its hooks belong to the agent.
    let other = elsewhere.path().to_str().unwrap();
    for (key, value) in [
        ("lfs.url", other),
        ("lfs.storage", other),
        ("lfs.standalonetransferagent", "evil"),
        ("lfs.customtransfer.evil.path", "/bin/false"),
        ("filter.lfs.clean", "touch ran"),
        ("filter.lfs.process", "touch ran"),
    ] {
        raw(&scene.dir, &["config", key, value]);
    }
    scene.put("a.bin", "changed\0content\n");
    scene.put("deep/-new file.bin", "new\n");
    scene.put("twice.bin", "new\n");
    scene.put("empty.bin", "");
    scene.put("plain.txt", "text\n");
    let built = uploaded(&scene);
    assert_eq!(built.broken, []);
    assert_eq!(changed(&built), ["a.bin", "deep/-new file.bin", "empty.bin", "plain.txt", "twice.bin"]);
    assert_eq!(scene.text(&built, "a.bin"), pointer(b"changed\0content\n").text());
    assert_eq!(scene.text(&built, "twice.bin"), pointer(b"new\n").text());
    assert_eq!((scene.text(&built, "empty.bin"), scene.text(&built, "plain.txt")), (String::new(), "text\n".into()));
    for content in [&b"changed\0content\n"[..], b"new\n"] {
        assert!(kept(Path::new(&scene.world.remote()), content), "the remote has it");
        assert!(kept(scene.mirror.path(), content), "the scan can read it");
    }
    assert!(!elsewhere.path().join("lfs").exists(), "something went to another server");
    attacks::seen(
        "through git-lfs",
        "upload contents to a server named by .lfsconfig or the checkout",
        Held::Any,
        false,
    );
    assert!(!scene.dir.join("ran").exists());
    // What a person's git-lfs makes of the same files.
    raw(&scene.dir, &["config", "--unset", "lfs.storage"]);
    raw(&scene.dir, &["config", "--unset", "filter.lfs.process"]);
    raw(&scene.dir, &["config", "filter.lfs.clean", "git-lfs clean -- %f"]);
    raw(&scene.dir, &["add", "-A"]);
    assert_eq!(raw(&scene.dir, &["write-tree"]), built.tree.as_str());
}

#[test]
fn bnd_5_what_the_base_knows_stays_and_what_nobody_has_seen_is_refused() {
    if !there() {
        return;
    }
    let scene = scene("https://evil.invalid/lfs");
    let known = pointer(b"known\n").text();
    // The content in place of a pointer, as `git lfs pull` in a setup leaves it; a pointer that moved.
    scene.put("a.bin", "known\n");
    std::fs::rename(scene.dir.join("copy.bin"), scene.dir.join("moved.bin")).unwrap();
    let built = uploaded(&scene);
    assert_eq!((built.broken.as_slice(), changed(&built)), (&[][..], vec!["copy.bin", "moved.bin"]));
    let foreign = pointer(b"of another repository\n").text();
    let forged: [(&str, String); 6] = [
        ("a pointer to somebody else's content", foreign.clone()),
        ("an older spelling", foreign.replace("git-lfs.github.com/spec/v1", "hawser.github.com/spec/v1")),
        ("an additional key", foreign.replace("oid", "ext-0-x sha256:00\noid")),
        ("surrounding blanks", format!("{foreign}\n")),
        ("a known pointer in another spelling", known.replace('\n', "\r\n")),
        ("known content with another size", known.replace("size 6", "size 7")),
    ];
    for (what, text) in &forged {
        scene.put("forged.bin", text);
        let broken = scene.built(&[]).broken;
        assert!(
            broken.iter().any(|b| b.path == "forged.bin" && b.why.contains("git-lfs pointer")),
            "{what}: {broken:?}"
        );
    }
    for (what, _) in &forged {
        attacks::seen("through git-lfs", &format!("get a pointer committed: {what}"), Held::Any, false);
    }
    std::fs::remove_file(scene.dir.join("forged.bin")).unwrap();
    // The base's attributes count: the branch can neither remove its files from git-lfs, nor run anything of its own.
    scene.put(".gitattributes", "*.bin -filter\n*.txt filter=lfs\n");
    scene.put("deep/.gitattributes", "*.bin !filter\n");
    scene.put("deep/x.bin", "content\n");
    scene.put("x.txt", "plain\n");
    let built = uploaded(&scene);
    assert_eq!(built.broken, []);
    assert_eq!(
        (scene.text(&built, "deep/x.bin"), scene.text(&built, "x.txt")),
        (pointer(b"content\n").text(), "plain\n".into())
    );
    // A file does not count as larger because it is under git-lfs.
    std::fs::File::create(scene.dir.join("huge.bin")).unwrap().set_len(300 << 20).unwrap();
    let broken = scene.built(&[]).broken;
    assert!(broken.iter().any(|b| b.path == "huge.bin" && b.why.contains("300 MiB")), "{broken:?}");
}

/// Over HTTP: with the remote's password, to the remote's own URL, and an outage is not the run's fault.
#[test]
fn bnd_5_contents_reach_a_server_with_the_remotes_credential() {
    if !there() {
        return;
    }
    let server = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let at = server.clone();
    let lfs = Server::start(move |seen| match (seen.method.as_str(), seen.header("authorization")) {
        ("PUT", _) if seen.path.starts_with("/store/") => Reply::json(200, &json!({})),
        ("POST", None) => {
            Reply::json(401, &json!({"message": "who?"})).header("LFS-Authenticate", "Basic realm=\"lfs\"")
        }
        ("POST", Some("Basic b3JjaDpzM2NyZXQ=")) if seen.path == "/team/app.git/info/lfs/objects/batch" => {
            let objects: Vec<_> = seen.json()["objects"].as_array().unwrap().iter().map(|o| {
                let href = format!("{}/store/{}", at.get().unwrap(), o["oid"].as_str().unwrap());
                json!({"oid": o["oid"], "size": o["size"], "authenticated": true, "actions": {"upload": {"href": href}}})
            }).collect();
            Reply::json(200, &json!({"transfer": "basic", "objects": objects}))
        }
        other => Reply::unexpected(format!("{other:?} {}", seen.path)),
    });
    server.set(lfs.url()).unwrap();
    let scene = scene("https://evil.invalid/lfs");
    let remote = format!("{}/team/app.git", lfs.url());
    let credential = Some(Credential::new("orch", "s3cret"));
    let mirror = Mirror::open(&scene.world.git, scene.mirror.path(), &remote, credential).unwrap();
    scene.put("new.bin", "over http\n");
    let mut refused = None;
    scene.judged(&mirror, &[], Limits::default(), &mut |build, built| {
        build.upload(&built.large).unwrap();
        let gone =
            Mirror::open(&scene.world.git, &scene.world.path("gone.git"), "http://127.0.0.1:9/r.git", None).unwrap();
        refused = Some(gone.build().unwrap().upload(&built.large).unwrap_err());
    });
    let put: Vec<_> = lfs.log().into_iter().filter(|s| s.method == "PUT").collect();
    assert_eq!(put.len(), 1);
    assert_eq!(
        (put[0].path.clone(), put[0].body.as_slice()),
        (format!("/store/{}", pointer(b"over http\n").oid()), &b"over http\n"[..])
    );
    assert!(put[0].header("authorization").is_none());
    let refused = refused.unwrap();
    assert!(refused.is_transient() && !refused.to_string().contains("s3cret"), "{refused}");
}

/// A task whose agent works on such files lands with its content at the remote. Without git-lfs it is refused by name,
/// as `doctor` said before. A secret in a content is found like any other.
#[test]
fn bnd_5_a_task_with_large_files_is_delivered_or_reported_with_the_cause() {
    if !there() {
        return;
    }
    let pipe = |path| {
        let files = vec![(".gitattributes", ATTRIBUTES.to_owned()), ("a.bin", pointer(b"known\n").text())];
        let top = "notify: {webhook: {url: \"http://127.0.0.1:9/\", token: {env: TOKEN}}}".into();
        let mut pipe = Pipe::new(Setup { files, path, top, ..Setup::default() });
        pipe.env.push(("TOKEN".into(), "a-secret-of-the-operator".into()));
        let leak = pipe.at("leaked");
        pipe.agent("development", &format!("if [ -e {0} ]; then printf 'new content' > new.bin; else touch {0}; printf 'x a-secret-of-the-operator' > new.bin; fi\n", leak.display()));
        pipe
    };
    let with = pipe(None);
    let key = with.item("A large file");
    with.until_stage(&key, "done");
    assert_eq!(with.remote(&["show", "main:new.bin"]), pointer(b"new content").text().trim());
    assert!(kept(&with.remote_dir(), b"new content") && !kept(&with.remote_dir(), b"x a-secret-of-the-operator"));
    let ends = with.table("jobs").set("reason").texts("reason");
    assert!(ends[0].contains("new.bin (it holds the secret"), "{ends:?}");
    let doctor = |pipe: &Pipe| {
        let said = pipe.orch(&["doctor", "--json"]).json();
        let found = said["checks"].as_array().unwrap().iter().find(|c| c["name"] == "git-lfs").cloned();
        found.unwrap_or_else(|| panic!("{said}"))
    };
    assert_eq!(doctor(&with)["level"], "ok");

    let bare = tempfile::tempdir().unwrap();
    for folder in ["/usr/bin", "/bin", "/usr/local/bin"].map(Path::new).into_iter().filter(|f| f.is_dir()) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|e| e.file_name() != "git-lfs") {
            let _ = std::os::unix::fs::symlink(entry.path(), bare.path().join(entry.file_name()));
        }
    }
    let without = pipe(Some(bare.path().to_owned()));
    let key = without.item("A large file");
    let ends = |p: &Pipe| p.table("jobs").set("reason").texts("reason").join("\n");
    without.until("it is refused", |p| ends(p).contains("new.bin (it is kept by git-lfs, which is not installed here"));
    assert_eq!(without.of(&key, "landed_sha"), "");
    let said = doctor(&without);
    assert!(said["level"] == "warning" && said["fix"].as_str().unwrap().contains("install git-lfs"), "{said}");
}

#[test]
fn ship_1_contents_of_git_lfs_are_scanned_as_files_are_and_a_missing_one_is_named() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let bench = Bench::with_base(&[(".gitattributes", ATTRIBUTES)]);
    let content = format!("key = {}\n", KINDS[0].make(7).1);
    let there = pointer(content.as_bytes());
    let place = bench.clone().join(".git/lfs").join(there.place());
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, &content).unwrap();
    // As raw blobs: without any of git's filters.
    std::fs::write(bench.clone().join(".git/info/attributes"), "* -filter\n").unwrap();
    bench.commit(&[("data.bin", &there.text()), ("gone.bin", &pointer(b"elsewhere").text())]);
    let said = bench.scan(&bin, &["--format", "json"]);
    assert_eq!(said.code, 1, "{}", said.all());
    let found: Vec<_> = said.findings().iter().map(|f| f["file"].as_str().unwrap().to_owned()).collect();
    assert_eq!(found, ["data.bin"], "{}", said.all());
    let warnings = said.json()["warnings"].to_string();
    assert!(
        warnings.contains("gone.bin") && warnings.contains("not scanned") && !warnings.contains("data.bin"),
        "{warnings}"
    );
}

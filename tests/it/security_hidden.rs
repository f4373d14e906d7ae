//! Where a scanner's own reading ends (SHIP-1): far into a long line, across its chunk boundaries, in a commit's
//! headers.

use crate::support::git::raw;
use crate::support::scan::Bench;
use crate::support::secrets::KINDS;
use crate::support::tools::Bin;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn key(seed: u64) -> String {
    KINDS[0].make(seed).1
}

fn files(findings: &[Value]) -> BTreeSet<String> {
    findings.iter().map(|f| f["file"].as_str().unwrap().to_owned()).collect()
}

/// A file that the scanner excludes by name, so that only the second pass reads it, with a key at any offset.
#[test]
fn a_key_at_any_offset_of_a_file_on_one_line_is_found_in_the_second_pass() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let bench = Bench::new();
    let offsets = [
        0, 63_990, 64_000, 95_975, 95_985, 95_995, 96_000, 99_980, 99_995, 100_000, 124_980, 124_984, 125_000, 127_990,
        160_000, 191_990, 200_000, 224_990, 250_001, 400_003, 1_000_001,
    ];
    let mut wanted = BTreeSet::new();
    let mut written = Vec::new();
    for (n, offset) in offsets.iter().enumerate() {
        let path = format!("web{n}/jquery.min.js");
        let before: String = "; ".repeat(offset / 2) + &" ".repeat(offset % 2);
        let after = if n % 2 == 0 { String::new() } else { "; ".repeat(70_000) };
        written.push((path.clone(), format!("{before} {};{after}", key(n as u64))));
        wanted.insert(path);
    }
    // A key block longer than any overlap, and base64 on one line that begins far before the boundary.
    let (dashes, what) = ("-".repeat(5), "PRIVATE KEY");
    let block = format!(
        "x\n{dashes}BEGIN {what}{dashes}\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj{}\n{dashes}END {what}{dashes}\n",
        "\nAAAA".repeat(40_000)
    );
    written.push(("lib/jquery.min.js".to_owned(), block));
    wanted.insert("lib/jquery.min.js".to_owned());
    let list: Vec<(&str, &str)> = written.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    bench.commit(&list);
    let said = bench.scan(&bin, &["--format", "json"]);
    assert_eq!(said.code, 1, "{}", said.err);
    let found = said.findings();
    assert_eq!(files(&found), wanted);
    // One finding per file: what two chunks share is not found twice.
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    assert!(found.iter().all(|f| f["status"] == "blocking"));
    for n in 0..offsets.len() {
        assert!(!said.all().contains(&key(n as u64)));
    }
}

/// Writes a raw object that git itself would never write, and returns its id.
fn object(bench: &Bench, kind: &str, text: &str) -> String {
    let mut child = Command::new("git")
        .current_dir(bench.clone())
        .args(["hash-object", "-t", kind, "-w", "--literally", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn a_secret_in_a_commits_headers_its_tag_or_a_path_is_found() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let bench = Bench::new();
    let who = "<a@localhost> 1700000000 +0000";
    type Place<'a> = (&'a str, Box<dyn Fn(&str) -> String + 'a>, &'a str);
    let places: [Place<'_>; 5] = [
        (
            "extra header",
            Box::new(|k| format!("author A {who}\ncommitter A {who}\nnote {k}\n\nx\n")),
            "(commit header)",
        ),
        (
            "gpgsig",
            Box::new(|k| {
                format!(
                    "author A {who}\ncommitter A {who}\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n {k}\n -----END PGP SIGNATURE-----\n\nx\n"
                )
            }),
            "(commit header)",
        ),
        (
            "mergetag",
            Box::new(|k| {
                format!(
                    "author A {who}\ncommitter A {who}\nmergetag object {}\n type commit\n tag v\n tagger A {who}\n \n {k}\n\nx\n",
                    "a".repeat(40)
                )
            }),
            "(commit header)",
        ),
        ("committer", Box::new(|k| format!("author A {who}\ncommitter {k} {who}\n\nx\n")), "(commit header)"),
        (
            "message in UTF-7's name",
            Box::new(|k| format!("author A {who}\ncommitter A {who}\nencoding UTF-7\n\nx {k}\n")),
            "(commit message)",
        ),
    ];
    for (n, (name, text, reported)) in places.iter().enumerate() {
        let secret = key(500 + n as u64);
        let tree = raw(&bench.clone(), &["rev-parse", "HEAD^{tree}"]);
        let parent = raw(&bench.clone(), &["rev-parse", "HEAD"]);
        let id = object(&bench, "commit", &format!("tree {tree}\nparent {parent}\n{}", text(&secret)));
        let said = bench.scan(&bin, &["--format", "json", "--range", &format!("{parent}..{id}")]);
        assert_eq!(said.code, 1, "{name}: {}", said.all());
        assert_eq!(files(&said.findings()), [(*reported).to_owned()].into(), "{name}");
        assert_eq!(said.findings()[0]["commit"], id.as_str(), "{name}");
        assert!(!said.all().contains(&secret), "{name}");
    }
    let secret = key(600);
    bench.git(&["commit", "-q", "--allow-empty", "-m", "plain"]);
    bench.git(&["tag", "-a", "v1", "-m", &format!("release {secret}")]);
    let said = bench.scan(&bin, &["--format", "json"]);
    assert_eq!(files(&said.findings()), ["(annotated tag)".to_owned()].into(), "{}", said.all());
    bench.git(&["tag", "-d", "v1"]);
    let path = format!("conf/{}.txt", key(601));
    bench.commit(&[(&path, "nothing\n")]);
    let said = bench.scan(&bin, &["--format", "json"]);
    assert_eq!(files(&said.findings()), ["(path of a file)".to_owned()].into(), "{}", said.all());
}

const BASE: &str = "[extend]\nuseDefault = true\n[[allowlists]]\npaths = ['''^samples/''']\n";

#[test]
fn what_the_default_branchs_configuration_extends_is_read_there_and_watched() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let (text, _) = KINDS[0].make(700);
    let bench = Bench::with_base(&[
        (".gitleaks.toml", "extend = { path = \"config/base.toml\" }\n"),
        ("config/base.toml", BASE),
    ]);
    bench.commit(&[("samples/key.txt", &text), ("app.txt", "nothing\n")]);
    let said = bench.scan(&bin, &["--json"]);
    assert_eq!(said.code, 0, "{}", said.all());
    let config = said.json()["scanner"]["config"].as_str().unwrap().to_owned();
    assert!(config.starts_with(".gitleaks.toml at ") && config.ends_with(", extends config/base.toml"), "{config}");
    // The branch's own version of it is not read, and its change is named.
    bench.commit(&[
        ("config/base.toml", "[extend]\nuseDefault = true\n[allowlist]\npaths = ['''.*''']\n"),
        ("app.txt", &text),
    ]);
    let said = bench.scan(&bin, &["--json"]);
    assert_eq!(files(&said.findings()), ["app.txt".to_owned(), "config/base.toml".to_owned()].into(), "{}", said.all());
    // The path never leaves the branch.
    for path in ["../base.toml", "/etc/passwd", "gone.toml", ".gitleaks.toml"] {
        let bench = Bench::with_base(&[(".gitleaks.toml", &format!("[extend]\npath = \"{path}\"\n"))]);
        bench.commit(&[("app.txt", "nothing\n")]);
        let said = bench.scan(&bin, &[]);
        assert_eq!(said.code, 3, "{path}: {}", said.all());
        assert!(said.out.contains("extends"), "{path}: {}", said.all());
    }
}

#[test]
fn a_configuration_that_allows_everything_is_not_believed_and_named() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    for (config, part) in [
        (
            "[extend]\nuseDefault = true\n[[allowlists]]\npaths = ['''.*''']\n",
            "swallows a planted secret of the rule aws-access-token",
        ),
        ("[[rules]]\nid = \"own\"\nregex = '''abc'''\n", "has no rule aws-access-token"),
    ] {
        let bench = Bench::with_base(&[(".gitleaks.toml", config)]);
        bench.commit(&[("app.txt", "nothing\n")]);
        let said = bench.scan(&bin, &[]);
        assert_eq!(said.code, 3, "{}", said.all());
        assert!(said.out.contains(part), "{}", said.all());
    }
    // One that covers everything the branch changes is reported loudly.
    let bench = Bench::with_base(&[(".gitleaks.toml", BASE)]);
    bench.commit(&[("samples/a.txt", "nothing\n")]);
    let said = bench.scan(&bin, &[]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(
        said.out.contains("WARNING secrets: .gitleaks.toml at ") && said.out.contains("samples/a.txt"),
        "{}",
        said.out
    );
}

//! The recall matrix (SHIP-1): fake secrets of every kind in every hiding place, in a real repository, scanned by the
//! real scanner. The table in `docs/security.md` shows the result, and must be true.

use crate::support::git::commit_in;
use crate::support::scan::Bench;
use crate::support::secrets::{KINDS, Kind};
use crate::support::tools::Bin;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Secrets of each kind in each place.
const TRIES: u64 = 3;

struct Planted {
    kind: Kind,
    file: String,
    secret: String,
    text: String,
}

/// A hiding place: puts the planted files into commits of the branch.
struct Place {
    name: &'static str,
    /// Path of a planted file, of its number.
    path: fn(usize) -> String,
    hide: fn(&Bench, &[Planted]),
    /// Where a finding of that file is reported, if not under its path.
    reported: Option<&'static str>,
    /// Kinds that are not found there, with the reason in `docs/security.md`.
    missed: &'static [&'static str],
}

fn plain_path(n: usize) -> String {
    format!("conf/s{n}.txt")
}

fn put(bench: &Bench, planted: &[Planted], text: impl Fn(&Planted) -> Vec<u8>) {
    for p in planted {
        let path = bench.clone().join(&p.file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text(p)).unwrap();
    }
}

fn hide_plain(bench: &Bench, planted: &[Planted]) {
    put(bench, planted, |p| p.text.clone().into_bytes());
    bench.commit(&[]);
}

fn hide_with_attribute(bench: &Bench, planted: &[Planted], attribute: &str) {
    bench.commit(&[(".gitattributes", &format!("* {attribute}\n"))]);
    hide_plain(bench, planted);
}

fn hide_in_merge(bench: &Bench, planted: &[Planted], sides: &[&str]) {
    for side in sides {
        bench.git(&["checkout", "-q", "-b", side, "main"]);
        commit_in(&bench.clone(), &[(&format!("{side}.txt"), "side\n")], side);
    }
    bench.git(&["checkout", "-q", "work"]);
    commit_in(&bench.clone(), &[("own.txt", "own\n")], "own");
    bench.git(&[&["merge", "-q", "--no-ff", "--no-commit"], sides].concat());
    put(bench, planted, |p| p.text.clone().into_bytes());
    bench.git(&["add", "-A"]);
    bench.git(&["commit", "-q", "-m", "merge"]);
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
}

const PLACES: &[Place] = &[
    Place { name: "plain file", path: plain_path, hide: hide_plain, reported: None, missed: &[] },
    Place {
        name: "attribute `-diff`",
        path: plain_path,
        hide: |b, p| hide_with_attribute(b, p, "-diff"),
        reported: None,
        missed: &[],
    },
    Place {
        name: "attribute `export-ignore`",
        path: plain_path,
        hide: |b, p| hide_with_attribute(b, p, "export-ignore"),
        reported: None,
        missed: &[],
    },
    Place {
        name: "attribute `diff=hide`, a textconv that prints nothing",
        path: plain_path,
        hide: |b, p| {
            b.git(&["config", "diff.hide.textconv", "true"]);
            hide_with_attribute(b, p, "diff=hide");
        },
        reported: None,
        missed: &[],
    },
    Place {
        name: "only in a merge commit",
        path: plain_path,
        hide: |b, p| hide_in_merge(b, p, &["side"]),
        reported: None,
        missed: &[],
    },
    Place {
        name: "only in a merge of three",
        path: plain_path,
        hide: |b, p| hide_in_merge(b, p, &["side", "other"]),
        reported: None,
        missed: &[],
    },
    Place {
        name: "added, then deleted",
        path: plain_path,
        hide: |b, p| {
            hide_plain(b, p);
            b.git(&["rm", "-r", "-q", "conf"]);
            b.commit(&[]);
        },
        reported: None,
        missed: &[],
    },
    Place {
        name: "UTF-16, little end first",
        path: plain_path,
        hide: |b, p| {
            put(b, p, |p| utf16(&p.text, false));
            b.commit(&[]);
        },
        reported: None,
        missed: &[],
    },
    Place {
        name: "UTF-16, big end first",
        path: plain_path,
        hide: |b, p| {
            put(b, p, |p| utf16(&p.text, true));
            b.commit(&[]);
        },
        reported: None,
        missed: &[],
    },
    Place {
        name: "lock file (`package-lock.json`)",
        path: |n| format!("m{n}/package-lock.json"),
        hide: hide_plain,
        reported: None,
        missed: &["generic"],
    },
    Place {
        name: "minified library",
        path: |n| format!("web{n}/jquery.min.js"),
        hide: hide_plain,
        reported: None,
        missed: &["generic"],
    },
    Place {
        name: "name of a picture (`.png`)",
        path: |n| format!("img/s{n}.png"),
        hide: hide_plain,
        reported: None,
        missed: &["generic"],
    },
    Place {
        name: "behind the first line of a PDF",
        path: plain_path,
        hide: |b, p| {
            put(b, p, |p| format!("%PDF-1.7\n{}", p.text).into_bytes());
            b.commit(&[]);
        },
        reported: None,
        missed: &[],
    },
    Place {
        name: "file over 1 MB",
        path: plain_path,
        hide: |b, p| {
            let filler = "a line of no interest at all\n".repeat(20_000);
            put(b, p, |p| format!("{filler}{filler}{}{filler}", p.text).into_bytes());
            b.commit(&[]);
        },
        reported: None,
        missed: &[],
    },
    Place {
        name: "inline `gitleaks:allow`",
        path: plain_path,
        hide: |b, p| {
            put(b, p, |p| p.text.lines().map(|l| format!("{l} # gitleaks:allow\n")).collect::<String>().into_bytes());
            b.commit(&[]);
        },
        reported: None,
        missed: &[],
    },
    Place {
        name: "the branch's `.gitleaks.toml` allows all",
        path: plain_path,
        hide: |b, p| {
            b.commit(&[(".gitleaks.toml", "[extend]\nuseDefault = true\n[[allowlists]]\npaths = ['''.*''']\n")]);
            hide_plain(b, p);
        },
        reported: None,
        missed: &[],
    },
    Place {
        name: "the branch's `.gitleaksignore` names each",
        path: plain_path,
        hide: |b, p| {
            hide_plain(b, p);
            let commit = b.git(&["rev-parse", "HEAD"]);
            let lines: String = p
                .iter()
                .flat_map(|p| (1..20).map(move |n| format!("{}:{}:{n}\n", p.file, p.kind.rule)))
                .flat_map(|line| [format!("{commit}:{line}"), line])
                .collect();
            b.commit(&[(".gitleaksignore", &lines)]);
        },
        reported: None,
        missed: &[],
    },
    Place {
        name: "with the word *false* in it, which the scanner's own list passes",
        path: plain_path,
        hide: |b, p| {
            put(b, p, |p| {
                let word = if p.kind.name == "AWS key" { "FALSE" } else { "false" };
                let at = if p.secret.contains('\n') { p.secret.len() / 2 } else { p.secret.len() - 5 };
                let with = format!("{}{word}{}", &p.secret[..at], &p.secret[at + 5..]);
                p.text.replace(&p.secret, &with).into_bytes()
            });
            b.commit(&[]);
        },
        reported: None,
        missed: &["generic"],
    },
    Place {
        name: "commit message",
        path: plain_path,
        hide: |b, p| {
            for planted in p {
                let file = b.world.path("message");
                std::fs::write(&file, format!("work\n\n{}", planted.text)).unwrap();
                b.git(&["commit", "-q", "--allow-empty", "-F", file.to_str().unwrap()]);
            }
        },
        reported: Some("(commit message)"),
        missed: &[],
    },
    Place {
        name: "base64",
        path: plain_path,
        hide: |b, p| {
            put(b, p, |p| format!("blob: {}\n", base64(p.text.as_bytes())).into_bytes());
            b.commit(&[]);
        },
        reported: None,
        missed: &[],
    },
];

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let n = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for k in 0..4 {
            let letter = LETTERS[(n >> (18 - 6 * k)) as usize & 63];
            out.push(if k <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

fn plant(path: fn(usize) -> String, seed: u64) -> Vec<Planted> {
    let mut planted = Vec::new();
    for kind in KINDS {
        for n in 0..TRIES {
            let (text, secret) = kind.make(seed.wrapping_mul(1_000_003) + planted.len() as u64 * 7919 + n);
            planted.push(Planted { kind: *kind, file: path(planted.len()), secret, text });
        }
    }
    planted
}

/// How many of each kind were found, by orch and by the scanner alone.
struct Row {
    place: &'static Place,
    orch: Vec<u64>,
    alone: u64,
}

fn try_place(place: &'static Place, seed: u64, bin: &Bin) -> Row {
    let bench = Bench::new();
    let planted = plant(place.path, seed);
    (place.hide)(&bench, &planted);

    let artefact = bench.world.path("17.md");
    let said = bench.scan(bin, &["--format", "json", "--report", artefact.to_str().unwrap()]);
    assert_eq!(said.code, 1, "{}: {}", place.name, said.all());
    let doc = said.json();
    assert_eq!(doc["verdict"], "FAIL", "{}", place.name);
    assert_eq!(doc["scanner"]["state"], "believed", "{}", place.name);
    let written = std::fs::read_to_string(&artefact).unwrap();
    for p in &planted {
        let shown = said.all().contains(&p.secret) || written.contains(&p.secret);
        assert!(!shown, "{}: a {} is shown in output or report", place.name, p.kind.name);
    }
    let findings = said.findings();
    let blocking = |p: &Planted| {
        let file = place.reported.unwrap_or(&p.file);
        findings
            .iter()
            .any(|f| f["file"] == file && f["rule"] == p.kind.rule && f["status"] == "blocking" && f["waived"] == false)
    };
    // In commit messages only the commit distinguishes findings of a kind: they are counted.
    let count = |kind: &Kind| -> u64 {
        if place.reported.is_some() {
            let of = findings.iter().filter(|f| f["rule"] == kind.rule);
            return of.map(|f| f["commit"].to_string()).collect::<std::collections::BTreeSet<_>>().len() as u64;
        }
        planted.iter().filter(|p| p.kind.rule == kind.rule && blocking(p)).count() as u64
    };
    Row { place, orch: KINDS.iter().map(count).collect(), alone: alone(&bench, bin, &planted) }
}

/// The scanner as it is commonly called, in the checkout.
fn alone(bench: &Bench, bin: &Bin, planted: &[Planted]) -> u64 {
    let report = bench.world.path("alone.json");
    let ran = Command::new(bin.dir.path().join("gitleaks"))
        .current_dir(bench.clone())
        .env_clear()
        .env("PATH", bin.dir.path())
        .args(["git", "--no-banner", "--log-opts=origin/main..HEAD", "--report-format=json", "--report-path"])
        .arg(&report)
        .arg(".")
        .output()
        .unwrap();
    assert!(matches!(ran.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&ran.stderr));
    let found: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let seen = |p: &&Planted| found.iter().any(|f| f["File"] == *p.file && f["RuleID"] == p.kind.rule);
    planted.iter().filter(seen).count() as u64
}

fn table(rows: &[Row]) -> String {
    let mut out = String::from("| hiding place |");
    for kind in KINDS {
        let _ = write!(out, " {} |", kind.name);
    }
    out.push_str(" gitleaks alone |\n| --- |");
    out.push_str(&" --- |".repeat(KINDS.len() + 1));
    out.push('\n');
    for row in rows {
        let _ = write!(out, "| {} |", row.place.name);
        for n in &row.orch {
            let _ = match *n {
                0 => write!(out, " no |"),
                TRIES => write!(out, " yes |"),
                n => write!(out, " {n} of {TRIES} |"),
            };
        }
        let _ = writeln!(out, " {} of {} |", row.alone, KINDS.len() as u64 * TRIES);
    }
    out
}

#[test]
fn every_secret_in_every_hiding_place_is_found_and_the_table_says_so() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let bin = &bin;
    // Two at a time: each scan is several short programs one after the other.
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let halves: Vec<_> = PLACES
            .chunks(PLACES.len().div_ceil(2))
            .map(|places| scope.spawn(move || places.iter().map(|p| try_place(p, 1, bin)).collect::<Vec<_>>()))
            .collect();
        halves.into_iter().flat_map(|h| h.join().unwrap()).collect()
    });
    let made = table(&rows);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (begin, end) = ("<!-- recall:begin -->\n", "<!-- recall:end -->");
    let from = text.find(begin).unwrap() + begin.len();
    let to = text.find(end).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, format!("{}{made}{}", &text[..from], &text[to..])).unwrap();
    } else {
        assert_eq!(&text[from..to], made, "docs/security.md is stale: scripts/recall-matrix writes it anew");
    }
    for row in &rows {
        for (kind, n) in KINDS.iter().zip(&row.orch) {
            let expected = if row.place.missed.contains(&kind.name) { 0 } else { TRIES };
            assert_eq!(*n, expected, "{} in {}\n{made}", kind.name, row.place.name);
        }
    }
}

#[test]
fn a_secret_in_an_authors_name_is_found() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let kind = KINDS.iter().find(|k| k.name == "GitHub token").unwrap();
    let (_, secret) = kind.make(98);
    let bench = Bench::new();
    bench.git(&["commit", "-q", "--allow-empty", "-m", "none", "--author", &format!("{secret} <a@localhost>")]);
    let said = bench.scan(&bin, &["--format", "json"]);
    assert!(!said.all().contains(&secret));
    assert_eq!((said.code, said.findings()[0]["file"].as_str()), (1, Some("(commit header)")), "{}", said.all());
}

/// What the base had is not the branch's: neither unchanged, nor in a file that is only renamed.
#[test]
fn a_secret_that_the_base_had_does_not_block_a_branch_that_renames_its_file() {
    let Some(bin) = Bin::with_gitleaks() else { return };
    let (text, secret) = KINDS[0].make(99);
    let bench = Bench::with_base(&[("old.txt", &text), ("stays.txt", &text)]);
    bench.git(&["mv", "old.txt", "new.txt"]);
    bench.commit(&[("other.txt", "nothing of interest\n")]);
    let said = bench.scan(&bin, &["--format", "json"]);
    assert!(!said.all().contains(&secret));
    assert_eq!(said.code, 0, "{}", said.all());
}

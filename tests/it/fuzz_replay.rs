//! Every parser of bytes from outside, with the corpus of `tests/fuzz/` and with seeded mutations of it: the part of
//! fuzzing that a stable compiler can do in seconds (TRUST-2). `scripts/fuzz` runs the same parsers under libFuzzer for
//! longer.
//!
//! `ORCH_FUZZ_SECONDS`: for each target (default 1.5). `ORCH_FUZZ_SEED`: another sequence.

use crate::support::crash::Dice;
use orch::fuzzing::{TARGETS, Target};
use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No parser may take longer over one small input.
const SLOW: Duration = Duration::from_secs(2);
const LONGEST: usize = 8 << 10;

/// Words of the formats, which a blind mutation seldom produces.
const WORDS: &[&str] = &[
    "---\n",
    "\n",
    "\r\n",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "null",
    "true",
    "-1",
    "1e999",
    "9223372036854775808",
    "&a ",
    "*a",
    "!!str ",
    "<<: ",
    "|\n",
    "\t",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "\\u0000",
    "\\ud800",
    "=",
    ",",
    "<",
    "&lt;",
    "\n\n",
    "stage: ",
    "schema",
    "verdict: **PASS**",
    "(",
    ")",
    "/../",
    "\u{ff}",
];

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name)
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = corpus(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut all: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    all.sort();
    assert!(!all.is_empty(), "{} holds no seed", folder.display());
    all.iter().map(|p| std::fs::read(p).unwrap()).collect()
}

fn mutate(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |dice: &mut Dice, n: usize| usize::try_from(dice.below(n as u64)).unwrap();
    let mut bytes = seeds[pick(dice, seeds.len())].clone();
    for _ in 0..=dice.below(8) {
        let at = pick(dice, bytes.len() + 1);
        let end = (at + pick(dice, 64)).min(bytes.len());
        match dice.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                for _ in 0..=dice.below(16) {
                    bytes.splice(at..at, part.iter().copied());
                }
            }
            4 => bytes.truncate(at),
            5 => {
                let other = &seeds[pick(dice, seeds.len())];
                let from = pick(dice, other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => drop(bytes.splice(at..at, WORDS[pick(dice, WORDS.len())].bytes())),
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// Runs a target over its seeds, then over mutations of them; returns the number of inputs.
fn play(name: &str, target: Target, seed: u64, time: Duration) -> u64 {
    let seeds = seeds(name);
    let mut dice = Dice::new(seed ^ name.bytes().fold(0_u64, |h, b| h.wrapping_mul(31) + u64::from(b)));
    let try_one = |bytes: &[u8]| {
        let begun = Instant::now();
        let shown = || String::from_utf8_lossy(bytes).into_owned();
        assert!(catch_unwind(|| target(bytes)).is_ok(), "{name} panics on {:?} ({bytes:?})", shown());
        assert!(begun.elapsed() < SLOW, "{name} takes {:?} over {:?}", begun.elapsed(), shown());
    };
    seeds.iter().for_each(|s| try_one(s));
    let begun = Instant::now();
    let mut n = 0;
    while begun.elapsed() < time {
        try_one(&mutate(&mut dice, &seeds));
        n += 1;
    }
    n
}

#[test]
fn no_bytes_from_outside_make_a_reader_panic_or_hang() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<f64>().ok());
    let time = Duration::from_secs_f64(number("ORCH_FUZZ_SECONDS").unwrap_or(1.5));
    let seed = number("ORCH_FUZZ_SEED").unwrap_or(4711.0).to_bits();
    let (one, two) = TARGETS.split_at(TARGETS.len() / 2);
    std::thread::scope(|scope| {
        for half in [one, two] {
            scope.spawn(move || {
                for (name, target) in half {
                    let n = play(name, *target, seed, time);
                    println!("{name}: {n} inputs");
                    assert!(n > 20, "{name} read only {n} inputs");
                }
            });
        }
    });
}

/// A target that is not in all three places is not fuzzed.
#[test]
fn every_reader_has_a_target_and_a_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let names = |dir: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let here: BTreeSet<String> = TARGETS.iter().map(|(n, _)| (*n).to_owned()).collect();
    assert_eq!(names(&folder.join("fuzz_targets")), here);
    assert_eq!(names(&folder.join("corpus")), here);
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for name in &here {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "tests/fuzz/Cargo.toml has no {name}");
    }
}

//! A run whose leftovers can't become a tree fails with its own cause, and the next run begins clean (BND-5).

use crate::support::attacks::{self, Held};
use crate::support::pipe::{Pipe, Setup};

/// Plays what the first run of the developer does, the second works as usual; returns the reason given for the first.
fn first_then_clean(first: &str) -> String {
    let pipe = Pipe::new(Setup::default());
    let once = pipe.at("once");
    pipe.agent(
        "development",
        &format!("if [ -e {once} ]; then echo work > w.txt; else touch {once}; {first}; fi\n", once = once.display()),
    );
    let key = pipe.item("A task");
    pipe.until_stage(&key, "done");
    assert_eq!(pipe.remote(&["show", "main:w.txt"]).trim(), "work");
    let ends = pipe.table("jobs").set("reason").texts("reason");
    ends.first().cloned().unwrap_or_else(|| panic!("{}", pipe.story()))
}

#[test]
fn bnd_5_a_file_too_large_is_named_with_the_bound() {
    let said = first_then_clean("truncate -s 201M big.bin; echo x > innocent.txt");
    assert!(said.contains("big.bin (it has 201 MiB, more than the 200 MiB"), "{said}");
    assert!(!said.contains("innocent"), "{said}");
}

#[test]
fn bnd_5_a_walk_that_was_ended_takes_nothing_for_deleted() {
    // `deploy.sh` comes after `aa` and is protected.
    let said = first_then_clean("p=aa; for i in $(seq 1 130); do p=$p/d; done; mkdir -p $p");
    assert!(said.contains("deeper than 128 folders"), "{said}");
    assert!(!said.contains("is protected"), "{said}");
}

#[test]
fn bnd_5_a_checkout_that_a_run_removed_is_reported_as_such() {
    let said = first_then_clean("cd ..; rm -rf checkout");
    assert!(said.contains("the checkout is gone"), "{said}");
    let said = first_then_clean("cd ..; rm -rf checkout; echo x > checkout");
    assert!(said.contains("the checkout is gone"), "{said}");
}

/// R2: ignored files, and files in the home or the temporary folder, are gone when the judge begins.
#[test]
fn bnd_1_nothing_that_an_agent_left_elsewhere_is_there_for_the_judge() {
    let places = ["planted", "$HOME/planted", "$TMPDIR/planted", ".git/planted"];
    let ci: String = places.iter().map(|at| format!("[ ! -e \"{at}\" ] || exit 1\n")).collect();
    let pipe = Pipe::new(Setup { files: vec![("ci.sh", format!("#!/bin/sh\n{ci}"))], ..Setup::default() });
    let plant: String = places.iter().map(|at| format!("echo x > \"{at}\"\n")).collect();
    pipe.agent("development", &format!("echo planted > .gitignore\n{plant}echo work > w.txt\n"));
    let key = pipe.item("A task");
    pipe.until_stage(&key, "done");
    assert_eq!((pipe.of(&key, "attempt"), pipe.remote(&["show", "main:w.txt"])), ("1".into(), "work".into()));
    for at in places {
        attacks::seen("deceiving CI and deploys", &format!("leave a file for CI: {at}"), Held::Off, false);
    }
}

#[test]
fn bnd_5_the_runs_own_repository_means_nothing_whatever_became_of_it() {
    for what in ["rm -rf .git", "rm -rf .git; echo 'gitdir: /etc' > .git", "rm -rf .git; ln -s /etc .git"] {
        let pipe = Pipe::new(Setup::default());
        pipe.agent("development", &format!("{what}; echo work > w.txt\n"));
        let key = pipe.item("A task");
        pipe.until_stage(&key, "done");
        assert_eq!(pipe.remote(&["ls-tree", "--name-only", "main"]), "app.txt\nci.sh\ndeploy.sh\nw.txt", "{what}");
    }
}

//! Checkouts of runs against real git (BND-3, RULE-22, RULE-23).

use crate::support::git::{World, raw, write};
use orch::adapters::git::{CheckoutPlan, Documents};
use orch::model::ids::Sha;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn bnd_3_a_checkout_is_a_repository_of_its_own() {
    let world = World::new();
    let first = world.commit(&[("src/a", "new\n")], "second");
    world.push("main");
    world.switch("feature/X-1", "main");
    let head = world.commit(&[("src/b", "b\n")], "third");
    world.push("feature/X-1");
    let (mirror, dest) = (world.mirror(), world.path("area/r/X-1/agent/checkout"));
    let plan = CheckoutPlan {
        branch: Some("feature/X-1"),
        default: Some(("main", &first)),
        author: Some(&World::author()),
        ..CheckoutPlan::of(&head)
    };
    for _ in 0..2 {
        mirror.check_out(&dest, &plan).unwrap();
        assert_eq!(raw(&dest, &["status", "--porcelain"]), "");
        assert_eq!(raw(&dest, &["symbolic-ref", "--short", "HEAD"]), "feature/X-1");
        assert_eq!(raw(&dest, &["rev-parse", "HEAD"]), head.to_string());
        assert_eq!(raw(&dest, &["rev-parse", "origin/main"]), first.to_string());
        assert_eq!(raw(&dest, &["log", "--format=%s", "origin/main..HEAD"]), "third");
        assert_eq!(raw(&dest, &["remote"]), "");
        assert_eq!(raw(&dest, &["config", "--file", ".git/config", "user.email"]), "orch@example.org");
        raw(&dest, &["fsck", "--strict"]);
        assert!(!dest.join(".git/objects/info/alternates").exists());
        // What a run leaves is gone in the next checkout.
        write(&dest, b"planted/.gitignore", "*\n");
        write(&dest, b".git/hooks/post-checkout", "#!/bin/sh\n");
    }
    mirror.check_out(&dest, &plan).unwrap();
    assert!(!dest.join("planted").exists() && !dest.join(".git/hooks").exists());
}

#[test]
fn rule_23_no_object_of_the_mirror_has_a_second_name() {
    let world = World::new();
    let (mirror, dest) = (world.mirror(), world.path("checkout"));
    let head = mirror.tracking("main").unwrap().unwrap();
    mirror.check_out(&dest, &CheckoutPlan::of(&head)).unwrap();
    let mut open = vec![mirror.path().join("objects"), dest.join(".git/objects")];
    let mut seen = 0;
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                seen += 1;
                assert_eq!(entry.metadata().unwrap().nlink(), 1, "{}", entry.path().display());
            }
        }
    }
    assert!(seen > 2);
    // Detached, for commands on a commit without a branch.
    assert_eq!(raw(&dest, &["rev-parse", "--abbrev-ref", "HEAD"]), "HEAD");
}

#[test]
fn bnd_5_a_checkout_for_commands_holds_no_artefact_and_is_clean() {
    let world = World::new();
    let folder = "docs/work-items/X-1";
    let head = world.commit(
        &[
            ("docs/work-items/X-1/12-review.md", "verdict\n"),
            ("docs/work-items/Y-2/06-adr/ADR-001-a.md", "adr\n"),
            ("docs/work-items/X-1/tool.sh", "code\n"),
            ("docs/other.md", "doc\n"),
        ],
        "documents",
    );
    world.push("main");
    let (mirror, dest) = (world.mirror(), world.path("checkout"));
    let plan = CheckoutPlan { documents: Documents::LeftOut, ..CheckoutPlan::of(&head) };
    mirror.check_out(&dest, &plan).unwrap();
    assert!(!dest.join(folder).join("12-review.md").exists());
    assert!(!dest.join("docs/work-items/Y-2").exists());
    assert_eq!(text(&dest.join(folder).join("tool.sh")), "code\n");
    assert_eq!(text(&dest.join("docs/other.md")), "doc\n");
    assert_eq!(raw(&dest, &["status", "--porcelain"]), "");
}

#[test]
fn rule_23_attributes_of_the_branch_have_no_say_in_a_script() {
    let world = World::new();
    let default = world.commit(&[("ci.sh", "#!/bin/sh\nexit 1 # $Id$\n")], "commands");
    world.push("main");
    world.switch("b", "main");
    let rules = "ci.sh working-tree-encoding=UTF-7 text eol=crlf ident\n";
    let head = world.commit(&[(".gitattributes", rules)], "evil");
    world.push("b");
    let (mirror, dest) = (world.mirror(), world.path("checkout"));
    let plan = CheckoutPlan { scripts: Some((&default, &["ci.sh".to_owned()])), ..CheckoutPlan::of(&head) };
    let made = mirror.check_out(&dest, &plan).unwrap();
    assert_eq!(text(&dest.join("ci.sh")), "#!/bin/sh\nexit 1 # $Id$\n");
    assert_eq!(made.scripts, [dest.join("ci.sh")]);
}

#[test]
fn rule_23_a_command_comes_from_the_default_branch_and_is_not_written_through_a_link() {
    let world = World::new();
    let person = world.person();
    write(&person, b"deploy.sh", "good\n");
    std::fs::set_permissions(person.join("deploy.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let default = world.commit(&[("ci/run", "good\n"), ("ci/lib/x", "good\n")], "commands");
    world.push("main");
    let outside = world.path("outside");
    std::fs::create_dir(&outside).unwrap();
    world.switch("b", "main");
    std::fs::remove_dir_all(person.join("ci")).unwrap();
    symlink(&outside, person.join("ci")).unwrap();
    std::fs::remove_file(person.join("deploy.sh")).unwrap();
    let head = world.commit(&[("deploy.sh/inner", "evil\n"), ("new.sh", "evil\n"), ("code", "x")], "evil");
    world.push("b");
    let mirror = world.mirror();
    let dest = world.path("checkout");
    let paths: Vec<String> = ["./deploy.sh", "ci", "new.sh"].map(str::to_owned).to_vec();
    let check_out = |head: &Sha, paths: &[String]| {
        let plan = CheckoutPlan { scripts: Some((&default, paths)), ..CheckoutPlan::of(head) };
        mirror.check_out(&dest, &plan)
    };
    for _ in 0..2 {
        check_out(&head, &paths).unwrap();
        assert_eq!(std::fs::read_to_string(dest.join("deploy.sh")).unwrap(), "good\n");
        assert_eq!(dest.join("deploy.sh").metadata().unwrap().permissions().mode() & 0o100, 0o100);
        assert_eq!(std::fs::read_to_string(dest.join("ci/lib/x")).unwrap(), "good\n");
        assert!(dest.join("code").exists() && !dest.join("new.sh").exists());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(raw(&dest, &["status", "--porcelain", "--untracked-files=no"]), "");
    }
    // One file inside a folder that the branch replaced with a link.
    check_out(&head, &["ci/run".to_owned()]).unwrap();
    assert_eq!(std::fs::read_to_string(dest.join("ci/run")).unwrap(), "good\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    check_out(&head, &[]).unwrap();
    assert!(dest.join("new.sh").exists());
    assert!(check_out(&head, &["../x".to_owned()]).is_err());
}

//! Agents that abuse the worktree, git and the clock (RULE-19, RULE-22, RULE-23, RUN-4).

use super::support::world::Plan;

const SHORT: &str = "stages: [analysis, development, review, deploy]";

#[test]
fn whatever_an_agent_does_to_its_worktree_the_next_run_is_clean_and_nothing_of_its_runs_outside_it() {
    let w = Plan::new()
        .project(SHORT)
        .project("worktree: {copy: [.env]}")
        .auto()
        .agents("stall_s: 3")
        .top("limits: {max_concurrency: 3}")
        .build();
    std::fs::write(w.path(".env"), "PASSWORD=1\n").unwrap();
    // If it ever runs outside an agent's run, it leaves a record.
    w.script(
        "evil.sh",
        &format!("#!/bin/sh\n[ -n \"${{ORCH_RUN:-}}\" ] || echo \"$0 $*\" >> {}/pwned\ncat\nexit 0\n", w.dir.display()),
    );
    let evil = w.path("evil.sh").display().to_string();
    let cases = [
        // A configuration, attributes and hooks that would run programs of the agent's choice.
        format!(
            "develop; E={evil}; for k in core.fsmonitor diff.external gpg.program core.sshCommand uploadpack.packObjectsHook core.pager \
             core.editor credential.helper filter.evil.clean filter.evil.smudge filter.evil.process diff.evil.textconv merge.evil.driver\n\
             do git config $k $E; done; git config commit.gpgsign true; git config filter.evil.required true\n\
             mkdir -p .git/hooks hooks.d; for h in pre-commit post-commit post-checkout reference-transaction pre-push; do cp $E .git/hooks/$h; done\n\
             git config core.hooksPath \"$PWD/.git/hooks\"; echo '* filter=evil diff=evil merge=evil' | tee .git/info/attributes > .gitattributes; cost 0.01"
        ),
        "develop; rm -rf .git; cost 0.01".into(),
        "develop; touch .git/index.lock .git/HEAD.lock; mkdir -p src/inner; cd src/inner; git init -q; echo a > a; git add a\n\
         git -c user.name=x -c user.email=x@x commit -qm inner; cost 0.01"
            .into(),
        "develop; printf x > 'src/new\nline'; printf x > 'src/-rf'; mkfifo src/fifo; ln -s . src/loop; ln -s ../../nowhere src/dangling; cost 0.01".into(),
        "develop; test -f .env; git add -f .env; git -c user.name=x -c user.email=x@x commit -qm env; cost 0.01".into(),
        "(setsid sleep 600 &); sleep 600".into(),
    ];
    let keys: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(n, shell)| {
            let key = w.auto(&format!("Abuse {n}"));
            w.plan(&format!("{key}.development.1"), shell);
            key
        })
        .collect();
    for key in &keys {
        let t = w.reach(key, "done");
        assert!(w.git("orch", &["show", &format!("main:src/{key}.txt")]).contains("attempt 1"), "{t:?}");
    }
    assert!(!w.path("pwned").exists(), "{}", std::fs::read_to_string(w.path("pwned")).unwrap_or_default());
    let again = |n: usize| w.prompt(&keys[n], "development", 2);
    assert!(again(0).contains("the developer may not change .gitattributes"), "{}", again(0));
    for word in ["line\" (it has a control character", "src/fifo (it is a FIFO)", "src/dangling (it is a link"] {
        assert!(again(3).contains(word), "{word}: {}", again(3));
    }
    assert!(again(5).contains("it printed nothing for 3 s"), "{}", again(5));
    assert_eq!(w.git("orch", &["log", "--all", "--format=%H", "--", ".env"]), "");
    assert_eq!([0, 1, 2, 3, 4, 5].map(|n: usize| w.runs(&keys[n], "development")), [2, 1, 1, 2, 1, 2]);
    let tree = w.git("orch", &["ls-tree", "-r", "main"]);
    assert!(!tree.contains("160000 commit"), "an inner repository is no submodule:\n{tree}");
    w.until("nothing is left of any run", |w| w.processes().is_empty());
}

#[test]
fn numbers_are_given_once_however_many_create_at_once() {
    let w = Plan::new().build();
    let keys = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for n in 0..6 {
            let (w, keys) = (&w, &keys);
            s.spawn(move || {
                for m in 0..4 {
                    keys.lock().unwrap().push(w.new_item(&format!("Item {n}.{m}"), &["--draft"]));
                }
            });
        }
    });
    let mut keys = keys.into_inner().unwrap();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 24);
    let ran = w.tick();
    assert_eq!(ran.kinds(), Vec::<String>::new(), "drafts start nothing");
}

#[test]
fn ci_that_can_not_run_is_no_verdict_and_spends_nothing() {
    let w = Plan::new()
        .project("stages: [development, deploy]")
        .project("deploy: {confirm: false, command: [./deploy.sh], env: {LOG: /tmp}}")
        .build();
    w.person("orch", "main", &[("ci.sh", "#!/bin/sh\nkill -9 $$\n")], "a CI that dies");
    let key = w.new_item("No CI", &[]);
    w.drive("CI could not look", |w| {
        !w.table("evidence").with("gate", "ci_green").with("verdict", "tool_error").is_empty()
    });
    let t = w.task(&key);
    assert_eq!((t.stage.as_str(), t.attempt, w.runs(&key, "development")), ("development", 1, 1));
    let (rule, why) = w.tick().held(&key).unwrap();
    assert!(rule == "backoff" && why.contains("signal 9"), "{rule} {why}");
}

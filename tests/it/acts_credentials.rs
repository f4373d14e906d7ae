//! Where secrets are while `orch` works (BND-4), seen by root from outside.

use crate::support::pipe::{Pipe, Setup};

/// A program that records who started it, up to the first process: arguments, environment, and the targets of its open
/// descriptors.
const SCRIPT: &str = r#"pid=$PPID
while [ "$pid" -gt 1 ]; do
  for f in cmdline environ; do cat "/proc/$pid/$f" 2>/dev/null | tr '\0' '\n' > "HERE/prompts/$1-$pid-$f"; done
  ls -l "/proc/$pid/fd" > "HERE/prompts/$1-$pid-fd" 2>/dev/null
  pid=$(sed 's/.*) . //; s/ .*//' "/proc/$pid/stat") || break
done
"#;

/// What was recorded of processes whose arguments include a word: environments and descriptors.
fn seen(pipe: &Pipe, of: &str, word: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(pipe.at("prompts")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix("-cmdline").filter(|stem| stem.starts_with(of)) else { continue };
        let read =
            |what: &str| std::fs::read_to_string(pipe.at("prompts").join(format!("{stem}-{what}"))).unwrap_or_default();
        let words = read("cmdline");
        if words.lines().any(|w| w.ends_with("/orch")) && words.lines().any(|w| w == word) {
            all.push((format!("{words}\n{}", read("environ")), read("fd")));
        }
    }
    all
}

#[test]
fn bnd_4_no_step_and_no_supervisor_has_a_secret_in_arguments_or_environment_and_children_get_theirs() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("\n*** NOT TESTED: only root sees what a hidden process was started with ***\n");
        return;
    }
    let secret = ["deploy", "word", "of", "the", "operator", "77"].join("-");
    let mut pipe = Pipe::new(Setup {
        project:
            "deploy: {confirm: false, command: [./deploy.sh], env: {KEY: {env: DEPLOY_KEY}, SAME: {env: DEPLOY_KEY}}}"
                .into(),
        top: "notify: {command: {command: [./notify.sh], env: {KEY: {env: DEPLOY_KEY}}}}".into(),
        files: vec![("deploy.sh", String::new())],
        ..Setup::default()
    });
    let here = pipe.dir.path().display().to_string();
    let probe_script = SCRIPT.replace("HERE", &here);
    pipe.script(
        "notify.sh",
        &format!(
            "#!/bin/sh\nset -- notify\n{probe_script}\ncat >/dev/null\nprintf %s \"$KEY\" > {here}/prod/notify-key\n"
        ),
    );
    let deploy = format!(
        "#!/bin/sh\nset -- deploy\n{probe_script}\nprintf %s \"$KEY\" > {here}/prod/deploy-key\necho \"said $KEY\"\n"
    );
    pipe.person_changes(&[("deploy.sh", &deploy)], "a deploy that looks around");
    pipe.env.push(("DEPLOY_KEY".into(), secret.clone()));
    let key = pipe.item("Look around");
    pipe.until_stage(&key, "done");
    // Which process delivers a message of the task depends on who is first; for a freeze it is the one that freezes.
    let said = pipe.orch(&["freeze", "demo", "--reason", "to be told of"]);
    assert_eq!(said.code, 0, "{}", said.all());
    // It reached its recipients.
    assert_eq!([pipe.read("prod/deploy-key"), pipe.read("prod/notify-key")], [secret.clone(), secret.clone()]);
    for (of, word) in [("deploy", "run-job"), ("notify", "freeze")] {
        let all = seen(&pipe, of, word);
        assert!(!all.is_empty(), "{word} was seen");
        for (shown, descriptors) in all {
            assert!(shown.contains("PATH="), "its environment was read: {shown}");
            assert!(!shown.contains(&secret) && !shown.contains("DEPLOY_KEY"), "{word}: {shown}");
            assert!(!descriptors.contains("orch-handed"), "{word}: {descriptors}");
        }
    }
    let supervisor = seen(&pipe, "deploy", "run-job").remove(0).0;
    assert!(supervisor.lines().any(|w| w == "--state-dir"), "{supervisor}");
    let kept = pipe.holding(&secret).into_iter().filter(|p| !p.ends_with("deploy-key") && !p.ends_with("notify-key"));
    assert_eq!(kept.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn bnd_4_a_secret_in_any_form_is_in_no_file_of_the_state() {
    let secret = ["pa", "ss:wo/rd", "with\"signs", "42"].join("_");
    let mut pipe = Pipe::new(Setup {
        top: "runtimes: {scripted: {kind: command, command: [./agent.sh], env: {KEY: {env: RUNTIME_KEY}}}}\nagents: {runtime: scripted, retry_backoff_s: 1}".into(),
        ..Setup::default()
    });
    // Replaces the setup's own sections.
    let text = pipe.read("orch.yaml");
    let text = text.replacen("agents: {runtime: scripted, retry_backoff_s: 1}\n", "", 1);
    let text = text.replacen("runtimes:\n  scripted: {kind: command, command: [./agent.sh]}\n", "", 1);
    std::fs::write(pipe.at("orch.yaml"), text).unwrap();
    pipe.env.push(("RUNTIME_KEY".into(), secret.clone()));
    pipe.agent(
        "development",
        "#!/bin/sh\nprintf '%s' \"$KEY\" | base64; printf 'user:%s' \"$KEY\" | base64 -w0; echo; printf '%s' \"$KEY\" | od -An -v -tx1 | tr -d ' \\n'; echo; echo x >> app.txt; echo \"$KEY\" >&2\n",
    );
    let key = pipe.item("Say it");
    pipe.until_stage(&key, "done");
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let label = "[secret: runtimes.scripted.env.KEY]";
    let log = pipe.orch(&["logs", &key, "--run", "1"]);
    assert!(log.out.matches(label).count() >= 3, "{}", log.all());
    for form in [secret.as_str(), hex.as_str(), "cGFfc3M6d28vcmRfd2l0aCJzaWduc180M", "YV9zczp3by9yZF93aXRoInNpZ25z"] {
        let holding = pipe.holding(form);
        assert!(holding.iter().all(|p| p.starts_with("prompts")), "{form}: {holding:?}");
    }
}

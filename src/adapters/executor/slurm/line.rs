//! srun's command line and environment (CLU-2). Neither contains anything of the run: every account can read them.

use std::ffi::OsString;
use std::path::Path;

/// srun's exit code for its own faults; no command of ours uses it.
pub const OWN_FAULT: i32 = 213;

/// What a job requests from Slurm. Empty: not requested.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub partition: String,
    pub account: String,
    pub qos: String,
    pub cpus: u32,
    /// `4G`.
    pub memory: String,
    /// `02:30:00`.
    pub time: String,
    pub gres: String,
    pub constraint: String,
    /// Further options.
    pub extra: Vec<String>,
}

/// Whether squeue and scancel accept it as a `--name`: letters, digits, `-_.`, at most 200.
pub fn is_name(name: &str) -> bool {
    name.starts_with("orch-")
        && name.len() <= 200
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// All arguments of srun, without the program itself. `program`: the path on every node.
pub fn srun(name: &str, resources: &Resources, program: &Path) -> Vec<OsString> {
    let Resources { partition, account, qos, cpus, memory, time, gres, constraint, extra } = resources;
    let mut words: Vec<OsString> =
        ["--quiet", "--unbuffered", "--dependency=singleton", "--export=NONE", "--nodes=1", "--ntasks=1"]
            .map(OsString::from)
            .to_vec();
    words.push(format!("--job-name={name}").into());
    words.push(format!("--cpus-per-task={cpus}").into());
    for (option, value) in [
        ("mem", memory),
        ("time", time),
        ("partition", partition),
        ("account", account),
        ("qos", qos),
        ("gres", gres),
        ("constraint", constraint),
    ] {
        if !value.is_empty() {
            words.push(format!("--{option}={value}").into());
        }
    }
    words.extend(extra.iter().map(OsString::from));
    words.extend([program.as_os_str().to_owned(), "confine-exec".into()]);
    words
}

/// The whole environment of srun. A `SLURM_*` of the caller would change options, and a stale `SLURM_JOB_ID` makes it
/// refuse.
pub fn environment(own: impl Iterator<Item = (OsString, OsString)>, mark: (&str, &str)) -> Vec<(OsString, OsString)> {
    let kept = |name: &OsString| ["SLURM_CONF", "PATH", "LD_LIBRARY_PATH"].iter().any(|k| name == k);
    let mut env: Vec<(OsString, OsString)> = own.filter(|(name, _)| kept(name)).collect();
    env.push(("LC_ALL".into(), "C".into()));
    env.push(("SLURM_EXIT_ERROR".into(), OWN_FAULT.to_string().into()));
    // Not the run's own mark: if a node is this machine, whoever ends the run's tree there must not find srun.
    env.push((mark.0.into(), mark_of_srun(mark.1).into()));
    env
}

/// The mark of a run's srun on this machine.
pub fn mark_of_srun(mark: &str) -> String {
    format!("{mark}-srun")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &[OsString]) -> String {
        words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn clu_2_the_line_of_srun_holds_what_was_asked_for_and_nothing_of_the_run() {
        let least = Resources { cpus: 2, memory: "4G".into(), time: "02:30:00".into(), ..Resources::default() };
        let begin =
            "--quiet --unbuffered --dependency=singleton --export=NONE --nodes=1 --ntasks=1 --job-name=orch-1-run-7";
        let end = "/w/bin/ab/orch confine-exec";
        let program = Path::new("/w/bin/ab/orch");
        for (resources, middle) in [
            (least.clone(), "--cpus-per-task=2 --mem=4G --time=02:30:00"),
            (
                Resources { partition: "work".into(), account: "a".into(), qos: "high".into(), ..least.clone() },
                "--cpus-per-task=2 --mem=4G --time=02:30:00 --partition=work --account=a --qos=high",
            ),
            (
                Resources {
                    gres: "gpu:1".into(),
                    constraint: "big".into(),
                    extra: vec!["--exclusive".into(), "--reservation=r".into()],
                    cpus: 8,
                    ..least
                },
                "--cpus-per-task=8 --mem=4G --time=02:30:00 --gres=gpu:1 --constraint=big --exclusive --reservation=r",
            ),
        ] {
            let words = srun("orch-1-run-7", &resources, program);
            assert_eq!(text(&words), format!("{begin} {middle} {end}"));
        }
    }

    #[test]
    fn clu_2_nothing_of_the_callers_slurm_comes_along() {
        let own = [
            ("SLURM_CONF", "/c"),
            ("SLURM_JOB_ID", "9"),
            ("SLURM_PARTITION", "x"),
            ("SRUN_DEBUG", "3"),
            ("PATH", "/bin"),
            ("API_KEY", "s3cret"),
            ("HOME", "/root"),
        ];
        let own = own.map(|(n, v)| (OsString::from(n), OsString::from(v))).into_iter();
        let env = environment(own, ("ORCH_RUN", "1-7"));
        let names: Vec<_> = env.iter().map(|(n, v)| format!("{}={}", n.display(), v.display())).collect();
        assert_eq!(names, ["SLURM_CONF=/c", "PATH=/bin", "LC_ALL=C", "SLURM_EXIT_ERROR=213", "ORCH_RUN=1-7-srun"]);
    }

    #[test]
    fn rule_10_a_job_has_a_name_that_can_be_asked_for() {
        for (name, good) in [
            ("orch-0a1b2c3d-run-7", true),
            ("orch-x-base-demo_1.2", true),
            ("run-7", false),
            ("orch-a,b", false),
            ("orch-a b", false),
            ("orch-ü", false),
            ("orch-", true),
        ] {
            assert_eq!(is_name(name), good, "{name}");
        }
        assert!(!is_name(&format!("orch-{}", "x".repeat(200))));
    }
}

//! The section `slurm` (CLU-1): what it may contain, what one kind of job gets, and where runs then have their folders.

use super::error::ConfigError;
use super::scalar::Text;
use super::types::Slurm;
use crate::model::stage::words;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

words! {
    /// What runs as a Slurm job.
    SlurmKind { Agent = "agent", Ci = "ci", Staging = "staging", Build = "build", Base = "base" }
}

/// What one kind of job has in place of the section's own values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlurmJob {
    /// The partition
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The account that is charged
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The quality of service
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// Processors
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory, as srun takes it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Text>,
    /// Time limit, as srun takes it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Text>,
    /// Generic resources
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gres: Option<String>,
    /// Features that the node must have
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// Further options of srun, one a word
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Vec<String>>,
}

impl Slurm {
    /// The section as it is for one kind of job.
    pub fn of(&self, kind: SlurmKind) -> Self {
        let mut own = self.clone();
        let Some(other) = self.per_kind.get(&kind) else { return own };
        let text = |to: &mut String, from: &Option<String>| {
            if let Some(from) = from {
                to.clone_from(from);
            }
        };
        text(&mut own.partition, &other.partition);
        text(&mut own.account, &other.account);
        text(&mut own.qos, &other.qos);
        text(&mut own.gres, &other.gres);
        text(&mut own.constraint, &other.constraint);
        own.cpus = other.cpus.unwrap_or(own.cpus);
        own.memory = other.memory.clone().unwrap_or(own.memory);
        own.time = other.time.clone().unwrap_or(own.time);
        if let Some(extra) = &other.extra {
            own.extra.0.clone_from(extra);
        }
        own
    }
}

/// What srun gets of `orch` itself; named twice, the second would win.
const OWN: [&str; 18] = [
    "--job-name",
    "-J",
    "--dependency",
    "-d",
    "--export",
    "--input",
    "-i",
    "--output",
    "-o",
    "--error",
    "-e",
    "--chdir",
    "-D",
    "--nodes",
    "-N",
    "--ntasks",
    "-n",
    "--signal",
];

/// What srun can take, at the top and for each kind of job. `at`: the section's path.
pub(super) fn sound(section: &Slurm, at: &str) -> Result<(), ConfigError> {
    one(section, at)?;
    for kind in section.per_kind.keys() {
        one(&section.of(*kind), &format!("{at}.per_kind.{kind}"))?;
    }
    for (key, value) in [("settle_s", section.settle_s), ("silence_s", section.silence_s)] {
        let least = if key == "silence_s" { 4 } else { 1 };
        if value < least {
            return Err(ConfigError::new(format!("{at}.{key} is {value}, expected {least} or more")));
        }
    }
    Ok(())
}

fn one(section: &Slurm, at: &str) -> Result<(), ConfigError> {
    let words = [
        ("partition", &section.partition),
        ("account", &section.account),
        ("qos", &section.qos),
        ("gres", &section.gres),
        ("constraint", &section.constraint),
    ];
    for (key, value) in words {
        let plain = value.chars().all(|c| c.is_ascii_graphic());
        if !plain || value.starts_with('-') {
            return Err(ConfigError::new(format!("{at}.{key} is {value:?}, expected a word as srun takes it")));
        }
    }
    if section.cpus == 0 {
        return Err(ConfigError::new(format!("{at}.cpus is 0, expected 1 or more")));
    }
    let memory = section.memory.0.as_str();
    let digits = memory.trim_end_matches(['K', 'M', 'G', 'T']);
    if !number(digits) || memory.len() - digits.len() > 1 {
        return Err(ConfigError::new(format!("{at}.memory is {memory:?}, expected a size such as 4G or 500M")));
    }
    if !is_time(&section.time.0) {
        return Err(ConfigError::new(format!(
            "{at}.time is {:?}, expected minutes, HH:MM:SS or DAYS-HH:MM:SS such as 02:30:00",
            section.time.0
        )));
    }
    for word in &section.extra.0 {
        let name = word.split('=').next().unwrap_or_default();
        // A short option may have its value in the same word.
        let short = !word.starts_with("--") && OWN.iter().any(|own| own.len() == 2 && word.starts_with(own));
        if !word.starts_with('-') || word.chars().any(|c| c.is_control()) {
            return Err(ConfigError::new(format!("{at}.extra has {word:?}, expected options such as --exclusive"))
                .hint("write an option and its value as one word: --reservation=NAME"));
        }
        if short || OWN.contains(&name) || word == "--" {
            return Err(
                ConfigError::new(format!("{at}.extra has {word:?}, which orch says itself")).hint("leave it out")
            );
        }
    }
    Ok(())
}

fn number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `MINUTES`, `MINUTES:SECONDS`, `HH:MM:SS`, `DAYS-HH`, `DAYS-HH:MM`, `DAYS-HH:MM:SS`.
fn is_time(text: &str) -> bool {
    let (days, rest) = text.split_once('-').map_or((None, text), |(days, rest)| (Some(days), rest));
    let parts: Vec<&str> = rest.split(':').collect();
    days.is_none_or(number) && parts.len() <= 3 && parts.iter().all(|p| number(p))
}

/// Where runs have their folders with `executor: slurm`: below `work_dir`, apart from other installations'.
pub(super) fn area(section: &Slurm, named: bool, state_dir: &Path) -> Result<PathBuf, ConfigError> {
    let work_dir = PathBuf::from(&section.work_dir);
    if !work_dir.is_absolute() || work_dir.parent().is_none() {
        return Err(ConfigError::new(format!(
            "slurm.work_dir is {:?}, expected an absolute path that this machine and every node see",
            section.work_dir
        )));
    }
    if named {
        return Err(ConfigError::new(
            "area_dir is set, and executor is slurm: runs have their folders below slurm.work_dir",
        )
        .hint("leave area_dir (and ORCH_AREA_DIR) out"));
    }
    if work_dir.starts_with(state_dir) || state_dir.starts_with(&work_dir) {
        return Err(ConfigError::new(format!(
            "slurm.work_dir is {}, and state_dir is {}: expected two folders of which neither contains the other",
            work_dir.display(),
            state_dir.display()
        ))
        .hint("the state directory stays on this machine alone"));
    }
    Ok(work_dir.join(installation(state_dir)))
}

/// What distinguishes one installation from another (RULE-10): eight digits of the state directory's real path, however it is
/// spelled here.
pub fn installation(state_dir: &Path) -> String {
    use sha2::{Digest, Sha256};
    let real = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    let digest = Sha256::digest(real.as_os_str().as_encoded_bytes());
    digest.iter().take(4).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::load::parse_for_tests;
    use super::*;

    fn file(slurm: &str) -> String {
        format!(
            "executor: slurm\nstate_dir: /var/lib/orch\nslurm: {slurm}\nprojects: [{{key: ORCH, git: {{remote: /r}}}}]\n"
        )
    }

    #[test]
    fn clu_1_the_section_has_its_defaults_and_a_kind_and_a_project_have_their_own() {
        let config = parse_for_tests(&file("{}")).unwrap();
        let s = &config.slurm;
        assert_eq!(
            (s.work_dir.as_str(), s.cpus, s.memory.0.as_str(), s.time.0.as_str()),
            ("/shared/orch", 2, "4G", "02:30:00")
        );
        assert_eq!((s.settle_s, s.silence_s), (30, 120));
        assert!(config.area_dir.starts_with("/shared/orch"), "{}", config.area_dir.display());
        let text = "executor: slurm\nstate_dir: /var/lib/orch\nslurm: {partition: work, cpus: 3, per_kind: {ci: {cpus: 8, memory: 16G}}}\n\
                    projects: [{key: ORCH, git: {remote: /r}, slurm: {partition: long, settle_s: 5}}, {key: B, git: {remote: /b}}]\n";
        let config = parse_for_tests(text).unwrap();
        let [own, other] = config.projects.as_slice() else { panic!() };
        let ci = own.slurm.of(SlurmKind::Ci);
        assert_eq!((ci.partition.as_str(), ci.cpus, ci.memory.0.as_str(), ci.settle_s), ("long", 8, "16G", 5));
        assert_eq!((own.slurm.of(SlurmKind::Agent).cpus, other.slurm.partition.as_str()), (3, "work"));
    }

    #[test]
    fn clu_1_what_cannot_be_meant_is_refused_by_name() {
        for (slurm, named) in [
            ("{work_dir: shared}", "slurm.work_dir"),
            ("{work_dir: /var/lib/orch/x}", "slurm.work_dir"),
            ("{work_dir: /}", "slurm.work_dir"),
            ("{partition: 'a b'}", "slurm.partition"),
            ("{account: -x}", "slurm.account"),
            ("{cpus: 0}", "slurm.cpus"),
            ("{memory: lots}", "slurm.memory"),
            ("{memory: 4GG}", "slurm.memory"),
            ("{time: soon}", "slurm.time"),
            ("{time: '1:2:3:4'}", "slurm.time"),
            ("{extra: [exclusive]}", "slurm.extra"),
            ("{extra: ['--job-name=x']}", "slurm.extra"),
            ("{extra: [-Jx]}", "slurm.extra"),
            ("{settle_s: 0}", "slurm.settle_s"),
            ("{silence_s: 1}", "slurm.silence_s"),
            ("{per_kind: {ci: {cpus: 0}}}", "slurm.per_kind.ci.cpus"),
            ("{per_kind: {deploy: {cpus: 1}}}", "deploy"),
            ("{port: 1}", "port"),
        ] {
            let e = parse_for_tests(&file(slurm)).unwrap_err().to_string();
            assert!(e.contains(named), "{slurm}: {e}");
        }
        for (text, named) in [
            ("area_dir: /a\n", "area_dir is set"),
            ("projects: [{key: ORCH, git: {remote: /r}, slurm: {work_dir: /x}}]\n", "projects.ORCH.slurm.work_dir"),
        ] {
            let base = file("{}");
            let text = if text.starts_with("projects") {
                base.lines().filter(|l| !l.starts_with("projects")).collect::<Vec<_>>().join("\n") + "\n" + text
            } else {
                base + text
            };
            let e = parse_for_tests(&text).unwrap_err().to_string();
            assert!(e.contains(named), "{text}: {e}");
        }
        for time in ["30", "30:00", "02:30:00", "1-0", "1-02:30:00"] {
            assert!(is_time(time), "{time}");
        }
        // Another executor asks for none of it.
        let other = file("{work_dir: shared}").replace("executor: slurm", "executor: detach");
        assert!(parse_for_tests(&other).is_ok());
    }
}

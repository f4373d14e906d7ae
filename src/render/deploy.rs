//! `14-deploy-log.md` (SHIP-5). It is the record; the gate itself reads the result sentinel.

use super::evidence::{ArtefactHead, cell, front_matter};
use crate::model::deploy::DeployStatus;

/// What the log says in addition to the verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeployFacts {
    pub deploy_id: String,
    /// The project has a deploy command. Without one, the merge is the deploy.
    pub command: bool,
    /// The commit that landed and was deployed.
    pub revision: Option<String>,
    /// RFC 3339.
    pub initiated_at: Option<String>,
    pub started_at: Option<String>,
    pub settled_at: Option<String>,
    /// The end of the command's output, secrets already removed.
    pub output_tail: String,
}

/// The artefact; `None` while there is nothing to record yet.
pub fn log(head: &ArtefactHead, status: &DeployStatus, facts: &DeployFacts) -> Option<String> {
    let word = status.word()?;
    let mut text = front_matter(head, ("deploy_status", word.as_str()));
    let said = match status {
        DeployStatus::Success if !facts.command => {
            "The project has no deploy command: the merge is the deploy, and it landed.".to_owned()
        }
        DeployStatus::Success => "The deploy command ended with exit 0.".to_owned(),
        DeployStatus::FailedSafe => {
            "The deploy command ended with exit 1: production is unchanged. The task goes back to development."
                .to_owned()
        }
        DeployStatus::FailedUnknown { why } | DeployStatus::Pending { why } => format!(
            "It is unknown what production runs: {}. Nothing more happens automatically. Check production, then \
             run `orch retry` (a new deploy) or set STOP, and run `orch unfreeze`.",
            cell(why)
        ),
    };
    text.push_str(&format!(
        "# Deploy {}: {word}\n\n{said}\n\n| what | value |\n| --- | --- |\n",
        cell(&facts.deploy_id)
    ));
    let rows = [
        ("revision", &facts.revision),
        ("initiated", &facts.initiated_at),
        ("command started", &facts.started_at),
        ("settled", &facts.settled_at),
    ];
    for (name, value) in rows.into_iter().filter(|(name, _)| facts.command || *name != "command started") {
        text.push_str(&format!("| {name} | {} |\n", value.as_deref().map_or_else(|| "unknown".to_owned(), cell)));
    }
    if !facts.output_tail.trim().is_empty() {
        text.push_str("\n## End of the command's output\n\n");
        for line in facts.output_tail.lines() {
            text.push_str(&format!("    {}\n", line.replace('\t', "    ")));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_failures_are_failed_and_say_what_production_is() {
        let facts = DeployFacts {
            deploy_id: "1-1-1".into(),
            command: true,
            output_tail: "a\n```\nb".into(),
            ..DeployFacts::default()
        };
        let head = ArtefactHead::default();
        let safe = log(&head, &DeployStatus::FailedSafe, &facts).unwrap();
        assert!(safe.contains("deploy_status: FAILED\n") && safe.contains("unchanged") && safe.contains("    ```\n"));
        let unknown = log(&head, &DeployStatus::FailedUnknown { why: "exit 2".into() }, &facts).unwrap();
        assert!(
            unknown.contains("deploy_status: FAILED\n")
                && unknown.contains("It is unknown")
                && unknown.contains("exit 2")
        );
        assert!(log(&head, &DeployStatus::Success, &facts).unwrap().contains("deploy_status: SUCCESS\n"));
        let merged = log(&head, &DeployStatus::Success, &DeployFacts::default()).unwrap();
        assert!(
            merged.contains("SUCCESS\n") && !merged.contains("exit") && !merged.contains("command started"),
            "{merged}"
        );
        assert_eq!(log(&head, &DeployStatus::Pending { why: String::new() }, &facts), None);
    }
}

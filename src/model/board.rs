//! The board's words: logical statuses, how they resolve to a project's own, groups, priorities, labels (BRD-2, BRD-5).

use super::ids::Key;
use super::stage::{Stage, words};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

words! {
    /// A status `orch` knows by meaning; a project maps its own names to it (BRD-2).
    Logical {
        ToAnalyse = "to_analyse",
        Approved = "approved",
        ConfirmDeploy = "confirm_deploy",
        Stop = "stop",
        Analysis = "analysis",
        AwaitingApproval = "awaiting_approval",
        Architecture = "architecture",
        Development = "development",
        CodeReview = "code_review",
        Testing = "testing",
        DeployStaging = "deploy_staging",
        AwaitingDeploy = "awaiting_deploy",
        Deploying = "deploying",
        Monitoring = "monitoring",
        Blocked = "blocked",
        Done = "done",
        Cancelled = "cancelled",
        InProgress = "in_progress",
    }
}

words! {
    /// What a logical status is for.
    StatusKind {
        /// A person sets it to steer.
        Intent = "intent",
        /// `orch` sets it to show.
        Indication = "indication",
        /// What indications fall back to.
        Base = "base",
    }
}

words! {
    /// A status by which a person steers (BRD-3).
    Intent {
        ToAnalyse = "to_analyse",
        Approved = "approved",
        ConfirmDeploy = "confirm_deploy",
        Stop = "stop",
    }
}

words! {
    /// The board's own grouping of statuses.
    Group {
        Backlog = "backlog",
        Unstarted = "unstarted",
        Started = "started",
        Completed = "completed",
        Cancelled = "cancelled",
        Triage = "triage",
    }
}

words! {
    /// A work item's priority, the most urgent first.
    Priority {
        Urgent = "urgent",
        High = "high",
        Medium = "medium",
        Low = "low",
        None = "none",
    }
}

impl Group {
    /// {`completed`, `cancelled`}.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

impl Intent {
    pub fn logical(self) -> Logical {
        match self {
            Self::ToAnalyse => Logical::ToAnalyse,
            Self::Approved => Logical::Approved,
            Self::ConfirmDeploy => Logical::ConfirmDeploy,
            Self::Stop => Logical::Stop,
        }
    }
}

impl Logical {
    pub fn kind(self) -> StatusKind {
        match self {
            Self::ToAnalyse | Self::Approved | Self::ConfirmDeploy | Self::Stop => StatusKind::Intent,
            Self::Done | Self::Cancelled | Self::InProgress => StatusKind::Base,
            Self::Analysis
            | Self::AwaitingApproval
            | Self::Architecture
            | Self::Development
            | Self::CodeReview
            | Self::Testing
            | Self::DeployStaging
            | Self::AwaitingDeploy
            | Self::Deploying
            | Self::Monitoring
            | Self::Blocked => StatusKind::Indication,
        }
    }

    /// The name where the configuration gives none.
    pub fn default_name(self) -> &'static str {
        match self {
            Self::ToAnalyse => "To Analyse",
            Self::Approved => "Approved",
            Self::ConfirmDeploy => "Confirm Deploy",
            Self::Stop => "STOP",
            Self::Analysis => "Analysis",
            Self::AwaitingApproval => "In Review",
            Self::Architecture => "Architecture",
            Self::Development => "Development",
            Self::CodeReview => "Code Review",
            Self::Testing => "Testing",
            Self::DeployStaging => "Staging",
            Self::AwaitingDeploy => "Awaiting Deploy",
            Self::Deploying => "Deploying",
            Self::Monitoring => "Monitoring after Deploy",
            Self::Blocked => "Blocked",
            Self::Done => "Done",
            Self::Cancelled => "Cancelled",
            Self::InProgress => "In Progress",
        }
    }

    /// The indication's substitutes where the project has no status of its own for it, in order.
    fn fallbacks(self) -> &'static [Logical] {
        match self {
            Self::ToAnalyse | Self::Approved | Self::ConfirmDeploy | Self::Stop => &[],
            Self::Done | Self::Cancelled | Self::InProgress => &[],
            Self::AwaitingDeploy => &[Self::AwaitingApproval, Self::InProgress],
            Self::Monitoring => &[Self::Done],
            Self::Analysis
            | Self::AwaitingApproval
            | Self::Architecture
            | Self::Development
            | Self::CodeReview
            | Self::Testing
            | Self::DeployStaging
            | Self::Deploying
            | Self::Blocked => &[Self::InProgress],
        }
    }

    /// The group of a status with this meaning: that of a base, and what the local board assigns.
    pub fn group(self) -> Group {
        match self {
            Self::ToAnalyse => Group::Unstarted,
            Self::Done => Group::Completed,
            Self::Cancelled => Group::Cancelled,
            Self::Approved
            | Self::ConfirmDeploy
            | Self::Stop
            | Self::Analysis
            | Self::AwaitingApproval
            | Self::Architecture
            | Self::Development
            | Self::CodeReview
            | Self::Testing
            | Self::DeployStaging
            | Self::AwaitingDeploy
            | Self::Deploying
            | Self::Monitoring
            | Self::Blocked
            | Self::InProgress => Group::Started,
        }
    }

    /// Whether the status alone shows that the work is over: only where no group is known (BRD-4).
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }
}

/// A name as it is compared: case-folded, trimmed, inner space single.
pub fn fold(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// A status of one project's board. Their order is the board's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub id: String,
    pub name: String,
    /// `None`: the board named a group that `orch` does not know.
    pub group: Option<Group>,
}

/// A label of one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub id: String,
    pub name: String,
}

/// A work item that blocks another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemRef {
    Key(Key),
    /// The board's own id, or a text that is no key. Nothing ever resolves that: it holds, and is reported.
    Id(String),
}

/// A work item as the board reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkItem {
    /// The board's id: a UUID on Plane, the key on the local board.
    pub id: String,
    pub key: Key,
    pub title: String,
    /// `None`: not read (lists leave it out).
    pub body: Option<String>,
    /// Ids of labels (see [`Label`]).
    pub labels: Vec<String>,
    pub priority: Priority,
    pub status_id: String,
    /// `None`: no status of the project has this id.
    pub status_name: Option<String>,
    pub group: Option<Group>,
    /// `None`: not read.
    pub blocked_by: Option<Vec<ItemRef>>,
    /// Milliseconds since the epoch by the board's clock; 0 where it gives none.
    pub created_ms: i64,
    /// Likewise. Never compare with `orch`'s own clock.
    pub updated_ms: i64,
    /// Who last changed it, where the board says so with the item: on the local board the file's owner.
    pub changed_by: Option<String>,
}

/// What somebody set on a work item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed<'a> {
    /// The status with this id.
    Status(&'a str),
    Label {
        id: &'a str,
        name: &'a str,
    },
}

/// Why an intent does not steer in a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IntentOff {
    pub intent: Intent,
    pub why: String,
}

/// A project's statuses by meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    statuses: Vec<Status>,
    /// Own statuses, found by name.
    own: BTreeMap<Logical, usize>,
    /// Indications and bases after falling back.
    shown: BTreeMap<Logical, usize>,
    /// Intents that steer.
    intents: BTreeMap<Intent, usize>,
    off: Vec<IntentOff>,
    notes: Vec<String>,
}

/// Maps a project's statuses to their meanings (BRD-2, RULE-14). `names`: the configured ones, defaults for the rest.
///
/// An intent whose name is missing, duplicated, or shared with another intent or with the resolved status of an
/// indication or base is off: fail closed. An indication without its own status falls back inside the same project.
pub fn resolve(statuses: &[Status], names: &BTreeMap<Logical, String>) -> Resolved {
    let name = |l: Logical| names.get(&l).map_or(l.default_name(), String::as_str);
    let folded: Vec<String> = statuses.iter().map(|s| fold(&s.name)).collect();
    let find = |l: Logical| {
        let wanted = fold(name(l));
        let fits: Vec<usize> =
            folded.iter().enumerate().filter(|(_, folded)| **folded == wanted).map(|(i, _)| i).collect();
        match fits.as_slice() {
            [one] => Ok(*one),
            [] => Err(format!("the project has no status {:?}", name(l))),
            several => Err(format!("the project has {} statuses {:?}", several.len(), name(l))),
        }
    };
    let mut own = BTreeMap::new();
    let mut notes = Vec::new();
    let mut missing = BTreeMap::new();
    for l in Logical::ALL {
        match find(*l) {
            Ok(at) => {
                own.insert(*l, at);
            }
            Err(why) => {
                missing.insert(*l, why);
            }
        }
    }
    let mut shown: BTreeMap<Logical, usize> = BTreeMap::new();
    let of_kind = |kind: StatusKind| Logical::ALL.iter().copied().filter(move |l| l.kind() == kind);
    for l in of_kind(StatusKind::Base) {
        let by_group = || statuses.iter().position(|s| s.group == Some(l.group()));
        if let Some(at) = own.get(&l).copied().or_else(by_group) {
            shown.insert(l, at);
        } else {
            notes.push(format!("`{l}` can't be shown: no status {:?} and none of group {}", name(l), l.group()));
        }
    }
    // Fallbacks of indications name bases, or an indication that is earlier in the table.
    for l in of_kind(StatusKind::Indication) {
        let fallback = || l.fallbacks().iter().find_map(|f| shown.get(f).copied());
        if let Some(at) = own.get(&l).copied().or_else(fallback) {
            shown.insert(l, at);
        }
    }
    let mut intents = BTreeMap::new();
    let mut off = Vec::new();
    for intent in Intent::ALL.iter().copied() {
        let l = intent.logical();
        let Some(at) = own.get(&l).copied() else {
            off.push(IntentOff { intent, why: missing.get(&l).cloned().unwrap_or_default() });
            continue;
        };
        let id = |i: usize| statuses.get(i).map(|s| s.id.as_str());
        // The status's own meaning is named first, then what fell back to it.
        let clash = own.iter().chain(&shown).find(|(o, i)| **o != l && id(**i) == id(at)).map(|(o, _)| *o);
        match clash {
            Some(other) => off.push(IntentOff {
                intent,
                why: format!("the status {:?} of `{intent}` is also that of `{other}`", name(l)),
            }),
            None => {
                intents.insert(intent, at);
            }
        }
    }
    Resolved { statuses: statuses.to_vec(), own, shown, intents, off, notes }
}

impl Resolved {
    /// The intent of a status, by the identity of the intent's own status.
    pub fn intent_of(&self, status_id: &str) -> Option<Intent> {
        self.intents.iter().find(|(_, at)| self.statuses.get(**at).is_some_and(|s| s.id == status_id)).map(|(i, _)| *i)
    }

    /// The status to set for an indication or base, after falling back; for an intent its own, if it is on.
    pub fn status_for(&self, logical: Logical) -> Option<&Status> {
        let at = Intent::ALL
            .iter()
            .find(|i| i.logical() == logical)
            .map_or_else(|| self.shown.get(&logical), |i| self.intents.get(i))?;
        self.statuses.get(*at)
    }

    /// The meaning of a status by its own name, for people; never by a fallback.
    pub fn logical_of(&self, status_id: &str) -> Option<Logical> {
        self.own.iter().find(|(_, at)| self.statuses.get(**at).is_some_and(|s| s.id == status_id)).map(|(l, _)| *l)
    }

    /// A status of the project by id.
    pub fn status(&self, id: &str) -> Option<&Status> {
        self.statuses.iter().find(|s| s.id == id)
    }

    /// Whether a status ends a work item: by its group, and by meaning only where no group is known (BRD-4).
    pub fn is_terminal(&self, status_id: &str) -> bool {
        match self.status(status_id).and_then(|s| s.group) {
            Some(group) => group.is_terminal(),
            None => self.logical_of(status_id).is_some_and(Logical::is_terminal),
        }
    }

    /// Ids of the statuses that steer: an indication must not overwrite one unseen.
    pub fn intent_ids(&self) -> Vec<String> {
        self.intents.values().filter_map(|at| self.statuses.get(*at)).map(|s| s.id.clone()).collect()
    }

    /// Intents that are off here, each with its cause.
    pub fn off(&self) -> &[IntentOff] {
        &self.off
    }

    /// What can't be shown here.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub fn statuses(&self) -> &[Status] {
        &self.statuses
    }
}

/// How far a task is inside its stage, as far as the board shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Queued, running, or at a gate.
    Working,
    /// Waits for a person's Approved or Confirm Deploy.
    AwaitingPerson,
    Deploying,
    /// Needs a person to repair something.
    Blocked,
    /// Landed, the post-deploy watch is armed.
    Watching,
    /// The watch ended DEGRADED.
    Degraded,
}

/// What the board shows for a task (BRD-2). `None` while `created`: the person's own status stays.
pub fn indication(stage: Stage, progress: Progress) -> Option<Logical> {
    let blocked = matches!(progress, Progress::Blocked | Progress::Degraded);
    let at = match stage {
        Stage::Created => return None,
        Stage::Cancelled => return Some(Logical::Cancelled),
        Stage::Done => match progress {
            Progress::Watching => Logical::Monitoring,
            Progress::Degraded => Logical::Blocked,
            Progress::Working | Progress::AwaitingPerson | Progress::Deploying | Progress::Blocked => Logical::Done,
        },
        _ if blocked => Logical::Blocked,
        Stage::Analysis if progress == Progress::AwaitingPerson => Logical::AwaitingApproval,
        Stage::Analysis => Logical::Analysis,
        Stage::Architecture => Logical::Architecture,
        Stage::Development => Logical::Development,
        Stage::Review => Logical::CodeReview,
        Stage::Testing => Logical::Testing,
        Stage::DeployStaging => Logical::DeployStaging,
        Stage::Deploy if progress == Progress::Deploying => Logical::Deploying,
        Stage::Deploy => Logical::AwaitingDeploy,
    };
    Some(at)
}

/// The status name on the card: the project's own where it has one, else the default one.
pub fn card_name(stage: Stage, progress: Progress, names: &BTreeMap<Logical, String>) -> String {
    let logical = indication(stage, progress).unwrap_or(Logical::ToAnalyse);
    names.get(&logical).cloned().unwrap_or_else(|| logical.default_name().to_owned())
}

/// An unknown stage's word made presentable, never another stage's name: `deploy-canary` gives `Deploy canary`.
pub fn neutral_name(word: &str) -> String {
    let text = word.replace(['-', '_'], " ");
    let mut chars = text.trim().chars();
    chars.next().map_or_else(|| "Unknown".to_owned(), |c| c.to_uppercase().chain(chars).collect())
}

words! {
    /// Whether a work item carries a label (BRD-5). Only `yes` automates anything.
    LabelAnswer {
        Yes = "yes",
        No = "no",
        /// The name matches two labels of the project; counts as absent.
        Ambiguous = "ambiguous",
        /// The board could not be read.
        Unknown = "unknown",
    }
}

/// Whether `item_labels` (ids) contain the label named `wanted`. `labels`: the project's, `None` if they could not be
/// read.
pub fn has_label(item_labels: &[String], labels: Option<&[Label]>, wanted: &str) -> LabelAnswer {
    let Some(labels) = labels else { return LabelAnswer::Unknown };
    let wanted = fold(wanted);
    if wanted.is_empty() {
        return LabelAnswer::No;
    }
    let fits: Vec<&Label> = labels.iter().filter(|l| fold(&l.name) == wanted).collect();
    match fits.as_slice() {
        [] => LabelAnswer::No,
        [one] if item_labels.contains(&one.id) => LabelAnswer::Yes,
        [_] => LabelAnswer::No,
        _ => LabelAnswer::Ambiguous,
    }
}

/// The statuses of a local board: every logical one by its configured or default name, and Backlog. Ids are folded
/// names.
pub fn local_statuses(names: &BTreeMap<Logical, String>) -> Vec<Status> {
    let backlog = Status { id: "backlog".into(), name: "Backlog".into(), group: Some(Group::Backlog) };
    std::iter::once(backlog)
        .chain(Logical::ALL.iter().map(|l| {
            let name = names.get(l).map_or(l.default_name(), String::as_str);
            Status { id: fold(name), name: name.to_owned(), group: Some(l.group()) }
        }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(id: &str, name: &str, group: Group) -> Status {
        Status { id: id.into(), name: name.into(), group: Some(group) }
    }

    fn fresh() -> Vec<Status> {
        vec![
            status("b", "Backlog", Group::Backlog),
            status("t", "Todo", Group::Unstarted),
            status("p", "In Progress", Group::Started),
            status("d", "Done", Group::Completed),
            status("c", "Cancelled", Group::Cancelled),
        ]
    }

    #[test]
    fn a_local_board_knows_every_status_and_all_intents_are_on() {
        let r = resolve(&local_statuses(&BTreeMap::new()), &BTreeMap::new());
        assert!(r.off().is_empty(), "{:?}", r.off());
        for l in Logical::ALL {
            assert_eq!(r.status_for(*l).map(|s| s.name.as_str()), Some(l.default_name()));
        }
    }

    #[test]
    fn a_fresh_project_shows_everything_and_steers_nothing() {
        let r = resolve(&fresh(), &BTreeMap::new());
        assert_eq!(r.off().len(), 4);
        for l in Logical::ALL.iter().filter(|l| l.kind() != StatusKind::Intent) {
            assert!(r.status_for(*l).is_some(), "{l}");
        }
        assert_eq!(r.status_for(Logical::Monitoring).unwrap().id, "d");
        assert_eq!(r.status_for(Logical::AwaitingDeploy).unwrap().id, "p");
        assert!(fresh().iter().all(|s| r.intent_of(&s.id).is_none()));
    }

    #[test]
    fn names_are_compared_without_case_and_spaces() {
        let mut s = fresh();
        s.push(status("x", "  to   ANALYSE ", Group::Unstarted));
        assert_eq!(resolve(&s, &BTreeMap::new()).intent_of("x"), Some(Intent::ToAnalyse));
    }

    #[test]
    fn a_doubled_intent_is_off() {
        let mut s = fresh();
        s.push(status("x", "STOP", Group::Cancelled));
        s.push(status("y", "Stop", Group::Started));
        let r = resolve(&s, &BTreeMap::new());
        assert_eq!((r.intent_of("x"), r.intent_of("y")), (None, None));
        assert!(r.off().iter().any(|o| o.intent == Intent::Stop && o.why.contains("2 statuses")));
    }

    #[test]
    fn an_intent_that_shares_its_status_with_an_indication_is_off() {
        let names = BTreeMap::from([(Logical::Approved, "In Progress".to_owned())]);
        let r = resolve(&fresh(), &names);
        assert_eq!(r.intent_of("p"), None);
        assert!(r.off().iter().any(|o| o.intent == Intent::Approved && o.why.contains("in_progress")));
        let both = BTreeMap::from([(Logical::Approved, "Todo".to_owned()), (Logical::Stop, "todo".to_owned())]);
        assert_eq!(resolve(&fresh(), &both).intent_of("t"), None);
    }

    #[test]
    fn an_intent_that_a_base_falls_back_to_is_off() {
        let mut s: Vec<Status> = fresh().into_iter().filter(|s| s.name != "Cancelled").collect();
        s.push(status("x", "STOP", Group::Cancelled));
        let r = resolve(&s, &BTreeMap::new());
        assert_eq!(r.intent_of("x"), None);
        s.push(status("c", "Cancelled", Group::Cancelled));
        assert_eq!(resolve(&s, &BTreeMap::new()).intent_of("x"), Some(Intent::Stop));
    }

    #[test]
    fn every_stage_has_an_indication_but_created() {
        for stage in Stage::ALL {
            for progress in [Progress::Working, Progress::AwaitingPerson, Progress::Deploying, Progress::Blocked] {
                assert_eq!(indication(*stage, progress).is_none(), *stage == Stage::Created);
            }
        }
        assert_eq!(card_name(Stage::Created, Progress::Working, &BTreeMap::new()), "To Analyse");
        assert_eq!(indication(Stage::Done, Progress::Watching), Some(Logical::Monitoring));
        assert_eq!(indication(Stage::Done, Progress::Degraded), Some(Logical::Blocked));
        assert_eq!(indication(Stage::Cancelled, Progress::Blocked), Some(Logical::Cancelled));
        assert_eq!(neutral_name("deploy-canary"), "Deploy canary");
    }

    #[test]
    fn an_ambiguous_or_unread_label_is_never_yes() {
        let label = |id: &str, name: &str| Label { id: id.into(), name: name.into() };
        let mine = vec!["1".to_owned(), "gone".to_owned()];
        let one = [label("1", " AutoApprove ")];
        assert_eq!(has_label(&mine, Some(&one), "autoApprove"), LabelAnswer::Yes);
        assert_eq!(has_label(&mine, Some(&one), ""), LabelAnswer::No);
        assert_eq!(has_label(&mine, None, "autoApprove"), LabelAnswer::Unknown);
        let two = [label("1", "autoApprove"), label("2", "autoapprove")];
        assert_eq!(has_label(&mine, Some(&two), "autoApprove"), LabelAnswer::Ambiguous);
        assert_eq!(has_label(&[], Some(&one), "autoApprove"), LabelAnswer::No);
    }
}

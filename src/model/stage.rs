//! The stage table (PIPE-1): the only source of the order. Every map keyed by stage is proved complete against it.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),* }
        impl $name {
            /// Every value, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// The word used in files, rows and JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
            /// Reads the word back; anything else is `None`.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.as_str()) }
        }
    };
}
pub(crate) use words;

words! {
    /// The stage that a task is in.
    Stage {
        Created = "created",
        Analysis = "analysis",
        Architecture = "architecture",
        Development = "development",
        Review = "review",
        Testing = "testing",
        DeployStaging = "deploy-staging",
        Deploy = "deploy",
        Done = "done",
        Cancelled = "cancelled",
    }
}

words! {
    /// A role with a prompt in `agents/`.
    Agent {
        Analyst = "analyst",
        Architect = "architect",
        Developer = "developer",
        Reviewer = "reviewer",
        Tester = "tester",
        Deployer = "deployer",
    }
}

words! {
    /// What processes a queue entry: an agent, or code (RUN-1).
    JobKind {
        Agent = "agent",
        Ci = "ci",
        Scan = "scan",
        Staging = "staging",
        Build = "build",
        Deploy = "deploy",
        DeployFinalizer = "deploy-finalizer",
        PostDeployMonitor = "post-deploy-monitor",
    }
}

words! {
    /// A queue entry's state (RUN-1); the last three are final.
    JobStatus {
        Queued = "queued",
        Running = "running",
        Done = "done",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

impl JobKind {
    /// Whether its processes run what an agent or a branch says: the second row of BND-1's table. `orch`'s own
    /// processes in such a job prove that they are.
    pub fn runs_foreign_code(self) -> bool {
        match self {
            Self::Agent | Self::Ci | Self::Staging | Self::Build => true,
            Self::Scan | Self::Deploy | Self::DeployFinalizer | Self::PostDeployMonitor => false,
        }
    }
}

impl Stage {
    /// {`done`, `cancelled`}, wherever that is asked.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }

    /// The agent that works on the stage; `created`, `deploy` and the sinks have none.
    pub fn agent(self) -> Option<Agent> {
        match self {
            Self::Analysis => Some(Agent::Analyst),
            Self::Architecture => Some(Agent::Architect),
            Self::Development => Some(Agent::Developer),
            Self::Review => Some(Agent::Reviewer),
            Self::Testing => Some(Agent::Tester),
            Self::DeployStaging => Some(Agent::Deployer),
            Self::Created | Self::Deploy | Self::Done | Self::Cancelled => None,
        }
    }

    /// Whether a project may leave the stage out (never `development`, `deploy`).
    pub fn may_be_left_out(self) -> bool {
        match self {
            Self::Analysis | Self::Architecture | Self::Review | Self::Testing | Self::DeployStaging => true,
            Self::Created | Self::Development | Self::Deploy | Self::Done | Self::Cancelled => false,
        }
    }

    /// The next stage among `enabled` ones (the project's list); `deploy` is followed by `done`, the sinks by nothing.
    pub fn next(self, enabled: &[Stage]) -> Option<Stage> {
        if self.is_terminal() {
            return None;
        }
        Self::ALL
            .iter()
            .copied()
            .filter(|s| *s > self && *s != Self::Cancelled)
            .find(|s| !s.may_be_left_out() || enabled.contains(s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ends_in_done_and_never_reaches_cancelled() {
        let all: Vec<Stage> = Stage::ALL.to_vec();
        let mut at = Stage::Created;
        let mut seen = vec![at];
        while let Some(next) = at.next(&all) {
            at = next;
            seen.push(at);
        }
        assert_eq!(seen.last(), Some(&Stage::Done));
        assert_eq!(seen.len(), Stage::ALL.len() - 1);
        assert_eq!(Stage::Created.next(&[]), Some(Stage::Development));
        assert_eq!(Stage::Development.next(&[]), Some(Stage::Deploy));
    }

    #[test]
    fn words_are_read_back() {
        for s in Stage::ALL {
            assert_eq!(Stage::parse(s.as_str()), Some(*s));
        }
        assert_eq!(Stage::parse("deployed"), None);
    }
}

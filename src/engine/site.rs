//! Where one agent's run works, and by which settings.

use super::area::Folders;
use super::base;
use crate::config::{AgentSettings, Project};
use crate::model::agent_prompt::AgentPrompt;
use crate::model::stage::Agent;
use std::path::PathBuf;

/// Everything that one agent's run needs.
pub(super) struct Site {
    pub(super) settings: AgentSettings,
    pub(super) folders: Folders,
    pub(super) prompt: AgentPrompt,
    pub(super) dir: PathBuf,
    pub(super) agent: Agent,
    pub(super) project: Project,
    pub(super) ground: base::Ground,
}

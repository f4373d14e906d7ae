//! Shell completions and manual pages in the account's own folders (DSK-3, ORD-4): where they are, what `init` offers.

use super::Done;
use crate::adapters::files;
use crate::cli::exit::Failure;
use crate::cli::{Cli, complete};
use crate::config::process_env;
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a package has the pages for every account.
const PACKAGED: [&str; 4] = [
    "/usr/share/man/man1/orch.1.gz",
    "/usr/share/man/man1/orch.1",
    "/usr/local/share/man/man1/orch.1.gz",
    "/usr/local/share/man/man1/orch.1",
];

/// The folders of an account.
#[derive(Debug)]
pub struct Places {
    /// `$XDG_DATA_HOME`, else `~/.local/share`.
    data: PathBuf,
    config: PathBuf,
}

impl Places {
    /// `None`: the account has no home.
    pub fn of(env: &BTreeMap<String, String>) -> Option<Self> {
        let set = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = set("HOME");
        let below = |name: &str| home.as_ref().map(|home| home.join(name));
        let data = set("XDG_DATA_HOME").or_else(|| below(".local/share"))?;
        let config = set("XDG_CONFIG_HOME").or_else(|| below(".config"))?;
        Some(Self { data, config })
    }

    /// A shell's script, by the shell's name.
    pub fn scripts(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("bash", self.data.join("bash-completion/completions/orch")),
            ("zsh", self.data.join("zsh/site-functions/_orch")),
            ("fish", self.config.join("fish/completions/orch.fish")),
        ]
    }

    /// Where an earlier version, or a person, may have put a script.
    pub fn other_script(&self) -> PathBuf {
        self.data.join("fish/vendor_completions.d/orch.fish")
    }

    /// The folder of the manual pages.
    pub fn pages(&self) -> PathBuf {
        self.data.join("man/man1")
    }

    /// The scripts of the installed shells that are not written yet.
    fn lacking(&self) -> Vec<(&'static str, PathBuf)> {
        let lacks = |(shell, path): &(&str, PathBuf)| which::which(shell).is_ok() && path.symlink_metadata().is_err();
        self.scripts().into_iter().filter(lacks).collect()
    }
}

/// What could be installed for this account, as the words of the question; `None`: it is there, or a package has it.
pub fn offered() -> Option<(Places, String)> {
    let places = Places::of(&process_env())?;
    let packaged = PACKAGED.iter().any(|path| Path::new(path).exists());
    let there = places.pages().join("orch.1").symlink_metadata().is_ok() && places.lacking().is_empty();
    let question = format!("install shell completions and manual pages below {}?", places.data.display());
    (!packaged && !there).then_some((places, question))
}

/// Writes them; no existing file is overwritten. Returns a note about what else a shell needs.
pub fn install(places: &Places, done: &mut Done) -> Result<Option<String>, Failure> {
    let lacking = places.lacking();
    for (shell, path) in &lacking {
        let script = complete::script(shell).with_context(|| format!("creating the script of {shell}"))?;
        done.put(path, &String::from_utf8_lossy(&script))?;
    }
    if places.pages().join("orch.1").symlink_metadata().is_err() {
        done.written.extend(pages(&places.pages())?);
    }
    let zsh = lacking.iter().find(|(shell, _)| *shell == "zsh").and_then(|(_, path)| path.parent());
    Ok(zsh.map(|folder| format!("zsh reads its completion once {} is in its fpath", folder.display())))
}

/// Writes the manual pages into a folder, one for each subcommand, and returns their names.
pub fn pages(dir: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut written = Vec::new();
    let mut open = vec![root];
    while let Some(command) = open.pop() {
        let name = command.get_display_name().unwrap_or("orch").to_owned();
        let path = dir.join(format!("{name}.1"));
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page).context("rendering a manual page")?;
        files::output(&path, &page, None).with_context(|| format!("writing {}", path.display()))?;
        written.push(path);
        open.extend(command.get_subcommands().filter(|c| !c.is_hide_set()).cloned());
    }
    written.sort();
    Ok(written)
}

//! L4: turns arguments into output and an exit code. One file per subcommand under `cmd/`: an `Args` struct and `run`.

mod checked;
pub mod clock;
pub mod cmd;
pub mod colour;
pub mod complete;
mod configured;
pub mod demo;
pub mod docs;
pub mod doctor;
pub mod exit;
pub mod help;
pub mod init;
pub mod known;
pub mod logging;
pub mod open;
pub mod output;
mod progress;
mod quick;
mod scanned;
pub mod screen;
pub mod signals;
mod tail;
pub mod trial;

use clap::{CommandFactory, Parser, Subcommand};
use exit::CmdResult;
use output::Output;
use std::path::PathBuf;

/// Run coding agents unattended, from an issue on a board to a healthy deploy.
#[derive(Debug, Parser)]
#[command(name = "orch", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options before or after any subcommand.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Configuration file; default: the first of a trusted orch.yaml of this checkout, $XDG_CONFIG_HOME/orch/orch.yaml and /etc/orch/orch.yaml
    #[arg(long, global = true, value_name = "FILE", env = "ORCH_CONFIG", value_parser = maybe_empty_path())]
    pub config: Option<PathBuf>,
    /// State directory; overrides `state_dir`
    #[arg(long, global = true, value_name = "DIR", env = "ORCH_STATE_DIR", value_parser = maybe_empty_path())]
    pub state_dir: Option<PathBuf>,
    /// Print one JSON document on stdout, also for errors
    #[arg(long, global = true)]
    pub json: bool,
    /// Format of the log on stderr
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json", ""], env = "ORCH_LOG_FORMAT", hide_possible_values = true)]
    pub log_format: Option<String>,
    /// Log more; repeat for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log only errors, and print only what failed in a step
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Use colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", value_parser = ["auto", "always", "never"], default_value = "auto", hide_possible_values = true)]
    pub color: String,
    /// A step that another one of `orch` started, which proves it on standard input (BND-6)
    #[arg(long, global = true, hide = true)]
    pub own_step: bool,
}

/// A path that may be empty: an empty variable counts as unset (CFG-2), and clap's own parser refuses it.
fn maybe_empty_path() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    use clap::builder::TypedValueParser as _;
    clap::builder::OsStringValueParser::new().map(PathBuf::from)
}

/// The subcommands; each one's help is in its own file.
#[derive(Debug, Subcommand)]
pub enum Command {
    Tick(cmd::tick::Args),
    Reap(cmd::reap::Args),
    Reconcile(cmd::reconcile::Args),
    Advance(cmd::advance::Args),
    Stop(cmd::stop::Args),
    New(cmd::new::Args),
    Status(cmd::status::Args),
    Explain(cmd::explain::Args),
    Show(cmd::show::Args),
    Diff(cmd::diff::Args),
    Shell(cmd::shell_in::Args),
    Logs(cmd::logs::Args),
    Timeline(cmd::timeline::Args),
    Gate(cmd::gate::Args),
    Report(cmd::report::Args),
    Metrics(cmd::metrics::Args),
    Page(cmd::page::Args),
    Prune(cmd::prune::Args),
    Retry(cmd::retry::Args),
    Halt(cmd::halt::Args),
    Resume(cmd::resume::Args),
    Freeze(cmd::freeze::Args),
    Unfreeze(cmd::unfreeze::Args),
    Lease(cmd::lease::Args),
    Cache(cmd::cache::Args),
    Audit(cmd::audit::Args),
    Backup(cmd::backup::Args),
    #[command(hide = true)]
    RunJob(cmd::run_job::Args),
    #[command(hide = true)]
    ConfineExec(cmd::confine_exec::Args),
    #[command(hide = true)]
    ConfineProxy(cmd::confine_proxy::Args),
    SecurityScan(cmd::security_scan::Args),
    StagingCheck(cmd::staging_check::Args),
    PostDeployProbe(cmd::post_deploy_probe::Args),
    Config(cmd::config::Args),
    Demo(cmd::demo::Args),
    Completions(cmd::shell::Completions),
    Man(cmd::shell::Man),
    Init(cmd::init::Args),
    Project(cmd::project::Args),
    Doctor(cmd::doctor::Args),
}

/// What every subcommand gets: the global options and the output.
#[derive(Debug)]
pub struct Invocation {
    pub global: Global,
    pub out: Output,
}

/// Runs the program with the process's own arguments.
pub fn main() -> std::process::ExitCode {
    crate::adapters::process::hide();
    if let Err(error) = configured::take_over_secrets() {
        let failure = exit::Failure::new(exit::Exit::Broken, format!("reading what this process was handed: {error}"));
        return exit::finish(&Output::new(false), None, Err(failure)).into();
    }
    if complete::answered() {
        return exit::Exit::Done.into();
    }
    let cli = match parsed() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error).into(),
    };
    logging::start(&cli.global);
    let mut call = Invocation { out: Output::of(&cli.global), global: cli.global };
    let step = cli.command.step();
    if cli.command.needs_none() {
        known::warn_of_passed(&call);
    }
    if let Some(what) = cli.command.work().filter(|_| call.out.is_watched() && !call.global.quiet) {
        progress::start(what);
    }
    let result = match refused(&call, &cli.command) {
        Ok(()) => dispatch(&mut call, cli.command),
        Err(failure) => Err(failure),
    };
    progress::end();
    exit::finish(&call.out, step, result).into()
}

/// Parses the command line; clap's own texts are coloured like ours.
fn parsed() -> Result<Cli, clap::Error> {
    use clap::FromArgMatches;
    let terminal = Output::new(false).is_terminal();
    let words = words();
    let colour = colour::of_help(&words, terminal);
    if !help::is_asked(&words)
        && let Some(alone) = quick::command(&words)
    {
        match alone.color(colour).try_get_matches() {
            Ok(matches) => return Cli::from_arg_matches(&matches),
            Err(e) if e.kind() == clap::error::ErrorKind::DisplayVersion => return Err(e),
            // What is wrong is said by the whole command line, which knows what else could be meant.
            Err(_) => {}
        }
    }
    let command = if help::is_asked(&words) { help::command() } else { Cli::command() };
    let matches = command.color(colour).try_get_matches()?;
    Cli::from_arg_matches(&matches)
}

/// The words of the command line that can be options.
fn words() -> Vec<String> {
    std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).take_while(|a| a != "--").collect()
}

/// The eight steps (CLI-2); each prints its object even when it fails.
const STEPS: [&str; 8] =
    ["tick", "reap", "reconcile", "advance", "stop", "security-scan", "staging-check", "post-deploy-probe"];

impl Command {
    /// The step's name, if it is one of the eight.
    fn step(&self) -> Option<&'static str> {
        let which = [
            matches!(self, Self::Tick(_)),
            matches!(self, Self::Reap(_)),
            matches!(self, Self::Reconcile(_)),
            matches!(self, Self::Advance(_)),
            matches!(self, Self::Stop(_)),
            matches!(self, Self::SecurityScan(_)),
            matches!(self, Self::StagingCheck(_)),
            matches!(self, Self::PostDeployProbe(_)),
        ];
        which.iter().zip(STEPS).find(|(is, _)| **is).map(|(_, name)| name)
    }
}

/// Reports an invalid command line: in clap's own words or, with `--json`, as a document like any other failure.
fn not_understood(error: &clap::Error) -> exit::Exit {
    let words = words();
    if !error.use_stderr()
        && let Some(warning) = known::warning_of_help()
    {
        Output::new(false).to_stderr(&warning);
    }
    if !error.use_stderr() || !words.iter().any(|w| w == "--json") {
        return exit::from_clap(error);
    }
    let text = error.render().to_string();
    let said = text.lines().next().unwrap_or_default();
    let message = said.strip_prefix("error: ").unwrap_or(said);
    let known: Vec<String> = Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let named = words.iter().find(|w| known.contains(w));
    let step = STEPS.iter().copied().find(|s| named.is_some_and(|n| n == s));
    let failure = exit::Failure::usage(message).hint("`orch help` lists the subcommands and their options");
    exit::finish(&Output::new(true), step, Err(failure))
}

/// Whether a subcommand changes something: the state directory, or a configuration (BND-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Reads,
    Changes,
    /// Works on a claim, which it must present.
    Supervises,
}

impl Command {
    fn access(&self) -> Access {
        let changes = |yes: bool| if yes { Access::Changes } else { Access::Reads };
        match self {
            Self::Tick(_)
            | Self::Reap(_)
            | Self::Reconcile(_)
            | Self::Advance(_)
            | Self::Stop(_)
            | Self::New(_)
            | Self::Prune(_)
            | Self::Retry(_)
            | Self::Halt(_)
            | Self::Resume(_)
            | Self::Freeze(_)
            | Self::Unfreeze(_)
            | Self::Shell(_)
            | Self::Cache(_)
            | Self::Init(_) => Access::Changes,
            Self::Project(args) => changes(args.changes()),
            Self::Config(args) => changes(args.changes()),
            Self::Lease(args) => changes(args.changes()),
            Self::PostDeployProbe(args) => changes(args.changes()),
            Self::StagingCheck(args) => changes(args.changes()),
            Self::SecurityScan(args) => changes(args.changes()),
            Self::RunJob(_) => Access::Supervises,
            Self::ConfineExec(_)
            | Self::ConfineProxy(_)
            | Self::Status(_)
            | Self::Explain(_)
            | Self::Show(_)
            | Self::Diff(_)
            | Self::Logs(_)
            | Self::Timeline(_)
            | Self::Gate(_)
            | Self::Report(_)
            | Self::Metrics(_)
            | Self::Page(_)
            | Self::Audit(_)
            | Self::Backup(_)
            | Self::Demo(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Doctor(_) => Access::Reads,
        }
    }
}

impl Command {
    /// What a person waits for on a terminal, where it can take over a second before the first output (CLI-5). `None`:
    /// it answers at once, prints as it goes, or talks to the person.
    fn work(&self) -> Option<&'static str> {
        match self {
            Self::Tick(_) => Some("picking up work items, starting what may start, sending messages"),
            Self::Reap(_) => Some("looking after the runs"),
            Self::Reconcile(_) => Some("comparing the boards and the forge with the tasks"),
            Self::Advance(_) => Some("advancing the task"),
            Self::Stop(_) => Some("stopping the task"),
            Self::New(_) => Some("writing the work item"),
            Self::Explain(_) => Some("reading why"),
            Self::Diff(_) => Some("reading the branch"),
            Self::Gate(_) => Some("judging the stored evidence again"),
            Self::Report(_) => Some("summing up the runs"),
            Self::Metrics(_) => Some("counting"),
            Self::Page(_) => Some("writing the pages"),
            Self::Prune(_) => Some("deleting what old tasks left"),
            Self::Retry(_) => Some("trying again"),
            Self::Cache(_) => Some("looking through the caches"),
            Self::Audit(_) => Some("verifying the audit log"),
            Self::Backup(_) => Some("copying the database"),
            Self::SecurityScan(_) => Some("scanning"),
            Self::StagingCheck(_) => Some("preparing the checks"),
            Self::PostDeployProbe(_) => Some("probing"),
            Self::Config(_) => Some("reading the configuration"),
            Self::Halt(_)
            | Self::Resume(_)
            | Self::Freeze(_)
            | Self::Unfreeze(_)
            | Self::Lease(_)
            | Self::Status(_)
            | Self::Show(_)
            | Self::Shell(_)
            | Self::Logs(_)
            | Self::Timeline(_)
            | Self::RunJob(_)
            | Self::ConfineExec(_)
            | Self::ConfineProxy(_)
            | Self::Demo(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Init(_)
            | Self::Project(_)
            | Self::Doctor(_) => None,
        }
    }
}

/// A call from inside a run may not change anything (BND-6): decided here, once, before anything else is done.
fn refused(call: &Invocation, command: &Command) -> Result<(), exit::Failure> {
    match command.access() {
        Access::Reads | Access::Supervises => return Ok(()),
        Access::Changes => {}
    }
    let lineage = crate::engine::caller::lineage();
    if !crate::decide::caller::may_be_inside(&lineage) {
        return Ok(());
    }
    // If no configuration can be read, the subcommand itself reports it.
    let config = if command.needs_none() {
        call.config_or_bare().ok().filter(|c| !c.file.as_os_str().is_empty())
    } else {
        call.config().ok()
    };
    let dir = config.map(|c| c.state_dir).or_else(|| call.global.state_dir.clone());
    let Some(dir) = dir else { return Ok(()) };
    match crate::engine::caller::inside(&dir, &lineage, call.global.own_step) {
        Ok(None) => Ok(()),
        Ok(Some(run)) => {
            Err(exit::Failure::refused(format!("this was called from inside {run}, which may change nothing here"))
                .hint("a person, a timer or an operator's command runs it, from outside every run"))
        }
        Err(e) => Err(exit::Failure::refused(format!(
            "this seems to be called from inside a run, and that can't be checked: {e:#}"
        ))
        .hint("run it from outside every run")),
    }
}

fn dispatch(call: &mut Invocation, command: Command) -> CmdResult {
    match command {
        Command::Tick(args) => cmd::tick::run(call, &args),
        Command::Reap(args) => cmd::reap::run(call, &args),
        Command::Reconcile(args) => cmd::reconcile::run(call, &args),
        Command::Advance(args) => cmd::advance::run(call, &args),
        Command::Stop(args) => cmd::stop::run(call, &args),
        Command::Status(args) => cmd::status::run(call, &args),
        Command::Explain(args) => cmd::explain::run(call, &args),
        Command::Show(args) => cmd::show::run(call, &args),
        Command::Diff(args) => cmd::diff::run(call, &args),
        Command::Shell(args) => cmd::shell_in::run(call, &args),
        Command::Logs(args) => cmd::logs::run(call, &args),
        Command::Timeline(args) => cmd::timeline::run(call, &args),
        Command::Gate(args) => cmd::gate::run(call, &args),
        Command::Report(args) => cmd::report::run(call, &args),
        Command::Metrics(args) => cmd::metrics::run(call, &args),
        Command::Page(args) => cmd::page::run(call, &args),
        Command::Prune(args) => cmd::prune::run(call, &args),
        Command::New(args) => cmd::new::run(call, &args),
        Command::Retry(args) => cmd::retry::run(call, &args),
        Command::Halt(args) => cmd::halt::run(call, &args),
        Command::Resume(args) => cmd::resume::run(call, &args),
        Command::Freeze(args) => cmd::freeze::run(call, &args),
        Command::Unfreeze(args) => cmd::unfreeze::run(call, &args),
        Command::Lease(args) => cmd::lease::run(call, &args),
        Command::Cache(args) => cmd::cache::run(call, &args),
        Command::Audit(args) => cmd::audit::run(call, &args),
        Command::Backup(args) => cmd::backup::run(call, &args),
        Command::RunJob(args) => cmd::run_job::run(call, &args),
        Command::ConfineExec(args) => cmd::confine_exec::run(&args),
        Command::ConfineProxy(args) => cmd::confine_proxy::run(&args),
        Command::SecurityScan(args) => cmd::security_scan::run(call, &args),
        Command::StagingCheck(args) => cmd::staging_check::run(call, &args),
        Command::PostDeployProbe(args) => cmd::post_deploy_probe::run(call, &args),
        Command::Config(args) => cmd::config::run(call, &args),
        Command::Demo(args) => cmd::demo::run(call, &args),
        Command::Completions(args) => cmd::shell::completions(call, &args),
        Command::Man(args) => cmd::shell::man(call, &args),
        Command::Init(args) => cmd::init::run(call, &args),
        Command::Project(args) => cmd::project::run(call, &args),
        Command::Doctor(args) => cmd::doctor::run(call, &args),
    }
}

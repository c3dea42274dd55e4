//! The commands and their arguments. Their texts come from the locales: `help-COMMAND` for a
//! command, `arg-NAME` for an argument, `arg-COMMAND-NAME` where one command's differs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokens::records::Verb;
use tokens::store::{Order, Stand};
use tokens::{CompanyId, InstallationId, Lane, LocationId, Timestamp};

use crate::text::Text;

/// The command line, understood.
#[derive(Debug, Parser)]
#[command(name = "ghl-auth", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) env_file: Option<PathBuf>,
    #[arg(long, global = true, value_name = "NAME", display_order = 0)]
    pub(crate) app: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(CheckArgs),
    Init(Box<InitArgs>),
    Login(LoginArgs),
    Token(TokenArgs),
    Exec(ExecArgs),
    Status(StatusArgs),
    Refresh(RefreshArgs),
    Import(ImportArgs),
    Export(ExportArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Migrate(MigrateArgs),
    RotateAll(RotateAllArgs),
    Schedule(ScheduleArgs),
    Serve(ServeArgs),
    Keys(KeysArgs),
    Dashboard(DashboardArgs),
    Badge(BadgeArgs),
    Installs(InstallsArgs),
    Maintenance(MaintenanceArgs),
    Notify(NotifyArgs),
    Doctor(DoctorArgs),
    RotateKey(RotateKeyArgs),
    Sandbox(SandboxArgs),
    Demo(DemoArgs),
    Completions(CompletionsArgs),
    Man,
}

/// `check`
#[derive(Debug, Default, Args)]
pub(crate) struct CheckArgs {
    #[arg(long)]
    pub(crate) json: bool,
    #[arg(long, value_name = "60s", value_parser = duration)]
    pub(crate) wait_for_workflow: Option<Duration>,
}

/// `login`
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    #[arg(long)]
    pub(crate) no_browser: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `init`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("who").multiple(false))]
pub(crate) struct InitArgs {
    #[arg(long, value_name = "LANGUAGE", value_parser = ["en", "pt-BR"], hide_possible_values = true)]
    pub(crate) lang: Option<String>,
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    #[arg(long, value_name = "PATH")]
    pub(crate) client_secret_file: Option<PathBuf>,
    #[arg(long, value_name = "URL")]
    pub(crate) redirect_uri: Option<String>,
    #[arg(long = "location", value_name = "ID")]
    pub(crate) init_location: Option<String>,
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    #[arg(long, value_name = "NAME")]
    pub(crate) service_name: Option<String>,
    #[arg(long, value_name = "ID", group = "who")]
    pub(crate) contact: Option<String>,
    #[arg(long, value_name = "EMAIL", group = "who")]
    pub(crate) contact_email: Option<String>,
    #[arg(long, group = "who")]
    pub(crate) no_contact: bool,
    #[arg(long, value_name = "NAME", conflicts_with = "no_contact")]
    pub(crate) tag: Option<String>,
    #[arg(long, value_name = "WAY", value_parser = ["cron", "systemd", "service", "none"], hide_possible_values = true)]
    pub(crate) schedule: Option<String>,
    #[arg(long, value_name = "HOURS")]
    pub(crate) every: Option<String>,
    #[arg(long)]
    pub(crate) no_browser: bool,
    #[arg(long = "yes")]
    pub(crate) init_yes: bool,
}

/// Which installation a command is about.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").multiple(false))]
pub(crate) struct Which {
    #[arg(long, value_name = "ID", group = "which")]
    pub(crate) location: Option<LocationId>,
    #[arg(long, value_name = "ID", group = "which")]
    pub(crate) company: Option<CompanyId>,
}

impl Which {
    /// The installation that was named, if one was.
    pub(crate) fn named(&self) -> Option<InstallationId> {
        let location = self.location.clone().map(InstallationId::Location);
        location.or_else(|| self.company.clone().map(InstallationId::Company))
    }
}

/// `token`
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    #[arg(long, value_name = "10m", value_parser = duration, default_value = "10m", hide_default_value = true)]
    pub(crate) minimum_life: Duration,
    #[arg(long, conflicts_with = "header")]
    pub(crate) json: bool,
    #[arg(long)]
    pub(crate) header: bool,
}

/// `exec`
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    #[arg(long, value_name = "10m", value_parser = duration, default_value = "10m", hide_default_value = true)]
    pub(crate) minimum_life: Duration,
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) program: Vec<OsString>,
}

/// `status`
#[derive(Debug, Default, Args)]
pub(crate) struct StatusArgs {
    #[arg(long, value_name = "ID")]
    pub(crate) company: Option<CompanyId>,
    #[arg(long, value_name = "STATE", value_parser = stand)]
    pub(crate) state: Option<Stand>,
    #[arg(long, value_name = "TEXT")]
    pub(crate) search: Option<String>,
    #[arg(long, value_name = "ORDER", value_parser = order, default_value = "id", hide_default_value = true)]
    pub(crate) sort: Order,
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=3600),
        conflicts_with = "json"
    )]
    pub(crate) watch: Option<u32>,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `refresh`
#[derive(Debug, Args)]
pub(crate) struct RefreshArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    #[arg(long, conflicts_with = "which")]
    pub(crate) all: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dashboard`
#[derive(Debug, Args)]
pub(crate) struct DashboardArgs {
    #[arg(long)]
    pub(crate) json: bool,
}

/// `rotate-key`
#[derive(Debug, Args)]
pub(crate) struct RotateKeyArgs {
    #[arg(long)]
    pub(crate) json: bool,
}

/// `import`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    #[arg(long, value_name = "FORMAT", value_parser = import_format)]
    pub(crate) format: Option<ImportFormat>,
    #[arg(long)]
    pub(crate) replace: bool,
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

/// Who wrote what is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImportFormat {
    /// The Python template: one grant.
    Template,
    /// Anyone: a token reply a line.
    JsonLines,
    /// The official SDK's session storage, as `mongoexport` writes it.
    MongoDb,
    /// Nango's API: connections.
    Nango,
    /// `n8n export:credentials --decrypted`.
    N8n,
}

impl ImportFormat {
    /// Every format there is.
    pub(crate) const ALL: [Self; 5] =
        [Self::Template, Self::JsonLines, Self::MongoDb, Self::Nango, Self::N8n];

    /// The word for it on the command line and in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::JsonLines => "jsonl",
            Self::MongoDb => "mongodb",
            Self::Nango => "nango",
            Self::N8n => "n8n",
        }
    }
}

/// `backup`
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `restore`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").multiple(true).required(true))]
pub(crate) struct RestoreArgs {
    #[arg(value_name = "PATH", group = "what")]
    pub(crate) path: Option<PathBuf>,
    #[arg(long, group = "what")]
    pub(crate) take_over: bool,
    #[arg(long, requires = "path")]
    pub(crate) merge: bool,
    #[arg(long)]
    pub(crate) yes: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `migrate`
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    #[arg(long)]
    pub(crate) give_up: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `rotate-all`
#[derive(Debug, Args)]
pub(crate) struct RotateAllArgs {
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) since: Option<Timestamp>,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `export`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    #[arg(long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
}

/// `schedule`
#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    #[command(subcommand)]
    pub(crate) action: ScheduleAction,
}

/// What to do with the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum ScheduleAction {
    Show(ScheduleWay),
    Install(ScheduleWay),
    Remove(ScheduleWay),
}

/// cron, or systemd with a timer or with the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct ScheduleWay {
    #[arg(long)]
    pub(crate) systemd: bool,
    #[arg(long = "service", conflicts_with = "systemd")]
    pub(crate) service: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `serve`
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    #[arg(long)]
    pub(crate) i_expose_the_private_api: bool,
    #[arg(long, conflicts_with = "i_expose_the_private_api")]
    pub(crate) probe: bool,
}

/// `keys`
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) action: KeysAction,
}

/// What to do with the API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysAction {
    Create(KeyWanted),
    List(JsonOnly),
    Revoke(NamedKey),
}

/// `keys create`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("reach").multiple(true).required(true))]
pub(crate) struct KeyWanted {
    #[arg(long, value_name = "NAME", value_parser = one_line)]
    pub(crate) name: String,
    #[arg(long = "location", value_name = "ID", group = "reach")]
    pub(crate) key_location: Vec<LocationId>,
    #[arg(long = "company", value_name = "ID", group = "reach")]
    pub(crate) key_company: Vec<CompanyId>,
    #[arg(long = "all", group = "reach", conflicts_with_all = ["key_location", "key_company"])]
    pub(crate) key_all: bool,
    #[arg(long, value_name = "VERB", value_parser = verb, default_value = "token", hide_default_value = true)]
    pub(crate) verb: Vec<Verb>,
    #[arg(long, value_name = "LANE", value_parser = lane)]
    pub(crate) lane: Option<Lane>,
    #[arg(long = "allow", value_name = "METHODS PATH")]
    pub(crate) allow: Vec<String>,
    #[arg(long, value_name = "90d", value_parser = duration)]
    pub(crate) expires: Option<Duration>,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `keys revoke`
#[derive(Debug, Args)]
pub(crate) struct NamedKey {
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    #[arg(long)]
    pub(crate) json: bool,
}

/// A command whose only choice is how it answers.
#[derive(Debug, Args)]
pub(crate) struct JsonOnly {
    #[arg(long)]
    pub(crate) json: bool,
}

/// `badge`
#[derive(Debug, Args)]
pub(crate) struct BadgeArgs {
    #[command(subcommand)]
    pub(crate) action: BadgeAction,
}

/// What to do with the badges.
#[derive(Debug, Subcommand)]
pub(crate) enum BadgeAction {
    Create(BadgeWanted),
    List(JsonOnly),
    Revoke(NamedBadge),
}

/// `badge create`
#[derive(Debug, Args)]
pub(crate) struct BadgeWanted {
    #[command(flatten)]
    pub(crate) which: Which,
    #[arg(long, value_name = "TEXT", value_parser = one_line)]
    pub(crate) label: Option<String>,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `badge revoke`
#[derive(Debug, Args)]
pub(crate) struct NamedBadge {
    #[arg(value_name = "BADGE", allow_hyphen_values = true)]
    pub(crate) badge: String,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `installs`
#[derive(Debug, Args)]
pub(crate) struct InstallsArgs {
    #[command(subcommand)]
    pub(crate) action: InstallsAction,
}

/// What to do with the installs that came by themselves.
#[derive(Debug, Subcommand)]
pub(crate) enum InstallsAction {
    List(JsonOnly),
    Approve(ThisOne),
    Refuse(ThisOne),
    Removed(JsonOnly),
    Restore(ThisOne),
}

/// One installation, named.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("this").multiple(false).required(true))]
pub(crate) struct ThisOne {
    #[arg(long, value_name = "ID", group = "this")]
    pub(crate) location: Option<LocationId>,
    #[arg(long, value_name = "ID", group = "this")]
    pub(crate) company: Option<CompanyId>,
    #[arg(long)]
    pub(crate) json: bool,
}

impl ThisOne {
    /// The installation that was named: clap sees to it that one was.
    pub(crate) fn id(&self) -> Option<InstallationId> {
        let location = self.location.clone().map(InstallationId::Location);
        location.or_else(|| self.company.clone().map(InstallationId::Company))
    }
}

/// `maintenance`
#[derive(Debug, Args)]
pub(crate) struct MaintenanceArgs {
    #[command(subcommand)]
    pub(crate) action: MaintenanceAction,
}

/// What to do about a time in which nobody is told of trouble.
#[derive(Debug, Subcommand)]
pub(crate) enum MaintenanceAction {
    Start(MaintenanceWanted),
    List(JsonOnly),
    End(NamedMaintenance),
}

/// `maintenance start`
#[derive(Debug, Args)]
pub(crate) struct MaintenanceWanted {
    #[command(flatten)]
    pub(crate) which: Which,
    #[arg(long = "for", value_name = "2h", value_parser = duration)]
    pub(crate) lasting: Option<Duration>,
    #[arg(long, value_name = "TEXT", value_parser = one_line, default_value = "")]
    pub(crate) reason: String,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `maintenance end`
#[derive(Debug, Args)]
pub(crate) struct NamedMaintenance {
    #[arg(value_name = "ID")]
    pub(crate) maintenance: String,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `notify`
#[derive(Debug, Args)]
pub(crate) struct NotifyArgs {
    #[arg(long, required = true)]
    pub(crate) test: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[arg(long)]
    pub(crate) notify: bool,
    #[arg(long, value_name = "PATH")]
    pub(crate) report: Option<PathBuf>,
    #[arg(long)]
    pub(crate) json: bool,
}

/// `sandbox`
#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8790", hide_default_value = true)]
    pub(crate) listen: std::net::SocketAddr,
    #[arg(long, value_name = "PATH")]
    pub(crate) write_env: Option<PathBuf>,
    // More of them than anybody has would only fill the memory.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) locations: Option<u32>,
}

/// `demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[arg(long)]
    pub(crate) once: bool,
}

/// `completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
    pub(crate) shell: clap_complete::Shell,
}

impl Command {
    /// Whether it is about the grants of one app, where there may be several.
    pub(crate) fn is_about_one_app(&self) -> bool {
        match self {
            Self::Check(_)
            | Self::Login(_)
            | Self::Token(_)
            | Self::Exec(_)
            | Self::Refresh(_)
            | Self::Import(_)
            | Self::Export(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Migrate(_)
            | Self::RotateAll(_)
            | Self::Keys(_)
            | Self::Dashboard(_)
            | Self::Badge(_)
            | Self::Installs(_)
            | Self::Maintenance(_)
            | Self::Notify(_)
            | Self::RotateKey(_) => true,
            // The doctor finds out by itself which, and says what is wrong with that, too.
            Self::Doctor(_)
            | Self::Init(_)
            | Self::Status(_)
            | Self::Schedule(_)
            | Self::Serve(_)
            | Self::Sandbox(_)
            | Self::Demo(_)
            | Self::Completions(_)
            | Self::Man => false,
        }
    }

    /// Whether the answer is to be one JSON document.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Check(args) => args.json,
            Self::Login(args) => args.json,
            Self::Token(args) => args.json,
            Self::Status(args) => args.json,
            Self::Refresh(args) => args.json,
            Self::Import(args) => args.json,
            Self::Backup(args) => args.json,
            Self::Restore(args) => args.json,
            Self::Migrate(args) => args.json,
            Self::RotateAll(args) => args.json,
            Self::Schedule(args) => match args.action {
                ScheduleAction::Show(way) | ScheduleAction::Install(way) | ScheduleAction::Remove(way) => {
                    way.json
                }
            },
            Self::Keys(args) => match &args.action {
                KeysAction::Create(args) => args.json,
                KeysAction::List(args) => args.json,
                KeysAction::Revoke(args) => args.json,
            },
            Self::Installs(args) => match &args.action {
                InstallsAction::List(args) | InstallsAction::Removed(args) => args.json,
                InstallsAction::Approve(args)
                | InstallsAction::Refuse(args)
                | InstallsAction::Restore(args) => args.json,
            },
            Self::Maintenance(args) => match &args.action {
                MaintenanceAction::Start(args) => args.json,
                MaintenanceAction::List(args) => args.json,
                MaintenanceAction::End(args) => args.json,
            },
            Self::Dashboard(args) => args.json,
            Self::Badge(args) => match &args.action {
                BadgeAction::Create(args) => args.json,
                BadgeAction::List(args) => args.json,
                BadgeAction::Revoke(args) => args.json,
            },
            Self::Notify(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::RotateKey(args) => args.json,
            Self::Init(_)
            | Self::Serve(_)
            | Self::Exec(_)
            | Self::Export(_)
            | Self::Sandbox(_)
            | Self::Demo(_)
            | Self::Completions(_)
            | Self::Man => false,
        }
    }
}

/// Understands the process's arguments. The texts are put in only where something is to be shown.
pub(crate) fn parse(text: &Text) -> Result<Cli, clap::Error> {
    Cli::try_parse().or_else(|_| Cli::from_arg_matches(&command(text).try_get_matches()?))
}

/// The command line with its texts in the reader's language.
pub(crate) fn command(text: &Text) -> clap::Command {
    localised(Cli::command(), "", text)
}

fn localised(command: clap::Command, path: &str, text: &Text) -> clap::Command {
    let heading = text.say("help-options", &[]);
    let about = text.say(&format!("help{path}"), &[]);
    let template = format!(
        "{{about-with-newline}}\n{}\n  {{usage}}\n\n{{all-args}}{{after-help}}",
        text.say("help-usage", &[])
    );
    let mut command = command
        .about(about)
        .help_template(template)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg_required_else_help(false)
        .subcommand_help_heading(text.say("help-commands", &[]))
        .subcommand_value_name(text.say("help-command-name", &[]))
        .mut_args(|arg| {
            let own = text.find(&format!("arg{path}-{}", arg.get_id()), &[]);
            let help = own.unwrap_or_else(|| text.say(&format!("arg-{}", arg.get_id()), &[]));
            arg.help(help).help_heading(heading.clone())
        })
        .mut_subcommands(|sub| {
            let path = format!("{path}-{}", sub.get_name());
            localised(sub, &path, text)
        })
        .arg(
            Arg::new("help")
                .short('h')
                .long("help")
                .action(ArgAction::Help)
                .help(text.say("arg-help", &[]))
                .help_heading(heading.clone()),
        );
    if path.is_empty() {
        command = command.after_help(text.say("help-after", &[])).arg(
            Arg::new("version")
                .short('V')
                .long("version")
                .action(ArgAction::Version)
                .help(text.say("arg-version", &[]))
                .help_heading(heading),
        );
    } else if let Some(more) = text.find(&format!("help{path}.more"), &[]) {
        command = command.after_help(more);
    }
    let usage =
        command.clone().bin_name(format!("ghl-auth{}", path.replace('-', " "))).render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let usage = usage.replace("[OPTIONS]", &text.say("help-options-name", &[]));
    command.override_usage(usage)
}

/// What clap has to say, in the reader's language: help and versions as they are, mistakes anew.
pub(crate) fn mistake(error: &clap::Error, text: &Text) -> Option<String> {
    let value = |kind| {
        let value = match error.get(kind) {
            Some(ContextValue::String(value)) => value.clone(),
            Some(ContextValue::Strings(values)) => values.join(", "),
            _ => String::new(),
        };
        // What was typed, or pasted, is not for the terminal to obey.
        value.replace(char::is_control, " ")
    };
    let key = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return None,
        ErrorKind::UnknownArgument => "usage-unknown-argument",
        ErrorKind::InvalidSubcommand => "usage-unknown-command",
        ErrorKind::MissingRequiredArgument | ErrorKind::MissingSubcommand => "usage-missing",
        ErrorKind::ArgumentConflict => "usage-conflict",
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => "usage-bad-value",
        _ => "usage-other",
    };
    let argument = match (error.kind(), value(ContextKind::InvalidArg)) {
        (ErrorKind::MissingSubcommand, _) => value(ContextKind::ValidSubcommand),
        (_, argument) if argument.is_empty() => value(ContextKind::InvalidSubcommand),
        (_, argument) => argument,
    };
    Some(text.say(
        key,
        &[
            ("argument", argument.into()),
            ("value", value(ContextKind::InvalidValue).into()),
            ("other", value(ContextKind::PriorArg).into()),
            ("command", "ghl-auth --help".into()),
        ],
    ))
}

/// Words that are shown again in tables and notices.
fn one_line(text: &str) -> Result<String, String> {
    match text.contains(char::is_control) {
        true => Err(text.replace(char::is_control, " ")),
        false => Ok(text.to_owned()),
    }
}

fn import_format(text: &str) -> Result<ImportFormat, String> {
    let found = ImportFormat::ALL.into_iter().find(|format| format.as_str() == text);
    found.ok_or_else(|| ImportFormat::ALL.map(ImportFormat::as_str).join(", "))
}

/// `2026-11-25T23:10:00Z`
fn instant(text: &str) -> Result<Timestamp, String> {
    let at: jiff::Timestamp = text.trim().parse().map_err(|_| "2026-11-25T23:10:00Z".to_owned())?;
    Ok(Timestamp::from_millis(at.as_millisecond()))
}

fn stand(text: &str) -> Result<Stand, String> {
    Stand::from_word(text).ok_or_else(|| Stand::ALL.map(Stand::as_str).join(", "))
}

fn order(text: &str) -> Result<Order, String> {
    Order::from_word(&text.replace('-', "_")).ok_or_else(|| Order::ALL.map(Order::as_str).join(", "))
}

fn verb(text: &str) -> Result<Verb, String> {
    Verb::from_word(text).ok_or_else(|| Verb::ALL.map(Verb::as_str).join(", "))
}

fn lane(text: &str) -> Result<Lane, String> {
    Lane::from_word(text).ok_or_else(|| Lane::ALL.map(Lane::as_str).join(", "))
}

/// `60s`, `10m`, `1h 30m`, `90d`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    if let Some(days) = text.trim().strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return Ok(Duration::from_secs(u64::from(days) * 86_400));
    }
    let seconds = text.trim().parse().map(Duration::from_secs);
    seconds.or_else(|_| {
        let span: jiff::SignedDuration = text.trim().parse().map_err(|_| "60s, 10m, 1h".to_owned())?;
        Duration::try_from(span).map_err(|_| "60s, 10m, 1h".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Lang;

    #[test]
    fn each_command_and_argument_has_its_text_in_both_languages() {
        for lang in [Lang::En, Lang::PtBr] {
            // A missing text fails an assertion on the way.
            command(&Text::new(lang)).debug_assert();
        }
    }

    #[test]
    fn a_duration_has_a_unit_or_is_in_seconds() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(duration(text).ok(), seconds.map(Duration::from_secs), "{text}");
        };
        check("60s", Some(60));
        check("10m", Some(600));
        check("1h 30m", Some(5400));
        check("90", Some(90));
        check("90d", Some(7_776_000));
        check("-5s", None);
        check("soon", None);
    }
}

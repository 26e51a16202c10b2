//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Environment, Flags, LogLevel};

/// What the operator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve clients.
    Run { from: RunFrom, flags: Flags },
    /// Check a configuration file and say what is wrong with it.
    Check { config: PathBuf },
    /// Start private PostgreSQL servers with pgweir in front.
    Demo { port: Option<u16> },
}

impl Command {
    /// Reads the arguments, the first of which is the program's name. The error also stands for `--help` and `--version`;
    /// it knows how to print itself and with which code to exit.
    pub fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
        environment: &Environment,
    ) -> Result<Self, clap::Error> {
        let arguments = Arguments::try_parse_from(arguments)?;
        match arguments.subcommand {
            None => arguments.run.command(environment),
            Some(Sub::Check { config }) => Ok(Self::Check { config }),
            Some(Sub::Demo { port }) => Ok(Self::Demo { port }),
            Some(Sub::Route { .. }) => Err(not_available(
                "`pgweir route`",
                "every statement goes to the servers of its database's url",
            )),
            Some(Sub::Import { .. }) => Err(not_available(
                "`pgweir import`",
                "write the settings as TOML; `pgweir check` names the keys that are called otherwise",
            )),
        }
    }
}

/// Where the configuration of a run is.
#[derive(Clone, PartialEq, Eq)]
pub enum RunFrom {
    File(PathBuf),
    /// `origin` is `--url` or `DATABASE_URL`.
    Url {
        url: String,
        origin: &'static str,
    },
}

/// The URL may hold a password.
impl std::fmt::Debug for RunFrom {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => formatter.debug_tuple("File").field(path).finish(),
            Self::Url { origin, .. } => formatter.debug_tuple("Url").field(origin).finish(),
        }
    }
}

/// A connection pooler for PostgreSQL that knows what a query does.
#[derive(Parser)]
#[command(name = "pgweir", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    subcommand: Option<Sub>,
}

#[derive(Args)]
struct Run {
    /// The configuration, a TOML file
    config: Option<PathBuf>,
    /// Run without a file, in front of this database; DATABASE_URL serves where it is not given
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
    #[arg(long, value_name = "URL", hide = true)]
    replica: Vec<String>,
    #[arg(long, value_name = "ADDR", hide = true)]
    http_listen: Option<String>,
    /// Where clients connect, as in 127.0.0.1:6432; may be given several times
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Event-loop threads; 0 is one for each CPU
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// Log warnings and errors only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Log more; twice, even more
    #[arg(short, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Run {
    fn command(self, environment: &Environment) -> Result<Command, clap::Error> {
        if !self.replica.is_empty() {
            return Err(not_available(
                "--replica",
                "every statement goes to the server of --url",
            ));
        }
        if self.http_listen.is_some() {
            return Err(not_available(
                "--http-listen",
                "the console shows the same figures",
            ));
        }
        let log_level = match (self.quiet, self.verbose) {
            (true, _) => Some(LogLevel::Warn),
            (false, 0) => None,
            (false, 1) => Some(LogLevel::Debug),
            (false, _) => Some(LogLevel::Trace),
        };
        let flags = Flags {
            listen: self.listen,
            workers: self.workers,
            log_level,
        };
        let from = match (self.config, self.url, environment.database_url()) {
            (Some(path), _, _) => RunFrom::File(path),
            (None, Some(url), _) => RunFrom::Url { url, origin: "--url" },
            (None, None, Some(url)) => RunFrom::Url {
                url: url.to_owned(),
                origin: "DATABASE_URL",
            },
            (None, None, None) => {
                let message = "give a configuration file, or --url URL, or set DATABASE_URL\n";
                return Err(clap::Error::raw(
                    clap::error::ErrorKind::MissingRequiredArgument,
                    message,
                ));
            }
        };
        Ok(Command::Run { from, flags })
    }
}

#[derive(Subcommand)]
enum Sub {
    /// Check a configuration file: every problem at once, exit code 78 if there is any
    Check { config: PathBuf },
    /// Private PostgreSQL servers with pgweir in front, removed by Ctrl-C
    Demo {
        /// The port of pgweir
        #[arg(long)]
        port: Option<u16>,
    },
    #[command(hide = true)]
    Route {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _rest: Vec<OsString>,
    },
    #[command(hide = true)]
    Import {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _rest: Vec<OsString>,
    },
}

fn not_available(what: &str, instead: &str) -> clap::Error {
    let message = format!("{what} is not available in this version: {instead}\n");
    clap::Error::raw(clap::error::ErrorKind::InvalidValue, message)
}

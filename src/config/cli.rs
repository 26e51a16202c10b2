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
    /// Say where statements would go, and why.
    Route(RouteOrder),
}

/// What `pgweir route` is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOrder {
    pub config: PathBuf,
    pub database: String,
    pub sql: String,
    pub reading: Reading,
    pub output: Output,
}

/// Whether the catalogs of servers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Servers,
    /// `--offline`
    Nothing,
}

/// How it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Text,
    /// An object a line.
    Json,
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
            Some(Sub::Route {
                config,
                database,
                sql,
                offline,
                json,
            }) => Ok(Self::Route(RouteOrder {
                config,
                database,
                sql,
                reading: if offline {
                    Reading::Nothing
                } else {
                    Reading::Servers
                },
                output: if json { Output::Json } else { Output::Text },
            })),
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
        replicas: Vec<String>,
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
    /// A replica of it, to read from; may be given several times
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    replica: Vec<String>,
    /// Where clients connect, as in 127.0.0.1:6432; may be given several times
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Where /metrics, /health and /ready are served, as in 127.0.0.1:9127
    #[arg(long, value_name = "ADDR")]
    http_listen: Option<String>,
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
        let replicas = self.replica;
        let log_level = match (self.quiet, self.verbose) {
            (true, _) => Some(LogLevel::Warn),
            (false, 0) => None,
            (false, 1) => Some(LogLevel::Debug),
            (false, _) => Some(LogLevel::Trace),
        };
        let flags = Flags {
            listen: self.listen,
            http_listen: self.http_listen,
            workers: self.workers,
            log_level,
        };
        let from = match (self.config, self.url, environment.database_url()) {
            (Some(path), _, _) => RunFrom::File(path),
            (None, Some(url), _) => RunFrom::Url {
                url,
                origin: "--url",
                replicas,
            },
            (None, None, Some(url)) => RunFrom::Url {
                url: url.to_owned(),
                origin: "DATABASE_URL",
                replicas,
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
    /// Where each statement would go, and why; nothing is executed
    Route {
        config: PathBuf,
        /// A database of the configuration
        database: String,
        /// One statement or several
        sql: String,
        /// Read no catalogs: what is not PostgreSQL's own is unknown
        #[arg(long)]
        offline: bool,
        /// An object a line
        #[arg(long)]
        json: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let environment = Environment::default();
        Command::parse(line.split_whitespace(), &environment).map_err(|error| error.to_string())
    }

    fn run(line: &str) -> (RunFrom, Flags) {
        match parse(line) {
            Ok(Command::Run { from, flags }) => (from, flags),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_run_takes_a_file_or_a_url_and_flags() {
        let (from, flags) = run(
            "pgweir pgweir.toml --listen 127.0.0.1:1 --listen /run --http-listen 127.0.0.1:2 --workers 2 -q",
        );
        assert_eq!(from, RunFrom::File("pgweir.toml".into()));
        let listen = vec!["127.0.0.1:1".to_owned(), "/run".to_owned()];
        assert_eq!(
            flags,
            Flags {
                listen,
                http_listen: Some("127.0.0.1:2".to_owned()),
                workers: Some(2),
                log_level: Some(LogLevel::Warn)
            }
        );
        assert_eq!(run("pgweir -v x").1.log_level, Some(LogLevel::Debug));
        assert_eq!(run("pgweir -vv x").1.log_level, Some(LogLevel::Trace));
        assert_eq!(run("pgweir x").1, Flags::default());
        let (from, _) = run("pgweir --url postgresql://u:sesame@h");
        assert_eq!(
            from,
            RunFrom::Url {
                url: "postgresql://u:sesame@h".into(),
                origin: "--url",
                replicas: Vec::new(),
            }
        );
        assert!(!format!("{from:?}").contains("sesame"));
    }

    #[test]
    fn the_environment_has_the_url_where_nothing_else_is_given() {
        let environment = [("DATABASE_URL", "postgresql://h")].into_iter().collect();
        let from = |line: &str| match Command::parse(line.split(' '), &environment) {
            Ok(Command::Run { from, .. }) => from,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(
            from("pgweir"),
            RunFrom::Url {
                url: "postgresql://h".into(),
                origin: "DATABASE_URL",
                replicas: Vec::new(),
            }
        );
        assert_eq!(from("pgweir a.toml"), RunFrom::File("a.toml".into()));
        assert_eq!(
            from("pgweir --url postgresql://i"),
            RunFrom::Url {
                url: "postgresql://i".into(),
                origin: "--url",
                replicas: Vec::new(),
            }
        );
        assert!(
            parse("pgweir")
                .unwrap_err()
                .contains("give a configuration file, or --url URL, or set DATABASE_URL")
        );
    }

    #[test]
    fn the_other_commands_are_known() {
        assert_eq!(
            parse("pgweir check a.toml"),
            Ok(Command::Check {
                config: "a.toml".into()
            })
        );
        assert_eq!(parse("pgweir demo"), Ok(Command::Demo { port: None }));
        assert_eq!(
            parse("pgweir demo --port 7000"),
            Ok(Command::Demo { port: Some(7000) })
        );
        assert!(parse("pgweir --version").unwrap_err().starts_with("pgweir "));
    }

    #[test]
    fn replicas_stand_beside_a_url() {
        let (from, _) = run("pgweir --url postgresql://h --replica postgresql://i --replica postgresql://j");
        let replicas = vec!["postgresql://i".to_owned(), "postgresql://j".to_owned()];
        let url = "postgresql://h".to_owned();
        assert_eq!(
            from,
            RunFrom::Url {
                url,
                origin: "--url",
                replicas
            }
        );
        assert!(parse("pgweir a.toml --replica postgresql://i").is_err());
    }

    #[test]
    fn a_route_is_asked_of_a_database_of_a_file() {
        let Ok(Command::Route(order)) = parse("pgweir route a.toml app SELECT --json") else {
            panic!("no route");
        };
        assert_eq!((&*order.database, &*order.sql), ("app", "SELECT"));
        assert_eq!((order.reading, order.output), (Reading::Servers, Output::Json));
        let Ok(Command::Route(order)) = parse("pgweir route --offline a.toml app SELECT") else {
            panic!("no route");
        };
        assert_eq!((order.reading, order.output), (Reading::Nothing, Output::Text));
    }

    #[test]
    fn what_this_version_does_not_have_is_refused_by_name() {
        let import = parse("pgweir import pgbouncer.ini").unwrap_err();
        assert!(import.contains("is not available in this version: "), "{import}");
        for line in [
            "pgweir a.toml b.toml",
            "pgweir check",
            "pgweir a.toml --url postgresql://h",
            "pgweir x --workers two",
            "pgweir x -q -v",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}

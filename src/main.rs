//! The `pgweir` command.

use std::process::ExitCode;

use pgweir::app::{App, Loader, Log};
use pgweir::config::cli::{Command, RouteOrder, RunFrom};
use pgweir::config::{self, Config, Disk, Environment, Flags, PROBLEMS_EXIT_CODE, Problems, Sources};
use pgweir::demo::{Demo, DemoOptions};

fn main() -> ExitCode {
    let environment: Environment = std::env::vars_os().collect();
    match Command::parse(std::env::args_os(), &environment) {
        Ok(Command::Run { from, flags }) => run(loader(from, flags, environment)),
        Ok(Command::Check { config }) => check(&config, &environment),
        Ok(Command::Demo { port }) => demo(port, environment),
        Ok(Command::Route(order)) => route(&order, &environment),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
        }
    }
}

fn loader(from: RunFrom, flags: Flags, environment: Environment) -> Loader {
    Box::new(move || {
        let sources = Sources {
            environment: &environment,
            files: &Disk,
            flags: &flags,
        };
        match &from {
            RunFrom::File(path) => Config::load(path, &sources),
            RunFrom::Url {
                url,
                origin,
                replicas,
            } => Config::from_urls(url, origin, replicas, &sources),
        }
    })
}

fn run(loader: Loader) -> ExitCode {
    let config = match loader() {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    let log = Log::start(config.log_level, config.log_format);
    match App::run(&loader, config, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &std::path::Path, environment: &Environment) -> ExitCode {
    let flags = Flags::default();
    match config::check(
        path,
        &Sources {
            environment,
            files: &Disk,
            flags: &flags,
        },
    ) {
        Ok(_) => ExitCode::SUCCESS,
        Err(problems) => refuse(&problems),
    }
}

/// Says where statements would go. What it is based on goes to standard error, where that is less than it might be.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the answer is for the person at the terminal"
)]
fn route(order: &RouteOrder, environment: &Environment) -> ExitCode {
    let flags = Flags::default();
    let sources = Sources {
        environment,
        files: &Disk,
        flags: &flags,
    };
    let config = match Config::load(&order.config, &sources) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    match pgweir::app::route(order, config) {
        Ok(told) => {
            if let Some(notice) = told.notice {
                eprintln!("{notice}");
            }
            print!("{}", told.text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "problems are what was asked for, and there is no log yet"
)]
fn refuse(problems: &Problems) -> ExitCode {
    eprintln!("{problems}");
    ExitCode::from(PROBLEMS_EXIT_CODE)
}

/// Private servers with pgweir in front, until somebody ends it.
#[expect(
    clippy::print_stdout,
    reason = "progress and the table are for the person at the terminal"
)]
fn demo(port: Option<u16>, environment: Environment) -> ExitCode {
    let Ok(interrupted) = pgweir::app::watch_interrupts() else {
        return ExitCode::FAILURE;
    };
    let listen = port.map(|port| ([127, 0, 0, 1], port).into());
    let progress = |line: &str| {
        println!("{line}");
        if interrupted() {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    };
    let demo = match Demo::start(&DemoOptions { listen }, progress) {
        Ok(demo) => demo,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let text = demo.config_toml();
    let loader: Loader = Box::new(move || {
        let flags = Flags {
            log_level: Some(config::LogLevel::Warn),
            ..Flags::default()
        };
        let sources = Sources {
            environment: &environment,
            files: &Disk,
            flags: &flags,
        };
        Config::parse(std::path::Path::new("demo.toml"), &text, &sources)
    });
    println!("{}", demo.table(demo.listen()));
    run(loader)
}

//! Any text as a configuration or a URL: it is understood, or every problem is named in its place.

use std::io;
use std::path::Path;

use super::{Config, Environment, Files, Flags, Problems, Sources};
use crate::net::{ClientTlsSettings, ServerTlsSettings};

/// Reads any text as a configuration file, alone and behind a line with a secret.
pub fn fuzz_config(text: &str) {
    if text.contains(SECRET) {
        return;
    }
    check_config(text);
    check_config(&format!("users.hidden.password = \"{SECRET}\"\n{text}"));
}

/// Reads any text as the URL of a run without a file, alone and behind a secret.
pub fn fuzz_url(text: &str) {
    if text.contains(SECRET) {
        return;
    }
    check_url(text);
    check_url(&format!("postgresql://app:{SECRET}@{text}"));
}

fn check_config(text: &str) {
    with_sources(
        |sources| match Config::parse(Path::new("/etc/pgweir.toml"), text, sources) {
            Ok(config) => check_understood(&config),
            Err(problems) => check_problems(text, &problems),
        },
    );
}

fn check_url(url: &str) {
    with_sources(|sources| match Config::from_url(url, "--url", sources) {
        Ok(config) => check_understood(&config),
        Err(problems) => check_problems("", &problems),
    });
}

fn check_understood(config: &Config) {
    assert!(!config.listen.is_empty() && !config.rows().is_empty());
    for name in config.databases.keys().map(String::as_str).chain(["any"]) {
        let _ = config.pool_settings(name, "app");
        if let Some(database) = config.database(name) {
            let _ = config.server_tls(&database.url);
            let _ = config.server_keepalive(&database.url);
            let again = database.url_again(&NoFiles);
            assert!(
                again.is_ok_and(|url| url == database.url),
                "a URL reads differently again"
            );
        }
    }
    assert!(!format!("{config:?}").contains(SECRET), "a secret is shown");
}

fn check_problems(text: &str, problems: &Problems) {
    assert!(problems.iter().next().is_some(), "refused without a word");
    let lines = text.split('\n').count();
    for problem in problems.iter() {
        if let Some(position) = problem.position {
            let is_inside = (1..=lines).contains(&position.line) && position.column > 0;
            assert!(is_inside, "{problem} is nowhere in the file");
        }
        assert!(!problem.message.contains('\n'), "more than a line: {problem}");
    }
    assert!(!problems.to_string().contains(SECRET), "a secret is shown");
}

fn with_sources(run: impl FnOnce(&Sources<'_>)) {
    run(&Sources {
        environment: &[("NAME", "app"), ("PORT", "5432")]
            .into_iter()
            .collect::<Environment>(),
        files: &NoFiles,
        flags: &Flags::default(),
    });
}

/// A file system without a file.
struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn client_tls_problem(&self, _: &ClientTlsSettings) -> Option<String> {
        None
    }

    fn server_tls_problem(&self, _: &ServerTlsSettings) -> Option<String> {
        None
    }
}

const SECRET: &str = "correct-horse-battery-staple";

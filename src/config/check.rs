//! From a text to a [`Config`], or to everything that is wrong with it.

use std::path::Path;

use toml::de::DeTable;

use crate::config::document::{Place, Reader, Written, located};
use crate::config::{
    AuthMethod, AuthSettings, Config, Database, Flags, Position, Problem, Problems, SecretSource, ServerUrl,
    Sources, User, contradictions, sections, settings,
};

/// Reads the file first.
pub(super) fn file(path: &Path, sources: &Sources<'_>) -> Result<Config, Problems> {
    let source = path.display().to_string();
    if path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("ini"))
    {
        let message = "an .ini file is not available in this version: write the settings as TOML, with a [databases.NAME] and \
                       its url for each database";
        return Err(Problems::of_source(&source, message.to_owned()));
    }
    let bytes = sources
        .files
        .read(path)
        .map_err(|error| Problems::of_source(&source, format!("the file cannot be read: {error}")))?;
    if bytes.len() > CONFIG_BYTES_MAX {
        let message = format!("the file is larger than {} MB", CONFIG_BYTES_MAX >> 20);
        return Err(Problems::of_source(&source, message));
    }
    match String::from_utf8(bytes) {
        Ok(text) => self::text(path, &text, sources),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before =
                String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
            let place = Place::File(valid);
            Err(Problems::new(vec![located(
                &source,
                &before,
                place,
                "the file is not UTF-8 text".to_owned(),
            )]))
        }
    }
}

/// The same for a text at hand.
pub(super) fn text(path: &Path, text: &str, sources: &Sources<'_>) -> Result<Config, Problems> {
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(*sources, path.parent().unwrap_or_else(|| Path::new("")));
    let mut config = Config::default();
    sections::read(&mut reader, &mut config, document.get_ref());
    outside(&mut reader, &mut config);
    let source = path.display().to_string();
    if syntax_errors.is_empty() {
        contradictions::note(&mut reader, &config);
        return finish(reader, config, &source, text);
    }
    let mut problems: Vec<Problem> = Vec::new();
    for error in syntax_errors.iter().take(PROBLEMS_MAX) {
        let place = Place::File(error.span().map_or(0, |span| span.start));
        problems.push(located(&source, text, place, error.message().to_owned()));
    }
    let broken: Vec<usize> = problems.iter().filter_map(Problem::line).collect();
    // What such a line was taken for may be far from what was meant.
    let others = problems_of(reader, &source, text);
    problems.extend(
        others
            .into_iter()
            .filter(|problem| problem.line().is_none_or(|line| !broken.contains(&line))),
    );
    Err(Problems::new(problems))
}

/// A run without a file.
pub(super) fn url(url: &str, origin: &str, sources: &Sources<'_>) -> Result<Config, Problems> {
    let problem = |message: String| Problems::of_source(origin, message);
    let server = ServerUrl::parse(url, Path::new("")).map_err(|error| problem(error.to_string()))?;
    let Some(user) = server.user.clone() else {
        return Err(problem(
            "the URL must name the user: write postgresql://user:password@host/database".to_owned(),
        ));
    };
    let name = server.database.clone().unwrap_or_else(|| user.clone());
    if contradictions::is_console(&name) {
        return Err(problem(format!(
            "the database name \"{name}\" is that of the console"
        )));
    }
    let secret = url_password(&server);
    let method = if secret.is_some() {
        AuthMethod::default()
    } else {
        AuthMethod::Trust
    };
    let mut config = Config {
        auth: AuthSettings {
            method,
            ..AuthSettings::default()
        },
        ..Config::default()
    };
    config.users.insert(
        user,
        User {
            secret,
            ..User::default()
        },
    );
    let database = Database {
        url: server,
        source: SecretSource::fixed(url),
        pool: Default::default(),
        directory: Default::default(),
    };
    config.databases.insert(name, database);
    let mut reader = Reader::new(*sources, Path::new(""));
    outside(&mut reader, &mut config);
    if method == AuthMethod::Trust && !config.listen.iter().all(contradictions::is_local) {
        let message = "the URL has no password, so that everybody who reaches \"listen\" could log in: give it one, or listen on \
                       127.0.0.1 alone";
        reader.problem_at(Place::Outside(origin.to_owned()), message.to_owned());
    }
    contradictions::note_pools(&mut reader, &config);
    finish(reader, config, origin, "")
}

fn url_password(url: &ServerUrl) -> Option<SecretSource> {
    let password = url.password.as_ref()?;
    std::str::from_utf8(password.expose())
        .ok()
        .map(SecretSource::fixed)
}

/// What the environment and then the command line say.
fn outside(reader: &mut Reader<'_>, config: &mut Config) {
    let Sources {
        environment, flags, ..
    } = reader.sources;
    for key in settings::TOP_KEYS.iter().chain(&settings::POOL_KEYS) {
        let variable = format!("PGWEIR_{}", key.to_ascii_uppercase());
        match environment.variable(&variable) {
            Ok(Some(value)) if !value.is_empty() => {
                settings::read_top(reader, config, &Written::outside(key, value, &variable));
            }
            Ok(_) => {}
            Err(_) => reader.problem_at(Place::Outside(variable), "is not UTF-8 text".to_owned()),
        }
    }
    let Flags {
        listen,
        workers,
        log_level,
    } = flags;
    if !listen.is_empty() {
        settings::read_top(
            reader,
            config,
            &Written::outside("listen", &listen.join(","), "--listen"),
        );
    }
    if let Some(workers) = workers {
        settings::read_top(
            reader,
            config,
            &Written::outside("workers", &workers.to_string(), "--workers"),
        );
    }
    settings::set(&mut config.log_level, *log_level);
}

fn finish(reader: Reader<'_>, config: Config, source: &str, text: &str) -> Result<Config, Problems> {
    let problems = problems_of(reader, source, text);
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(Problems::new(problems))
    }
}

fn problems_of(reader: Reader<'_>, source: &str, text: &str) -> Vec<Problem> {
    let mut problems = reader.into_problems();
    problems.sort();
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    problems.truncate(PROBLEMS_MAX);
    let mut problems: Vec<Problem> = problems
        .into_iter()
        .map(|(place, message)| located(source, text, place, message))
        .collect();
    if more > 0 {
        let position = Some(Position {
            line: usize::MAX,
            column: 1,
        });
        problems.push(Problem {
            source: source.to_owned(),
            position,
            message: format!("and {more} more problems"),
        });
    }
    problems
}

/// Of a configuration: ten thousand databases take about 2 MB.
const CONFIG_BYTES_MAX: usize = 16 << 20;

/// Of problems that are shown: more of them are rarely of another kind.
const PROBLEMS_MAX: usize = 200;

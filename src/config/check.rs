//! From a text to a [`Config`], or to everything that is wrong with it.

use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;

use crate::auth::{Method, Verifier};
use crate::config::document::{Place, Reader, Written, located};
use crate::config::{
    AuthSettings, Config, Database, Flags, Problem, Problems, Replica, SecretSource, ServerUrl, Sources,
    User, contradictions, sections, settings,
};

/// Reads the file first.
pub(super) fn file(path: &Path, sources: &Sources<'_>) -> Result<Config, Problems> {
    let source = path.display().to_string();
    let problem = |message: &str| Problems::of_source(&source, message);
    if path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("ini"))
    {
        return Err(problem(
            "an .ini file is not available in this version: write the settings as TOML, \
             with a [databases.NAME] and its url for \
             each database",
        ));
    }
    let bytes = sources
        .files
        .read(path)
        .map_err(|error| problem(&format!("the file cannot be read: {error}")))?;
    if bytes.len() > CONFIG_BYTES_MAX {
        return Err(problem(&format!(
            "the file is larger than {} MB",
            CONFIG_BYTES_MAX >> 20
        )));
    }
    match String::from_utf8(bytes) {
        Ok(text) => self::text(path, &text, sources),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before =
                String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
            Err(Problems::new(vec![located(
                &source,
                &before,
                Place::File(valid),
                "the file is not UTF-8 text",
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
    if syntax_errors.is_empty() {
        contradictions::note(&mut reader, &config);
    }
    let broken: Vec<(usize, &str)> = syntax_errors
        .iter()
        .take(PROBLEMS_MAX)
        .map(|error| (error.span().map_or(0, |span| span.start), error.message()))
        .collect();
    finish(reader.into_problems(), &broken, &path.display().to_string(), text).map(|()| config)
}

/// A run without a file.
pub(super) fn url(url: &str, origin: &str, sources: &Sources<'_>) -> Result<Config, Problems> {
    let problem = |message: &str| Problems::of_source(origin, message);
    let server = ServerUrl::parse(url, Path::new("")).map_err(|error| problem(&error.to_string()))?;
    let Some(user) = server.user.clone() else {
        return Err(problem(
            "the URL must name the user: write postgresql://user:password@host/database",
        ));
    };
    let name = server.database.clone().unwrap_or_else(|| user.clone());
    if contradictions::is_console(&name) {
        return Err(problem(&format!(
            "the database name \"{name}\" is that of the console"
        )));
    }
    let password = url_password(&server);
    let method = if password.is_some() {
        Method::default()
    } else {
        Method::Trust
    };
    let mut config = Config {
        auth: AuthSettings {
            method,
            ..AuthSettings::default()
        },
        ..Config::default()
    };
    let secret = password.map(SecretSource::fixed);
    let verifier = password.and_then(Verifier::parse);
    let of_user = User {
        secret,
        verifier,
        ..User::default()
    };
    config.users.insert(user, of_user);
    let database = Database {
        url: server,
        source: SecretSource::fixed(url),
        pool: Default::default(),
        replicas: None,
        directory: Default::default(),
    };
    config.databases.insert(name, database);
    let mut reader = Reader::new(*sources, Path::new(""));
    outside(&mut reader, &mut config);
    if method == Method::Trust && !config.listen.iter().all(contradictions::is_local) {
        let message = "the URL has no password, so that everybody who reaches \"listen\" could log in: \
                       give it one, or listen on \
                       127.0.0.1 alone";
        reader.problem_at(Place::Outside(origin.to_owned()), message.to_owned());
    }
    contradictions::note_pools(&mut reader, &config);
    finish(reader.into_problems(), &[], origin, "").map(|()| config)
}

/// The servers of `--replica`.
pub(super) fn replicas(urls: &[String]) -> Result<Vec<Replica>, Problems> {
    let read = |url: &String| {
        let parsed = ServerUrl::parse(url, Path::new(""));
        let parsed = parsed.map_err(|error| Problems::of_source("--replica", &error.to_string()))?;
        if parsed.user.is_none() {
            return Err(Problems::of_source(
                "--replica",
                "the URL needs a user, who asks the server how it is",
            ));
        }
        Ok(Replica {
            url: parsed,
            source: SecretSource::fixed(url),
            weight: 1,
        })
    };
    urls.iter().map(read).collect()
}

fn url_password(url: &ServerUrl) -> Option<&str> {
    std::str::from_utf8(url.password.as_ref()?.expose()).ok()
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
        http_listen,
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
    if let Some(http_listen) = http_listen {
        settings::read_top(
            reader,
            config,
            &Written::outside("http_listen", http_listen, "--http-listen"),
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

/// All problems in their order, or none. What stands on a line of broken syntax is left out: it was taken for something else
/// than was meant.
fn finish(
    mut problems: Vec<(Place, String)>,
    broken: &[(usize, &str)],
    source: &str,
    text: &str,
) -> Result<(), Problems> {
    let lines: Vec<Range<usize>> = broken
        .iter()
        .map(|(offset, _)| line_around(text, *offset))
        .collect();
    problems
        .retain(|(place, _)| !matches!(place, Place::File(at) if lines.iter().any(|line| line.contains(at))));
    problems.extend(
        broken
            .iter()
            .map(|(offset, message)| (Place::File(*offset), (*message).to_owned())),
    );
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort();
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    let shown = problems.into_iter().take(PROBLEMS_MAX);
    let mut shown: Vec<Problem> = shown
        .map(|(place, message)| located(source, text, place, &message))
        .collect();
    if more > 0 {
        shown.push(Problem::new(source, None, &format!("and {more} more problems")));
    }
    Err(Problems::new(shown))
}

/// Where the line begins and ends in which this byte stands.
fn line_around(text: &str, offset: usize) -> Range<usize> {
    let (before, after) = text.split_at_checked(offset).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let length = after.find('\n').unwrap_or(after.len());
    start..offset + length + 1
}

/// Of a configuration: ten thousand databases take about 2 MB.
const CONFIG_BYTES_MAX: usize = 16 << 20;

/// Of problems that are shown: more of them are rarely of another kind.
const PROBLEMS_MAX: usize = 200;

//! `pgweir route`: where statements would go, and why.

use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout;

use crate::config::Config;
use crate::config::cli::{Output, Reading, RouteOrder};
use crate::plan::{self, Access, Class, Plan, Spelling};
use crate::pool::clock::Clock;
use crate::pool::connect::{self, Order};
use crate::pool::derive::Deriver;
use crate::pool::knowledge::read::{on_large_stack, read};
use crate::pool::knowledge::{Defaults, Demand, Isolation, Knowledge, Known};
use crate::pool::registry::Registry;
use crate::protocol::startup::Replication;
use crate::relay::directory::{DatabaseEntry, Directory};
use crate::relay::route::trace::Cause;
use crate::session::directive::{self, Role};
use crate::session::screen::screen;
use crate::topology::{Reads, Rules};

use super::directory;

/// What is said.
#[derive(Debug)]
pub struct Told {
    pub text: String,
    /// What the answer lacks.
    pub notice: Option<String>,
}

/// What became of one statement.
struct Answer {
    statement: String,
    role: &'static str,
    pins: Vec<&'static str>,
    reason: String,
}

/// What plans are made from.
struct Ground {
    known: Arc<Known>,
    defaults: Defaults,
    /// None: the database has no replicas.
    rules: Option<Rules>,
}

/// Answers what was asked. Nothing is executed, but for questions of the catalogs.
///
/// # Errors
/// There is no such database, or something of the configuration cannot be used.
pub fn route(order: &RouteOrder, config: Config) -> io::Result<Told> {
    let directory = directory::directory(&Arc::new(config), [0; 32]).map_err(io::Error::other)?;
    let Some(entry) = directory.database(&order.database) else {
        let message = format!("there is no database \"{}\" in the configuration", order.database);
        return Err(io::Error::other(message));
    };
    let knowledge = Knowledge::default();
    if let Some(replicas) = &entry.replicas {
        knowledge.set_functions(replicas.functions.clone());
    }
    let read = match order.reading {
        _ if entry.replicas.is_none() => Ok(unread(entry)),
        Reading::Nothing => {
            Err("Catalogs were not read: what is not PostgreSQL's own is unknown.".to_owned())
        }
        Reading::Servers => read_catalogs(order, &directory, entry, &knowledge),
    };
    let (defaults, notice) = match read {
        Ok(defaults) => (defaults, None),
        Err(notice) => (unread(entry), Some(notice)),
    };
    if knowledge.known(Demand::Last).is_none() {
        knowledge.learn_nothing();
    }
    let known = knowledge
        .known(Demand::Last)
        .ok_or_else(|| io::Error::other("nothing is known"))?;
    let ground = Ground {
        known,
        defaults,
        rules: entry.replicas.as_ref().map(|replicas| replicas.rules),
    };
    let sql = order.sql.clone();
    let answers = on_large_stack(move || answers(&sql, &ground));
    let answers = answers.ok_or_else(|| io::Error::other("the statements could not be planned"))?;
    Ok(Told {
        text: write(&answers, order.output),
        notice,
    })
}

/// What a session begins with, where nobody can be asked.
fn unread(entry: &DatabaseEntry) -> Defaults {
    Defaults {
        search_path: "\"$user\", public".into(),
        user: entry.user.as_deref().unwrap_or_default().into(),
        is_standard: true,
        isolation: Isolation::Other,
    }
}

/// Reads them on the first server that can be had. The error says why that is none.
fn read_catalogs(
    order: &RouteOrder,
    directory: &Directory,
    entry: &DatabaseEntry,
    knowledge: &Knowledge,
) -> Result<Defaults, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut reason = String::new();
        let mut place = 0;
        while let Some(server) = entry.at(place) {
            match read_on(order, directory, server, knowledge).await {
                Ok(defaults) => return Ok(defaults),
                Err(failure) => reason = failure,
            }
            place += 1;
        }
        Err(format!(
            "No catalogs could be read, so what is not PostgreSQL's own is unknown: {reason}"
        ))
    })
}

async fn read_on(
    order: &RouteOrder,
    directory: &Directory,
    server: &DatabaseEntry,
    knowledge: &Knowledge,
) -> Result<Defaults, String> {
    let name = &order.database;
    let user = server.user.as_deref().ok_or("the URL names no user")?;
    let registry = Registry::new(1, Clock::starting_at(Instant::now()));
    let settings = (directory.settings)(name, user);
    let patience = settings.connect_timeout;
    let target = server.target(name, user, server.secret.clone());
    let shared = registry.outside(name, user, settings, target);
    let slot = shared
        .try_open(false)
        .map_err(|_| "no connection may be opened")?;
    let order = Order {
        shared: &shared,
        extra: &[],
        replication: Replication::None,
    };
    let deriver = Deriver::new(1, [0; 32]);
    let opening = connect::open(&order, &deriver, 0, slot);
    let opened = if patience.is_zero() {
        opening.await
    } else {
        timeout(patience, opening)
            .await
            .map_err(|_| "the server did not answer in time")?
    };
    let mut conn = opened.map_err(|failure| failure.text)?;
    let defaults = Defaults::of(&mut conn)
        .await
        .map_err(|trouble| trouble.report().to_string())?;
    let done = read(&mut conn, knowledge).await;
    done.map_err(|trouble| trouble.report().to_string())?;
    conn.close();
    Ok(defaults)
}

fn answers(sql: &str, ground: &Ground) -> Vec<Answer> {
    plan::split(sql)
        .into_iter()
        .map(|statement| answer(statement, ground))
        .collect()
}

fn answer(statement: &str, ground: &Ground) -> Answer {
    let Defaults {
        search_path,
        user,
        is_standard,
        isolation,
    } = &ground.defaults;
    let spelling = if *is_standard {
        Spelling::Standard
    } else {
        Spelling::Other
    };
    let plan = ground
        .known
        .plan(statement.as_bytes(), search_path, user, spelling);
    let (role, reason) = match ground.rules {
        None => ("primary", "the database has no replicas".to_owned()),
        Some(_) if *isolation == Isolation::Serializable => ("primary", Cause::Serializable.to_string()),
        Some(rules) => decide(statement, &plan, rules),
    };
    Answer {
        statement: statement.to_owned(),
        role,
        pins: screen(statement.as_bytes())
            .pins
            .iter()
            .map(|pin| pin.as_str())
            .collect(),
        reason,
    }
}

/// As it is decided for a batch that is this statement alone, of a session that has seen nothing yet.
fn decide(statement: &str, plan: &Plan, rules: Rules) -> (&'static str, String) {
    let wanted = match directive::of_comments(statement.as_bytes()) {
        Ok(wanted) => wanted,
        Err(report) => return ("none", report.message.into_owned()),
    };
    let reason = plan.reason().to_string();
    match (plan.class(), wanted) {
        (_, Some(Role::Primary)) => ("primary", "pgweir: role=primary".to_owned()),
        (Class::Write, Some(Role::Replica)) => (
            "none",
            format!("cannot execute the statement on a replica: {reason}"),
        ),
        (Class::Read, None) if rules.reads == Reads::Primary => ("primary", "reads = \"primary\"".to_owned()),
        (Class::Read | Class::Begin(Access::ReadOnly), _) => ("replica", reason),
        (
            Class::Write
            | Class::Session
            | Class::Begin(_)
            | Class::Modes(_)
            | Class::Within
            | Class::Prepare(_)
            | Class::Execute,
            _,
        ) => ("primary", reason),
    }
}

fn write(answers: &[Answer], output: Output) -> String {
    let mut text = String::new();
    for answer in answers {
        let Answer {
            statement,
            role,
            pins,
            reason,
        } = answer;
        // A string takes everything.
        let _ = match output {
            Output::Text => {
                let pinned = if pins.is_empty() {
                    String::new()
                } else {
                    format!("; pins: {}", pins.join(", "))
                };
                writeln!(text, "{role:<8} {statement}\n         {reason}{pinned}")
            }
            Output::Json => {
                let pins: Vec<String> = pins.iter().map(|pin| quoted(pin)).collect();
                writeln!(
                    text,
                    "{{\"statement\":{},\"role\":{},\"shards\":[],\"pins\":[{}],\"reason\":{}}}",
                    quoted(statement),
                    quoted(role),
                    pins.join(","),
                    quoted(reason)
                )
            }
        };
    }
    text
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            letter if u32::from(letter) < 0x20 => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_of_json_has_nothing_in_it_that_ends_it() {
        assert_eq!(quoted("a\"b\\c\nd\u{1}ä"), "\"a\\\"b\\\\c\\u000ad\\u0001ä\"");
    }
}

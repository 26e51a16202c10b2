//! Functions that are called volatile, as most are that nobody has marked, judged by the words of their bodies: whether a standby may
//! be left to refuse what they do, as it refuses writes.
//!
//! A word is taken for all that it may be the name of, wherever it stands: a word too many keeps a function from transactions on
//! replicas, a word too few could take a lock that no other server knows of.

use std::collections::HashSet;

use super::builtin::{self, Call};
use super::catalog::{Catalog, Judgement};
use super::patterns::{Patterns, Ruling};
use super::verdict::ReasonKind;

/// A function in SQL or PL/pgSQL, and what calling it runs: its statements, and what its arguments are by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body<'a> {
    pub schema: &'a str,
    pub name: &'a str,
    pub arguments: &'a str,
    pub text: &'a str,
}

/// Finds out which of the functions that are volatile do nothing that a standby does without a word, for itself alone. Everything
/// else of the database is in the catalog.
pub fn restrain(catalog: &mut Catalog, bodies: &[Body<'_>], functions: &Patterns) {
    if bodies.is_empty() || catalog.acts_unnamed() {
        return;
    }
    let mut open: Vec<(&Body<'_>, HashSet<Box<str>>)> = bodies
        .iter()
        .filter_map(|body| Some((body, harmless_words(body.text, functions)?)))
        .collect();
    let candidates: HashSet<_> = open.iter().map(|(body, _)| key(body)).collect();
    let mut harmful: HashSet<Box<str>> = catalog
        .harmful_names(functions, |schema, name, arguments| {
            candidates.contains(&(schema, name, arguments))
        })
        .map(longest_word)
        .collect();
    loop {
        let before = open.len();
        let mut found = Vec::new();
        open.retain(|(body, words)| {
            let is_harmless = words.is_disjoint(&harmful);
            if !is_harmless {
                found.push(longest_word(body.name));
            }
            is_harmless
        });
        harmful.extend(found);
        if open.len() == before {
            break;
        }
    }
    for (body, _) in open {
        catalog.restrain_function(body.schema, body.name, body.arguments);
    }
}

fn key<'a>(body: &Body<'a>) -> (&'a str, &'a str, &'a str) {
    (body.schema, body.name, body.arguments)
}

/// All words of a body; none if one of them by itself may do harm.
fn harmless_words(text: &str, functions: &Patterns) -> Option<HashSet<Box<str>>> {
    let lower = text.to_lowercase();
    let has_escaped_names = lower.contains("u&\"") || lower.contains("u&'");
    if has_escaped_names {
        return None;
    }
    let mut found = HashSet::new();
    for word in words(&lower) {
        if KEYWORDS.contains(&word) || is_harmful_builtin(word, functions) {
            return None;
        }
        if !found.contains(word) {
            found.insert(word.into());
        }
    }
    Some(found)
}

fn is_harmful_builtin(word: &str, functions: &Patterns) -> bool {
    let call = builtin::function(word);
    if call.is_some() && functions.ruling(SYSTEM, word) == Some(Ruling::Writes) {
        return true;
    }
    match call {
        Some(Call::Acts(ReasonKind::ServerFunction)) => false,
        Some(Call::Acts(_)) => !REFUSED.contains(&word),
        Some(Call::Reads | Call::ReadsSetting | Call::MakesValues) | None => false,
    }
}

/// What a name is found by in a text: the longest of its words, if it has blanks or signs in it.
fn longest_word(name: &str) -> Box<str> {
    let lower = name.to_lowercase();
    let longest = words(&lower).max_by_key(|word| word.len());
    longest.unwrap_or(&lower).into()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || !letter.is_ascii();
    text.split(move |letter| !is_word(letter))
        .filter(|word| !word.is_empty())
        .map(clipped)
}

/// A word as far as PostgreSQL reads it.
fn clipped(word: &str) -> &str {
    if word.len() <= NAME_LEN_MAX {
        return word;
    }
    let mut ends = (0..=NAME_LEN_MAX).rev();
    let end = ends.find(|end| word.is_char_boundary(*end));
    end.and_then(|end| word.get(..end)).unwrap_or(word)
}

impl Catalog {
    /// Whether something acts that no text has to name: a cast, a type, an operator.
    fn acts_unnamed(&self) -> bool {
        self.implicit_cast().is_some() || self.acting_type().is_some() || self.has_acting_operator()
    }

    fn restrain_function(&mut self, schema: &str, name: &str, arguments: &str) {
        for function in self.functions_named(schema, name) {
            if *function.arguments == *arguments && function.judgement == Judgement::Volatile {
                function.judgement = Judgement::Restrained;
            }
        }
    }
}

/// The schema of PostgreSQL's own things.
const SYSTEM: &str = "pg_catalog";
/// `NAMEDATALEN` in `src/include/pg_config_manual.h`, less the zero.
const NAME_LEN_MAX: usize = 63;

/// Words of what a standby does as if it were nothing: texts that are put together, locks, files, what concerns the server or the
/// session, code in another language.
const KEYWORDS: [&str; 16] = [
    "execute",
    "lock",
    "load",
    "checkpoint",
    "system",
    "copy",
    "program",
    "discard",
    "prepare",
    "deallocate",
    "listen",
    "unlisten",
    "snapshot",
    "hold",
    "language",
    "pg_temp",
];

/// PostgreSQL's own functions that a standby refuses by itself, with 25006.
const REFUSED: [&str; 5] = [
    "nextval",
    "setval",
    "txid_current",
    "pg_current_xact_id",
    "pg_notify",
];

#[cfg(test)]
mod tests {
    use super::super::{Circumstances, Following, Function, Relation, Spelling, plan};
    use super::*;

    fn following(bodies: &[(&str, &str)], others: &[&str], text: &str) -> Following {
        let mut catalog = Catalog::default();
        let names = bodies.iter().map(|(name, _)| name).chain(others);
        for name in names {
            let function = Function {
                arguments: "".into(),
                judgement: Judgement::Volatile,
            };
            catalog.add_function("app", name, function);
        }
        catalog.add_relation("app", "t", Relation::Logged);
        catalog.add_relation("app", "s", Relation::Sequence);
        let bodies: Vec<_> = bodies
            .iter()
            .map(|(name, text)| Body {
                schema: "app",
                name,
                arguments: "",
                text,
            })
            .collect();
        let functions = Patterns::new(std::iter::empty(), ["app.forbidden"]);
        restrain(&mut catalog, &bodies, &functions);
        let circumstances = Circumstances {
            catalog: &catalog,
            search_path: &["app".into()],
            functions: &functions,
            spelling: Spelling::Standard,
        };
        let plan = plan(text.as_bytes(), &circumstances);
        assert_ne!(plan.class(), super::super::Class::Read, "{text}");
        plan.following()
    }

    #[test]
    fn a_volatile_function_whose_body_takes_no_lock_may_follow_on_a_replica() {
        for body in [
            "SELECT count(*) FROM t",
            "BEGIN RETURN (SELECT count(*) FROM t); END",
            "BEGIN INSERT INTO t VALUES (1); RETURN nextval('s2'); END",
            "SELECT random(), clock_timestamp(), pg_is_in_recovery()",
        ] {
            let judged = following(&[("f", body)], &[], "SELECT f()");
            assert_eq!(judged, Following::Harmless, "{body}");
        }
    }

    #[test]
    fn what_a_standby_does_without_a_word_is_found_in_bodies_and_in_those_they_name() {
        for body in [
            "SELECT pg_advisory_xact_lock(1)",
            "SELECT PG_Advisory_Lock(1)",
            "SELECT \"pg_advisory_lock\"(1)",
            "BEGIN EXECUTE 'SELECT pg_advisory' || '_lock(1)'; END",
            "SELECT U&\"pg!_advisory_lock\" UESCAPE '!' (1)",
            "SELECT setseed(1), set_config('a.b', 'c', true)",
            "BEGIN LOCK TABLE t; END",
            "SELECT last_value FROM s",
            "SELECT compiled()",
            "SELECT forbidden()",
            "SELECT query_to_xml('x', true, true, '')",
            "SELECT pg_terminate_backend(1)",
        ] {
            let others = ["compiled", "forbidden"];
            let all = [("f", body), ("g", "BEGIN RETURN F(); END"), ("h", "SELECT g()")];
            for call in ["SELECT f()", "SELECT g()", "SELECT h()"] {
                assert_eq!(following(&all, &others, call), Following::Harmful, "{body}");
            }
        }
    }

    #[test]
    fn one_that_shares_its_name_with_another_is_judged_by_both() {
        let mut catalog = Catalog::default();
        for arguments in ["", "integer"] {
            let function = Function {
                arguments: arguments.into(),
                judgement: Judgement::Volatile,
            };
            catalog.add_function("app", "f", function);
        }
        let body = |arguments, text| Body {
            schema: "app",
            name: "f",
            arguments,
            text,
        };
        let bodies = [
            body("", "SELECT 1"),
            body("integer", "SELECT pg_advisory_lock($1)"),
        ];
        restrain(&mut catalog, &bodies, &Patterns::default());
        let circumstances = Circumstances {
            catalog: &catalog,
            search_path: &["app".into()],
            functions: &Patterns::default(),
            spelling: Spelling::Standard,
        };
        assert_eq!(
            plan(b"SELECT f()", &circumstances).following(),
            Following::Harmful
        );
    }

    #[test]
    fn where_casts_or_operators_act_nothing_is_restrained() {
        let mut catalog = Catalog::default();
        let function = Function {
            arguments: "".into(),
            judgement: Judgement::Volatile,
        };
        catalog.add_function("app", "f", function);
        catalog.add_operator("app", "<+>", Judgement::Volatile);
        let body = Body {
            schema: "app",
            name: "f",
            arguments: "",
            text: "SELECT 1",
        };
        let before = catalog.clone();
        restrain(&mut catalog, &[body], &Patterns::default());
        assert_eq!(catalog, before);
    }
}

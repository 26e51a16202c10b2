//! What the compiler and clippy do not hold: floors, sizes, and words that have one place or none.
//!
//! Each rule is a function from sources to complaints, proven by a source that breaks it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is a failed test"
)]

#[path = "tidy/map.rs"]
mod map;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/source.rs"]
mod source;

use source::{Code, Complaint, File, has_word, numbered, repository};

/// A module names only modules on floors strictly below its own; `main.rs` wires the top ones together.
const FLOORS: &[(&str, u32)] = &[
    ("protocol", 0),
    ("sql", 0),
    ("auth", 1),
    ("topology", 1),
    ("plan", 1),
    ("session", 2),
    ("net", 3),
    ("pool", 4),
    ("relay", 5),
    ("admin", 6),
    ("http", 6),
    ("config", 7),
    ("app", 8),
    ("demo", 8),
];

/// Floors up to this one are values: no sockets, no files, no environment, no clock.
const PURE_FLOOR_MAX: u32 = 2;

const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::env",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "Instant::now",
    "SystemTime::now",
];

/// Crates, and the only places in `src` that may name them.
const AT_HOME: &[(&str, &[&str])] = &[
    ("hyper", &["src/http/"]),
    ("http_body_util", &["src/http/"]),
    ("rustls", &["src/net/tls"]),
    ("tokio_rustls", &["src/net/tls"]),
    ("postgres_protocol", &["src/protocol/", "src/auth/"]),
    ("pg_query", &["src/plan/"]),
];

const LINES_MAX: usize = 600;

const INTERIOR_MUTABILITY: &[&str] = &[
    "Lazy", "Mutex", "RwLock", "Atomic", "OnceLock", "OnceCell", "RefCell", "Cell<",
];

/// In pieces, since this file is searched too.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

const EVASIVE_ATTRIBUTES: &[&str] = &[concat!("#[ign", "ore"), concat!("#[should", "_panic")];

/// Places of one machine, which mean nothing to a reader.
const FOREIGN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("sha", "red/"),
    concat!("/tmp", "/wt"),
];

#[test]
fn the_repository_is_tidy() {
    let files = repository();
    assert!(
        files.iter().any(|file| file.path == "src/lib.rs"),
        "the repository was not found"
    );
    let complaints: Vec<String> = check(&files).iter().map(ToString::to_string).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn check(files: &[File]) -> Vec<Complaint> {
    let mut complaints = every_module_has_a_floor(files);
    complaints.extend(map::modules_and_limits(files));
    for file in files {
        complaints.extend(words_of_any_file(file));
        if file.path.ends_with(".rs") {
            let code = Code::of(&file.text);
            complaints.extend(length(file));
            complaints.extend(attributes(file, &code));
            if file.path.starts_with("src/") {
                complaints.extend(floors(file, &code));
                complaints.extend(impure_words(file, &code));
                complaints.extend(crates_at_home(file, &code));
                complaints.extend(tag_literals(file, &code));
                complaints.extend(sqlstate_literals(file, &code));
                complaints.extend(globals(file, &code));
            }
        }
    }
    complaints
}

// --- The rules.

fn every_module_has_a_floor(files: &[File]) -> Vec<Complaint> {
    let Some(lib) = files.iter().find(|file| file.path == "src/lib.rs") else {
        return Vec::new();
    };
    let declared = |line: &str| {
        let name = line
            .trim_start_matches("pub ")
            .strip_prefix("mod ")?
            .strip_suffix(';')?;
        Some(name.to_owned())
    };
    let modules = numbered(&lib.text).filter_map(|(number, line)| Some((number, declared(line)?)));
    modules
        .filter(|(_, name)| floor_of(name).is_none())
        .map(|(number, name)| {
            lib.complain(number, format!("the module {name} has no floor in tests/tidy.rs"))
        })
        .collect()
}

fn floors(file: &File, code: &Code) -> Vec<Complaint> {
    let Some((own_name, own_floor)) = module_of(file) else {
        return Vec::new();
    };
    let mut complaints = Vec::new();
    for (number, path) in &code.paths {
        let target = if let Some(rest) = path.strip_prefix("crate::") {
            rest.split("::").next().unwrap_or_default()
        } else if let Some(rest) = file.climbs_to_the_root(path, code.is_test(*number)) {
            rest
        } else {
            continue;
        };
        let is_new = complaints
            .last()
            .is_none_or(|last: &Complaint| last.line != *number);
        match floor_of(target) {
            Some(floor) if target != own_name && floor >= own_floor && is_new => {
                complaints.push(file.complain(
                    *number,
                    format!("{own_name} (floor {own_floor}) names {target} (floor {floor})"),
                ))
            }
            Some(_) | None => {}
        }
    }
    complaints
}

fn impure_words(file: &File, code: &Code) -> Vec<Complaint> {
    if module_of(file).is_none_or(|(_, floor)| floor > PURE_FLOOR_MAX) || file.is_test() {
        return Vec::new();
    }
    code.words_found(IMPURE)
        .map(|(number, word)| {
            file.complain(
                number,
                format!("{word} on a floor without sockets, files and clocks"),
            )
        })
        .collect()
}

fn crates_at_home(file: &File, code: &Code) -> Vec<Complaint> {
    let away = AT_HOME
        .iter()
        .filter(|(_, homes)| !homes.iter().any(|home| file.path.starts_with(home)));
    let names: Vec<&str> = away.map(|(name, _)| *name).collect();
    if file.is_test() {
        return Vec::new();
    }
    code.words_found(&names)
        .map(|(number, name)| file.complain(number, format!("{name} is named outside its home")))
        .collect()
}

fn length(file: &File) -> Option<Complaint> {
    let lines = file.text.lines().count();
    (lines > LINES_MAX).then(|| file.complain(lines, format!("{lines} lines, {LINES_MAX} at most")))
}

/// A letter or digit as a byte that is matched or compared is taken for the tag of a message, unless it ends a range. Where it
/// is none, a comment on the line says so. Proofs see no messages, and their attributes have letters too.
fn tag_literals(file: &File, code: &Code) -> Vec<Complaint> {
    // The lexer reads SQL: its letters begin words.
    let is_home = ["src/protocol/", "src/auth/", "src/sql/"]
        .iter()
        .any(|home| file.path.starts_with(home));
    if is_home || file.is_test() {
        return Vec::new();
    }
    let is_tag = |line: &str| {
        line.match_indices("b'").any(|(start, _)| {
            let literal = &line.as_bytes()[start..];
            let is_literal = literal.len() > 3 && literal[2].is_ascii_alphanumeric() && literal[3] == b'\'';
            let before = line[..start].trim_end();
            let after = line.get(start + 4..).unwrap_or_default().trim_start();
            let is_range = before.ends_with("..=") || before.ends_with("..");
            let is_compared = ["==", "!="]
                .iter()
                .any(|sign| before.ends_with(sign) || after.starts_with(sign));
            let is_arm = after.starts_with("=>") || after.starts_with("if ") || after.starts_with('|');
            let is_later_arm = before.ends_with('|')
                && (after.starts_with("=>") || after.starts_with(')') || after.is_empty());
            is_literal
                && !is_range
                && !line[..start].ends_with(|c: char| c.is_alphanumeric())
                && (is_compared || is_arm || is_later_arm)
        })
    };
    code.product_lines()
        .filter(|(number, line)| is_tag(line) && !file.line(*number).contains("// Not a tag"))
        .map(|(number, _)| {
            file.complain(
                number,
                "the tag of a message as a literal; take protocol::tag".to_owned(),
            )
        })
        .collect()
}

fn sqlstate_literals(file: &File, code: &Code) -> Vec<Complaint> {
    if file.path == "src/protocol/sqlstate.rs" || file.is_test() {
        return Vec::new();
    }
    let is_sqlstate = |text: &str| {
        let is_class = text.starts_with(|c: char| c.is_ascii_digit())
            || ["F0", "HV", "P0", "XX"]
                .iter()
                .any(|class| text.starts_with(class));
        text.len() == 5 && is_class && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    };
    let found = code
        .strings
        .iter()
        .filter(|(number, text)| is_sqlstate(text) && !code.is_test(*number));
    found
        .map(|(number, text)| file.complain(*number, format!("{text:?}: take protocol::SqlState")))
        .collect()
}

fn globals(file: &File, code: &Code) -> Vec<Complaint> {
    let is_global = |line: &str| {
        let start = line
            .trim_start()
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ");
        start.starts_with("static ") && INTERIOR_MUTABILITY.iter().any(|kind| start.contains(kind))
    };
    let found = code.lines.iter().enumerate().filter(|(_, line)| is_global(line));
    found
        .map(|(index, _)| file.complain(index + 1, "a global that changes".to_owned()))
        .collect()
}

fn attributes(file: &File, code: &Code) -> Vec<Complaint> {
    let found = code
        .lines
        .iter()
        .enumerate()
        .filter(|(_, line)| EVASIVE_ATTRIBUTES.iter().any(|word| line.contains(word)));
    found
        .map(|(index, _)| file.complain(index + 1, "a test that evades".to_owned()))
        .collect()
}

fn words_of_any_file(file: &File) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (number, line) in numbered(&file.text) {
        let unfinished = UNFINISHED.iter().find(|word| has_word(line, word));
        let foreign = FOREIGN.iter().find(|word| line.contains(**word));
        if let Some(word) = unfinished.or(foreign) {
            complaints.push(file.complain(number, format!("{word} has no place here")));
        }
    }
    complaints
}

fn floor_of(module: &str) -> Option<u32> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, floor)| *floor)
}

fn module_of(file: &File) -> Option<(&str, u32)> {
    let name = file.module()?;
    floor_of(name).map(|floor| (name, floor))
}

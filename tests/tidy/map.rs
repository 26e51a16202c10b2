//! Whether `ARCHITECTURE.md` is true to the sources, as far as names go.

use super::source::{Complaint, File, numbered};

const MAP: &str = "ARCHITECTURE.md";

/// Each module has its name in the section of its floor, and each limit is where the table has it.
pub(super) fn modules_and_limits(files: &[File]) -> Vec<Complaint> {
    let Some(map) = files.iter().find(|file| file.path == MAP) else {
        return Vec::new();
    };
    let mut complaints = Vec::new();
    for file in files {
        complaints.extend(missing_module(map, file));
    }
    for (number, line) in numbered(&map.text) {
        for name in missing_limits(line, files) {
            complaints.push(map.complain(number, format!("there is no {name} in that file")));
        }
    }
    complaints
}

/// A module of a module is named by itself; what lies deeper, by its folder.
fn missing_module(map: &File, file: &File) -> Option<Complaint> {
    let top = file.module()?;
    let inner = file
        .path
        .strip_prefix("src/")?
        .strip_prefix(top)?
        .strip_prefix('/')?;
    let name = inner.split('/').next()?.trim_end_matches(".rs");
    if ["mod", "fuzz", "tests"].contains(&name) || !file.path.ends_with(".rs") {
        return None;
    }
    let is_named = section(&map.text, top).contains(&format!("`{name}`"));
    (!is_named).then(|| file.complain(1, format!("{MAP} does not name {name} under {top}")))
}

/// What the map says about a floor's module.
fn section<'a>(map: &'a str, module: &str) -> &'a str {
    let heading = format!("\n### {module}\n");
    let rest = map.split_once(heading.as_str()).map_or("", |(_, rest)| rest);
    rest.split("\n#").next().unwrap_or_default()
}

/// The constants of a row of the table that are not in the file it names.
fn missing_limits<'a>(line: &'a str, files: &[File]) -> Vec<&'a str> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
    let [names, _, path] = cells[..] else {
        return Vec::new();
    };
    let quoted = |cell: &'a str| cell.split('`').skip(1).step_by(2);
    let Some(path) = quoted(path).next().filter(|path| path.ends_with(".rs")) else {
        return Vec::new();
    };
    let file = files.iter().find(|file| file.path == format!("src/{path}"));
    let is_missing = |name: &&str| file.is_none_or(|file| !file.text.contains(&format!("const {name}: ")));
    quoted(names).filter(is_missing).collect()
}

#[test]
fn a_module_or_a_limit_that_the_map_does_not_know_is_caught() {
    let file = |path: &str, text: &str| File {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let map = file(
        MAP,
        "# Map\n\n### auth\n\n- `scram`: x\n\n### pool\n\n- `lease`: x\n\n## Limits\n\n\
         | `A_MAX`, `B_MAX` | 1 | `pool/lease.rs` |\n",
    );
    let files = [
        map,
        file("src/auth/scram/keys.rs", ""),
        file("src/auth/lease.rs", ""),
        file("src/pool/mod.rs", ""),
        file("src/pool/lease.rs", "pub const A_MAX: u32 = 1;"),
    ];
    let complaints: Vec<String> = modules_and_limits(&files)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        complaints,
        [
            "src/auth/lease.rs:1: ARCHITECTURE.md does not name lease under auth",
            "ARCHITECTURE.md:13: there is no B_MAX in that file",
        ]
    );
}

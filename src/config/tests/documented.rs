//! The files of `config/` are part of the program: what they say is what it does.

use super::*;

const DOCUMENTED: &str = include_str!("../../../config/pgweir.toml");
const MINIMAL: &str = include_str!("../../../config/minimal.toml");

const EXAMPLE: &str = "# example";

fn with_password() -> Given {
    Given {
        environment: vec![("APP_PASSWORD", "sesame")],
        ..Given::default()
    }
}

/// The lines with the number sign taken away from those that hold a default, and from the one that others have no meaning without.
fn with_defaults_written(text: &str) -> String {
    let is_default = |line: &str| {
        let is_example = line.ends_with(EXAMPLE) && !line.starts_with("#read_replicas");
        line.starts_with('#') && !line.starts_with("# ") && !is_example
    };
    text.lines()
        .map(|line| if is_default(line) { &line[1..] } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

fn all_lines_written(text: &str) -> String {
    text.lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let as_it_is = with_password().parse(DOCUMENTED).unwrap();
    let written = with_password().parse(&with_defaults_written(DOCUMENTED)).unwrap();
    let values = |config: &Config| {
        config
            .rows()
            .into_iter()
            .map(|row| (row.key, row.value))
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&written), values(&Config::default()));
    assert_eq!(
        (&written.auth, &written.tls, &written.server_tls),
        (&as_it_is.auth, &as_it_is.tls, &as_it_is.server_tls)
    );
    let replicas = written.databases["app"].replicas.as_deref().unwrap();
    assert_eq!(replicas.servers.len(), 2);
    let defaults = Replicas {
        servers: replicas.servers.clone(),
        ..Replicas::default()
    };
    assert_eq!(*replicas, defaults);
    let empty = Config {
        users: as_it_is.users.clone(),
        databases: as_it_is.databases.clone(),
        ..Config::default()
    };
    assert_eq!(as_it_is, empty);
}

#[test]
fn every_default_is_really_written_there() {
    let written = with_defaults_written(DOCUMENTED);
    for row in Config::default().rows() {
        assert!(
            written
                .lines()
                .any(|line| line.starts_with(&format!("{} = ", row.key))),
            "{}",
            row.key
        );
    }
    let changed = written.replace("pool_size = 20", "pool_size = 21");
    assert_eq!(with_password().parse(&changed).unwrap().pool.pool_size, Some(21));
    let changed = written.replace(
        "query_cache = \"1min\"",
        "query_cache = \"2min\"\nquery = \"SELECT 1\"\nquery_user = \"q\"",
    );
    assert_eq!(
        with_password().parse(&changed).unwrap().auth.query.unwrap().cache,
        Duration::from_secs(120)
    );
}

#[test]
fn every_key_of_every_section_is_documented_and_known() {
    let text = all_lines_written(DOCUMENTED);
    let files = [
        "userlist.txt",
        "pg_hba.conf",
        "server.crt",
        "server.key",
        "clients.crt",
        "servers.crt",
        "client.crt",
        "client.key",
    ];
    let files = files.iter().fold(Memory::default(), |files, name| {
        files.with(&format!("/etc/{name}"), "")
    });
    let given = Given {
        files,
        ..with_password()
    };
    let problems = given.parse(&text).unwrap_err().to_string();
    // The examples exclude each other in one point only.
    assert!(
        problems.ends_with("\"hba_file\" is read only with method = \"hba\""),
        "{problems}"
    );
    assert_eq!(problems.lines().count(), 1, "{problems}");
    for key in [
        "users_file",
        "hba_file",
        "query",
        "query_user",
        "password",
        "cert",
        "key",
        "ca",
        "mode",
        "method",
        "url",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(&format!("{key} = "))),
            "{key}"
        );
    }
}

#[test]
fn the_minimal_file_is_good() {
    let config = with_password().parse(MINIMAL).unwrap();
    assert_eq!(
        config.databases["app"].url.to_string(),
        "postgresql://app:***@127.0.0.1:5432/app"
    );
    assert_eq!(parse(MINIMAL).unwrap_err().iter().count(), 2);
}

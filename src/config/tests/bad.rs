//! What is said of configurations that are wrong.

use super::*;

/// The problems, without the name of the file.
fn problems(text: &str) -> String {
    let problems = parse(text).unwrap_err().to_string();
    problems.replace("/etc/pgweir.toml:", "")
}

/// What is said of something before the sections of a good file.
fn top(text: &str) -> String {
    problems(&format!("{text}\n{GOOD}"))
}

/// What is said of something after them.
fn below(text: &str) -> String {
    problems(&format!("{GOOD}{text}"))
}

#[test]
fn everything_is_told_at_once_in_the_order_of_the_file() {
    let text = "
pool_sice = 20
  workers = \"four\"
pool_timeout = 5
listen = [\"localhost\", \"127.0.0.1:6432\", 7]
[auth]
method = \"scram\"
users_file = \"users.txt\"
[users.app]
password = \"${APP_PASSWORD}\"
pool_size = 0
[databases.app]
url = \"postgresql://app@db:port/app\"
pool_mode = \"sesion\"
[databases.other]
";
    assert_eq!(
        problems(text),
        "\
2:1: unknown key \"pool_sice\": did you mean \"pool_size\"?
3:13: \"workers\" must be a whole number, not a string
4:16: \"pool_timeout\" is a duration, a string with a unit: write \"5s\" or \"5ms\"
5:42: \"listen\" must be a string in quotes, not a number without quotes
7:10: \"method\" must be \"trust\", \"password\", \"md5\", \"scram-sha-256\", \"cert\" or \"hba\"
8:14: \"users_file\" names a file: cannot read \"/etc/users.txt\": no such file
10:12: \"password\" names the environment variable APP_PASSWORD, which is not set
11:13: \"pool_size\" must be between 1 and 262143
13:7: \"url\" is no URL to connect to: the URL's port must be a number between 1 and 65535 (in a user name or password write / as %2F, : as %3A)
14:13: \"pool_mode\" must be \"session\", \"transaction\" or \"statement\"
15:12: database \"other\" has no url: write url = \"postgresql://host:5432/other\""
    );
}

#[test]
fn a_line_names_the_file_and_what_comes_from_outside_stands_first() {
    let given = Given {
        environment: vec![("PGWEIR_WORKERS", "many"), ("PGWEIR_POOL_TIMEOUT", "5")],
        flags: Flags {
            listen: vec!["nowhere".into()],
            ..Flags::default()
        },
        ..Given::default()
    };
    assert_eq!(
        given.parse(&format!("workers = 1.5{GOOD}")).unwrap_err().to_string(),
        "\
--listen: \"listen\" has \"nowhere\": the port is missing, as in `127.0.0.1:6432`
PGWEIR_POOL_TIMEOUT: \"pool_timeout\" must be a number with a unit, as in \"5s\"; the units are \"ms\", \"s\", \"min\", \"h\" or \"d\"
PGWEIR_WORKERS: \"workers\" must be a whole number
/etc/pgweir.toml:1:11: \"workers\" must be a whole number, not a fraction"
    );
}

#[test]
fn wrong_values_say_what_is_right() {
    for (text, said) in [
        (
            "max_clients = -1",
            "1:15: \"max_clients\" must be between 1 and 1048576",
        ),
        (
            "max_clients = 99999999999999999999",
            "1:15: \"max_clients\" must be between 1 and 1048576",
        ),
        (
            "max_clients = true",
            "1:15: \"max_clients\" must be a whole number, not true or false",
        ),
        (
            "admin_users = \"root\"",
            "1:15: \"admin_users\" must be a list as in [\"a\", \"b\"], not a string",
        ),
        ("admin_users = [\"\"]", "1:16: \"admin_users\" must not be empty"),
        (
            "log_level = \"verbose\"",
            "1:13: \"log_level\" must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        ),
        ("listen = []", "1:10: \"listen\" must name at least one address"),
        (
            "listen = [\"a:1\", \"a:1\"]",
            "1:10: \"listen\" has \"a:1\" twice",
        ),
    ] {
        assert_eq!(top(text), said, "{text}");
    }
}

#[test]
fn wrong_quantities_and_strings_say_what_is_right() {
    for (text, said) in [
        (
            "idle_timeout = 0",
            "1:16: \"idle_timeout\" is a duration, a string with a unit: write \"0\"",
        ),
        (
            "idle_timeout = \"400d\"",
            "1:16: \"idle_timeout\" must be at most \"24d\"",
        ),
        (
            "idle_timeout = \"1h30min\"",
            "1:16: \"idle_timeout\" must be a number with a unit, as in \"5s\"; the units are \"ms\", \"s\", \"min\", \"h\" or \"d\"",
        ),
        (
            "max_memory = 5",
            "1:14: \"max_memory\" is a size, a string with a unit: write \"5MB\" or \"5B\"",
        ),
        (
            "max_memory = \"5mb\"",
            "1:14: \"max_memory\" must be a number with a unit, as in \"64MB\"; the units are \"B\", \"kB\", \"MB\", \"GB\" or \"TB\"",
        ),
        (
            "max_memory = \"99999999999999TB\"",
            "1:14: \"max_memory\" is too large",
        ),
        (
            "connect_query = \"SELECT ${\"",
            "1:17: \"connect_query\" has a ${ without a } (write ${ itself as $${)",
        ),
        (
            "connect_query = \"a\\u0000b\"",
            "1:17: \"connect_query\" must not contain a zero byte",
        ),
        (
            "auth = \"trust\"",
            "1:8: \"auth\" is a section: write [auth], not a string",
        ),
        (
            "Pool-Size = 1",
            "1:1: unknown key \"Pool-Size\": did you mean \"pool_size\"?",
        ),
        (
            "default_pool_size = 1",
            "1:1: unknown key \"default_pool_size\": it is called \"pool_size\" here",
        ),
    ] {
        assert_eq!(top(text), said, "{text}");
    }
}

#[test]
fn unknown_keys_of_sections_name_what_is_near_or_all() {
    assert_eq!(
        below("[tls]\ncerts = \"x\""),
        "7:1: unknown key \"certs\": did you mean \"cert\"?"
    );
    assert_eq!(
        below("[tls]\nzzzzzz = \"x\""),
        "7:1: unknown key \"zzzzzz\": known here are mode, cert, key, ca"
    );
    assert_eq!(
        below("listen = [\"a:1\"]"),
        "6:1: \"listen\" may stand only at the top level, before the first [section]"
    );
    assert_eq!(
        below("[auth]\npool_size = 1"),
        "7:1: \"pool_size\" may stand only at the top level, under [databases.NAME] and under [users.NAME]"
    );
    assert_eq!(
        below("[users.b]\nurl = \"x\""),
        "7:1: unknown key \"url\": known here are password, ".to_owned() + &settings::POOL_KEYS.join(", ")
    );
}

#[test]
fn a_replica_is_one_host() {
    let text = "[databases.b]\nurl = \"postgresql://a/x\"\nread_replicas = [\"postgresql://c,d/x\"]";
    let said = below(text);
    assert!(said.ends_with("must have one host: each replica has an entry of its own"), "{said}");
}

#[test]
fn features_of_other_versions_are_refused_by_name() {
    let keys = [
        "read_replicas",
        "load_balancing",
        "reads",
        "read_consistency",
        "max_replica_lag",
        "health_check_interval",
        "read_only_functions",
        "write_functions",
        "lsn_poll_interval",
        "failover_timeout",
        "failover_threshold",
        "shard_key",
        "shard_function",
        "cross_shard_writes",
        "gather_limit",
        "shards",
        "tables",
    ];
    for key in keys {
        let said = below(&format!("{key} = \"x\""));
        assert!(
            said.starts_with(&format!("6:1: \"{key}\" is not available in this version: ")),
            "{said}"
        );
    }
    let sharded =
        below("[databases.orders]\nshard_key = \"id\"\n[databases.orders.shards]\none = \"postgresql://a\"");
    assert_eq!(sharded.lines().count(), 2, "{sharded}");
}

#[test]
fn settings_that_exclude_each_other_are_told() {
    for (text, said) in [
        (
            "min_pool_size = 30",
            "1:17: \"min_pool_size\" (30) is larger than \"pool_size\" (20)",
        ),
        (
            "min_pool_size = 30\npool_size = \"x\"",
            "2:13: \"pool_size\" must be a whole number, not a string",
        ),
    ] {
        assert_eq!(top(text), said, "{text}");
    }
    for (text, said) in [
        (
            "min_pool_size = 21",
            "6:17: \"min_pool_size\" (21) is larger than \"pool_size\" (20)",
        ),
        (
            "[auth]\nmethod = \"hba\"",
            "7:10: method = \"hba\" needs \"hba_file\"",
        ),
        (
            "[auth]\nmethod = \"cert\"",
            "7:10: method = \"cert\" needs \"ca\" in [tls], to know whose certificates are good",
        ),
        (
            "[auth]\nquery_user = \"x\"",
            "7:14: \"query_user\" says who runs \"query\", and there is no \"query\"",
        ),
        (
            "[auth]\nquery = \"SELECT 1\"\n[databases.b]\nurl = \"postgresql://db\"",
            "7:9: \"query\" needs \"query_user\": the URL of database \"b\" has no user",
        ),
        (
            "[tls]\nmode = \"require\"",
            "7:8: mode = \"require\" needs \"cert\" and \"key\", to offer TLS to clients",
        ),
        (
            "[server_tls]\nmode = \"verify-full\"",
            "7:8: sslmode=verify-full needs the certificate of who signed the server's: sslrootcert in the URL, or \"ca\" in [server_tls]",
        ),
        (
            "[databases.pgbouncer]\nurl = \"postgresql://db\"",
            "6:12: the database name \"pgbouncer\" is that of the console",
        ),
    ] {
        assert_eq!(below(text), said, "{text}");
    }
    assert_eq!(
        problems("[databases.a]\nurl = \"postgresql://db\""),
        "1:1: nobody can log in: write [users.NAME] with a password, or \"users_file\" or \"query\" in [auth], or method = \"trust\""
    );
    assert_eq!(
        problems("[auth]\nmethod = \"trust\""),
        "1:1: there is no database: write [databases.NAME] with a url"
    );
}

#[test]
fn broken_syntax_is_told_together_with_the_rest() {
    let said = problems(
        "workers = = 1\npool_sice = 1\n[databases.app]\nurl = \"postgresql://db\nlog_level = \"loud\"\n",
    );
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("1:"), "{said}");
    assert!(
        said.contains("2:1: unknown key \"pool_sice\": did you mean \"pool_size\"?"),
        "{said}"
    );
    assert!(lines.iter().any(|line| line.starts_with("4:")), "{said}");
    assert!(problems("workers = 1\nworkers = 2\n").contains("2:1: duplicate key"));
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let refusal = |path: &str, content: &[u8]| {
        let mut given = Given::default();
        given
            .files
            .0
            .insert(PathBuf::from("/etc/x.toml"), content.to_vec());
        given
            .with_sources(|sources| check(Path::new(path), sources))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal("/nowhere.toml", b""),
        "/nowhere.toml: the file cannot be read: no such file"
    );
    assert_eq!(
        refusal("/etc/x.toml", b"a = 1\n\xc3\xa9 = \xff"),
        "/etc/x.toml:2:5: the file is not UTF-8 text"
    );
    assert!(
        refusal("pgbouncer.ini", b"")
            .starts_with("pgbouncer.ini: an .ini file is not available in this version: ")
    );
    assert!(refusal("/etc/x.toml", &vec![b'#'; 17 << 20]).contains("larger than 16 MB"));
}

#[test]
fn very_many_problems_are_counted() {
    let text: String = (0..1000).map(|number| format!("key_{number} = 1\n")).collect();
    let said = parse(&text).unwrap_err();
    assert_eq!(said.iter().count(), 201);
    assert!(said.to_string().ends_with("and 802 more problems"), "{said}");
}

#[test]
fn a_problem_is_one_short_line_whatever_it_names() {
    let said = below(&format!("\"a\\nb\\u001b[2J{}\" = 1", "x".repeat(10_000)));
    assert!(
        said.starts_with("6:1: unknown key \"a\\nb\\u{1b}[2Jx") && said.len() < 1100,
        "{said}"
    );
}

#[test]
fn lines_of_the_files_that_are_named_have_places_of_their_own() {
    let files = Memory::default()
        .with("/etc/users.txt", "\"app\" \"sesame\"\napp sesame\n")
        .with("/etc/pg_hba.conf", "hist all all trust\n");
    let given = Given {
        files,
        ..Given::default()
    };
    let text = format!(
        "[auth]\nmethod = \"hba\"\nusers_file = \"users.txt\"\nhba_file = \"pg_hba.conf\"\nquery_usr = \"x\"{GOOD}"
    );
    let said = given.parse(&text).unwrap_err().to_string();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[0],
        "/etc/pgweir.toml:5:1: unknown key \"query_usr\": did you mean \"query_user\"?"
    );
    assert!(lines[1].starts_with("/etc/pg_hba.conf:1:1: "), "{said}");
    assert!(lines[2].starts_with("/etc/users.txt:2:1: "), "{said}");
    assert!(lines.len() == 3 && !said.contains("sesame"), "{said}");
}

#[test]
fn certificates_that_are_none_are_told_with_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let written = |name: &str, content: &str| std::fs::write(directory.path().join(name), content).unwrap();
    written("server.crt", "nothing");
    written("server.key", "nothing");
    written("root.crt", "nothing");
    let text = format!(
        "[tls]\ncert = \"server.crt\"\nkey = \"server.key\"\n{GOOD}pool_sice = 1\n\
         [databases.b]\nurl = \"postgresql://b?sslmode=verify-ca&sslrootcert=root.crt\"\n"
    );
    written("pgweir.toml", &text);
    let path = directory.path().join("pgweir.toml");
    let sources = Sources {
        environment: &Environment::default(),
        files: &Disk,
        flags: &Flags::default(),
    };
    let said = check(&path, &sources).unwrap_err().to_string();
    let said = said.replace(&format!("{}/", directory.path().display()), "");
    assert_eq!(
        said,
        "\
pgweir.toml:2:8: server.crt: there is no certificate in this file
pgweir.toml:9:1: unknown key \"pool_sice\": did you mean \"pool_size\"?
pgweir.toml:11:7: root.crt: there is no certificate in this file"
    );
}

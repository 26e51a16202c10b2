use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::auth::{Method, Secret};
use crate::pool::settings::PoolMode;

mod bad;
mod documented;
mod replicas;

/// Files by name.
#[derive(Default)]
pub(super) struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    fn with(mut self, path: &str, content: &str) -> Self {
        self.0.insert(PathBuf::from(path), content.as_bytes().to_vec());
        self
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0
            .get(path)
            .cloned()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    fn client_tls_problem(&self, _: &ClientTlsSettings) -> Option<String> {
        None
    }

    fn server_tls_problem(&self, _: &ServerTlsSettings) -> Option<String> {
        None
    }
}

/// What a test hands in beside the text.
#[derive(Default)]
pub(super) struct Given {
    environment: Vec<(&'static str, &'static str)>,
    files: Memory,
    flags: Flags,
}

impl Given {
    fn parse(&self, text: &str) -> Result<Config, Problems> {
        self.with_sources(|sources| Config::parse(Path::new("/etc/pgweir.toml"), text, sources))
    }

    fn url(&self, url: &str) -> Result<Config, Problems> {
        self.with_sources(|sources| Config::from_url(url, "--url", sources))
    }

    fn with_sources<T>(&self, run: impl FnOnce(&Sources<'_>) -> T) -> T {
        let environment = self.environment.iter().copied().collect();
        run(&Sources {
            environment: &environment,
            files: &self.files,
            flags: &self.flags,
        })
    }
}

/// A configuration without problems, before what a test adds to it.
const GOOD: &str = "
[users.app]
password = \"sesame\"
[databases.app]
url = \"postgresql://app:sesame@db/app\"
";

fn parse(text: &str) -> Result<Config, Problems> {
    Given::default().parse(text)
}

fn good(text: &str) -> Config {
    parse(&format!("{text}{GOOD}")).unwrap()
}

#[test]
fn values_of_the_file_stand_over_the_defaults() {
    let config = good(
        "listen = [\"*:7000\", \"/run/pgweir\"]\nhttp_listen = \"[::1]:9127\"\nworkers = 2\nmax_clients = 0x10\nadmin_users = [\"root\"]\nlog_level = \"debug\"\n\
         log_format = \"json\"\ndrain_timeout = \"1min\"\nlog_slow_queries = \"250ms\"\nmax_memory = \"1GB\"\npool_mode = \"session\"\n\
         idle_timeout = \"0\"\n",
    );
    assert_eq!(
        config.listen,
        [
            ListenAddr::Tcp {
                host: "*".into(),
                port: 7000
            },
            ListenAddr::Unix {
                directory: "/run/pgweir".into(),
                port: 7000
            }
        ]
    );
    let http = config.http_listen.as_ref().map(ToString::to_string);
    assert_eq!(http.as_deref(), Some("[::1]:9127"));
    assert_eq!((config.workers, config.max_clients), (2, 16));
    assert_eq!(config.admin_users, ["root"]);
    assert_eq!(
        (config.log_level, config.log_format),
        (LogLevel::Debug, LogFormat::Json)
    );
    assert_eq!(config.drain_timeout, Duration::from_secs(60));
    assert_eq!(config.log_slow_queries, Some(Duration::from_millis(250)));
    assert_eq!(config.max_memory, Some(1 << 30));
    assert_eq!(config.pool_settings("app", "app").pool_mode, PoolMode::Session);
    assert_eq!(config.pool_settings("app", "app").idle_timeout, Duration::ZERO);
}

#[test]
fn the_most_specific_pool_setting_wins() {
    let config = parse(
        "pool_size = 1\npool_timeout = \"1s\"\nidle_timeout = \"1s\"\n\
         [users.app]\npassword = \"x\"\npool_size = 3\n\
         [databases.app]\nurl = \"postgresql://db\"\npool_size = 2\npool_timeout = \"2s\"\n\
         [databases.\"*\"]\nurl = \"postgresql://db\"\npool_timeout = \"9s\"\n",
    )
    .unwrap();
    let of = |database, user| {
        let settings = config.pool_settings(database, user);
        (
            settings.pool_size,
            settings.pool_timeout.as_secs(),
            settings.idle_timeout.as_secs(),
            settings.prepared_statements,
        )
    };
    assert_eq!(of("app", "app"), (3, 2, 1, 200));
    assert_eq!(of("app", "other"), (2, 2, 1, 200));
    assert_eq!(of("elsewhere", "other"), (1, 9, 1, 200));
    assert_eq!(of("elsewhere", "app"), (3, 9, 1, 200));
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let text = format!("workers = 1\npool_size = 1\nmax_clients = 1\nlog_level = \"error\"\n{GOOD}");
    let mut given = Given {
        environment: vec![
            ("PGWEIR_WORKERS", "2"),
            ("PGWEIR_POOL_SIZE", "2"),
            ("PGWEIR_LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
            ("PGWEIR_DRAIN_TIMEOUT", "2s"),
            ("PGWEIR_LOG_LEVEL", "warn"),
            ("PGWEIR_CONNECT_QUERY", "SELECT '${x}'"),
            ("PGWEIR_MAX_CLIENTS", ""),
            ("PGWEIR_PORT", "tcp://10.0.0.1:80"),
        ],
        ..Given::default()
    };
    given.flags = Flags {
        listen: vec!["127.0.0.1:3".into()],
        http_listen: None,
        workers: Some(3),
        log_level: Some(LogLevel::Trace),
    };
    let config = given.parse(&text).unwrap();
    assert_eq!(
        (config.workers, config.pool.pool_size, config.max_clients),
        (3, Some(2), 1)
    );
    assert_eq!(
        config.listen,
        [ListenAddr::Tcp {
            host: "127.0.0.1".into(),
            port: 3
        }]
    );
    assert_eq!(config.drain_timeout, Duration::from_secs(2));
    assert_eq!(config.log_level, LogLevel::Trace);
    assert_eq!(config.pool.connect_query.as_deref(), Some("SELECT '${x}'"));
}

#[test]
fn every_key_of_the_top_level_can_come_from_the_environment() {
    for row in good("").rows() {
        let variable: &'static str = format!("PGWEIR_{}", row.key.to_ascii_uppercase()).leak();
        let default: &'static str = if row.default.is_empty() {
            "a,b"
        } else {
            row.default.clone().leak()
        };
        let given = Given {
            environment: vec![(variable, default)],
            ..Given::default()
        };
        assert!(given.parse(GOOD).is_ok(), "{variable}={default}");
        let given = Given {
            environment: vec![(variable, "\u{0}!")],
            ..Given::default()
        };
        let read = given.parse(GOOD).map(|config| config.rows());
        assert_ne!(read.ok(), Some(good("").rows()), "{variable}");
    }
}

#[test]
fn rows_show_every_key_and_no_secret() {
    let config = good("pool_size = 7\nadmin_users = [\"root\"]\n");
    let rows = config.rows();
    let keys: Vec<_> = rows.iter().map(|row| row.key).collect();
    let known: Vec<_> = settings::TOP_KEYS
        .into_iter()
        .chain(settings::POOL_KEYS)
        .collect();
    assert_eq!(keys, known);
    let size = rows.iter().find(|row| row.key == "pool_size").unwrap();
    assert_eq!(
        (size.value.as_str(), size.default.as_str(), size.changeable),
        ("7", "20", true)
    );
    assert!(rows.iter().filter(|row| !row.changeable).map(|row| row.key).eq([
        "listen",
        "http_listen",
        "workers"
    ]));
    assert!(!format!("{rows:?}").contains("sesame"));
}

#[test]
fn debug_and_display_show_no_password() {
    let given = Given {
        environment: vec![("PASS", "sesame-env")],
        files: Memory::default().with("/etc/pw", "sesame-file\n"),
        ..Given::default()
    };
    let config = given
        .parse(
            "[users.a]\npassword = \"sesame-plain\"\n[users.b]\npassword = \"${PASS}\"\n[users.c]\npassword = \"${file:pw}\"\n\
             [databases.a]\nurl = \"postgresql://u:sesame-url@h/d\"\n[databases.b]\nurl = \"host=h user=u password=${file:pw}\"\n\
             [databases.c]\nurl = \"postgresql://h/d?user=u&password=sesame-query\"\n",
        )
        .unwrap();
    let urls: Vec<_> = config
        .databases
        .values()
        .map(|database| database.url.to_string())
        .collect();
    let shown = format!("{config:?} {config:#?} {urls:?}");
    assert!(!shown.contains("sesame"), "{shown}");
    assert_eq!(urls[0], "postgresql://u:***@h:5432/d");
}

#[test]
fn a_secret_in_a_file_can_be_read_again() {
    let text = "[users.app]\npassword = \"${file:secret/pw}\"\n[databases.app]\nurl = \"postgresql://app:${file:secret/pw}@db/app\"\n";
    let before = Given {
        files: Memory::default().with("/etc/secret/pw", "one\n"),
        ..Given::default()
    };
    let config = before.parse(text).unwrap();
    let password = |url: &ServerUrl| url.password.clone().unwrap();
    assert_eq!(password(&config.databases["app"].url), Secret::from("one"));
    let after = Memory::default().with("/etc/secret/pw", "p@ss/2\r\n");
    assert_eq!(
        password(&config.databases["app"].url_again(&after).unwrap()),
        Secret::from("p@ss/2")
    );
    let user = config.users["app"].secret.clone().unwrap();
    assert_eq!(user.read(&after).unwrap(), Secret::from("p@ss/2"));
    assert!(!user.is_fixed());
    let gone = config.databases["app"].url_again(&Memory::default()).unwrap_err();
    assert_eq!(gone.to_string(), "cannot read \"/etc/secret/pw\": no such file");
}

#[test]
fn relative_paths_start_in_the_directory_of_the_file() {
    let files = ["server.crt", "server.key", "sub/root.crt"]
        .iter()
        .fold(Memory::default(), |files, name| {
            files.with(&format!("/etc/{name}"), "")
        });
    let given = Given {
        files: files.with("/abs/ca.crt", ""),
        ..Given::default()
    };
    let config = given
        .parse(
            "[users.app]\npassword = \"x\"\n[tls]\ncert = \"server.crt\"\nkey = \"server.key\"\nca = \"/abs/ca.crt\"\n\
             [databases.app]\nurl = \"postgresql://db/app?sslmode=verify-full&sslrootcert=sub/root.crt\"\n",
        )
        .unwrap();
    assert_eq!(config.tls.cert.as_deref(), Some(Path::new("/etc/server.crt")));
    assert_eq!(config.tls.ca.as_deref(), Some(Path::new("/abs/ca.crt")));
    assert_eq!(config.tls.mode, TlsMode::Prefer);
    assert_eq!(
        config.databases["app"].url.root_certificate.as_deref(),
        Some(Path::new("/etc/sub/root.crt"))
    );
}

#[test]
fn a_url_alone_is_a_configuration() {
    let config = Given::default()
        .url("postgresql://app:s%40same@db:1/shop")
        .unwrap();
    assert_eq!(config.listen, Config::default().listen);
    assert_eq!(config.databases.keys().collect::<Vec<_>>(), ["shop"]);
    assert_eq!(config.auth.method, Method::ScramSha256);
    assert_eq!(config.users["app"].secret, Some(SecretSource::fixed("s@same")));
    assert!(!format!("{config:?}").contains("same"));
    // As in libpq, the database is named like the user where the URL does not say.
    let config = Given::default().url("postgresql://app@db").unwrap();
    assert!(config.database("app").is_some() && config.auth.method == Method::Trust);
}

#[test]
fn a_url_that_cannot_serve_is_refused_without_its_password() {
    let refusal = |url: &str| Given::default().url(url).unwrap_err().to_string();
    assert_eq!(
        refusal("postgresql://db/app"),
        "--url: the URL must name the user: write postgresql://user:password@host/database"
    );
    assert!(
        refusal("postgresql://u:p@db/pgweir")
            .ends_with("the database name \"pgweir\" is that of the console")
    );
    for url in [
        "postgresql://u:ses/ame@db/app",
        "postgresql://u:ses@ame@db/app",
        "u:sesame@db/app",
        "mysql://u:sesame@db",
    ] {
        let shown = refusal(url);
        assert!(
            shown.starts_with("--url: ") && !shown.contains("ame@") && !shown.contains("ses"),
            "{shown}"
        );
    }
    let given = Given {
        flags: Flags {
            listen: vec!["0.0.0.0:6432".into()],
            ..Flags::default()
        },
        ..Given::default()
    };
    assert!(
        given
            .url("postgresql://u@db")
            .unwrap_err()
            .to_string()
            .contains("the URL has no password")
    );
    assert!(given.url("postgresql://u:p@db").is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = parse(&text);
        let _ = ServerUrl::parse(&text, Path::new(""));
        let _ = Given::default().url(&text);
    }

    #[test]
    fn no_file_made_of_its_own_words_makes_it_panic(words in proptest::collection::vec(0..WORDS.len(), 0..60)) {
        let text: String = words.into_iter().map(|index| WORDS[index]).collect();
        if let Err(problems) = parse(&text) {
            prop_assert!(problems.iter().count() > 0);
            prop_assert!(problems.iter().all(|problem| !problem.to_string().contains('\n')));
        }
    }

    #[test]
    fn no_url_made_of_its_own_signs_makes_it_panic(rest in "[a-z0-9@:/?&=%,\\[\\]'\\\\ ]*") {
        for head in ["postgresql://", "host=", ""] {
            let _ = ServerUrl::parse(&format!("{head}{rest}"), Path::new("/etc"));
        }
    }

    #[test]
    fn no_problem_repeats_a_password(password in "[a-z]{8}", text in "[\\[\\]=\".${}\n ]*") {
        let secret = format!("q{password}");
        let text = format!("[users.app]\npassword = \"{secret}{text}");
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.to_string().contains(&secret), "{}", problems);
        }
    }
}

/// What files are made of.
const WORDS: &[&str] = &[
    "[auth]\n",
    "[users.a]\n",
    "[users]\n",
    "[tls]\n",
    "[databases.a]\n",
    "[databases.\"*\"]\n",
    "databases",
    "users",
    "auth",
    "tls",
    " = ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\n",
    ".",
    ",",
    "listen",
    "workers",
    "pool_size",
    "pool_timeout",
    "min_pool_size",
    "url",
    "password",
    "query",
    "query_user",
    "method",
    "\"hba\"",
    "\"5s\"",
    "\"64MB\"",
    "5",
    "-1",
    "99999999999999999999",
    "0x",
    "1.5",
    "true",
    "1979-05-27",
    "\"${A}\"",
    "\"${file:x}\"",
    "\"postgresql://h\"",
    "\"postgresql://u:p@[::1]:1,h/d?sslmode=require\"",
    "\"\"\"",
    "é",
    "\u{0}",
    "#",
    "[[users]]\n",
    "\"127.0.0.1:1\"",
    "shards",
];

#[test]
fn stored_secrets_are_read_from_the_users_file_and_the_inline_ones_win() {
    let files = Memory::default()
        .with(
            "/etc/users.txt",
            "\"app\" \"from-file\"\n\"other\" \"from-file\"\n\"locked\" \"\"\n",
        )
        .with("/etc/pg_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n");
    let given = Given {
        files,
        ..Given::default()
    };
    let config = given
        .parse(&format!(
            "[auth]\nmethod = \"hba\"\nusers_file = \"users.txt\"\nhba_file = \"pg_hba.conf\"\n{GOOD}"
        ))
        .unwrap();
    assert_eq!(
        config.verifier("app"),
        Some(&Verifier::Plain(Secret::from("sesame")))
    );
    assert_eq!(
        config.verifier("other"),
        Some(&Verifier::Plain(Secret::from("from-file")))
    );
    assert_eq!(
        (config.verifier("locked"), config.is_listed("locked")),
        (None, true)
    );
    assert!(!config.is_listed("nobody") && config.lists_users());
    assert_eq!(
        config.auth.hba.as_ref().map(|file| file.rules.rules().len()),
        Some(1)
    );
    assert!(!format!("{config:?}").contains("from-file"));
}

#[test]
fn a_url_says_for_itself_how_its_servers_are_reached() {
    let files = ["ca", "cert", "key", "own"]
        .iter()
        .fold(Memory::default(), |files, name| {
            files.with(&format!("/etc/{name}"), "")
        });
    let given = Given {
        files,
        ..Given::default()
    };
    let config = given
        .parse(&format!(
            "tcp_user_timeout = \"9s\"\n[server_tls]\nmode = \"verify-full\"\nca = \"ca\"\ncert = \"cert\"\nkey = \"key\"\n{GOOD}\
             [databases.b]\nurl = \"postgresql://b?sslmode=require&sslrootcert=own&sslcert=own&sslkey=own&keepalives=0\"\n"
        ))
        .unwrap();
    let own = Some(PathBuf::from("/etc/own"));
    let of = |name: &str| config.server_tls(&config.databases[name].url);
    assert_eq!(of("app"), config.server_tls);
    assert_eq!(
        of("b"),
        ServerTlsSettings {
            mode: TlsMode::Require,
            cert: own.clone(),
            key: own.clone(),
            ca: own
        }
    );
    let keepalive = config.server_keepalive(&config.databases["b"].url);
    assert_eq!(
        keepalive,
        Keepalive {
            idle: Duration::ZERO,
            user_timeout: Duration::from_secs(9)
        }
    );
}

//! How clients prove who they are, and how little those learn who cannot.

use std::path::PathBuf;

use pgweir::protocol::tag;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use tempfile::TempDir;

use super::harness::clients::{psql, python};
use super::harness::wire::{Frame, c_string, tags};
use super::harness::{Pgweir, Postgres, Wire};

/// A server in front of which everybody is its superuser, and a file with a user of each kind of secret; the password of
/// each is `secret`.
struct Stage {
    postgres: Postgres,
    users_file: PathBuf,
    _directory: TempDir,
}

impl Stage {
    fn new() -> Self {
        let postgres = Postgres::start();
        let directory = tempfile::tempdir().unwrap();
        let users_file = directory.path().join("userlist.txt");
        let md5 = stored(&postgres, "hashed", "md5", "secret");
        let scram = stored(&postgres, "salted", "scram-sha-256", "secret");
        let text = format!(
            "; a comment\n\"clear\" \"secret\" ignored\n\"hashed\" \"{md5}\"\n\"salted\" \"{scram}\"\n\"locked\" \"\"\n"
        );
        std::fs::write(&users_file, text).unwrap();
        Self {
            postgres,
            users_file,
            _directory: directory,
        }
    }

    fn pooler(&self, method: &str) -> Pgweir {
        self.pooler_with(method, "")
    }

    fn pooler_with(&self, method: &str, more: &str) -> Pgweir {
        let (url, file) = (self.postgres.superuser_url(), self.users_file.display());
        let config = format!(
            "workers = 2\nlog_level = \"trace\"\n[auth]\nmethod = \"{method}\"\nusers_file = \"{file}\"\n{more}\n[databases.app]\nurl = \"{url}\"\n"
        );
        Pgweir::builder().config(&config).start()
    }
}

/// What a server stores of a password.
fn stored(postgres: &Postgres, user: &str, encryption: &str, password: &str) -> String {
    postgres.sql(&format!(
        "SET password_encryption = '{encryption}'; CREATE ROLE {user} LOGIN PASSWORD '{password}'"
    ));
    postgres.sql(&format!(
        "SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'"
    ))
}

fn url(pgweir: &Pgweir, user: &str, password: &str) -> String {
    format!("postgresql://{user}:{password}@127.0.0.1:{}/app", pgweir.port())
}

/// Everything a server says to a login, up to ReadyForQuery or the end.
fn transcript(pgweir: &Pgweir, user: &str, password: &str) -> Vec<Frame> {
    let mut wire = pgweir.wire();
    wire.startup(&[("user", user), ("database", "app")]);
    let mut frames = Vec::new();
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    while let Some(frame) = wire.try_read_frame().unwrap() {
        let kind = frame.body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match (frame.tag, kind) {
            (tag::AUTHENTICATION, Some(3)) => wire.send(tag::PASSWORD_MESSAGE, &c_string(password)),
            (tag::AUTHENTICATION, Some(5)) => {
                let salt = frame.body[4..8].try_into().unwrap();
                let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                wire.send(tag::PASSWORD_MESSAGE, &c_string(&hash));
            }
            (tag::AUTHENTICATION, Some(10)) => {
                let first = scram.message();
                let length = u32::try_from(first.len()).unwrap().to_be_bytes();
                let body = [&c_string(SCRAM_SHA_256), length.as_slice(), first].concat();
                wire.send(tag::PASSWORD_MESSAGE, &body);
            }
            (tag::AUTHENTICATION, Some(11)) => {
                scram.update(&frame.body[4..]).unwrap();
                wire.send(tag::PASSWORD_MESSAGE, scram.message());
            }
            _ => {}
        }
        let is_ready = frame.tag == tag::READY_FOR_QUERY;
        frames.push(frame);
        if is_ready {
            break;
        }
    }
    frames
}

/// The same without what is random: nonces, salts of md5. The salt of SCRAM stays as its length.
fn comparable(frames: &[Frame], user: &str) -> Vec<String> {
    let of_frame = |frame: &Frame| {
        let kind = frame.body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match (frame.tag, kind) {
            (tag::AUTHENTICATION, Some(5)) => "md5".to_owned(),
            (tag::AUTHENTICATION, Some(11)) => {
                let text = String::from_utf8_lossy(&frame.body[4..]).into_owned();
                let parts: Vec<_> = text.split(',').collect();
                format!("continue {} {} {}", parts[0].len(), parts[1].len(), parts[2])
            }
            _ => format!("{frame:?}").replace(user, "USER"),
        }
    };
    frames.iter().map(of_frame).collect()
}

#[test]
fn trust_lets_in_any_name_unless_users_are_listed() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before(&postgres);
    assert_eq!(psql(&pgweir.url("anybody", "app"), "SELECT 1").success(), "1");
    let stage = Stage::new();
    let pgweir = stage.pooler("trust");
    assert_eq!(psql(&pgweir.url("locked", "app"), "SELECT 1").success(), "1");
    let error = psql(&pgweir.url("anybody", "app"), "SELECT 1").failure();
    assert!(
        error.contains("trust authentication failed for user \"anybody\""),
        "{error}"
    );
}

#[test]
fn each_method_takes_each_stored_secret_that_it_can_check() {
    let stage = Stage::new();
    for method in ["password", "md5", "scram-sha-256"] {
        let pgweir = stage.pooler(method);
        for user in ["clear", "hashed", "salted", "locked"] {
            let can_check = user != "locked" && !(user == "hashed" && method == "scram-sha-256");
            let right = psql(&url(&pgweir, user, "secret"), "SELECT 1");
            if can_check {
                assert_eq!(right.success(), "1", "{user} by {method}");
            } else {
                let error = right.failure();
                assert!(
                    error.contains("password authentication failed"),
                    "{user} by {method}: {error}"
                );
            }
            let error = psql(&url(&pgweir, user, "guess"), "SELECT 1").failure();
            let expected = format!("FATAL:  password authentication failed for user \"{user}\"");
            assert!(error.contains(&expected), "{user} by {method}: {error}");
        }
        let log = pgweir.log();
        for secret in ["secret\"", "guess", "SCRAM-SHA-256$", "md5"] {
            let shown = log.lines().filter(|line| line.contains(secret)).count();
            assert_eq!(shown, 0, "{secret} in the log:\n{log}");
        }
    }
}

#[test]
fn other_drivers_log_in_too() {
    let stage = Stage::new();
    for method in ["password", "md5", "scram-sha-256"] {
        let pgweir = stage.pooler(method);
        let script = "import asyncio, os, asyncpg, psycopg\n\
             url = os.environ['DATABASE_URL']\n\
             async def ask():\n    c = await asyncpg.connect(url)\n    print(await c.fetchval('SELECT 1'))\n    await c.close()\n\
             asyncio.run(ask())\n\
             print(psycopg.connect(url).execute('SELECT 2').fetchone()[0])";
        assert_eq!(
            python(&url(&pgweir, "salted", "secret"), script).success(),
            "1\n2"
        );
    }
}

#[test]
fn a_user_of_the_configuration_wins_over_the_file() {
    let stage = Stage::new();
    let pgweir = stage.pooler_with("scram-sha-256", "[users.clear]\npassword = \"inline\"\n");
    assert_eq!(psql(&url(&pgweir, "clear", "inline"), "SELECT 1").success(), "1");
    psql(&url(&pgweir, "clear", "secret"), "SELECT 1").failure();
    let with_settings_alone = stage.pooler_with("scram-sha-256", "[users.clear]\npool_size = 3\n");
    let url = url(&with_settings_alone, "clear", "secret");
    assert_eq!(psql(&url, "SELECT 1").success(), "1");
}

#[test]
fn an_unknown_user_and_a_wrong_password_get_the_same_answers() {
    let stage = Stage::new();
    // What most users have is what an unknown one seems to have: here all three are equally many, and SCRAM wins.
    for (method, known) in [
        ("password", vec!["clear", "hashed", "salted", "locked"]),
        ("md5", vec!["salted", "locked"]),
        ("scram-sha-256", vec!["clear", "hashed", "salted", "locked"]),
    ] {
        let pgweir = stage.pooler(method);
        let nobody = comparable(&transcript(&pgweir, "nobody", "guess"), "nobody");
        assert!(nobody.last().unwrap().contains("28P01"), "{nobody:?}");
        for user in known {
            let refused = comparable(&transcript(&pgweir, user, "guess"), user);
            assert_eq!(refused, nobody, "{user} by {method}");
        }
        // The same name has the same salt each time, as a stored one has.
        let salt = |frames: &[Frame]| {
            let first = String::from_utf8_lossy(&frames[1].body).into_owned();
            first.split(',').nth(1).map(str::to_owned)
        };
        let twice = [(); 2].map(|()| salt(&transcript(&pgweir, "nobody", "guess")));
        assert_eq!(twice[0], twice[1]);
        pgweir.hup();
        pgweir.wait_for_log("configuration reloaded", 1);
        assert_eq!(salt(&transcript(&pgweir, "nobody", "guess")), twice[0]);
    }
}

#[test]
fn an_unknown_database_is_named_only_to_who_has_logged_in() {
    let stage = Stage::new();
    let pgweir = stage.pooler("scram-sha-256");
    let elsewhere = |password: &str| {
        format!(
            "postgresql://clear:{password}@127.0.0.1:{}/elsewhere",
            pgweir.port()
        )
    };
    let error = psql(&elsewhere("guess"), "SELECT 1").failure();
    assert!(error.contains("password authentication failed"), "{error}");
    let error = psql(&elsewhere("secret"), "SELECT 1").failure();
    assert!(error.contains("database \"elsewhere\" does not exist"), "{error}");
}

#[test]
fn each_login_and_each_refusal_is_one_line_of_the_log() {
    let stage = Stage::new();
    let pgweir = stage.pooler("scram-sha-256");
    psql(&url(&pgweir, "clear", "secret"), "SELECT 1").success();
    psql(&url(&pgweir, "clear", "guess"), "SELECT 1").failure();
    pgweir.wait_for_log("login refused", 1);
    let log = pgweir.log();
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!((lines(" INFO login "), lines("login refused")), (1, 1), "{log}");
}

#[test]
fn a_name_cannot_forge_a_line_of_the_log() {
    let stage = Stage::new();
    let pgweir = stage.pooler("password");
    let name = "x\n2026-01-01T00:00:00Z  INFO login user=\"admin\"\u{1b}[2J";
    let frames = transcript(&pgweir, name, "guess");
    assert_eq!(tags(&frames), "RE");
    pgweir.wait_for_log("admin", 1);
    let log = pgweir.log();
    let forged = log.lines().find(|line| line.contains("admin")).unwrap();
    assert!(forged.starts_with('\t'), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn options_cannot_say_who_a_replication_client_is_on_the_server() {
    let postgres = Postgres::start();
    postgres.sql("CREATE ROLE weak LOGIN REPLICATION");
    let config = format!(
        "[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"postgresql://127.0.0.1:{}/postgres\"\n",
        postgres.port()
    );
    let pgweir = Pgweir::builder().config(&config).start();
    for options in [
        "-c user=postgres",
        "-c database=template1",
        "--replication=database",
        "-c _pq_.x=1",
    ] {
        let mut wire = pgweir.wire();
        wire.startup(&[
            ("user", "weak"),
            ("database", "app"),
            ("replication", "database"),
            ("options", options),
        ]);
        assert_eq!(wire.read_fatal().sqlstate(), "42704", "{options}");
    }
    let mut wire = pgweir.wire();
    wire.startup(&[
        ("user", "weak"),
        ("database", "app"),
        ("replication", "database"),
        ("options", "-c work_mem=1MB"),
    ]);
    wire.authenticate("weak", "");
    assert_eq!(
        wire.value("SELECT current_user || current_setting('work_mem')"),
        "weak1MB"
    );
}

#[test]
fn passwords_and_names_of_unusual_characters_work() {
    let stage = Stage::new();
    let long = "p".repeat(1000);
    let passwords = ["pässwörd", "a b'c\"d\\e", long.as_str(), "\u{1F511}"];
    let mut more = String::new();
    for (index, password) in passwords.iter().enumerate() {
        more.push_str(&format!("[users.\"ü {index}\"]\npassword = '''{password}'''\n"));
    }
    for method in ["password", "md5", "scram-sha-256"] {
        let pgweir = stage.pooler_with(method, &more);
        for (index, password) in passwords.iter().enumerate() {
            let user = format!("ü {index}");
            let mut wire = Wire::log_in(pgweir.port(), &user, "app", Some(password));
            assert_eq!(wire.value("SELECT 1"), "1");
        }
    }
}

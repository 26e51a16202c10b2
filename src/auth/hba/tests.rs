//! What the rules say, and what is refused at parse.

use proptest::prelude::*;

use super::*;

fn connection<'a>(transport: Transport, database: &'a str, user: &'a str) -> HbaConnection<'a> {
    HbaConnection {
        transport,
        database,
        user,
        target: Target::Database,
    }
}

fn plain(ip: &str) -> Transport {
    Transport::Plain(ip.parse().unwrap())
}

fn tls(ip: &str) -> Transport {
    Transport::Tls(ip.parse().unwrap())
}

fn demand(hba: &Hba, transport: Transport, database: &str, user: &str) -> Option<Demand> {
    hba.decide(&connection(transport, database, user))
        .map(|rule| rule.demand)
}

fn one(line: &str) -> Hba {
    Hba::parse(line).unwrap()
}

fn error(line: &str) -> String {
    let errors = Hba::parse(line).unwrap_err();
    assert_eq!(errors.len(), 1, "{line}");
    errors[0].to_string()
}

#[test]
fn the_first_match_decides() {
    let hba = one("# TYPE DATABASE USER ADDRESS METHOD\n\
         local   all   all                 peer\n\
         host    all   evil  all           reject\n\
         hostssl app   all   10.0.0.0/8    scram-sha-256   # inside\n\
         host    all   all   ::1/128       trust\n");
    assert_eq!(demand(&hba, Transport::Local, "app", "a"), Some(Demand::Peer));
    assert_eq!(
        demand(&hba, plain("10.1.1.1"), "app", "evil"),
        Some(Demand::Reject)
    );
    assert_eq!(demand(&hba, tls("10.1.1.1"), "app", "a"), Some(Demand::Scram));
    assert_eq!(demand(&hba, plain("10.1.1.1"), "app", "a"), None);
    assert_eq!(
        demand(&hba, tls("::ffff:10.1.1.1"), "app", "a"),
        Some(Demand::Scram)
    );
    assert_eq!(demand(&hba, plain("::1"), "app", "a"), Some(Demand::Trust));
    assert_eq!(demand(&hba, plain("::2"), "app", "a"), None);
}

#[test]
fn commas_and_quotes_as_postgresql_reads_them() {
    let hba = one("host app, \"all\",\"b\"\"c\" \"we ird\",d 127.0.0.1 255.255.255.255 md5");
    for database in ["app", "all", "b\"c"] {
        assert_eq!(
            demand(&hba, plain("127.0.0.1"), database, "we ird"),
            Some(Demand::Md5),
            "{database}"
        );
        assert_eq!(
            demand(&hba, plain("127.0.0.1"), database, "d"),
            Some(Demand::Md5),
            "{database}"
        );
    }
    assert_eq!(demand(&hba, plain("127.0.0.1"), "other", "d"), None);
    assert_eq!(demand(&hba, plain("127.0.0.2"), "app", "d"), None);
}

#[test]
fn a_joined_line_is_counted_by_its_first_and_its_mistakes_are_named_where_they_stand() {
    let hba = one("\nhost all all all \\\n  trust\nlocal all all reject\n");
    assert_eq!(
        hba.rules().iter().map(|rule| rule.line).collect::<Vec<_>>(),
        [2, 4]
    );
    assert_eq!(
        error("\nlocal all all \\\n md6\n"),
        "3:2: invalid authentication method \"md6\""
    );
}

#[test]
fn kinds_of_connection() {
    let (local, plain, tls) = (Transport::Local, plain("1.2.3.4"), tls("1.2.3.4"));
    for (kind, expected) in [
        ("host", [false, true, true]),
        ("hostnogssenc", [false, true, true]),
        ("hostssl", [false, false, true]),
        ("hostnossl", [false, true, false]),
        ("hostgssenc", [false, false, false]),
    ] {
        let hba = one(&format!("{kind} all all all trust"));
        let found = [local, plain, tls].map(|transport| demand(&hba, transport, "d", "u").is_some());
        assert_eq!(found, expected, "{kind}");
    }
    let hba = one("local all all trust");
    assert!(demand(&hba, local, "d", "u").is_some() && demand(&hba, plain, "d", "u").is_none());
}

#[test]
fn physical_replication_matches_its_keyword_only() {
    let physical = HbaConnection {
        target: Target::PhysicalReplication,
        ..connection(Transport::Local, "replication", "u")
    };
    assert!(one("local replication all trust").decide(&physical).is_some());
    for database in ["all", "\"replication\"", "sameuser", "u"] {
        assert!(
            one(&format!("local {database} all trust"))
                .decide(&physical)
                .is_none(),
            "{database}"
        );
    }
    let logical = connection(Transport::Local, "replication", "u");
    assert!(one("local replication all trust").decide(&logical).is_none());
    assert!(one("local \"replication\" all trust").decide(&logical).is_some());
}

#[test]
fn sameuser_compares_the_names() {
    let hba = one("local sameuser all trust");
    assert!(demand(&hba, Transport::Local, "a", "a").is_some());
    assert!(demand(&hba, Transport::Local, "a", "b").is_none());
}

#[test]
fn certificates_on_top_of_a_method() {
    let certificate = |line: &str| one(line).rules()[0].certificate;
    assert_eq!(certificate("hostssl all all all md5"), CertificateDemand::None);
    assert_eq!(
        certificate("hostssl all all all md5 clientcert=verify-ca"),
        CertificateDemand::VerifyCa
    );
    assert_eq!(
        certificate("hostssl all all all md5 clientcert=verify-full"),
        CertificateDemand::VerifyFull
    );
    assert_eq!(
        certificate("hostssl all all all cert"),
        CertificateDemand::VerifyFull
    );
}

#[test]
fn what_cannot_be_understood_is_an_error() {
    for (line, expected) in [
        ("hots all all all md5", "1:1: invalid connection type \"hots\""),
        ("include other.conf", "1:1: invalid connection type \"include\""),
        ("local", "1:6: end of line where a database is expected"),
        ("local all", "1:10: end of line where a user is expected"),
        (
            "local all all",
            "1:14: end of line where an authentication method is expected",
        ),
        ("host all all", "1:13: end of line where an address is expected"),
        (
            "host all all 1.2.3.4",
            "1:21: end of line where an IP mask is expected",
        ),
        ("host all all 1.2.3.4 md5", "1:22: invalid IP mask \"md5\""),
        (
            "host all all 1.2.3.4 255.0.255.0 md5",
            "1:22: invalid IP mask \"255.0.255.0\"",
        ),
        (
            "host all all 1.2.3.4/33 md5",
            "1:14: invalid network \"1.2.3.4/33\"",
        ),
        ("host all all 1.2.3/8 md5", "1:14: invalid network \"1.2.3/8\""),
    ] {
        assert_eq!(error(line), expected);
    }
}

#[test]
fn what_cannot_be_honoured_is_an_error() {
    for (line, expected) in [
        (
            "host all all db.example.com md5",
            "1:14: \"db.example.com\" is not an IP address; host names are not supported",
        ),
        (
            "host all all samenet md5",
            "1:14: \"samenet\" is not supported: write the network",
        ),
        (
            "local all +dba md5",
            "1:11: \"+dba\": role membership is not known here",
        ),
        (
            "local samerole all md5",
            "1:7: \"samerole\" is not supported: role membership is not known here",
        ),
        (
            "local @dbs all md5",
            "1:7: \"@dbs\": other files are not included",
        ),
        (
            "local all /^a md5",
            "1:11: \"/^a\": regular expressions are not supported",
        ),
        ("local all a,\"b md5", "1:13: the double quote is not closed"),
    ] {
        assert_eq!(error(line), expected);
    }
}

#[test]
fn methods_and_options_must_fit() {
    for (line, expected) in [
        (
            "host all all all gss",
            "1:18: authentication method \"gss\" is not supported",
        ),
        (
            "host all all all peer",
            "1:18: peer authentication is only supported on local sockets",
        ),
        (
            "host all all all cert",
            "1:18: cert authentication is only supported on hostssl connections",
        ),
        (
            "local all all peer map=x",
            "1:20: authentication option \"map\" is not supported",
        ),
        (
            "local all all md5 x",
            "1:19: authentication option not in name=value format: x",
        ),
        (
            "host all all all md5 clientcert=verify-ca",
            "1:22: clientcert can only be configured for \"hostssl\" rows",
        ),
        (
            "hostssl all all all md5 clientcert=1",
            "1:25: invalid value for clientcert: \"1\"",
        ),
        (
            "local,host all all md5",
            "1:7: one value expected instead of several connection types",
        ),
    ] {
        assert_eq!(error(line), expected);
    }
}

#[test]
fn all_errors_come_together() {
    let errors = Hba::parse("x\nlocal all all trust\nlocal all\n").unwrap_err();
    assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 3]);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "([a-z\"#@,+/0-9.:\\\\ =\n\téß]{0,12} ?){0,12}") {
        let _ = Hba::parse(&text);
        let _ = crate::auth::users_file::parse(&text);
    }
}

use std::path::Path;

use super::*;

fn parse(text: &str) -> Result<ServerUrl, UrlError> {
    ServerUrl::parse(text, Path::new("/etc"))
}

fn servers(text: &str) -> String {
    let servers = parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .servers;
    servers
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Each as libpq 15 reads it.
#[test]
fn hosts_and_ports_are_read_as_libpq_reads_them() {
    for (text, meant) in [
        ("postgresql://", "/var/run/postgresql/.s.PGSQL.5432"),
        ("postgres://localhost", "localhost:5432"),
        ("postgresql://localhost:5433", "localhost:5433"),
        ("postgresql://localhost:/db", "localhost:5432"),
        ("postgresql://localhost/mydb", "localhost:5432"),
        ("postgresql://user:secret@localhost", "localhost:5432"),
        (
            "postgresql://other@localhost/otherdb?connect_timeout=10",
            "localhost:5432",
        ),
        (
            "postgresql://host1:123,host2:456/somedb?target_session_attrs=any",
            "host1:123 host2:456",
        ),
        ("postgresql://host1,host2:456", "host1:5432 host2:456"),
        ("postgresql://host1,host2", "host1:5432 host2:5432"),
        ("postgresql:///mydb?host=localhost&port=5433", "localhost:5433"),
        ("postgresql://ignored:1/mydb?host=a,b&port=7", "a:7 b:7"),
        ("postgresql://[2001:db8::1234]/database", "[2001:db8::1234]:5432"),
        ("postgresql://[::1]:5433,h:5434", "[::1]:5433 h:5434"),
        (
            "postgresql:///dbname?host=/var/lib/postgresql",
            "/var/lib/postgresql/.s.PGSQL.5432",
        ),
        (
            "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
            "/var/lib/postgresql/.s.PGSQL.5432",
        ),
        ("postgresql://%2Frun:5433/dbname", "/run/.s.PGSQL.5433"),
        (
            "host=localhost port=5432 dbname=mydb connect_timeout=10",
            "localhost:5432",
        ),
        ("host=a,b port=1,2", "a:1 b:2"),
        ("host=a,b port=1", "a:1 b:1"),
        ("host=a,b port=1,", "a:1 b:5432"),
        ("host = '/with space' port = 1", "/with space/.s.PGSQL.1"),
    ] {
        assert_eq!(servers(text), meant, "{text}");
    }
}

#[test]
fn names_and_passwords_are_read_as_libpq_reads_them() {
    for (text, user, password, database) in [
        ("postgresql://h", None, None, None),
        ("postgresql://u@h/", Some("u"), None, None),
        ("postgresql://u:@h/d", Some("u"), None, Some("d")),
        ("postgresql://:p@h/d", None, Some("p"), Some("d")),
        ("postgresql://u:p:q@h/d", Some("u"), Some("p:q"), Some("d")),
        ("postgresql://u:p?q@h/d", Some("u"), Some("p?q"), Some("d")),
        (
            "postgresql://u%3A:p%40%2F%C3%A9@h/d%20e",
            Some("u:"),
            Some("p@/é"),
            Some("d e"),
        ),
        ("postgresql://u+v@h/d", Some("u+v"), None, Some("d")),
        (
            "postgresql://h/d?user=u&password=p&dbname=e",
            Some("u"),
            Some("p"),
            Some("e"),
        ),
        ("postgresql://u:p@h/d/e", Some("u"), Some("p"), Some("d/e")),
        (
            "user='a b' password=p\\ \\'q dbname=''",
            Some("a b"),
            Some("p 'q"),
            None,
        ),
        ("user=u password='it\\'s \\\\'", Some("u"), Some("it's \\"), None),
    ] {
        let url = parse(text).unwrap();
        let secret = url
            .password
            .as_ref()
            .map(|secret| std::str::from_utf8(secret.expose()).unwrap());
        assert_eq!(
            (url.user.as_deref(), secret, url.database.as_deref()),
            (user, password, database),
            "{text}"
        );
        assert!(
            !format!("{url:?}{url}").contains(password.unwrap_or("nothing"))
                || password.is_some_and(|word| word.len() < 3),
            "{text}"
        );
    }
}

#[test]
fn parameters_are_understood() {
    let url = parse(
        "postgresql://h/d?sslmode=verify-full&sslrootcert=root.crt&sslcert=/abs/c.crt&sslkey=c.key&target_session_attrs=prefer-standby\
         &options=-c%20geqo%3Doff&application_name=app&connect_timeout=10&client_encoding=UTF8&channel_binding=require\
         &load_balance_hosts=random&keepalives_idle=7&tcp_user_timeout=8000&gssencmode=disable",
    )
    .unwrap();
    assert_eq!(url.tls_mode, Some(TlsMode::VerifyFull));
    assert_eq!(url.root_certificate.as_deref(), Some(Path::new("/etc/root.crt")));
    assert_eq!(url.certificate.as_deref(), Some(Path::new("/abs/c.crt")));
    assert_eq!(url.key.as_deref(), Some(Path::new("/etc/c.key")));
    assert_eq!(url.target_session, TargetSession::PreferStandby);
    assert_eq!(url.options.as_deref(), Some("-c geqo=off"));
    assert_eq!(url.application_name.as_deref(), Some("app"));
    assert_eq!(url.client_encoding.as_deref(), Some("UTF8"));
    assert_eq!(url.connect_timeout, Some(Duration::from_secs(10)));
    assert_eq!(
        (url.channel_binding, url.host_order),
        (ChannelBinding::Require, HostOrder::Random)
    );
    assert_eq!(
        (url.keepalive, url.user_timeout),
        (Some(Duration::from_secs(7)), Some(Duration::from_secs(8)))
    );
    let url = parse("postgresql://h/d?ssl=true&keepalives=0&keepalives_idle=7&connect_timeout=-1&fallback_application_name=f").unwrap();
    assert_eq!(
        (url.tls_mode, url.keepalive),
        (Some(TlsMode::Require), Some(Duration::ZERO))
    );
    assert_eq!(
        (url.connect_timeout, url.application_name.as_deref()),
        (Some(Duration::ZERO), Some("f"))
    );
}

#[test]
fn what_cannot_be_understood_is_refused_by_name() {
    for (text, error) in [
        ("", UrlError::NotAUrl),
        ("localhost", UrlError::NotAUrl),
        ("mysql://h/d?a=b", UrlError::Scheme),
        ("postgresql://h/%zz", UrlError::PercentEncoding),
        ("postgresql://h/%0", UrlError::PercentEncoding),
        ("postgresql://h/%00", UrlError::PercentEncoding),
        ("postgresql://h/%ff", UrlError::NotText),
        ("postgresql://[::1", UrlError::Brackets),
        ("postgresql://[]:1", UrlError::Brackets),
        ("postgresql://[::1]x", UrlError::Brackets),
        ("postgresql://u:p@ss@h/d", UrlError::HostSign),
        ("postgresql://u:p/ss@h/d", UrlError::Port),
        ("postgresql://h:0", UrlError::Port),
        ("postgresql://h:65536", UrlError::Port),
        ("host=@abstract", UrlError::AbstractSocket),
        ("postgresql://h/d?x", UrlError::Equals),
        ("postgresql://h/d?application_name=b=c", UrlError::Equals),
        ("host=h user", UrlError::Equals),
        ("user=u password='it''s'", UrlError::Equals),
        ("host='h", UrlError::Quote),
        ("host='h\\", UrlError::Quote),
        ("host=a,b,c port=1,2", UrlError::PortCount { hosts: 3, ports: 2 }),
        ("postgresql://h?sslrootcert=system", unsupported("sslrootcert")),
    ] {
        assert_eq!(parse(text).unwrap_err(), error, "{text}");
    }
    for (text, said) in [
        (
            "postgresql://h?sslmod=require",
            "the URL has an unknown parameter \"sslmod\": did you mean \"sslmode\"?",
        ),
        (
            "postgresql://h?schema=public",
            "the URL has an unknown parameter \"schema\"",
        ),
        (
            "postgresql://h?hostaddr=1.2.3.4",
            "the URL's parameter \"hostaddr\" is not supported: write the address as the host",
        ),
        (
            "postgresql://h?sslmode=no-verify",
            "the URL's sslmode must be \"disable\", \"allow\", \"prefer\", \"require\", \"verify-ca\" or \"verify-full\"",
        ),
        (
            "postgresql://h?connect_timeout=soon",
            "the URL's connect_timeout must be a whole number between 0 and 2147483",
        ),
        (
            "postgresql://h?sslcert=a",
            "the URL's sslcert and sslkey must be given together",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), said, "{text}");
    }
}

fn unsupported(name: &str) -> UrlError {
    let advice = "name a file: there is no store of system certificates here";
    UrlError::Unsupported {
        parameter: name.to_owned(),
        advice,
    }
}

use super::*;

fn function(name: &str, language: &str, body: &str) -> Defined {
    Defined {
        oid: 0,
        name: name.into(),
        language: language.into(),
        body: Some(body.into()),
    }
}

fn spread(defined: &[(&str, &str)], uses: &[(&str, &str)]) -> Suspects {
    let defined = defined
        .iter()
        .map(|(name, body)| function(name, "plpgsql", body))
        .collect();
    let uses: Vec<_> = uses
        .iter()
        .map(|(user, used)| (user.as_bytes().to_vec(), used.as_bytes().to_vec()))
        .collect();
    Judged::of(defined).spread(&uses)
}

fn sets(suspects: &Suspects, text: &str) -> Vec<String> {
    let found = suspects.find(text.as_bytes()).unwrap_or_default();
    assert!(found.pins.is_empty(), "{text}: {found:?}");
    found.sets.iter().map(ToString::to_string).collect()
}

const TENANT: &str = "BEGIN PERFORM set_config('app.tenant', $1, false); END";

#[test]
fn a_name_is_found_wherever_it_stands_in_a_text() {
    let suspects = spread(
        &[("set_tenant", TENANT), ("Odd-Name", TENANT), ("grüße", TENANT)],
        &[],
    );
    for text in [
        "SELECT set_tenant('a')",
        "select public.SET_TENANT('a')\0",
        "SELECT \"set_tenant\"('a')",
        "SELECT \"Odd-Name\"('a')",
        "SELECT grüße('a')",
    ] {
        assert_eq!(sets(&suspects, text), ["app.tenant"], "{text}");
    }
    for text in [
        "",
        "SELECT 1",
        "SELECT set_tenants('a')",
        "SELECT my_set_tenant()",
        "SELECT od",
    ] {
        assert_eq!(suspects.find(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn a_name_that_is_too_long_is_found_by_what_the_server_reads_of_it() {
    let long = "a".repeat(63);
    let suspects = spread(&[(&long, TENANT)], &[]);
    assert_eq!(sets(&suspects, &format!("SELECT {long}bcd('a')")), ["app.tenant"]);
}

#[test]
fn what_uses_a_suspect_is_one() {
    let suspects = spread(
        &[
            ("set_tenant", TENANT),
            ("login", "BEGIN PERFORM set_tenant($1); END"),
            (
                "outer_login",
                "BEGIN PERFORM \"login\"($1); SET work_mem = '5MB'; END",
            ),
            ("ping", "BEGIN PERFORM pong(); PERFORM set_tenant('x'); END"),
            ("pong", "BEGIN PERFORM ping(); END"),
            ("harmless", "BEGIN RETURN 1; END"),
        ],
        &[("notes", "login"), ("all_notes", "notes"), ("others", "harmless")],
    );
    for name in ["login", "ping", "pong", "notes", "all_notes"] {
        assert_eq!(sets(&suspects, name), ["app.tenant"], "{name}");
    }
    let mut both = sets(&suspects, "outer_login");
    both.sort();
    assert_eq!(both, ["app.tenant", "work_mem"]);
    assert_eq!(suspects.find(b"harmless others"), None);
}

#[test]
fn where_nothing_can_be_told_everything_is_suspected() {
    let long = Defined {
        body: None,
        ..function("f", "sql", "")
    };
    let suspects = Judged::of(vec![long]).spread(&[]);
    let found = suspects.find(b"SELECT f()").unwrap();
    assert!(found.pins.contains(PinReason::Setting));
    assert_eq!(suspects.find(b"SELECT 1"), None);
    let everything = Suspects::everything();
    assert!(!everything.is_empty());
    assert!(everything.find(b"SELECT 1").is_some());
}

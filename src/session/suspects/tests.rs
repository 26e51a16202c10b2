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

#[test]
fn an_operator_is_found_by_its_signs() {
    let suspects = spread(
        &[("become", TENANT), ("applies", "BEGIN RETURN a <~> b; END")],
        &[("<~>", "become"), ("of_operator", "<~>")],
    );
    for text in [
        "SELECT a<~>b",
        "SELECT a OPERATOR(public.<~>) b",
        "applies",
        "of_operator",
    ] {
        assert_eq!(sets(&suspects, text), ["app.tenant"], "{text}");
    }
    assert_eq!(suspects.find(b"SELECT a <-> b"), None);
}

#[test]
fn what_no_text_shows_counts_for_any() {
    for user in ["=", "~~", "(any)"] {
        let suspects = spread(&[("become", TENANT)], &[(user, "become")]);
        assert_eq!(sets(&suspects, "SELECT a IN (b)"), ["app.tenant"], "{user}");
        assert!(suspects.call(1).is_some(), "{user}");
    }
}

#[test]
fn more_operators_than_are_searched_for_count_for_any_text() {
    let signs: Vec<String> = (1..=OPERATORS_MAX + 1).map(|len| "<".repeat(len + 1)).collect();
    let operators: Vec<_> = signs.iter().map(|sign| (&**sign, "become")).collect();
    let found = spread(&[("become", TENANT)], &operators);
    assert!(found.find(b"SELECT 1").is_some());
    let fewer = spread(&[("become", TENANT)], operators.get(1..).unwrap());
    assert_eq!(fewer.find(b"SELECT 1"), None);
}

#[test]
fn a_function_is_found_by_its_number() {
    let numbered = |oid, name, language, body| Defined {
        oid,
        ..function(name, language, body)
    };
    let suspects = Judged::of(vec![
        numbered(1, "become", "plpgsql", TENANT),
        numbered(2, "through", "sql", "SELECT become()"),
        numbered(3, "harmless", "sql", "SELECT 1"),
        numbered(4, "set_config", "builtin", "set_config"),
    ])
    .spread(&[]);
    let pins = |oid| {
        suspects
            .call(oid)
            .map(|effects| effects.pins.contains(PinReason::Setting))
    };
    assert_eq!(
        [1, 2, 3, 4, 5].map(pins),
        [Some(false), Some(false), None, Some(true), None]
    );
    // Texts that name it are read elsewhere.
    assert_eq!(suspects.find(b"SELECT set_config('a.b', 'c', false)"), None);
}

#[test]
fn states_of_catalogs_are_told_apart() {
    let suspects = spread(&[("become", TENANT)], &[]);
    let stamps: Vec<_> = [(1, 1), (1, 2), (2, 1), (2, 2)]
        .map(|(database, version)| suspects.clone().of(database, version).stamp().unwrap())
        .into();
    for (at, stamp) in stamps.iter().enumerate() {
        assert!(!stamps[at + 1..].contains(stamp), "{stamps:?}");
    }
    assert_eq!(Suspects::default().stamp(), None);
}

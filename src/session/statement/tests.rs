//! Which texts are one statement, and what is kept.

use super::*;

#[test]
fn equal_texts_are_one_statement_and_other_types_another() {
    let mut cache = StatementCache::new(1);
    let first = cache.intern(b"select 1\0\0\0");
    assert_eq!(first.id, cache.intern(b"select 1\0\0\0").id);
    let mut settings = crate::protocol::Parameters::new();
    settings.set("search_path", "other");
    let basis = Basis::of(&settings);
    cache.stand_on(basis.as_ref(), Sharing::All(0));
    let other = cache.intern(b"select 1\0\0\0");
    assert_ne!(first.id, other.id);
    assert_eq!(other.id, cache.intern(b"select 1\0\0\0").id);
    cache.stand_on(None, Sharing::None);
    assert_ne!(first.id, cache.intern(b"select 1\0\0\0").id);
    cache.stand_on(None, Sharing::All(1));
    assert_ne!(first.id, cache.intern(b"select 1\0\0\0").id);
    cache.stand_on(None, Sharing::All(0));
    assert_eq!(first.id, cache.intern(b"select 1\0\0\0").id);
    assert_ne!(first.id, cache.intern(b"select 1\0\0\x01\0\0\0\x17").id);
}

#[test]
fn names_on_servers_are_short_and_distinct() {
    let write = |name: ServerName| {
        let mut out = Vec::new();
        name.write(&mut out);
        out
    };
    assert_eq!(write(ServerName::Numbered(0x1f)), b"pgweir_1f\0");
    assert_eq!(write(ServerName::Numbered(0)), b"pgweir_0\0");
    assert_eq!(
        write(ServerName::Numbered(u64::MAX)),
        b"pgweir_ffffffffffffffff\0"
    );
    assert_eq!(write(ServerName::Unnamed), b"\0");
}

#[test]
fn a_full_cache_drops_the_texts_nobody_holds() {
    let mut cache = StatementCache::new(0);
    let held = cache.intern(b"held");
    let text = vec![b'x'; 1024 * 1024];
    for i in 0..40_u8 {
        let mut text = text.clone();
        text.push(i);
        drop(cache.intern(&text));
    }
    assert!(cache.bytes <= STATEMENT_CACHE_BYTES_MAX);
    assert_eq!(cache.intern(b"held").id, held.id);
}

#[test]
fn the_surplus_is_the_least_recently_used_and_never_one_of_the_batch() {
    let mut server = ServerStatements::default();
    for id in 1..=3 {
        server.insert(id);
    }
    assert!(server.touch(1));
    let batch = server.clock();
    assert_eq!(server.surplus(2, batch), Some(2));
    assert!(server.touch(2) && server.touch(3) && server.touch(1));
    assert_eq!(server.surplus(2, batch), None);
}

#[test]
fn a_name_is_found_wherever_others_have_left_it() {
    let mut cache = StatementCache::new(0);
    let mut client = ClientStatements::default();
    for name in [b"a", b"b", b"c"] {
        client.replace(name, Some(cache.intern(name).into()));
    }
    let id = |client: &ClientStatements, name: &[u8]| client.named(name).map(|found| found.id);
    let last = id(&client, b"c");
    assert!(last.is_some() && last == id(&client, b"c"));
    // It takes the place of the one that goes.
    client.replace(b"a", None);
    assert_eq!((id(&client, b"a"), id(&client, b"c")), (None, last));
    client.forget();
    assert_eq!(id(&client, b"c"), None);
}

#[test]
fn a_statement_that_is_gone_is_not_touched() {
    let mut server = ServerStatements::default();
    server.insert(1);
    server.insert(2);
    assert!(server.touch(1) && server.touch(1));
    server.remove(1);
    assert!(!server.touch(1) && server.touch(2));
}

#[test]
fn a_number_is_written_in_hexadecimal_whatever_its_digits() {
    let mut ids = vec![0, 1, 9, 10, 15, 16, 0x0123_4567_89ab_cdef, u64::MAX];
    ids.extend((0..64).map(|shift| 0xfedc_ba98_7654_3210_u64.rotate_left(shift)));
    for id in ids {
        let mut name = Vec::new();
        ServerName::Numbered(id).write_bare(&mut name);
        assert_eq!(name, format!("pgweir_{id:x}").into_bytes());
        assert_eq!(name.len(), ServerName::Numbered(id).len());
    }
}

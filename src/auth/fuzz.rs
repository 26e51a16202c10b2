//! Any text as a file of rules or users: it is read, or every line that is wrong is named.

use std::net::{IpAddr, Ipv4Addr};

use super::hba::{Hba, HbaConnection, Target, Transport};
use super::text::FileError;
use super::users_file;

/// Reads any text as rules and puts connections to them.
pub fn fuzz_hba(text: &str) {
    let hba = match Hba::parse(text) {
        Ok(hba) => hba,
        Err(errors) => return check_places(text, &errors),
    };
    assert!(hba.rules().is_sorted_by_key(|rule| rule.line));
    let address = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
    let mapped = IpAddr::V6(Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped());
    for target in [Target::Database, Target::PhysicalReplication] {
        let decide = |transport| {
            hba.decide(&HbaConnection {
                transport,
                database: "app",
                user: "app",
                target,
            })
        };
        assert_eq!(
            decide(Transport::Plain(address)),
            decide(Transport::Plain(mapped))
        );
        assert_eq!(decide(Transport::Tls(address)), decide(Transport::Tls(mapped)));
        let decided = decide(Transport::Local);
        assert!(decided.is_none_or(|rule| hba.rules().contains(rule)));
    }
}

/// Reads any text as a users file.
pub fn fuzz_users_file(text: &str) {
    match users_file::parse(text) {
        Ok(entries) => {
            assert!(entries.is_sorted_by_key(|entry| entry.line));
            assert!(entries.iter().all(|entry| !entry.user.is_empty()));
        }
        Err(errors) => check_places(text, &errors),
    }
}

fn check_places(text: &str, errors: &[FileError]) {
    assert!(!errors.is_empty(), "refused without a word");
    for error in errors {
        let line = error
            .line
            .checked_sub(1)
            .and_then(|index| text.lines().nth(index));
        let length = line.map(|line| line.chars().count());
        assert!(
            length.is_some_and(|length| (1..=length + 1).contains(&error.column)),
            "{error} is nowhere in the file"
        );
        assert!(!error.message.contains('\n'));
    }
}

//! What is stored about a user's password.

use super::md5::Md5Secret;
use super::scram::ScramVerifier;
use super::secret::Secret;

/// A stored password, in the three forms PostgreSQL's `pg_authid.rolpassword` and password files know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verifier {
    Plain(Secret),
    Md5(Md5Secret),
    Scram(ScramVerifier),
}

impl Verifier {
    /// Tells the form by its look, as PostgreSQL's `get_password_type` does. An empty one lets nobody in: none.
    #[must_use]
    pub fn parse(stored: &str) -> Option<Self> {
        if stored.is_empty() {
            return None;
        }
        if let Some(secret) = Md5Secret::parse(stored) {
            return Some(Self::Md5(secret));
        }
        if let Some(verifier) = ScramVerifier::parse(stored) {
            return Some(Self::Scram(verifier));
        }
        Some(Self::Plain(Secret::from(stored)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_three_forms() {
        assert!(matches!(
            Verifier::parse("md5a3556571e93b0d20722ba62be61e8c2d"),
            Some(Verifier::Md5(_))
        ));
        let scram = "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        assert!(matches!(Verifier::parse(scram), Some(Verifier::Scram(_))));
        for plain in [
            "secret",
            "md5",
            "md5A3556571E93B0D20722BA62BE61E8C2D",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-256$4096:x$y:z",
        ] {
            assert_eq!(
                Verifier::parse(plain),
                Some(Verifier::Plain(Secret::from(plain))),
                "{plain}"
            );
        }
        assert_eq!(Verifier::parse(""), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!(
            "{:?} {:?}",
            Verifier::parse("hunter2"),
            Verifier::parse("md5a3556571e93b0d20722ba62be61e8c2d")
        );
        assert!(!shown.contains("hunter2") && !shown.contains("a3556"), "{shown}");
    }
}

//! Checking a password that came in the clear.

use std::hint::black_box;

use super::md5::Md5Secret;
use super::mock::{Mock, SALT_LEN};
use super::scram;
use super::secret::Secret;
use super::verifier::Verifier;

/// A check to be done off the event loop. Every refusal costs one PBKDF2 derivation, whatever is stored and whether or
/// not the user exists, so that its time tells neither.
#[derive(Clone, Debug)]
pub struct PasswordCheck {
    user: String,
    password: Secret,
    verifier: Option<Verifier>,
    salt: [u8; SALT_LEN],
    iterations: u32,
}

impl PasswordCheck {
    #[must_use]
    pub fn new(user: &str, password: Secret, verifier: Option<Verifier>, mock: &Mock) -> Self {
        Self {
            user: user.to_owned(),
            password,
            verifier,
            salt: mock.salt(user),
            iterations: mock.iterations(),
        }
    }

    /// Milliseconds and more: PBKDF2.
    pub fn run(&self) -> Verdict {
        let password = self.password.expose();
        let fits = match &self.verifier {
            Some(Verifier::Scram(verifier)) => return Verdict::of(verifier.accepts_password(password)),
            Some(Verifier::Plain(secret)) => secret.matches(password),
            Some(Verifier::Md5(secret)) => *secret == Md5Secret::derive(password, &self.user),
            None => false,
        };
        if !fits {
            black_box(scram::derive(password, &self.salt, self.iterations));
        }
        Verdict::of(fits)
    }

    /// The password that was checked.
    #[must_use]
    pub fn into_password(self) -> Secret {
        self.password
    }
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a verdict decides who comes in"]
pub enum Verdict {
    Accepted,
    Refused,
}

impl Verdict {
    fn of(fits: bool) -> Self {
        if fits { Self::Accepted } else { Self::Refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stored: Option<&str>, password: &str) -> Verdict {
        let mock = Mock::new([1; 32]).with_iterations(2);
        let verifier = stored.and_then(Verifier::parse);
        PasswordCheck::new("app", Secret::from(password), verifier, &mock).run()
    }

    #[test]
    fn every_form_of_verifier_accepts_its_password_only() {
        let scram = "SCRAM-SHA-256$4096:OnHWr5pO3h7lD4xc0vQgqg==$t7w+MTIAc8rHTlzbNvliEox2pV0zf4zUtjX42BtgP/c=:SQdQ503EzokAG+ovQnwfPP2wE5oy2vHlvik1FzEgWcw=";
        for stored in ["secret", "md56a422f785c9e20873908ce25d1736ae2", scram] {
            assert_eq!(check(Some(stored), "secret"), Verdict::Accepted, "{stored}");
            assert_eq!(check(Some(stored), "secre"), Verdict::Refused, "{stored}");
            assert_eq!(
                check(Some(stored), stored),
                if stored == "secret" {
                    Verdict::Accepted
                } else {
                    Verdict::Refused
                }
            );
        }
    }

    #[test]
    fn nobody_without_a_verifier() {
        assert_eq!(check(None, "secret"), Verdict::Refused);
        assert_eq!(check(None, ""), Verdict::Refused);
    }
}

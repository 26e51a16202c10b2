//! Proofs of identity: what a login demands, what is stored about a user, and whether what a peer sends proves it.
//!
//! Pure: nonces, salts and keys are arguments; expensive derivations are plain functions that a caller runs elsewhere.
//! Source: PostgreSQL's `src/backend/libpq/auth.c`, `auth-scram.c`, `crypt.c` and `hba.c`.

pub mod certificate;
pub mod demand;
#[doc(hidden)]
pub mod fuzz;
pub mod hba;
pub mod md5;
pub mod mock;
pub mod password;
pub mod scram;
pub mod secret;
pub mod text;
pub mod users_file;
pub mod verifier;

pub use certificate::CertificateNames;
pub use demand::{Challenge, Demand, Method};
pub use hba::{CertificateDemand, Hba, HbaConnection};
pub use md5::Md5Secret;
pub use mock::{Mock, StandIn};
pub use password::{PasswordCheck, Verdict};
pub use scram::{ScramKeys, ScramVerifier, ScramWork};
pub use secret::Secret;
pub use text::FileError;
pub use users_file::UserEntry;
pub use verifier::Verifier;

//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both halves.
//!
//! Sources: RFC 5802, RFC 7677, PostgreSQL's `auth-scram.c`, `fe-auth-scram.c` and `scram-common.c`.

pub mod client;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod keys;
mod message;
mod saslprep;
pub mod server;

#[cfg(test)]
mod tests;

pub use error::ScramError;
pub use keys::{ScramKeys, ScramVerifier, ScramWork, derive};

/// The mechanism without channel binding, under its SASL name.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The one channel binding type that PostgreSQL knows (RFC 5929).
const BINDING_TYPE: &str = "tls-server-end-point";

/// Bytes of a SHA-256 key.
pub const KEY_LEN: usize = 32;
/// Random bytes of a nonce before base64, as `SCRAM_RAW_NONCE_LEN` in PostgreSQL's `scram-common.h`.
pub const NONCE_LEN: usize = 18;
/// As `SCRAM_SHA_256_DEFAULT_ITERATIONS` in PostgreSQL's `scram-common.h`.
pub const SCRAM_ITERATIONS_DEFAULT: u32 = 4096;
/// A few seconds of one core; a server that asks for more wants to keep us busy.
pub const SCRAM_ITERATIONS_MAX: u32 = 10_000_000;
/// As `PG_MAX_SASL_MESSAGE_LENGTH` in PostgreSQL's `auth-sasl.h`.
pub const SCRAM_MESSAGE_LEN_MAX: usize = 1024;

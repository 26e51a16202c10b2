//! The real binary in front of real PostgreSQL servers, used by real clients.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![allow(clippy::panic, reason = "a panic is a failed test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index is a failed test")]

mod cancel;
mod clients;
mod console;
mod faults;
mod harness;
mod hosts;
mod modes;
mod pools;
mod postgres_alone;
mod soak;
mod timeouts;

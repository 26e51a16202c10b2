//! Conversations, as values: bytes and events in, bytes and decisions out. No sockets, no clock, no randomness.
//!
//! What a client is (`ClientSession`) stays with the client; what a server connection remembers (`ServerState`) stays with the
//! connection and is lent to an exchange (`Flow`). That split is what keeps clients apart.

pub mod basis;
pub mod batch;
pub mod begin;
pub mod client;
pub mod directive;
pub mod error;
pub mod flow;
pub mod inquiry;
pub mod listening;
pub mod login;
pub mod outbox;
pub mod pipeline;
pub mod question;
pub mod screen;
pub mod server;
pub mod settings;
pub mod sql_names;
pub mod startup;
pub mod statement;
pub mod suspects;
pub mod text;

pub use client::ClientSession;
pub use error::SessionError;
pub use flow::{Flow, Rest};
pub use outbox::Outbox;
pub use server::{Hygiene, ServerState};
pub use suspects::Suspects;

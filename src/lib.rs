//! pgweir: a connection pooler for PostgreSQL. `ARCHITECTURE.md` is the map.
//!
//! A module names only modules on floors strictly below its own; `tests/tidy.rs` holds that.
#![forbid(unsafe_code)]

// Floor 0: bytes and words.
pub mod protocol;
pub mod sql;
// Floor 1: proofs of identity, what queries do, and where they may.
pub mod auth;
pub mod plan;
pub mod topology;
// Floor 2: conversations, without sockets or clocks.
pub mod session;
// Floor 3: sockets and TLS.
pub mod net;
// Floor 4: server connections.
pub mod pool;
// Floor 5: the path of a query.
pub mod relay;
// Floor 6: the console, and what is served over HTTP.
pub mod admin;
pub mod http;
// Floor 7: what the operator wrote.
pub mod config;
// Floor 8: the wiring, and the demonstration.
pub mod app;
pub mod demo;

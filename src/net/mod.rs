//! Sockets and TLS: bytes come in and go out here, and nowhere else.
//!
//! Knows addresses, listeners, streams and certificates. Knows no messages, save the eight bytes that ask a server for TLS.

pub mod addr;
pub mod keepalive;
pub mod stream;
pub mod tls;

pub use addr::{AddrError, ClientAddr, ListenAddr, ServerAddr};
pub use keepalive::Keepalive;
pub use stream::{Socket, Stream};

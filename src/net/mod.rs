//! Sockets and TLS: bytes come in and go out here, and nowhere else.
//!
//! Knows addresses, listeners, streams and certificates. Knows no messages, save the eight bytes that ask a server for TLS.

pub mod addr;
pub mod dial;
pub mod keepalive;
pub mod listener;
pub mod stream;
pub mod tls;

pub use addr::{AddrError, ClientAddr, ListenAddr, ServerAddr};
pub use dial::{DialError, Dialed, Encryption, ExactAddr, dial, dial_exactly};
pub use keepalive::Keepalive;
pub use listener::{Acceptor, BindError, Listener};
pub use stream::{Socket, Stream};
pub use tls::{ClientTls, ClientTlsSettings, ServerTls, ServerTlsSettings, TlsMode, TlsStart};

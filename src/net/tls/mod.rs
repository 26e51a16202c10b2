//! TLS on both sides. The only module that names the TLS library.

use tokio_rustls::{client, server};

use super::stream::Socket;

/// A session in which we are the TLS server: a client of ours.
pub(super) type ServerSession = server::TlsStream<Socket>;

/// A session in which we are the TLS client: a PostgreSQL server.
pub(super) type ClientSession = client::TlsStream<Socket>;

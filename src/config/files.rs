//! The file system, as far as a configuration needs it.

use std::io::{self, Read};
use std::path::Path;

use crate::net::{ClientTls, ClientTlsSettings, ServerTls, ServerTlsSettings};

/// What reads files. Tests hand in their own.
pub trait Files {
    /// The whole content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// What is wrong with the certificates and keys for clients, all of which can be read.
    fn client_tls_problem(&self, settings: &ClientTlsSettings) -> Option<String>;

    /// The same for servers.
    fn server_tls_problem(&self, settings: &ServerTlsSettings) -> Option<String>;
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let mut file = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1);
        file.read_to_end(&mut content)?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "larger than {} MB",
                FILE_BYTES_MAX >> 20
            )));
        }
        Ok(content)
    }

    fn client_tls_problem(&self, settings: &ClientTlsSettings) -> Option<String> {
        ClientTls::build(settings).err().map(|error| error.to_string())
    }

    fn server_tls_problem(&self, settings: &ServerTlsSettings) -> Option<String> {
        ServerTls::build(settings).err().map(|error| error.to_string())
    }
}

/// Of one file. A users file with a hundred thousand users takes about 20 MB; a device that never ends is stopped here.
const FILE_BYTES_MAX: u64 = 64 << 20;

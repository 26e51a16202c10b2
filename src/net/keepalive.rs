//! How a peer that has silently gone is noticed while every timeout is off.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Options of a TCP socket; a duration of zero leaves that option off. Unix sockets have neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence after which the kernel begins to probe the peer.
    pub idle: Duration,
    /// How long sent bytes may stay unacknowledged before the connection is given up.
    pub user_timeout: Duration,
}

impl Keepalive {
    /// Both off: the kernel's defaults.
    pub const OFF: Self = Self {
        idle: Duration::ZERO,
        user_timeout: Duration::ZERO,
    };

    pub(super) fn apply(&self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        if !self.idle.is_zero() {
            // The kernel counts in whole seconds and refuses zero.
            let idle = self.idle.max(INTERVAL_MIN);
            let probes = TcpKeepalive::new()
                .with_time(idle)
                .with_interval((idle / 3).max(INTERVAL_MIN))
                .with_retries(PROBES);
            socket.set_tcp_keepalive(&probes)?;
        }
        if !self.user_timeout.is_zero() {
            socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        }
        Ok(())
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            user_timeout: Duration::from_secs(60),
        }
    }
}

const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Probes without an answer after which the peer counts as gone.
const PROBES: u32 = 3;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn options_reach_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = SockRef::from(&stream);
        Keepalive::OFF.apply(&stream).unwrap();
        assert!(!socket.keepalive().unwrap());
        Keepalive::default().apply(&stream).unwrap();
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(60)));
    }
}

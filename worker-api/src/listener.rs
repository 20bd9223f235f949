//! The sockets that a worker accepts from.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use rustix::net::AddressFamily;

/// A listening socket, non-blocking and close-on-exec, shared with every other worker: a
/// connection goes to whoever accepts first, so `accept` may find nothing (`WouldBlock`).
#[derive(Debug)]
pub enum Listener {
    /// IPv4 or IPv6.
    Tcp {
        /// The socket.
        socket: TcpListener,
        /// Its name in the config.
        name: String,
    },
    /// A Unix socket.
    Unix {
        /// The socket.
        socket: UnixListener,
        /// Its name in the config.
        name: String,
    },
}

impl Listener {
    /// The name that the master gave it (of `LISTEN_FDNAMES`); `"standalone"` without a master.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Tcp { name, .. } | Self::Unix { name, .. } => name,
        }
    }

    /// Where it listens; none for a Unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { socket, .. } => socket.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// Takes a socket over, if it is one that listens for stream connections.
    pub(crate) fn from_fd(fd: OwnedFd, name: String) -> io::Result<Self> {
        if !rustix::net::sockopt::socket_acceptconn(&fd)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket does not listen",
            ));
        }
        match rustix::net::sockopt::socket_domain(&fd)? {
            AddressFamily::INET | AddressFamily::INET6 => {
                let socket = TcpListener::from(fd);
                socket.set_nonblocking(true)?;
                Ok(Self::Tcp { socket, name })
            }
            AddressFamily::UNIX => {
                let socket = UnixListener::from(fd);
                socket.set_nonblocking(true)?;
                Ok(Self::Unix { socket, name })
            }
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "neither TCP nor a Unix socket",
            )),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp { socket, .. } => socket.as_fd(),
            Self::Unix { socket, .. } => socket.as_fd(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};

    fn would_block<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn listening_sockets_of_each_family_are_taken_and_made_non_blocking() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine without IPv6 has one family less to show.
            let Ok(socket) = TcpListener::bind(address) else {
                continue;
            };
            let Ok(Listener::Tcp { socket, name }) = Listener::from_fd(socket.into(), "web".into())
            else {
                panic!("not TCP: {address}");
            };
            assert_eq!(name, "web");
            assert!(would_block(socket.accept()));
        }
        let name = format!("gracefork-listener-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let socket = UnixListener::bind_addr(&address).unwrap();
        let listener = Listener::from_fd(socket.into(), "local".into()).unwrap();
        assert_eq!(listener.name(), "local");
        let Listener::Unix { socket, .. } = listener else {
            panic!("not Unix")
        };
        assert!(would_block(socket.accept()));
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let (one, _two) = UnixStream::pair().unwrap();
        assert!(Listener::from_fd(one.into(), String::new()).is_err());
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(Listener::from_fd(udp.into(), String::new()).is_err());
        let (read, _write) = io::pipe().unwrap();
        assert!(Listener::from_fd(read.into(), String::new()).is_err());
    }
}

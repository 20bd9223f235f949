//! Listening sockets: bound by address, or inherited.
#![expect(
    unsafe_code,
    reason = "descriptor numbers that the parent process promised become owned descriptors"
)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, chownat};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::umask;
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

use crate::config::{BindAddress, Listen, Owner, Security};

use super::spawn::FIRST_FD;

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "{0} is in use; stop the process that listens there, or choose another address with `listen.bind` or `-b`; if it is gracefork itself, on an address that overlaps, keep one of the two, and restart it rather than reload"
    )]
    InUse(BindAddress),
    /// The path of a Unix socket is taken by something that is no socket.
    #[error("{} exists and is not a socket; remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// A descriptor was named that is no listening socket.
    #[error("fd:{0} is not a listening socket that this process inherited")]
    NotListening(RawFd),
    /// The file of a Unix socket cannot be given to the workers' user.
    #[error("{address} cannot be given to {owner}: {source}; that takes CAP_CHOWN")]
    Owner {
        /// The address.
        address: BindAddress,
        /// Whose it was to be.
        owner: Owner,
        /// What the system said.
        source: io::Error,
    },
    /// A low port is root's.
    #[error(
        "cannot listen on {0}: permission denied; choose a port from 1024 on, or give the process CAP_NET_BIND_SERVICE"
    )]
    Privileged(BindAddress),
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    System {
        /// The address.
        address: BindAddress,
        /// What the system said.
        source: io::Error,
    },
}

/// A listening socket of the master.
#[derive(Debug)]
pub struct Listener {
    address: BindAddress,
    socket: Socket,
    /// The Unix socket's file, which goes with it.
    _file: Option<SocketFile>,
}

impl Listener {
    /// The address as it was configured.
    #[must_use]
    pub fn address(&self) -> &BindAddress {
        &self.address
    }

    /// The port, of a TCP listener.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.local().map(|address| address.port())
    }

    /// Where it really listens, of a TCP listener: port 0 is replaced by what the system chose.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// Where it listens, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        self.local()
            .map_or_else(|| self.address.to_string(), |address| address.to_string())
    }

    /// Have the kernel drop each SYN that comes for this listener, in whatever process accepts
    /// from it, and for good. Handshakes that have begun go on. The client asks again after a
    /// second, and finds the port closed or somebody else's.
    ///
    /// A Unix socket has no handshake, and one that was inherited may be served by others later:
    /// both stay as they are.
    ///
    /// # Errors
    /// The kernel takes no filter; `PermissionDenied` where it wants CAP_NET_ADMIN for one.
    pub fn turn_away(&self) -> io::Result<()> {
        if matches!(self.address, BindAddress::Fd(_)) || self.local().is_none() {
            return Ok(());
        }
        self.socket.attach_filter(&no_syn())
    }

    /// Lets as many connections wait as `listen` says from now on, unless the socket was inherited:
    /// then whoever made it has said so.
    ///
    /// # Errors
    /// As listen(2).
    pub fn renew(&self, listen: &Listen) -> io::Result<()> {
        match self.address {
            BindAddress::Fd(_) => Ok(()),
            BindAddress::Tcp(_) | BindAddress::Unix(_) => self.socket.listen(backlog_of(listen)),
        }
    }

    /// Its name in `LISTEN_FDNAMES`, which holds no colon.
    #[must_use]
    pub fn name(&self) -> String {
        match (self.port(), &self.address) {
            (Some(port), _) => format!("tcp-{port}"),
            (None, BindAddress::Unix(path)) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                format!(
                    "unix-{}",
                    name.replace(|c: char| c == ':' || c.is_control(), "-")
                )
            }
            (None, _) => "unix".to_owned(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A classic BPF program for TCP segments: all pass but those with SYN and without ACK. The
/// kernel shows it the TCP header first, with IPv4 and IPv6 alike.
fn no_syn() -> [SockFilter; 5] {
    /// Where the flags are in the header, and those that count here.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    // From linux/bpf_common.h: what is loaded, computed or compared, and with what.
    const LOAD_BYTE: u16 = 0x20 | 0x10;
    const AND: u16 = 0x04 | 0x50;
    const JUMP_IF_EQUAL: u16 = 0x05 | 0x10;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        // So many bytes of it are let through.
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

/// Removes the file of a Unix socket, unless another process put its own there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path) == Some(self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).ok().map(|file| file.ino())
}

/// Listen on an address of `listen`. The file of a Unix socket is made as workers would make it,
/// so that whoever may use what is theirs may connect.
///
/// # Errors
/// See [`BindError`].
pub fn bind(
    address: &BindAddress,
    listen: &Listen,
    security: &Security,
    inherited: &mut Inherited,
) -> Result<Listener, BindError> {
    let system = |source| BindError::System {
        address: address.clone(),
        source,
    };
    let backlog = backlog_of(listen);
    match address {
        BindAddress::Tcp(tcp) => bind_tcp(*tcp, shares_port(*tcp, listen), backlog)
            .map(|socket| (socket, None))
            .map_err(|source| {
                let in_use = source.kind() == io::ErrorKind::AddrInUse;
                let denied = source.kind() == io::ErrorKind::PermissionDenied;
                if in_use {
                    BindError::InUse(address.clone())
                } else if denied && tcp.port() < 1024 {
                    BindError::Privileged(address.clone())
                } else {
                    system(source)
                }
            }),
        BindAddress::Unix(path) => {
            remove_stale(path, address)?;
            let (socket, file) = bind_unix(path, backlog, security.umask).map_err(system)?;
            give_to_owner(path, security)?;
            Ok((socket, Some(file)))
        }
        BindAddress::Fd(number) => inherited.take(*number).map(|socket| (socket, None)),
    }
    .map(|(socket, file)| Listener {
        address: address.clone(),
        socket,
        _file: file,
    })
}

fn backlog_of(listen: &Listen) -> i32 {
    i32::try_from(listen.backlog).unwrap_or(i32::MAX)
}

/// Gives a Unix socket to the workers' user, if they are somebody else.
fn give_to_owner(path: &Path, security: &Security) -> Result<(), BindError> {
    let Some(owner) = &security.owner else {
        return Ok(());
    };
    give(path, owner).map_err(|source| BindError::Owner {
        address: BindAddress::Unix(path.to_owned()),
        owner: owner.clone(),
        source,
    })
}

/// Whether an IPv4 address has the same port to itself: `[::]` would take that too.
fn shares_port(address: SocketAddr, listen: &Listen) -> bool {
    listen.bind.iter().any(|other| {
        matches!(other, BindAddress::Tcp(other) if other.is_ipv4() && other.port() == address.port())
    })
}

fn bind_tcp(address: SocketAddr, only_v6: bool, backlog: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Connections inherit it. Not every worker sets it: uvicorn takes an inherited descriptor for a
    // Unix socket, and then the body of each answer waits for the client's delayed ACK, 40 ms.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// The mask is that of the whole process.
static MASKED: Mutex<()> = Mutex::new(());

/// Without a mask everybody may connect, as with gunicorn: a proxy in front of it is somebody else.
fn bind_unix(path: &Path, backlog: i32, mask: Option<u32>) -> io::Result<(Socket, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    let address = SockAddr::unix(path)?;
    let alone = MASKED.lock();
    let before = umask(Mode::from_raw_mode(mask.unwrap_or(0)));
    let bound = socket.bind(&address);
    umask(before);
    drop(alone);
    bound?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: inode(path).unwrap_or(0),
    };
    socket.listen(backlog)?;
    Ok((socket, file))
}

/// No link is followed: who may write to the folder could have put one there meanwhile.
fn give(path: &Path, owner: &Owner) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(chownat(CWD, path, Some(user), Some(group), flags)?)
}

/// A socket file that nobody answers on is what a killed server left behind.
fn remove_stale(path: &Path, address: &BindAddress) -> Result<(), BindError> {
    let Ok(file) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !file.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    let answer = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)
        .and_then(|probe| probe.connect(&SockAddr::unix(path)?));
    match answer {
        // A full queue is an answer too.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| BindError::System {
                address: address.clone(),
                source,
            })
        }
        _ => Err(BindError::InUse(address.clone())),
    }
}

/// Listening sockets that were handed to this process.
#[derive(Debug, Default)]
pub struct Inherited {
    passed: Vec<(RawFd, Socket)>,
    addresses: Vec<BindAddress>,
}

impl Inherited {
    /// Those of sd_listen_fds(3): `LISTEN_FDS` descriptors from 3 on, meant
    /// for this process when `LISTEN_PID` is its own. To be called once,
    /// before the process opens anything.
    #[must_use]
    pub fn from_environment() -> Self {
        let number = |name| std::env::var(name).ok()?.parse::<i32>().ok();
        let ours = number("LISTEN_PID") == i32::try_from(std::process::id()).ok();
        let count = number("LISTEN_FDS")
            .filter(|_| ours)
            .unwrap_or(0)
            .clamp(0, 1024);
        let passed: Vec<(RawFd, Socket)> = (FIRST_FD..FIRST_FD + count)
            .filter_map(|fd| Some((fd, adopt(fd)?)))
            .collect();
        let addresses = passed.iter().map(|(fd, _)| BindAddress::Fd(*fd)).collect();
        Self { passed, addresses }
    }

    /// The addresses under which [`bind`] found them, or will.
    #[must_use]
    pub fn addresses(&self) -> &[BindAddress] {
        &self.addresses
    }

    fn take(&mut self, number: RawFd) -> Result<Socket, BindError> {
        let passed = self.passed.iter().position(|(fd, _)| *fd == number);
        let socket = match passed {
            Some(index) => Some(self.passed.remove(index).1),
            None => adopt(number),
        };
        let socket = socket.ok_or(BindError::NotListening(number))?;
        if socket.is_listener().unwrap_or(false) {
            Ok(socket)
        } else {
            Err(BindError::NotListening(number))
        }
    }
}

/// Own a descriptor that the parent process left open for us. None of ours is
/// taken: those all close on exec, and one that came from outside does not.
fn adopt(fd: RawFd) -> Option<Socket> {
    if fd < FIRST_FD {
        return None;
    }
    // SAFETY: borrowed for two fcntl calls only; a number that is not open makes them fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl_getfd(borrowed).ok()?;
    if flags.contains(FdFlags::CLOEXEC) {
        return None;
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: open (see above), and nobody else's: it came without close-on-exec,
    // and from now on has it, so that this succeeds once for each number.
    Some(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::os::fd::IntoRawFd;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;

    const NOTHING_SPECIAL: Security = Security {
        owner: None,
        umask: None,
    };

    fn bind_one(address: &BindAddress) -> Result<Listener, BindError> {
        let listen = Listen {
            bind: vec![address.clone()],
            backlog: 16,
        };
        bind(
            address,
            &listen,
            &NOTHING_SPECIAL,
            &mut Inherited::default(),
        )
    }

    fn any_port() -> BindAddress {
        BindAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let first = bind_one(&any_port()).unwrap();
        let taken = BindAddress::Tcp(first.local().unwrap());
        assert!(matches!(bind_one(&taken), Err(BindError::InUse(address)) if address == taken));
    }

    #[test]
    fn connections_send_without_delay() {
        let listener = bind_one(&any_port()).unwrap();
        let _client = TcpStream::connect(listener.local().unwrap()).unwrap();
        let (connection, _) = listener.socket.accept().unwrap();
        assert!(connection.tcp_nodelay().unwrap());
    }

    #[test]
    fn who_is_turned_away_gets_no_answer_and_who_was_let_in_stays() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = bind_one(&BindAddress::Tcp(address.parse().unwrap())) else {
                continue;
            };
            let local = listener.local().unwrap();
            let mut before = TcpStream::connect(local).unwrap();
            match listener.turn_away() {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return crate::skip::skip("to set filters on TCP sockets");
                }
                set => set.unwrap(),
            }
            let refused = TcpStream::connect_timeout(&local, Duration::from_millis(100));
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut);
            before.write_all(b"heard").unwrap();
            before.shutdown(std::net::Shutdown::Write).unwrap();
            let (mut accepted, _) = listener.socket.accept().unwrap();
            let mut heard = String::new();
            accepted.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "heard");
        }
    }

    #[test]
    fn nobody_is_turned_away_from_a_socket_that_is_not_ours_alone() {
        let owned = bind_one(&any_port()).unwrap();
        let passed = rustix::io::dup(&owned).unwrap().into_raw_fd();
        let inherited = bind_one(&BindAddress::Fd(passed)).unwrap();
        inherited.turn_away().unwrap();
        TcpStream::connect(owned.local().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let unix = bind_one(&BindAddress::Unix(path.clone())).unwrap();
        unix.turn_away().unwrap();
        std::os::unix::net::UnixStream::connect(path).unwrap();
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        drop(UnixListener::bind(&path).unwrap());
        let address = BindAddress::Unix(path.clone());
        let listener = bind_one(&address).unwrap();
        assert!(matches!(bind_one(&address), Err(BindError::InUse(_))));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn the_file_of_a_unix_socket_is_made_as_its_owner_would() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let address = BindAddress::Unix(path.clone());
        let listen = Listen {
            bind: vec![address.clone()],
            backlog: 16,
        };
        let own = std::fs::metadata(folder.path()).unwrap();
        let is_root = own.uid() == 0;
        let (uid, gid) = if is_root {
            (65_533, 65_532)
        } else {
            (own.uid(), own.gid())
        };
        let security = Security {
            owner: Some(Owner {
                uid,
                gid,
                groups: vec![gid],
            }),
            umask: Some(0o117),
        };
        let _listener = bind(&address, &listen, &security, &mut Inherited::default()).unwrap();
        let file = std::fs::metadata(&path).unwrap();
        assert_eq!(
            (file.uid(), file.gid(), file.mode() & 0o777),
            (uid, gid, 0o660)
        );
    }

    #[test]
    fn as_many_may_wait_as_was_said_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let mut listen = Listen {
            bind: vec![BindAddress::Unix(path.clone())],
            backlog: 1,
        };
        let nobody = &mut Inherited::default();
        let listener = bind(&listen.bind[0], &listen, &NOTHING_SPECIAL, nobody).unwrap();
        let address = SockAddr::unix(&path).unwrap();
        let connect = || {
            let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
            client.connect(&address).map(|()| client)
        };
        // Of a Unix socket the kernel lets one more wait than it was told.
        let mut waiting: Vec<_> = (0..2).map(|_| connect().unwrap()).collect();
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        listen.backlog = 3;
        listener.renew(&listen).unwrap();
        waiting.extend((0..2).map(|_| connect().unwrap()));
        assert!(connect().is_err());
    }

    #[test]
    fn a_file_in_the_way_of_a_unix_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(
            bind_one(&BindAddress::Unix(path.clone())),
            Err(BindError::NotASocket(_))
        ));
        assert!(path.exists());
    }

    #[test]
    fn a_descriptor_is_adopted_once_and_only_if_it_listens() {
        let listener = bind_one(&any_port()).unwrap();
        let passed = rustix::io::dup(&listener).unwrap().into_raw_fd();
        let adopted = bind_one(&BindAddress::Fd(passed)).unwrap();
        assert_eq!(adopted.port(), listener.port());
        assert!(matches!(
            bind_one(&BindAddress::Fd(passed)),
            Err(BindError::NotListening(_))
        ));
        let silent = rustix::io::dup(std::fs::File::open("/dev/null").unwrap())
            .unwrap()
            .into_raw_fd();
        assert!(matches!(
            bind_one(&BindAddress::Fd(silent)),
            Err(BindError::NotListening(_))
        ));
    }

    #[test]
    fn names_hold_no_colon() {
        let folder = tempfile::tempdir().unwrap();
        let listener = bind_one(&BindAddress::Unix(folder.path().join("a:b.sock"))).unwrap();
        assert_eq!(listener.name(), "unix-a-b.sock");
    }
}

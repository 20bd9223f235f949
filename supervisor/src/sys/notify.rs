//! `NOTIFY_SOCKET`: a datagram socket a worker, for programs that speak sd_notify(3).

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, SockAddr, Socket, Type};
use worker_api::message::MAX_MESSAGE;

use super::channel::Received;
use super::run_directory::RunDirectory;
use crate::config::Owner;

/// The master's end: it only receives.
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
    /// The value of `NOTIFY_SOCKET`; an abstract name begins with `@`.
    name: OsString,
    path: Option<PathBuf>,
    /// The worker's user, where it is not ours.
    owner: Option<u32>,
}

impl NotifySocket {
    /// A socket named after the worker, which `owner` can write to.
    ///
    /// # Errors
    /// When it cannot be made or bound, or given away.
    pub fn bind(directory: &RunDirectory, worker: u64, owner: Option<&Owner>) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM.cloexec().nonblocking(), None)?;
        let path = directory.path_for(worker).filter(|path| {
            let bound = SockAddr::unix(path).and_then(|address| socket.bind(&address));
            bound.map_err(|error| not_there(path, &error)).is_ok()
        });
        let name = match &path {
            Some(path) => {
                if let (Some(owner), Some(folder)) = (owner, path.parent()) {
                    give(path, owner)?;
                    // To pass through, not to look into.
                    std::fs::set_permissions(folder, Permissions::from_mode(0o711))?;
                }
                path.clone().into_os_string()
            }
            None => {
                let name = directory.name_for(worker);
                socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
                format!("@{name}").into()
            }
        };
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self {
            socket: socket.into(),
            name,
            path,
            owner: owner.map(|owner| owner.uid),
        })
    }

    /// What the worker finds in `NOTIFY_SOCKET`.
    #[must_use]
    pub fn name(&self) -> &OsString {
        &self.name
    }

    /// Take the next message. Those of other users are dropped unseen.
    pub fn receive<'a>(&self, buffer: &'a mut [u8; MAX_MESSAGE]) -> Received<'a> {
        match self.receive_one(buffer) {
            Err(Errno::EAGAIN | Errno::EINTR) => Received::Nothing,
            Ok(Message {
                trusted: true,
                length,
            }) if length > MAX_MESSAGE => Received::TooLong,
            Ok(Message {
                trusted: true,
                length,
            }) => Received::Frame(&buffer[..length]),
            Ok(Message { trusted: false, .. }) | Err(_) => Received::Frame(&[]),
        }
    }

    fn receive_one(&self, buffer: &mut [u8; MAX_MESSAGE]) -> nix::Result<Message> {
        let mut slices = [IoSliceMut::new(&mut buffer[..])];
        let mut control = nix::cmsg_space!(UnixCredentials, [RawFd; SCM_MAX_FD]);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC | MsgFlags::MSG_CMSG_CLOEXEC;
        let fd = self.socket.as_raw_fd();
        let received = recvmsg::<()>(fd, &mut slices, Some(&mut control), flags)?;
        let own = nix::unistd::geteuid().as_raw();
        let mut message = Message {
            length: received.bytes,
            trusted: false,
        };
        for control in received.cmsgs()? {
            match control {
                ControlMessageOwned::ScmCredentials(sender) => {
                    let known = [Some(own), Some(0), self.owner];
                    message.trusted = known.contains(&Some(sender.uid()));
                }
                // We keep none; closing them is also how sd_notify_barrier(3) is answered.
                ControlMessageOwned::ScmRights(descriptors) => {
                    descriptors.into_iter().for_each(|fd| {
                        let _ = nix::unistd::close(fd);
                    });
                }
                _ => {}
            }
        }
        Ok(message)
    }
}

fn not_there(path: &Path, error: &io::Error) {
    let path = path.display();
    tracing::warn!(
        %path,
        %error,
        "NOTIFY_SOCKET gets an abstract name, which some clients cannot reach"
    );
}

/// Lets a worker of another user write to its socket. Without CAP_CHOWN anybody can who finds it, in a
/// folder that nobody can look into; whose messages are heard is another matter.
fn give(path: &Path, owner: &Owner) -> io::Result<()> {
    match chown(path, Some(owner.uid), Some(owner.gid)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            std::fs::set_permissions(path, Permissions::from_mode(0o666))
        }
        given => given,
    }
}

/// The most descriptors that one message can carry (unix(7)).
const SCM_MAX_FD: usize = 253;

struct Message {
    length: usize,
    trusted: bool,
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn messages_arrive_whole_and_too_long_ones_are_told() {
        let directory = RunDirectory::create();
        let socket = NotifySocket::bind(&directory, 7, None).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client
            .send_to(b"READY=1\nSTATUS=up", socket.name())
            .unwrap();
        client
            .send_to(&[b'x'; MAX_MESSAGE + 1], socket.name())
            .unwrap();
        let mut buffer = [0; MAX_MESSAGE];
        assert_eq!(
            socket.receive(&mut buffer),
            Received::Frame(b"READY=1\nSTATUS=up")
        );
        assert_eq!(socket.receive(&mut buffer), Received::TooLong);
        assert_eq!(socket.receive(&mut buffer), Received::Nothing);
    }

    #[test]
    fn without_a_folder_the_name_is_abstract() {
        let socket = NotifySocket::bind(&RunDirectory::nowhere(), 8, None).unwrap();
        assert!(socket.name().to_string_lossy().starts_with("@gracefork-"));
    }

    #[test]
    fn where_the_folder_has_gone_the_name_is_abstract() {
        let directory = RunDirectory::create();
        let path = directory.path_for(9).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let socket = NotifySocket::bind(&directory, 9, None).unwrap();
        assert!(socket.name().to_string_lossy().starts_with("@gracefork-"));
    }

    #[test]
    fn a_socket_is_gone_when_it_is_dropped() {
        let directory = RunDirectory::create();
        let path = directory.path_for(9).unwrap();
        let socket = NotifySocket::bind(&directory, 9, None).unwrap();
        assert!(path.exists());
        drop(socket);
        assert!(!path.exists());
    }
}

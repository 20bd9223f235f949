//! When a new process of the master became its program.
//!
//! The kernel tells it by the proc connector, with its own time stamps: to root, and since Linux 6.6
//! to anybody, but not in a network namespace of its own. Where it does not, /proc is looked into as
//! fast as can be.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, recv, send, socket_with, sockopt};
use rustix::time::{ClockId, clock_gettime};

use crate::harness::process::{children, stat};

/// Watches the children of one process.
pub(crate) struct Births {
    parent: u32,
    program: PathBuf,
    known: BTreeSet<u32>,
    connector: Option<OwnedFd>,
    /// Of polling: how often, and for how long.
    looks: (u32, Duration),
}

/// A new child that runs its program.
pub(crate) struct Birth {
    pub(crate) pid: u32,
    /// From the death's cause to the end of the dead one, where the kernel tells.
    pub(crate) death: Option<Duration>,
    /// From the death's cause to the program.
    pub(crate) exec: Duration,
}

/// A point in time of the kernel's monotonic clock.
#[derive(Clone, Copy)]
pub(crate) struct Moment(Duration);

/// `enum proc_cn_event` of linux/cn_proc.h.
const FORK: u32 = 0x1;
const EXEC: u32 = 0x2;
const EXIT: u32 = 0x8000_0000;
/// nlmsghdr and cn_msg come before the event.
const HEADERS: usize = 16 + 20;

impl Moment {
    pub(crate) fn now() -> Moment {
        let now = clock_gettime(ClockId::Monotonic);
        Moment(Duration::try_from(now).unwrap())
    }
}

impl Births {
    /// Watches for children of `parent` that become `program`.
    pub(crate) fn watch(parent: u32, program: &Path) -> Births {
        Births {
            parent,
            program: program.to_owned(),
            known: BTreeSet::new(),
            connector: listen().filter(says_something),
            looks: (0, Duration::ZERO),
        }
    }

    /// What is there now is not new.
    pub(crate) fn forget(&mut self) {
        match &self.connector {
            Some(socket) => while next_event(socket, Duration::ZERO).is_some() {},
            None => self.known = children(self.parent).into_iter().collect(),
        }
    }

    /// Waits for the first new child since [`Births::forget`] that runs the program; `since` is when
    /// `victim` was killed.
    pub(crate) fn wait(&mut self, victim: u32, since: Moment, limit: Duration) -> Option<Birth> {
        match &self.connector {
            Some(socket) => told(socket, self.parent, victim, since, limit),
            None => self.look(since, limit),
        }
    }

    /// How it was measured.
    pub(crate) fn how(&self) -> String {
        match self.looks {
            _ if self.connector.is_some() => {
                "the kernel's time stamp of the exec (netlink proc connector)".to_owned()
            }
            (looks, spent) => format!(
                "/proc polled without a pause; a look took {:.2} ms on average, and the time is late by as much",
                spent.as_secs_f64() * 1000.0 / f64::from(looks.max(1))
            ),
        }
    }

    fn look(&mut self, since: Moment, limit: Duration) -> Option<Birth> {
        let started = Instant::now();
        while started.elapsed() < limit {
            let look = Instant::now();
            let new = children(self.parent).into_iter().find(|pid| {
                let runs = |exe: PathBuf| exe == self.program;
                !self.known.contains(pid)
                    && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(runs)
            });
            self.looks = (self.looks.0 + 1, self.looks.1 + look.elapsed());
            if let Some(pid) = new {
                return Some(Birth {
                    pid,
                    death: None,
                    exec: Moment::now().0 - since.0,
                });
            }
        }
        None
    }
}

fn told(
    socket: &OwnedFd,
    parent: u32,
    victim: u32,
    since: Moment,
    limit: Duration,
) -> Option<Birth> {
    let started = Instant::now();
    let mut born = BTreeSet::new();
    let mut death = None;
    while let Some(event) = next_event(socket, limit.saturating_sub(started.elapsed())) {
        let after = event.at.saturating_sub(since.0);
        match event.what {
            EXIT if event.process == victim => death = Some(after),
            FORK if event.process == parent => drop(born.insert(event.child)),
            EXEC if born.contains(&event.process) => {
                return Some(Birth {
                    pid: event.process,
                    death,
                    exec: after,
                });
            }
            _ => {}
        }
    }
    None
}

/// What the proc connector tells, as far as it is of interest.
struct Event {
    what: u32,
    at: Duration,
    /// Who forked, became a program or ended.
    process: u32,
    child: u32,
}

/// Asks for the events of processes; `None` where that is not allowed.
fn listen() -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        flags,
        Some(CONNECTOR),
    )
    .ok()?;
    // A build beside us makes processes by the hundred.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, 4 << 20);
    let (process_events, listen) = (1_u32, 1_u32);
    bind(&socket, &SocketAddrNetlink::new(0, process_events)).ok()?;
    let mut message = Vec::new();
    // nlmsghdr: length, NLMSG_DONE, no flags, sequence, pid.
    let length = u32::try_from(HEADERS + 4).unwrap();
    message.extend(length.to_ne_bytes());
    message.extend([3_u16, 0].map(u16::to_ne_bytes).concat());
    message.extend([0_u32, 0].map(u32::to_ne_bytes).concat());
    // cn_msg: CN_IDX_PROC, CN_VAL_PROC, sequence, ack, length, flags; then PROC_CN_MCAST_LISTEN.
    message.extend([process_events, 1, 0, 0].map(u32::to_ne_bytes).concat());
    message.extend([4_u16, 0].map(u16::to_ne_bytes).concat());
    message.extend(listen.to_ne_bytes());
    send(&socket, &message, SendFlags::empty()).ok()?;
    Some(socket)
}

/// In a network namespace of its own the socket can be had, and stays silent.
fn says_something(socket: &OwnedFd) -> bool {
    let ran = Command::new("true").status();
    ran.is_ok()
        && (0..64)
            .map_while(|_| next_event(socket, Duration::from_secs(1)))
            .any(|event| event.what == EXEC)
}

/// The next event; `None` when there is none within `limit`.
fn next_event(socket: &OwnedFd, limit: Duration) -> Option<Event> {
    let deadline = Instant::now() + limit;
    let mut buffer = [0; 256];
    loop {
        match recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((read, _)) => {
                if let Some(event) = decode(&buffer[..read]) {
                    return Some(event);
                }
                continue;
            }
            // Too many at once: some are lost, and the next one counts.
            Err(Errno::NOBUFS | Errno::INTR) => continue,
            Err(Errno::AGAIN) => {}
            Err(error) => panic!("the proc connector: {error}"),
        }
        let left = deadline
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())?;
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec::try_from(left).unwrap())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("poll of the proc connector: {error}"),
        }
    }
}

/// `struct proc_event`: what, processor, time stamp, then pid and thread group of who it is about,
/// and at a fork those of the child. Threads are passed over.
fn decode(message: &[u8]) -> Option<Event> {
    let event = message.get(HEADERS..)?;
    let word = |at: usize| Some(u32::from_ne_bytes(event.get(at..at + 4)?.try_into().ok()?));
    let at = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
    let what = word(0)?;
    let (process, leader) = (word(16)?, word(20)?);
    let child = if what == FORK { word(24)? } else { 0 };
    let is_thread = match what {
        FORK => word(28)? != child,
        _ => process != leader,
    };
    let process = if what == FORK { leader } else { process };
    (!is_thread).then_some(Event {
        what,
        at: Duration::from_nanos(at),
        process,
        child,
    })
}

/// Who is a child of the master now, and alive.
pub(crate) fn living_children(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    found.retain(|&child| stat(child).is_some_and(|stat| stat.state != 'Z'));
    found
}

//! For tests: a worker on a real channel and a real scoreboard, and the master's end of both.

use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use crate::channel::Channel;
use crate::control::Source;
use crate::health::Link;
use crate::hooks::Hooks;
use crate::message::{Command, MAX_MESSAGE, Report};
use crate::scoreboard::{PodPhase, Row, Scoreboard};
use crate::settings::Settings;
use crate::worker::{Start, Worker, start_worker};

/// What the master holds. Its channel stays open to the end of the tests unless it
/// [dies](Master::dies): an orphan that was forced would kill the test process.
pub(crate) struct Master {
    channel: ManuallyDrop<OwnedFd>,
    pub(crate) board: Scoreboard,
    pub(crate) row: Row,
}

/// A worker whose own deadlines are far away: an orphan must not kill the test process.
pub(crate) fn patient() -> Settings {
    Settings {
        drain_timeout: Duration::from_secs(86_400),
        ..Settings::default()
    }
}

/// A pair as the master makes it, its own end first; reading there gives up after a minute.
pub(crate) fn channel() -> (OwnedFd, OwnedFd) {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let pair = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
    let long = Some(Duration::from_secs(60));
    sockopt::set_socket_timeout(&pair.0, sockopt::Timeout::Recv, long).unwrap();
    pair
}

/// A pod that serves, and its worker in slot 1 of generation 3.
pub(crate) fn supervised(hooks: impl Hooks, settings: Settings) -> (Worker, Master) {
    supervised_in(PodPhase::Ready, hooks, settings)
}

pub(crate) fn supervised_in(
    phase: PodPhase,
    hooks: impl Hooks,
    settings: Settings,
) -> (Worker, Master) {
    let (board, fd) = Scoreboard::create(2).unwrap();
    board.set_phase(phase);
    board.set_pod_healthy(phase == PodPhase::Ready);
    let row = board.row(1).unwrap();
    row.reset(std::process::id(), 3);
    let (mine, theirs) = channel();
    let attached = Scoreboard::attach(fd).unwrap();
    let link = Link {
        row: attached.row(1).unwrap(),
        board: attached,
        channel: Some(Channel::new(theirs)),
    };
    let start = Start {
        link,
        slot: 1,
        generation: 3,
        source: Source::Master,
    };
    let worker = start_worker(Box::new(hooks), settings, Vec::new(), start).unwrap();
    {
        let channel = ManuallyDrop::new(mine);
        (
            worker,
            Master {
                channel,
                board,
                row,
            },
        )
    }
}

impl Master {
    /// The worker's channel ends.
    pub(crate) fn dies(self) {
        drop(ManuallyDrop::into_inner(self.channel));
    }

    pub(crate) fn tell(&self, command: &Command) {
        self.tell_raw(&command.encode());
    }

    pub(crate) fn tell_raw(&self, frame: &[u8]) {
        let sent = rustix::net::send(&*self.channel, frame, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(sent, frame.len());
    }

    /// The next frame's one report.
    pub(crate) fn hear(&self) -> Report {
        let mut frame = [0; MAX_MESSAGE];
        let (length, _) =
            rustix::net::recv(&*self.channel, &mut frame, RecvFlags::empty()).unwrap();
        let mut reports = Report::decode(&frame[..length]).unwrap();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    /// Whether nothing was reported beyond what was heard.
    pub(crate) fn heard_all(&self) -> bool {
        let peeked = rustix::net::recv(&*self.channel, &mut [0; 1], RecvFlags::DONTWAIT);
        peeked == Err(rustix::io::Errno::AGAIN)
    }
}

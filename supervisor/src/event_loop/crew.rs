//! The processes behind the workers: what the core knows by number.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOMEM, ETXTBSY, SIGKILL, SIGTERM};
use rustix::process::Pid;
use worker_api::message::Command;
use worker_api::scoreboard::{RequestUnderway, Row, RowSnapshot, Scoreboard};

use crate::config::Owner;
use crate::fleet::{Generation, Order, SpawnFailure, WorkerId};
use crate::sys::channel::Channel;
use crate::sys::notify::NotifySocket;
use crate::sys::process::{self, End};
use crate::sys::run_directory::RunDirectory;
use crate::sys::signals;
use crate::sys::spawn::{Child, Launch, SpawnError, Step, end, spawn};

use super::spec::{Identity, Spec};

/// The first token of the workers; each has three.
pub(super) const FIRST_TOKEN: usize = 1 << 16;

/// The first token that is no worker's.
pub(super) const TOKENS_END: usize = 1 << (usize::BITS - 2);

/// Which of a worker's descriptors a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Its pidfd: it is dead.
    Life,
    /// Its control channel.
    Control,
    /// Its notify socket.
    Notify,
}

impl Source {
    const ALL: [Source; 3] = [Source::Life, Source::Control, Source::Notify];

    fn token(self, id: WorkerId) -> Token {
        let worker = usize::try_from(id.0).unwrap_or(usize::MAX / 8);
        Token(FIRST_TOKEN + worker * Self::ALL.len() + self as usize)
    }

    pub(super) fn of(token: Token) -> Option<(WorkerId, Source)> {
        let number = token.0.checked_sub(FIRST_TOKEN)?;
        if token.0 >= TOKENS_END {
            return None;
        }
        Some((
            WorkerId((number / Self::ALL.len()) as u64),
            Self::ALL[number % Self::ALL.len()],
        ))
    }
}

/// A worker's process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) slot: usize,
    pub(super) generation: Generation,
    /// A host forked it.
    pub(super) is_hosted: bool,
    /// The configured `stop_signal`.
    pub(super) stop_signal: i32,
    pub(super) row: Option<Row>,
    pub(super) channel: Channel,
    pub(super) notify: Option<NotifySocket>,
    /// We killed it; the kernel's OOM killer did not.
    pub(super) killed: bool,
    /// The last stop signal that it got from us, if it does not catch it.
    pub(super) uncaught: Option<i32>,
    /// How its first process ended, while others of its group go on with its work.
    pub(super) outlived: Option<End>,
    /// Frames that made no sense are told once.
    pub(super) garbled: bool,
    child: Child,
    /// How many requests were in flight when it died, and the oldest of them.
    died_with: (u32, Vec<RequestUnderway>),
    /// What its control channel had no room for yet.
    unsent: VecDeque<Command>,
}

/// All processes.
#[derive(Debug)]
pub(super) struct Crew {
    processes: BTreeMap<WorkerId, Process>,
    directory: RunDirectory,
}

impl Crew {
    pub(super) fn new() -> Self {
        Self {
            processes: BTreeMap::new(),
            directory: RunDirectory::create(),
        }
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Process> {
        self.processes.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Process> {
        self.processes.get_mut(&id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (WorkerId, &mut Process)> {
        self.processes
            .iter_mut()
            .map(|(id, process)| (*id, process))
    }

    pub(super) fn by_pid(&self, pid: Pid) -> Option<WorkerId> {
        self.processes
            .iter()
            .find(|(_, process)| process.pid == pid)
            .map(|(id, _)| *id)
    }

    /// Start the process of an ordered worker.
    pub(super) fn start(
        &mut self,
        order: &Order,
        spec: &Spec,
        board: &Board<'_>,
        registry: &Registry,
    ) -> Result<Pid, SpawnFailure> {
        let process = launch(order, spec, board, &self.directory)?;
        self.enlist(order.worker, process, registry)
    }

    /// Take a worker's process in.
    pub(super) fn enlist(
        &mut self,
        id: WorkerId,
        process: Process,
        registry: &Registry,
    ) -> Result<Pid, SpawnFailure> {
        let pid = process.pid;
        if let Err(error) = process.register(id, registry) {
            process.deregister(registry);
            end(pid);
            return Err(SpawnFailure::System(error.to_string()));
        }
        self.processes.insert(id, process);
        Ok(pid)
    }

    /// The process is reaped.
    pub(super) fn remove(&mut self, id: WorkerId, registry: &Registry) -> Option<Process> {
        let process = self.processes.remove(&id)?;
        process.deregister(registry);
        Some(process)
    }
}

/// The scoreboard, to be passed on.
pub(super) struct Board<'a> {
    pub(super) memory: &'a Scoreboard,
    pub(super) fd: BorrowedFd<'a>,
}

impl Board<'_> {
    /// The row of an ordered worker, made ready for it.
    pub(super) fn row_for(&self, order: &Order) -> Option<Row> {
        let row = self.memory.row(order.slot);
        if let Some(row) = &row {
            row.reset(0, order.generation.0);
        }
        row
    }
}

/// Start a worker that is a program of its own.
fn launch(
    order: &Order,
    spec: &Spec,
    board: &Board<'_>,
    directory: &RunDirectory,
) -> Result<Process, SpawnFailure> {
    let system = |error: io::Error| SpawnFailure::System(error.to_string());
    let (channel, worker_end) = Channel::pair().map_err(system)?;
    let owner = spec.config.security.owner.as_ref();
    let notify = spec
        .takes_notifications()
        .then(|| NotifySocket::bind(directory, order.worker.0, owner))
        .transpose();
    let notify = notify.map_err(system)?;
    let control_fd = spec.first_free_fd();
    let identity = Identity {
        slot: order.slot,
        generation: order.generation.0,
        control_fd,
        scoreboard_fd: control_fd + 1,
        max_requests: order.max_requests,
        notify_socket: notify.as_ref().map(|socket| socket.name().as_os_str()),
    };
    let row = board.row_for(order);
    let child = spawn(&Launch {
        program: &spec.program,
        args: &spec.args(order.slot),
        env: spec.environment(&identity),
        chdir: &spec.config.app.chdir,
        inherit: &spec.descriptors([worker_end.as_fd(), board.fd]),
        death_signal: spec.death_signal(),
        umask: spec.config.security.umask,
        owner,
        output: None,
    })
    .map_err(|error| failure(&error, &spec.program, &spec.config.app.chdir, owner))?;
    let stop_signal = spec.config.workers.stop_signal.number();
    let process = Process::new(child, order, row, channel);
    Ok(Process {
        stop_signal,
        notify,
        ..process
    })
}

/// What a program that could not be started says of the next try. `owner`: whom it was to run as.
pub(super) fn failure(
    error: &SpawnError,
    program: &Path,
    chdir: &Path,
    owner: Option<&Owner>,
) -> SpawnFailure {
    let program = program.display();
    let role = owner.map_or_else(String::new, |owner| format!(", as {owner}"));
    match error {
        SpawnError::Nul(_) => SpawnFailure::App(error.to_string()),
        SpawnError::Child {
            step: Step::Exec,
            source,
        } if source.raw_os_error() == Some(nix::libc::ENOEXEC) => SpawnFailure::App(format!(
            "{program} is no program of this machine; a script begins with a line such as #!/bin/sh"
        )),
        // Somebody writes the program just now, or there is too much of something.
        SpawnError::Child {
            step: Step::Exec,
            source,
        } if matches!(
            source.raw_os_error(),
            Some(ETXTBSY | EAGAIN | ENOMEM | EMFILE | ENFILE)
        ) =>
        {
            SpawnFailure::System(format!("{program}: {source}{role}"))
        }
        SpawnError::Child {
            step: Step::Exec,
            source,
        } => SpawnFailure::App(format!("{program}: {source}{role}")),
        SpawnError::Child {
            step: Step::Chdir,
            source,
        } => SpawnFailure::App(format!(
            "the working directory {} (`chdir`) cannot be entered: {source}{role}",
            chdir.display()
        )),
        SpawnError::Child {
            step: Step::Owner,
            source,
        } => SpawnFailure::Config(format!("{program}: {source}{role}")),
        SpawnError::Child { .. } | SpawnError::Pidfd(_) | SpawnError::System(_) => {
            SpawnFailure::System(error.to_string())
        }
    }
}

impl Process {
    /// The process of an ordered worker that a host has forked.
    pub(super) fn forked(child: Child, order: &Order, row: Option<Row>, channel: Channel) -> Self {
        Self {
            is_hosted: true,
            ..Self::new(child, order, row, channel)
        }
    }

    fn new(child: Child, order: &Order, row: Option<Row>, channel: Channel) -> Self {
        if let Some(row) = &row {
            row.set_pid(Pid::as_raw(Some(child.pid)).unsigned_abs());
        }
        Self {
            pid: child.pid,
            slot: order.slot,
            generation: order.generation,
            stop_signal: SIGTERM,
            is_hosted: false,
            row,
            channel,
            notify: None,
            killed: false,
            uncaught: None,
            outlived: None,
            garbled: false,
            child,
            died_with: (0, Vec::new()),
            unsent: VecDeque::new(),
        }
    }

    /// Tell the worker; what does not fit now is sent when it has read.
    pub(super) fn command(&mut self, command: Command) {
        self.unsent.push_back(command);
        self.flush();
    }

    /// Send what is waiting.
    pub(super) fn flush(&mut self) {
        while let Some(command) = self.unsent.front() {
            match self.channel.send(command) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A worker that closed its end is told by signals, and by its death.
                Ok(()) | Err(_) => self.unsent.pop_front(),
            };
        }
    }

    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        match self.outlived {
            None => signals::send(&self.child.pidfd, signal),
            Some(_) => signals::send_to_group(self.pid, signal),
        }
    }

    /// Tells it to stop.
    pub(super) fn stop(&mut self, signal: i32) -> io::Result<()> {
        if !self.is_hosted && self.outlived.is_none() {
            self.uncaught = (!process::catches(self.pid, signal)).then_some(signal);
        }
        self.signal(signal)
    }

    /// Kill the worker and all that it started in its process group.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.killed = true;
        // It may have left the group that it led.
        if self.outlived.is_none() {
            self.signal(SIGKILL)?;
        }
        signals::kill_group(self.pid)
    }

    fn register(&self, id: WorkerId, registry: &Registry) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        register(
            &self.child.pidfd,
            Source::Life.token(id),
            Interest::READABLE,
            registry,
        )?;
        register(&self.channel, Source::Control.token(id), both, registry)?;
        match &self.notify {
            Some(socket) => register(
                socket,
                Source::Notify.token(id),
                Interest::READABLE,
                registry,
            ),
            None => Ok(()),
        }
    }

    /// Closing a descriptor that nobody else holds takes it out of the poll as
    /// well; but a worker's forks may hold the channel's other end, never ours.
    fn deregister(&self, registry: &Registry) {
        let ours = [
            self.child.pidfd.as_raw_fd(),
            self.channel.as_fd().as_raw_fd(),
        ];
        let notify = self
            .notify
            .as_ref()
            .map(|socket| socket.as_fd().as_raw_fd());
        for fd in ours.into_iter().chain(notify) {
            let _ = registry.deregister(&mut SourceFd(&fd));
        }
    }

    /// Requests in flight; of a dead worker, those that died with it.
    pub(super) fn in_flight(&self) -> u32 {
        match &self.row {
            Some(row) => row.snapshot().in_flight,
            None => self.died_with.0,
        }
    }

    /// The oldest of these requests.
    pub(super) fn oldest(&self) -> Vec<RequestUnderway> {
        match &self.row {
            Some(row) => row.oldest(),
            None => self.died_with.1.clone(),
        }
    }

    /// The worker is dead: take the last numbers out of its row, for another to use it.
    pub(super) fn close_row(&mut self) -> Option<RowSnapshot> {
        let row = self.row.take()?;
        let last = row.snapshot();
        self.died_with = (last.in_flight, row.oldest());
        row.clear();
        Some(last)
    }
}

pub(super) fn register(
    fd: &impl AsFd,
    token: Token,
    interest: Interest,
    registry: &Registry,
) -> io::Result<()> {
    registry.register(&mut SourceFd(&fd.as_fd().as_raw_fd()), token, interest)
}

/// How long the master waits at its end for what it killed.
pub(super) fn last_patience(now: Instant) -> Instant {
    now + std::time::Duration::from_secs(1)
}

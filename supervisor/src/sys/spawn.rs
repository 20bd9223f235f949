//! fork and exec of one worker.
#![expect(
    unsafe_code,
    reason = "what runs between fork and exec has no safe wrapper"
)]

use std::ffi::{CString, NulError, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::ptr;

use nix::libc;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::config::Owner;

/// The first descriptor that a worker inherits beyond standard input, output
/// and error (`SD_LISTEN_FDS_START` of sd_listen_fds(3)).
pub const FIRST_FD: RawFd = 3;

/// Everything that a worker starts with.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The executable.
    pub program: &'a Path,
    /// Its arguments, without its own name.
    pub args: &'a [String],
    /// Its whole environment. [`PID_VARIABLES`] are added by the child.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub chdir: &'a Path,
    /// Become descriptors 3, 4, ... of the worker; nothing else is passed on.
    pub inherit: &'a [BorrowedFd<'a>],
    /// Sent to the worker by the kernel when the master dies.
    pub death_signal: Option<i32>,
    /// File mode bits that it never sets.
    pub umask: Option<u32>,
    /// Who it runs as, where that is not the master's user.
    pub owner: Option<&'a Owner>,
    /// Its standard output and error, where they are not the master's.
    pub output: Option<[BorrowedFd<'a>; 2]>,
}

/// Variables whose value is the pid of the worker, which only the worker knows.
pub const PID_VARIABLES: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];

/// A worker that runs its program.
#[derive(Debug)]
pub struct Child {
    /// Its process id, and that of the process group that it leads.
    pub pid: Pid,
    /// Readable when it is dead; signals sent through it can hit nobody else.
    pub pidfd: OwnedFd,
}

impl Child {
    /// Take hold of a child that somebody else has forked.
    ///
    /// # Errors
    /// When it is no child of this process, or the system has no descriptor.
    pub fn adopt(pid: Pid) -> io::Result<Self> {
        // A child is a zombie at worst until it is reaped: the pid is its own.
        if !super::process::is_child(pid) {
            let number = Pid::as_raw(Some(pid));
            return Err(io::Error::other(format!(
                "process {number} is no child of the master"
            )));
        }
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        Ok(Self { pid, pidfd })
    }
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program, an argument or a variable holds a NUL byte.
    #[error("a NUL byte in the program's name, arguments or environment")]
    Nul(#[from] NulError),
    /// The child could not become the program.
    #[error("{step} failed: {source}")]
    Child {
        /// What was tried.
        step: Step,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel or a seccomp profile has no pidfd for us.
    #[error(
        "pidfd_open failed: {0}; Linux 5.10 or newer is needed, and a seccomp profile that allows it"
    )]
    Pidfd(rustix::io::Errno),
    /// The system gave no process or descriptor.
    #[error("the system gives no process or descriptor: {0}")]
    System(#[from] io::Error),
}

/// What the child does between fork and exec and may fail at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Step {
    /// Placing the inherited descriptors.
    #[error("passing descriptors on")]
    Descriptors,
    /// Becoming the user that it runs as.
    #[error("becoming its user")]
    Owner,
    /// Entering the working directory.
    #[error("entering the working directory")]
    Chdir,
    /// Executing the program.
    #[error("executing the program")]
    Exec,
}

impl Step {
    const ALL: [Step; 4] = [Step::Descriptors, Step::Owner, Step::Chdir, Step::Exec];
}

/// Start a program; returns once it has replaced the child, or has failed to.
///
/// # Errors
/// See [`SpawnError`]. A child that failed is reaped.
pub fn spawn(launch: &Launch<'_>) -> Result<Child, SpawnError> {
    let mut image = Image::prepare(launch)?;
    let (report, reporter) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let null = std::fs::File::open("/dev/null")?;
    let mut plan = Plan {
        image: &mut image,
        reporter: reporter.as_raw_fd(),
        null: null.as_raw_fd(),
        parent: rustix::process::getpid(),
    };
    let pid = fork_and_run(&mut plan)?;
    drop(reporter);
    let started = match read_failure(&report) {
        Ok(None) => pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(SpawnError::Pidfd),
        Ok(Some((step, source))) => Err(SpawnError::Child { step, source }),
        Err(error) => Err(error.into()),
    };
    if started.is_err() {
        // Nobody would look after it.
        end(pid);
    }
    started.map(|pidfd| Child { pid, pidfd })
}

/// Kill and reap a child that is not to live.
pub fn end(pid: Pid) {
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
}

/// The child closes its end when it execs; before that it writes what failed.
fn read_failure(report: &OwnedFd) -> io::Result<Option<(Step, io::Error)>> {
    let mut failure = [0u8; 5];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(report, &mut failure))?;
    let [step, errno @ ..] = failure;
    let step = Step::ALL
        .get(usize::from(step))
        .filter(|_| read == failure.len());
    Ok(step.map(|step| {
        (
            *step,
            io::Error::from_raw_os_error(i32::from_ne_bytes(errno)),
        )
    }))
}

/// What execve(2) needs, laid out before the fork: the child allocates nothing.
struct Image {
    program: CString,
    chdir: CString,
    /// Pointers into `_strings`, ended by a null pointer.
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    /// `LISTEN_PID=` and the like, with room for the digits.
    pid_variables: Vec<Box<[u8]>>,
    /// Inherited descriptors, in the order of the numbers that they get.
    inherit: Vec<RawFd>,
    death_signal: libc::c_int,
    umask: Option<libc::mode_t>,
    owner: Option<Owner>,
    output: Option<[RawFd; 2]>,
    _strings: Vec<CString>,
}

/// Room for the decimal digits of a pid and the final NUL.
const PID_ROOM: usize = 11;

impl Image {
    fn prepare(launch: &Launch<'_>) -> Result<Self, NulError> {
        let program = CString::new(launch.program.as_os_str().as_bytes())?;
        let mut strings = vec![program.clone()];
        for arg in launch.args {
            strings.push(CString::new(arg.as_bytes())?);
        }
        let argc = strings.len();
        for (name, value) in &launch.env {
            let mut entry = name.clone().into_vec();
            entry.push(b'=');
            entry.extend_from_slice(value.as_bytes());
            strings.push(CString::new(entry)?);
        }
        let pid_variables: Vec<Box<[u8]>> = PID_VARIABLES
            .map(|name| {
                [name.as_bytes(), b"=", &[0; PID_ROOM]]
                    .concat()
                    .into_boxed_slice()
            })
            .into();
        let end = || std::iter::once(ptr::null());
        let argv = strings[..argc]
            .iter()
            .map(|arg| arg.as_ptr())
            .chain(end())
            .collect();
        let variables = strings[argc..].iter().map(|entry| entry.as_ptr());
        let envp = variables
            .chain(pid_variables.iter().map(|entry| entry.as_ptr().cast()))
            .chain(end())
            .collect();
        Ok(Self {
            program,
            chdir: CString::new(launch.chdir.as_os_str().as_bytes())?,
            argv,
            envp,
            pid_variables,
            inherit: launch
                .inherit
                .iter()
                .map(|fd| fd.as_fd().as_raw_fd())
                .collect(),
            death_signal: launch.death_signal.unwrap_or(0),
            umask: launch.umask,
            owner: launch.owner.cloned(),
            output: launch.output.map(|both| both.map(|fd| fd.as_raw_fd())),
            _strings: strings,
        })
    }
}

struct Plan<'a> {
    image: &'a mut Image,
    reporter: RawFd,
    null: RawFd,
    parent: Pid,
}

fn fork_and_run(plan: &mut Plan<'_>) -> io::Result<Pid> {
    // No handler of the master may run in the child, and no signal may be lost
    // in between: all are blocked until the child has default dispositions.
    let all = nix::sys::signal::SigSet::all();
    let before = all.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the child calls only async-signal-safe functions (`become_program`
    // allocates nothing and takes no lock) and never returns, so it does not
    // matter which other threads exist; in the master there are none.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        // SAFETY: this is the child of the fork, as `become_program` demands.
        unsafe { become_program(plan) }
    }
    let failure = io::Error::last_os_error();
    before.thread_set_mask()?;
    Pid::from_raw(forked).filter(|_| forked > 0).ok_or(failure)
}

/// # Safety
/// Only in the child of a fork: it changes the process for good and never returns.
unsafe fn become_program(plan: &mut Plan<'_>) -> ! {
    // SAFETY: plain syscalls on numbers and on memory that `plan` keeps alive;
    // `argv` and `envp` end with a null pointer (`Image::prepare`).
    unsafe {
        reset_signals();
        libc::setpgid(0, 0);
        let reporter = match place_descriptors(plan) {
            Ok(reporter) => reporter,
            Err(reporter) => fail(reporter, Step::Descriptors),
        };
        if let Some(mask) = plan.image.umask {
            libc::umask(mask);
        }
        if let Some(owner) = &plan.image.owner
            && !become_owner(owner)
        {
            fail(reporter, Step::Owner)
        }
        // Not before: a change of the user takes it back.
        if plan.image.death_signal != 0 {
            libc::prctl(libc::PR_SET_PDEATHSIG, plan.image.death_signal);
        }
        // The master may have died before the line above.
        if libc::getppid() != Pid::as_raw(Some(plan.parent)) {
            libc::_exit(1);
        }
        if libc::chdir(plan.image.chdir.as_ptr()) != 0 {
            fail(reporter, Step::Chdir)
        }
        for variable in &mut plan.image.pid_variables {
            write_digits(variable, libc::getpid().unsigned_abs());
        }
        let none = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::execve(
            plan.image.program.as_ptr(),
            plan.image.argv.as_ptr(),
            plan.image.envp.as_ptr(),
        );
        fail(reporter, Step::Exec)
    }
}

/// Take groups and user for good: the real, the effective and the saved ones. The user comes last,
/// for who is not root any more may not change groups. Whether it worked.
///
/// # Safety
/// Only in the child of a fork, which has one thread: these are the kernel's own calls, and the C
/// library would have to make them in each thread.
unsafe fn become_owner(owner: &Owner) -> bool {
    let Owner { uid, gid, groups } = owner;
    // SAFETY: `groups` is alive, and as long as the kernel is told; the rest are numbers.
    unsafe {
        libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
            && libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) == 0
            && libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) == 0
    }
}

/// Default dispositions for all signals: exec(2) keeps those that are ignored.
///
/// # Safety
/// Only in the child of a fork.
unsafe fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is valid for each; those that cannot be changed are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Put the inherited descriptors at 3, 4, ..., the null device at 0, and close
/// all the rest. Returns the new number of the reporter, which exec closes; in
/// failure, the number that it can be told by.
///
/// # Safety
/// Only in the child of a fork: descriptors that others own are replaced.
unsafe fn place_descriptors(plan: &mut Plan<'_>) -> Result<RawFd, RawFd> {
    let count = RawFd::try_from(plan.image.inherit.len()).map_err(|_| plan.reporter)?;
    let reporter = FIRST_FD + count;
    let beyond = reporter + 1;
    // SAFETY: plain syscalls on descriptor numbers of this process, which
    // shares none of them with the parent.
    unsafe {
        // First out of the way of each other, then to their places.
        let moved_reporter = libc::fcntl(plan.reporter, libc::F_DUPFD_CLOEXEC, beyond);
        if moved_reporter < 0 {
            return Err(plan.reporter);
        }
        let moved_null = libc::fcntl(plan.null, libc::F_DUPFD_CLOEXEC, beyond);
        if moved_null < 0 {
            return Err(moved_reporter);
        }
        for fd in &mut plan.image.inherit {
            *fd = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, beyond);
            if *fd < 0 {
                return Err(moved_reporter);
            }
        }
        let output = plan.image.output.iter().flatten();
        for (&fd, place) in output.zip([libc::STDOUT_FILENO, libc::STDERR_FILENO]) {
            if libc::dup2(fd, place) < 0 {
                return Err(moved_reporter);
            }
        }
        for (&fd, place) in plan.image.inherit.iter().zip(FIRST_FD..) {
            if libc::dup2(fd, place) < 0 {
                return Err(moved_reporter);
            }
        }
        if libc::dup2(moved_null, 0) < 0
            || libc::dup3(moved_reporter, reporter, libc::O_CLOEXEC) < 0
        {
            return Err(moved_reporter);
        }
        close_from(beyond);
        Ok(reporter)
    }
}

/// Close everything from `first` on. What is ours closes at exec anyway; this
/// is for what the master itself was handed.
///
/// # Safety
/// Only in the child of a fork.
unsafe fn close_from(first: RawFd) {
    /// Where close_range(2) is forbidden, by an old seccomp profile: so far we look.
    const LAST: RawFd = 65_535;
    // SAFETY: plain syscalls on descriptor numbers of this process.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) == 0 {
            return;
        }
        let limit = libc::sysconf(libc::_SC_OPEN_MAX);
        let last = RawFd::try_from(limit).map_or(LAST, |limit| limit.min(LAST));
        for fd in first..=last {
            libc::close(fd);
        }
    }
}

/// Put a decimal number behind the `=` of `NAME=`, without allocating.
fn write_digits(variable: &mut [u8], number: u32) {
    let start = variable
        .iter()
        .position(|&byte| byte == b'=')
        .map_or(0, |at| at + 1);
    let length = number.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut rest = number;
    for place in variable[start..start + length].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// # Safety
/// Only in the child of a fork.
unsafe fn fail(reporter: RawFd, step: Step) -> ! {
    let errno = io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(0)
        .to_ne_bytes();
    let index = match step {
        Step::Descriptors => 0,
        Step::Owner => 1,
        Step::Chdir => 2,
        Step::Exec => 3,
    };
    let failure = [index, errno[0], errno[1], errno[2], errno[3]];
    // SAFETY: writes five bytes of this frame and ends the process.
    unsafe {
        libc::write(reporter, failure.as_ptr().cast(), failure.len());
        libc::_exit(127)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn launch<'a>(
        program: &'a Path,
        args: &'a [String],
        inherit: &'a [BorrowedFd<'a>],
    ) -> Launch<'a> {
        let env = vec![("GREETING".into(), "hello".into())];
        Launch {
            program,
            args,
            env,
            chdir: Path::new("/"),
            inherit,
            death_signal: Some(libc::SIGTERM),
            umask: None,
            owner: None,
            output: None,
        }
    }

    fn said_by(script: &str) -> String {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let args = ["-c".to_owned(), script.to_owned()];
        let inherit = [input.as_fd()];
        let child = spawn(&launch(Path::new("/bin/sh"), &args, &inherit)).unwrap();
        drop(input);
        let mut said = String::new();
        std::fs::File::from(output)
            .read_to_string(&mut said)
            .unwrap();
        rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty()).unwrap();
        said
    }

    #[test]
    fn a_worker_finds_its_own_pid_in_the_environment() {
        assert_eq!(
            said_by("[ $LISTEN_PID = $$ ] && [ $WATCHDOG_PID = $$ ] && echo $GREETING >&3"),
            "hello\n"
        );
    }

    #[test]
    fn a_worker_has_no_descriptor_that_it_was_not_given() {
        // The shell's own `ls` adds the descriptor of the folder that it reads.
        assert_eq!(said_by("ls /proc/self/fd | wc -l >&3").trim(), "5");
    }

    #[test]
    fn a_worker_leads_a_process_group_and_ignores_no_signal() {
        let said = said_by("[ $(ps -o pgid= -p $$) = $$ ] && grep SigIgn /proc/self/status >&3");
        let ignored = u64::from_str_radix(said.trim_start_matches("SigIgn:").trim(), 16).unwrap();
        // Signals 32 and 33 are the C library's own, which lets nobody touch them.
        assert_eq!(ignored & !(0b11 << 31), 0, "{said}");
    }

    #[test]
    fn a_worker_is_its_user_for_good() {
        if !rustix::process::geteuid().is_root() {
            return crate::skip::skip("root, to run workers as somebody else");
        }
        let owner = Owner {
            uid: 65_533,
            gid: 65_532,
            groups: vec![65_531, 65_532],
        };
        let (output, input) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let script = "grep -E '^(Uid|Gid|Groups):' /proc/self/status >&3";
        let args = ["-c".to_owned(), script.to_owned()];
        let inherit = [input.as_fd()];
        let program = Path::new("/bin/sh");
        let child = spawn(&Launch {
            owner: Some(&owner),
            ..launch(program, &args, &inherit)
        });
        drop(input);
        let mut said = String::new();
        let mut output = std::fs::File::from(output);
        output.read_to_string(&mut said).unwrap();
        let options = rustix::process::WaitOptions::empty();
        rustix::process::waitpid(Some(child.unwrap().pid), options).unwrap();
        let words: Vec<&str> = said.split_whitespace().collect();
        let (uids, gids) = (["65533"; 4], ["65532"; 4]);
        let expected = [&["Uid:"], &uids[..], &["Gid:"], &gids[..], &["Groups:"]].concat();
        assert_eq!(words, [&expected[..], &["65531", "65532"]].concat());
    }

    #[test]
    fn a_program_that_cannot_run_is_told_with_its_reason() {
        let error = spawn(&launch(Path::new("/dev/null"), &[], &[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "executing the program failed: Permission denied (os error 13)"
        );
    }

    #[test]
    fn digits_are_written_for_every_length() {
        for number in [1, 10, 4_194_304, u32::MAX] {
            let mut variable = [b"X=".as_slice(), &[0; PID_ROOM]].concat();
            write_digits(&mut variable, number);
            assert_eq!(
                CString::from_vec_with_nul(
                    variable[..=variable.iter().position(|b| *b == 0).unwrap()].to_vec()
                )
                .unwrap()
                .to_str()
                .unwrap(),
                format!("X={number}")
            );
        }
    }
}

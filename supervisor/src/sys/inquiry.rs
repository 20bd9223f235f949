//! A program that is asked a question: started, and its output read to the end.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::process::{self, End};
use super::spawn::{Child, Launch, SpawnError, spawn};

/// More output than this is cut off.
const MOST_OUTPUT: usize = 1 << 20;

/// The program, until it has ended.
#[derive(Debug)]
pub struct Inquiry {
    child: Child,
    /// Standard output and error, each until its end.
    pipes: [Option<OwnedFd>; 2],
    said: [Vec<u8>; 2],
    end: Option<End>,
}

/// How it ended, and what it said until then.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub end: End,
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error.
    pub error: Vec<u8>,
}

impl Inquiry {
    /// Start the program, with these file mode bits never set. It is killed when the master dies.
    ///
    /// # Errors
    /// See [`SpawnError`].
    pub fn start(
        program: &Path,
        args: &[String],
        env: Vec<(OsString, OsString)>,
        chdir: &Path,
        umask: Option<u32>,
    ) -> Result<Self, SpawnError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
        let (output, output_end) = pipe()?;
        let (error, error_end) = pipe()?;
        for ours in [&output, &error] {
            rustix::io::ioctl_fionbio(ours, true).map_err(io::Error::from)?;
        }
        let child = spawn(&Launch {
            program,
            args,
            env,
            chdir,
            inherit: &[],
            death_signal: Some(nix::libc::SIGKILL),
            umask,
            owner: None,
            output: Some([output_end.as_fd(), error_end.as_fd()]),
        })?;
        Ok(Self {
            child,
            pipes: [Some(output), Some(error)],
            said: [Vec::new(), Vec::new()],
            end: None,
        })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.child.pid
    }

    /// What becomes readable when there is something to [`advance`](Self::advance).
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let pipes = self.pipes.iter().flatten().map(AsFd::as_fd);
        pipes.chain([self.child.pidfd.as_fd()])
    }

    /// Read what is there; the answer, once the program has ended. What it left
    /// behind in its process group ends with it.
    pub fn advance(&mut self) -> Option<Answer> {
        for (pipe, said) in self.pipes.iter_mut().zip(&mut self.said) {
            read(pipe, said);
        }
        if self.end.is_none() {
            // Dead but not reaped, the pid is nobody else's yet.
            let dead = process::has_ended(self.child.pid);
            if dead {
                let _ = super::signals::kill_group(self.child.pid);
                self.end = process::reap(self.child.pid);
                for (pipe, said) in self.pipes.iter_mut().zip(&mut self.said) {
                    read(pipe, said);
                }
            }
        }
        let [output, error] = &mut self.said;
        self.end.map(|end| Answer {
            end,
            output: std::mem::take(output),
            error: std::mem::take(error),
        })
    }

    /// Kill it; its end is still to be waited for.
    pub fn kill(&self) {
        if self.end.is_none() {
            let _ = super::signals::kill_group(self.child.pid);
        }
    }

    /// Kill it and reap it.
    pub fn end(self) {
        self.kill();
        if self.end.is_none() {
            super::spawn::end(self.child.pid);
        }
    }
}

fn read(pipe: &mut Option<OwnedFd>, said: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Some(open) = pipe {
        match rustix::io::read(open, &mut buffer) {
            Ok(0) => *pipe = None,
            Ok(length) => {
                let room = MOST_OUTPUT.saturating_sub(said.len());
                said.extend_from_slice(&buffer[..length.min(room)]);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return,
            Err(_) => *pipe = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn ask(script: &str) -> Answer {
        let args = ["-c".to_owned(), script.to_owned()];
        let mut inquiry = Inquiry::start(
            Path::new("/bin/sh"),
            &args,
            Vec::new(),
            Path::new("/"),
            None,
        )
        .unwrap();
        loop {
            let mut sources: Vec<_> = inquiry
                .sources()
                .map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN))
                .collect();
            poll(&mut sources, None).unwrap();
            if let Some(answer) = inquiry.advance() {
                return answer;
            }
        }
    }

    #[test]
    fn both_outputs_are_read_to_their_ends() {
        let answer = ask("echo yes; echo but >&2; exit 3");
        assert_eq!(answer.end, End::Exited(3));
        assert_eq!(answer.output, b"yes\n");
        assert_eq!(answer.error, b"but\n");
    }

    #[test]
    fn more_than_a_pipe_holds_is_read_and_a_child_left_behind_holds_nothing_up() {
        let answer = ask("sleep 600 & head -c 300000 /dev/zero");
        assert_eq!(answer.end, End::Exited(0));
        assert_eq!(answer.output.len(), 300_000);
    }
}

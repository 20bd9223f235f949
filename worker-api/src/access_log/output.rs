//! Where the lines go.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags};

/// What one write to a pipe may hold so that nothing of another process comes in between
/// (`PIPE_BUF`).
const ONE_PIECE: usize = 4096;

/// Lines this long are told in one piece to a regular file.
const LONGEST_LINE: usize = 64 * 1024;

/// Standard output, or a file that is appended to.
#[derive(Debug)]
pub(super) struct Output {
    path: Option<PathBuf>,
    file: File,
    is_regular: bool,
}

impl Output {
    /// `-` is standard output; anything else is a path.
    pub(super) fn open(target: &str) -> io::Result<Self> {
        if target == "-" {
            return Self::of_file(File::from(io::stdout().as_fd().try_clone_to_owned()?));
        }
        let file = OpenOptions::new().append(true).create(true).open(target)?;
        Ok(Self {
            path: Some(PathBuf::from(target)),
            ..Self::of_file(file)?
        })
    }

    /// What is open already.
    pub(super) fn of_file(file: File) -> io::Result<Self> {
        Ok(Self {
            path: None,
            is_regular: file.metadata()?.is_file(),
            file,
        })
    }

    /// Opens the file anew, since the old one may have been moved away.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match &self.path {
            None => Ok(()),
            Some(path) => {
                *self = Self::open(&path.to_string_lossy())?;
                Ok(())
            }
        }
    }

    /// The longest line that stays in one piece when other workers write to the same place: a
    /// client that makes a longer one could choose how its second part begins.
    pub(super) fn longest_line(&self) -> usize {
        if self.is_regular {
            LONGEST_LINE
        } else {
            ONE_PIECE
        }
    }

    /// Writes whole lines, none of them longer than [`Output::longest_line`].
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_regular {
            return self.write_all(lines);
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(ONE_PIECE)];
            let end = piece.iter().rposition(|byte| *byte == b'\n');
            let (piece, after) = rest.split_at(end.map_or(piece.len(), |at| at + 1));
            self.write_all(piece)?;
            rest = after;
        }
        Ok(())
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody who shares the pipe has made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut writable = [PollFd::new(&self.file, PollFlags::OUT)];
                    let _ = rustix::event::poll(&mut writable, None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

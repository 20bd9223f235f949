//! The file that says which process the master is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf, absolute};

use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

/// Everybody may read it, whatever runs for them.
const MODE: u32 = 0o644;

/// Why there is no such file.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// It names another process, which is there.
    #[error(
        "the pidfile {} names process {pid}, which runs: stop that one, or remove the file if it is not gracefork's (`pidfile`, `--pid`)",
        .path.display()
    )]
    Running {
        /// The file.
        path: PathBuf,
        /// The process.
        pid: i32,
    },
    /// It is something else's.
    #[error(
        "{} is there and holds no pid: it would be overwritten, and removed at the end; name another file (`pidfile`, `--pid`)",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses it.
    #[error("the pidfile {} cannot be written (`pidfile`, `--pid`): {source}", .path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A file with this process' pid, which goes with it.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes it, so that a reader finds the whole pid or no file. One that names a process which
    /// has gone is replaced.
    ///
    /// # Errors
    /// When it names a process that is there, holds something else, or cannot be written.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        let path = absolute(path).unwrap_or_else(|_| path.to_owned());
        if let Some(pid) = written(&path).filter(|pid| *pid != own() && is_there(*pid)) {
            return Err(PidFileError::Running { path, pid });
        }
        if written(&path).is_none() && has_content(&path) {
            return Err(PidFileError::Foreign { path });
        }
        match write(&path) {
            Ok(()) => Ok(Self { path }),
            Err(source) => Err(PidFileError::System { path, source }),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another one may have put its own there.
        if written(&self.path) == Some(own()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn own() -> i32 {
    Pid::as_raw(Some(getpid()))
}

/// The pid in the file, if it is one.
fn written(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 0 || !file.is_file())
}

/// One that may not be signalled is there as well.
fn is_there(pid: i32) -> bool {
    // A negative number would be a process group.
    let pid = (pid > 0).then(|| Pid::from_raw(pid)).flatten();
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

/// Under a name of its own first, then in its place at once.
fn write(path: &Path) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", own()));
    let draft = path.with_file_name(name);
    // Of one with the same pid, that was killed while it wrote.
    let _ = fs::remove_file(&draft);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(MODE);
    let written = options
        .open(&draft)
        .and_then(|mut file| writeln!(file, "{}", own()))
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gracefork.pid");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn it_holds_the_pid_while_it_lives_and_nothing_is_left() {
        let (folder, path) = file("");
        let held = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", own()));
        drop(held);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_of_a_process_that_has_gone_is_replaced_and_one_of_a_living_process_is_not() {
        // No pid is that high; a process group is no process; this one's own may be left from before.
        for stale in ["2147483647\n", "-1", "0", &own().to_string()] {
            let (_folder, path) = file(stale);
            assert!(PidFile::create(&path).is_ok(), "{stale}");
        }
        let (_folder, path) = file("1\n");
        let error = PidFile::create(&path).unwrap_err().to_string();
        assert!(error.contains("names process 1, which runs"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn what_is_no_pidfile_is_not_overwritten() {
        let (_folder, path) = file("important = true\n");
        let error = PidFile::create(&path).unwrap_err().to_string();
        assert!(error.contains("holds no pid"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "important = true\n");
    }

    #[test]
    fn one_that_another_process_has_put_in_its_place_stays() {
        let (_folder, path) = file("");
        let held = PidFile::create(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(held);
        assert!(path.exists());
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let (folder, _path) = file("");
        let error = PidFile::create(&folder.path().join("no/pid")).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
    }
}

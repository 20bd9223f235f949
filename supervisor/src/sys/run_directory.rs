//! The folder of the notify sockets: private to the master, and gone with it.
//!
//! It lies where others keep theirs (`/run`, `/tmp`), so nothing is removed but what gracefork itself
//! has put there: sockets and one lock file, never a folder with all that is in it.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc::O_NOFOLLOW;
use rustix::fs::FlockOperation;

use super::process::chance;

const NAME: &str = "gracefork-";
/// What mkdtemp(3) puts behind it.
const RANDOM: usize = 6;
/// It makes a folder ours, and says that it is in use for as long as a master has locked it.
const LOCK: &str = ".gracefork-master";
const SOCKET: &str = "notify-";

/// Where notify sockets live: a private folder, where one can be written.
#[derive(Debug)]
pub struct RunDirectory {
    home: Option<Home>,
    /// Makes abstract names unique: the containers of a pod share them, and in
    /// each the master may be PID 1.
    token: u64,
}

#[derive(Debug)]
struct Home {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// A new folder that only this user can look into, in the first place that
    /// allows it; else none, and sockets get abstract names, which some
    /// clients cannot reach.
    #[must_use]
    pub fn create() -> Self {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let mut places = vec![
            PathBuf::from("/run"),
            std::env::temp_dir(),
            PathBuf::from("/dev/shm"),
        ];
        // The workers of root may be others, to whom root's own folder is closed.
        let at = if nix::unistd::geteuid().is_root() {
            places.len()
        } else {
            0
        };
        places.splice(at..at, runtime);
        Self::in_first_of(&places)
    }

    fn in_first_of(places: &[PathBuf]) -> Self {
        Self {
            home: places.iter().find_map(|place| Home::claim(place)),
            token: chance(),
        }
    }

    /// No folder at all.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Self::in_first_of(&[])
    }

    /// The path of a worker's socket, where there is a folder.
    pub(super) fn path_for(&self, worker: u64) -> Option<PathBuf> {
        let home = self.home.as_ref()?;
        Some(home.path.join(format!("{SOCKET}{worker}")))
    }

    /// The abstract name of a worker's socket, without the zero byte that it begins with.
    pub(super) fn name_for(&self, worker: u64) -> String {
        format!("{NAME}{:016x}-{SOCKET}{worker}", self.token)
    }
}

impl Home {
    fn claim(place: &Path) -> Option<Self> {
        let template = place.join(format!("{NAME}{}", "X".repeat(RANDOM)));
        // A socket's path has 108 bytes at most (unix(7)), the file's name included.
        if template.as_os_str().len() >= 80 {
            return None;
        }
        let path = nix::unistd::mkdtemp(&template).ok()?;
        let lock = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path.join(LOCK))
            .ok()
            .filter(is_free);
        let Some(lock) = lock else {
            clear(&path);
            return None;
        };
        sweep(place);
        Some(Self { path, _lock: lock })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        clear(&self.path);
    }
}

/// Removes what killed masters of this user left behind.
fn sweep(place: &Path) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_named = name.to_str().is_some_and(is_our_name);
        if is_named && entry.metadata().is_ok_and(|folder| is_private(&folder)) {
            let lock = OpenOptions::new()
                .read(true)
                .custom_flags(O_NOFOLLOW)
                .open(entry.path().join(LOCK));
            if lock.is_ok_and(|lock| is_aged(&lock) && is_free(&lock)) {
                clear(&entry.path());
            }
        }
    }
}

fn is_our_name(name: &str) -> bool {
    let random = name.strip_prefix(NAME).unwrap_or_default();
    random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A folder of this user that nobody else looks into, see
/// [`NotifySocket::bind`](super::notify::NotifySocket::bind).
fn is_private(folder: &Metadata) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    folder.is_dir() && folder.uid() == own && matches!(folder.mode() & 0o7777, 0o700 | 0o711)
}

/// One that is being made is not locked for a moment.
fn is_aged(lock: &File) -> bool {
    let made = lock.metadata().and_then(|lock| lock.modified());
    made.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > Duration::from_secs(60)))
}

/// Whether no master has it; now this one does.
fn is_free(lock: &File) -> bool {
    rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Removes the sockets, the lock and the folder; what else is in it stays, and so does the folder
/// then.
fn clear(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_socket && entry.file_name().to_string_lossy().starts_with(SOCKET) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_file(folder.join(LOCK));
    let _ = std::fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixDatagram;
    use std::time::SystemTime;

    use super::*;

    fn leave_folder(place: &Path, name: &str) -> PathBuf {
        let folder = place.join(name);
        create_dir(&folder).unwrap();
        set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        folder
    }

    fn leave_lock(folder: &Path) -> File {
        let lock = File::create(folder.join(LOCK)).unwrap();
        lock.set_modified(SystemTime::now() - Duration::from_secs(120))
            .unwrap();
        lock
    }

    #[test]
    fn it_is_private_and_gone_with_its_master() {
        let place = tempfile::tempdir().unwrap();
        let directory = RunDirectory::in_first_of(&[place.path().to_owned()]);
        let socket = directory.path_for(7).unwrap();
        let folder = socket.parent().unwrap().to_owned();
        assert!(is_private(&folder.metadata().unwrap()));
        let _left = UnixDatagram::bind(&socket).unwrap();
        drop(directory);
        assert!(!folder.exists());
    }

    #[test]
    fn what_a_killed_master_left_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let left = leave_folder(place.path(), "gracefork-aB3dE9");
        leave_lock(&left);
        let _socket = UnixDatagram::bind(left.join("notify-1")).unwrap();
        let _directory = RunDirectory::in_first_of(&[place.path().to_owned()]);
        assert!(!left.exists());
    }

    #[test]
    fn what_is_in_use_new_or_somebody_elses_stays() {
        let place = tempfile::tempdir().unwrap();
        let used = leave_folder(place.path(), "gracefork-inuse1");
        assert!(is_free(&leave_lock(&used)));
        let locked = leave_lock(&used);
        assert!(is_free(&locked));
        let new = leave_folder(place.path(), "gracefork-newone");
        File::create(new.join(LOCK)).unwrap();
        let unmarked = leave_folder(place.path(), "gracefork-source");
        write(unmarked.join("main.rs"), "fn main() {}").unwrap();
        let other_name = leave_folder(place.path(), "gracefork-site");
        leave_lock(&other_name);
        let open = leave_folder(place.path(), "gracefork-public");
        leave_lock(&open);
        set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        let _directory = RunDirectory::in_first_of(&[place.path().to_owned()]);
        for folder in [used, new, unmarked.join("main.rs"), other_name, open] {
            assert!(folder.exists(), "{}", folder.display());
        }
    }

    #[test]
    fn files_that_are_not_ours_stay_whatever_the_folder_looks_like() {
        let place = tempfile::tempdir().unwrap();
        let mixed = leave_folder(place.path(), "gracefork-mixed1");
        leave_lock(&mixed);
        let deep = leave_folder(&mixed, "deep");
        let kept = [
            mixed.join("notify-1"),
            mixed.join("data"),
            deep.join("data"),
        ];
        for file in &kept {
            write(file, "important").unwrap();
        }
        let _directory = RunDirectory::in_first_of(&[place.path().to_owned()]);
        assert!(kept.iter().all(|file| file.exists()));
    }
}

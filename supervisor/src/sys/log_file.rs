//! Opening files that lines are appended to, in folders that may be somebody else's.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::{ELOOP, O_NOFOLLOW};

/// Opens a file to append to it, and makes it if it is not there.
///
/// Root follows a symbolic link of its own alone: whoever may write to the folder could have put one
/// there that leads to a file of root's.
///
/// # Errors
/// Those of open(2), and a link that is not to be followed.
pub fn append_to(path: &Path, flags: i32) -> io::Result<File> {
    let open = |flags| {
        let mut options = OpenOptions::new();
        options.append(true).create(true).custom_flags(flags);
        options.open(path)
    };
    if !nix::unistd::geteuid().is_root() {
        return open(flags);
    }
    match open(flags | O_NOFOLLOW) {
        Err(error) if error.raw_os_error() == Some(ELOOP) => {
            let owner = path.symlink_metadata()?.uid();
            if owner != 0 {
                return Err(io::Error::other(format!(
                    "it is a symbolic link of user {owner}, which root does not follow; name the file itself"
                )));
            }
            open(flags)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn a_file_is_made_and_a_link_of_ones_own_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        symlink(&file, &link).unwrap();
        append_to(&link, 0).unwrap();
        append_to(&file, 0).unwrap();
        assert!(file.is_file());
    }

    #[test]
    fn root_follows_no_link_of_somebody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        symlink(&file, &link).unwrap();
        if lchown(&link, Some(12_345), None).is_err() {
            return crate::skip::skip("root, to make a link somebody else's");
        }
        let error = append_to(&link, 0).unwrap_err().to_string();
        assert!(error.contains("link of user 12345"), "{error}");
        assert!(!file.exists());
    }
}

//! Who may read the server's files. What the server makes is for its own user alone. A file with a secret that other
//! users can read is named in the log, with what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::umask;

/// The rights of the group and of all other users.
const OTHERS: Mode = Mode::RWXG.union(Mode::RWXO);

/// From now on directories that the process makes have the mode 0700, and files 0600: the libraries that write the
/// store make them with the process's mask. Call it before there is a second thread, because the mask belongs to all.
pub fn make_private() {
    umask(OTHERS);
}

/// A line for each file whose content the group or other users may read or change. The server starts all the same,
/// because some systems hand secrets over like that.
pub fn readable(secrets: &[PathBuf]) -> Vec<String> {
    let line = |path: &PathBuf| {
        let path = path.display();
        format!("other users of this machine can read or change {path}, which holds a secret: chmod 600 {path}")
    };
    secrets.iter().filter(|path| is_for_others(path)).map(line).collect()
}

/// Whether the group or other users have any right to the file. A file that is not there is for no user.
fn is_for_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & OTHERS.bits() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_right_of_others_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        assert!(!is_for_others(&path), "not there");
        fs::write(&path, "secret").unwrap();
        for (mode, expected) in
            [(0o600, false), (0o400, false), (0o700, false), (0o640, true), (0o604, true), (0o620, true)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_for_others(&path), expected, "{mode:o}");
        }
    }
}

//! Who may read the server's files. What the server makes is for its own user alone. A file with a secret that other
//! users can read is named in the log, with what to do.

use std::fs;
use std::io::ErrorKind;
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::{getegid, geteuid, getgroups, umask};

/// The rights of the group and of all other users.
const OTHERS: Mode = Mode::RWXG.union(Mode::RWXO);

/// From now on directories that the process makes have the mode 0700, and files 0600: the libraries that write the
/// store make them with the process's mask. Call it before there is a second thread, because the mask belongs to all.
pub fn make_private() {
    umask(OTHERS);
}

/// A line for each file whose content other users may read or change. The server starts all the same, because some systems
/// hand secrets over like that.
///
/// A file of another user that the server reads as a member of the file's group is as it should be: so one key serves several
/// programs, and the group has their users alone.
pub fn readable(secrets: &[PathBuf]) -> Vec<String> {
    let own = Process::own();
    let line = |path: &PathBuf| {
        let path = path.display();
        format!("other users of this machine can read or change {path}, which holds a secret: chmod 600 {path}")
    };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let secrets = secrets.iter().filter(|path| !is_in(path, credentials.as_deref()));
    secrets.filter(|path| is_for_others(path, &own)).map(line).collect()
}

/// Whether systemd has put the file there for this process (`LoadCredential=`). An access list says who may read it, and the
/// mode does not.
fn is_in(path: &Path, credentials: Option<&Path>) -> bool {
    credentials.is_some_and(|directory| path.starts_with(directory))
}

/// Whose rights the process has.
struct Process {
    user: u32,
    groups: Vec<u32>,
}

impl Process {
    fn own() -> Self {
        let further = getgroups().unwrap_or_default();
        let groups = iter::once(getegid()).chain(further).map(|group| group.as_raw()).collect();
        Self { user: geteuid().as_raw(), groups }
    }

    /// The rights of others to a file of this user and group that the process is meant to have.
    fn lent(&self, user: u32, group: u32) -> Mode {
        if user != self.user && self.groups.contains(&group) { Mode::RGRP } else { Mode::empty() }
    }
}

/// Whether other users have a right to the file. A file that is not there is for no user.
fn is_for_others(path: &Path, own: &Process) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let others = OTHERS.difference(own.lent(metadata.uid(), metadata.gid()));
    metadata.is_file() && metadata.mode() & others.bits() != 0
}

/// Whether there is a directory. Fails with a line for the operator if the user of this process may not know.
pub fn is_directory(path: &Path) -> Result<bool, String> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(format!("{}: {error}; run this as the user of the server", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn any_right_of_others_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let own = Process::own();
        assert!(!is_for_others(&path, &own), "not there");
        fs::write(&path, "secret").unwrap();
        for (mode, expected) in
            [(0o600, false), (0o400, false), (0o700, false), (0o640, true), (0o604, true), (0o620, true)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_for_others(&path, &own), expected, "{mode:o}");
        }
    }

    #[test]
    fn credentials_of_systemd_are_not_looked_at() {
        let directory = Path::new("/run/credentials/stentor.service");
        assert!(is_in(&directory.join("key.pem"), Some(directory)));
        assert!(!is_in(Path::new("/run/credentials/other.service/key.pem"), Some(directory)));
        assert!(!is_in(&directory.join("key.pem"), None));
    }

    /// A key of root's, as the unit in `deploy/` has it with `SupplementaryGroups=`.
    #[test]
    fn a_group_that_the_server_is_in_may_read_a_key_of_another_user() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "secret").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let (owner, group) = (metadata.uid(), metadata.gid());
        let member = Process { user: owner + 1, groups: vec![group + 1, group] };
        let stranger = Process { user: owner + 1, groups: vec![group + 1] };
        for (mode, of_member, of_stranger) in
            [(0o640, false, true), (0o660, true, true), (0o644, true, true), (0o600, false, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = [&member, &stranger].map(|process| is_for_others(&path, process));
            assert_eq!(found, [of_member, of_stranger], "{mode:o}");
        }
        let owner = Process { user: owner, groups: vec![group] };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(is_for_others(&path, &owner), "it needs no group");
    }
}

//! What the machine allows: descriptors, memory for rings, io_uring. Raises limits where the process may, and explains
//! how to raise the others.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sockets::SPARES;
use crate::stop_grace;

/// Descriptors that are not connections of clients and belong to no shard. These are the store's files, the standard
/// streams, and the operators' listener with its connections. The store's files are 256 tables that fjall keeps open, the
/// tables that it is writing, and its journals; or they are the connections to a database.
const PROCESS_DESCRIPTORS: u64 = 1024;

/// Descriptors of one shard that are not connections: three rings and the descriptors that wake them, the epoll set
/// twice, and the listeners for HTTP and for gRPC.
const SHARD_DESCRIPTORS: u64 = 9;

/// Descriptors beside the shards' without which no server starts: half for a new store and the rest of the process, half
/// for connections.
const DESCRIPTORS_MIN: u64 = 40;

/// Bytes that glommio locks for the rings of one shard.
pub(crate) const LOCKED_BYTES_PER_SHARD: u64 = 512 * 1024;

/// Checks the limits that the process needs and raises them. Returns how many connections fit, for all shards
/// together. Fails, with a text for operators, if a limit is too low, io_uring is forbidden, or the clock is before
/// 1970.
pub fn prepare(shards: usize) -> Result<usize, String> {
    raise_locked_memory(shards as u64 * LOCKED_BYTES_PER_SHARD)?;
    io_uring::probe().map_err(|error| explain_io_uring(&error))?;
    let descriptors = raise_descriptors();
    if let Some(reason) = too_few_descriptors(descriptors, shards as u64) {
        return Err(reason);
    }
    if SystemTime::now() < SystemTime::UNIX_EPOCH {
        return Err("the system's clock is before 1970: set it, and start again".into());
    }
    Ok(usize::try_from(connections(descriptors, shards as u64)).unwrap_or(usize::MAX))
}

/// Why no server with so many shards starts within this limit on open descriptors, for operators; `None` if one does.
pub fn too_few_descriptors(limit: u64, shards: u64) -> Option<String> {
    let needed = descriptors_of_shards(shards) + DESCRIPTORS_MIN;
    (limit < needed).then(|| {
        format!(
            "the limit on open descriptors is {limit}, and a server of {shards} shards needs {needed}: raise it (ulimit -n, \
             LimitNOFILE= in systemd), or start with fewer --shards"
        )
    })
}

/// How many of the descriptors may be connections. The rest is for the store, the shards, the operators, and the
/// clients that are told that the server is full.
fn connections(descriptors: u64, shards: u64) -> u64 {
    let left = descriptors.saturating_sub(descriptors_of_shards(shards));
    // With few descriptors the server is small, but it still accepts connections.
    let few = (descriptors / 2).min(left.saturating_sub(DESCRIPTORS_MIN / 2));
    left.saturating_sub(PROCESS_DESCRIPTORS).max(few)
}

fn descriptors_of_shards(shards: u64) -> u64 {
    shards * (SHARD_DESCRIPTORS + SPARES as u64)
}

/// What the machine allows this process, as far as the operator may want to change it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// The cores that the process may use, at least one.
    pub cores: usize,
    /// The limit on open descriptors, to which a start raises the present one.
    pub descriptors: u64,
    /// The limit on locked memory in bytes, to which a start raises the present one.
    pub locked_memory: u64,
    /// The most connections that the kernel lets wait for a listener.
    pub waiting_connections: u64,
    pub surroundings: Surroundings,
    /// How long the supervisor waits for a stop, if it says so.
    pub stop_grace: Option<Duration>,
}

/// What has started the process, which is where limits are set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Surroundings {
    Shell,
    Container,
    /// A unit of systemd, with its name.
    Unit(String),
}

/// Looks at the machine, and changes nothing.
pub fn allowed() -> Allowed {
    let surroundings = surroundings();
    let waiting = fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
    Allowed {
        cores: cores().len(),
        descriptors: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        locked_memory: getrlimit(Resource::Memlock).maximum.unwrap_or(u64::MAX),
        // Without /proc nothing is known, and nothing is to be said.
        waiting_connections: waiting.unwrap_or(u64::MAX),
        stop_grace: match &surroundings {
            Surroundings::Unit(unit) => stop_grace::of_unit(unit),
            Surroundings::Shell | Surroundings::Container => None,
        },
        surroundings,
    }
}

fn surroundings() -> Surroundings {
    let own_id = std::process::id().to_string();
    // systemd names the process that it has started, so that a shell below a unit is not mistaken for the unit.
    if std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|id| id == own_id)
        && let Some(unit) = fs::read_to_string("/proc/self/cgroup").ok().and_then(|groups| unit_in(&groups))
    {
        return Surroundings::Unit(unit);
    }
    let marks = ["/.dockerenv", "/run/.containerenv"];
    let marked = marks.iter().any(|mark| fs::exists(mark).unwrap_or(false));
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if marked || in_cluster { Surroundings::Container } else { Surroundings::Shell }
}

/// The unit in the text of `/proc/self/cgroup`.
fn unit_in(groups: &str) -> Option<String> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    path.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned)
}

/// The cores this process may use, in order.
pub fn cores() -> Vec<usize> {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
}

fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn raise_locked_memory(needed: u64) -> Result<(), String> {
    let enough = |limit: &Rlimit| limit.current.is_none_or(|current| current >= needed);
    let limit = getrlimit(Resource::Memlock);
    if enough(&limit) {
        return Ok(());
    }
    let _ = setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, maximum: limit.maximum });
    if enough(&getrlimit(Resource::Memlock)) {
        return Ok(());
    }
    Err(format!(
        "the limit on locked memory is {} KiB, and io_uring needs {} KiB for the rings of these shards: raise it \
         (ulimit -l, LimitMEMLOCK= in systemd, --ulimit memlock= for a container), or start with fewer --shards",
        limit.current.unwrap_or_default() / 1024,
        needed / 1024
    ))
}

fn explain_io_uring(error: &io::Error) -> String {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    format!("io_uring cannot be used ({error}): {}", remedy(error, disabled.trim()))
}

/// Advice on what to change, by the kernel's error and the value of the sysctl kernel.io_uring_disabled.
fn remedy(error: &io::Error, disabled: &str) -> &'static str {
    match (Errno::from_io_error(error), disabled) {
        (Some(Errno::PERM), "2") => "it is switched off for everybody: set the sysctl kernel.io_uring_disabled to 0",
        (Some(Errno::PERM), "1") => {
            "it is switched off for processes like this one: set the sysctl kernel.io_uring_disabled to 0, or put this \
             user into the group that kernel.io_uring_group names"
        }
        (Some(Errno::PERM | Errno::ACCESS), _) => {
            "a container's seccomp profile or a security module forbids it: use a profile that allows io_uring_setup, \
             io_uring_enter and io_uring_register (docker run --security-opt seccomp=PROFILE.json)"
        }
        (Some(Errno::NOSYS), _) => {
            "this kernel does not have it, or a container's seccomp profile hides it: use Linux 5.8 or newer, and a \
             profile that allows io_uring_setup, io_uring_enter and io_uring_register"
        }
        (Some(Errno::NOMEM), _) => {
            "the limit on locked memory is too low: raise it (ulimit -l, LimitMEMLOCK= in systemd)"
        }
        (Some(Errno::MFILE), _) => {
            "the limit on open descriptors is too low: raise it (ulimit -n, LimitNOFILE= in systemd)"
        }
        _ => "the kernel gives no reason that is known here: try a newer one",
    }
}

/// Tests the one call whose failure glommio would turn into a panic on a shard's thread.
mod io_uring {
    #![allow(unsafe_code)]

    use std::io;

    use rustix::io_uring::{io_uring_params, io_uring_setup};

    /// Sets up a ring of one entry and gives it back. Fails if the kernel forbids io_uring, or has none.
    pub fn probe() -> io::Result<()> {
        let mut parameters = io_uring_params::default();
        // SAFETY: the parameters outlive the call, and the ring is closed without having been mapped or used.
        unsafe { io_uring_setup(1, &mut parameters) }?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_to_change() {
        let check = |errno: Errno, disabled: &str, expected: &str| {
            let said = remedy(&errno.into(), disabled);
            assert!(said.contains(expected), "{errno:?}, {disabled:?}: {said}");
        };
        check(Errno::PERM, "2", "for everybody: set the sysctl kernel.io_uring_disabled to 0");
        check(Errno::PERM, "1", "kernel.io_uring_group");
        check(Errno::PERM, "0", "--security-opt seccomp=");
        check(Errno::PERM, "", "--security-opt seccomp=");
        check(Errno::ACCESS, "0", "security module");
        check(Errno::NOSYS, "0", "Linux 5.8 or newer");
        check(Errno::NOSYS, "", "Linux 5.8 or newer");
        check(Errno::NOMEM, "0", "ulimit -l");
        // The sysctl allows it for members of a group, so the cause is another one.
        check(Errno::NOMEM, "1", "ulimit -l");
        check(Errno::MFILE, "0", "ulimit -n");
        check(Errno::INVAL, "0", "a newer one");
    }

    #[test]
    fn the_unit_is_the_innermost_service() {
        let check = |groups: &str, expected: Option<&str>| assert_eq!(unit_in(groups).as_deref(), expected, "{groups}");
        check("0::/system.slice/stentor.service\n", Some("stentor.service"));
        check("0::/user.slice/user@1000.service/app.slice/chat.service/inner\n", Some("chat.service"));
        check("0::/\n", None);
        check("1:name=systemd:/stentor.service\n", None);
        check("", None);
    }

    #[test]
    fn what_is_not_for_connections() {
        assert_eq!(connections(20_000, 2), 20_000 - 1024 - 2 * (9 + SPARES as u64));
        assert_eq!(connections(300, 1), 150);
        assert_eq!(connections(128, 2), 128 - 2 * (9 + SPARES as u64) - DESCRIPTORS_MIN / 2);
        assert_eq!(connections(0, 1), 0);
    }

    #[test]
    fn the_error_is_named() {
        let said = explain_io_uring(&Errno::PERM.into());
        assert!(said.starts_with("io_uring cannot be used (Operation not permitted"), "{said}");
    }
}

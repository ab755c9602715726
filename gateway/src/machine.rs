//! What the machine allows: descriptors, memory for rings, io_uring. Raised where we may, and explained where we may not.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are no connections: the store's files, the shards' rings, the standard streams. fjall keeps some
/// hundred tables open.
const RESERVED_DESCRIPTORS: u64 = 1024;

/// What glommio locks for the rings of one shard.
const LOCKED_BYTES_PER_SHARD: u64 = 512 * 1024;

/// Checks and raises what the process needs; answers how many connections fit, all shards together.
pub fn prepare(shards: usize) -> Result<usize, String> {
    raise_locked_memory(shards as u64 * LOCKED_BYTES_PER_SHARD)?;
    io_uring::probe().map_err(|error| explain_io_uring(&error))?;
    let descriptors = raise_descriptors();
    // Few descriptors make a small server, not none.
    let connections = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(descriptors / 2);
    Ok(usize::try_from(connections).unwrap_or(usize::MAX))
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
    let remedy = match (error.raw_os_error(), disabled.trim()) {
        (_, "2") => "it is switched off for everybody: set the sysctl kernel.io_uring_disabled to 0",
        (_, "1") => {
            "it is switched off for processes like this one: set the sysctl kernel.io_uring_disabled to 0, or put this \
             user into the group that kernel.io_uring_group names"
        }
        (Some(code), _) if code == rustix::io::Errno::NOSYS.raw_os_error() => {
            "this kernel does not have it, or a container's seccomp profile hides it: use Linux 5.8 or newer, and a \
             profile that allows io_uring_setup, io_uring_enter and io_uring_register"
        }
        (Some(code), _) if code == rustix::io::Errno::PERM.raw_os_error() => {
            "a container's seccomp profile forbids it: use one that allows io_uring_setup, io_uring_enter and \
             io_uring_register (docker run --security-opt seccomp=PROFILE.json)"
        }
        (Some(code), _) if code == rustix::io::Errno::NOMEM.raw_os_error() => {
            "the limit on locked memory is too low: raise it (ulimit -l, LimitMEMLOCK= in systemd)"
        }
        _ => "see the error",
    };
    format!("io_uring cannot be used ({error}): {remedy}")
}

/// The one question whose answer glommio would turn into a panic on a shard's thread.
mod io_uring {
    #![allow(unsafe_code)]

    use std::io;

    use rustix::io_uring::{io_uring_params, io_uring_setup};

    /// Sets up a ring of one entry and gives it back.
    pub fn probe() -> io::Result<()> {
        let mut parameters = io_uring_params::default();
        // SAFETY: the parameters outlive the call, and the ring is closed without having been mapped or used.
        unsafe { io_uring_setup(1, &mut parameters) }?;
        Ok(())
    }
}

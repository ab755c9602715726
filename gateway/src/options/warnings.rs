//! What is allowed and most likely not meant, on this machine.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Options;
use crate::listeners::BACKLOG;
use crate::machine::{Allowed, LOCKED_BYTES_PER_SHARD, Surroundings};

/// The server key of a server whose operator has set none.
const DEFAULT_KEY: &str = "defaultkey";

/// Sessions that end so soon after their sign-in make their clients connect again all the time.
const SESSION_SHORT: Duration = Duration::from_secs(300);

/// Descriptors below which a server that people depend on is soon full.
const DESCRIPTORS_LOW: u64 = 65_536;

/// Descriptors that the advice asks for: as many as Linux allows a process unless `fs.nr_open` says otherwise.
const DESCRIPTORS_ADVISED: u64 = 1_048_576;

/// Bytes of locked memory that the advice asks for, as the unit in `deploy/` does: the rings of 128 shards.
const LOCKED_BYTES_ADVISED: u64 = 64 << 20;

/// How long systemd waits for a stop unless `TimeoutStopSec=` says otherwise.
const GRACE_OF_SYSTEMD: Duration = Duration::from_secs(90);

/// How long Kubernetes waits for a stop unless `terminationGracePeriodSeconds` says otherwise. Docker waits 10 s, which is too
/// short for any drain.
const GRACE_OF_CONTAINERS: Duration = Duration::from_secs(30);

/// A line for each thing that the operator should look at, with what to do.
pub fn warnings(options: &Options, machine: &Allowed) -> Vec<String> {
    let checks = [open_with_the_default_key, public_admin, session_outlives_refresh, sessions_end_soon];
    let of_options = checks.into_iter().filter_map(|check| check(options, machine));
    let of_machine = too_many_shards(options, machine).into_iter().chain(few_descriptors(machine));
    let of_machine = of_machine.chain(little_locked_memory(options, machine)).chain(short_queue(machine));
    let of_machine = of_machine.chain(short_grace(options, machine));
    of_options.chain(keys_left_out(options)).chain(keys_that_have_ended(options)).chain(of_machine).collect()
}

fn open_with_the_default_key(options: &Options, _: &Allowed) -> Option<String> {
    let addresses = options.listen.iter().chain(options.grpc.iter().map(|grpc| &grpc.address));
    let open = addresses.into_iter().find(|address| address.is_open() && options.server_key == DEFAULT_KEY);
    open.map(|address| {
        format!(
            "server_key is {DEFAULT_KEY:?}, which everybody knows, and {address} is no loopback address: set another \
             --server-key, in the clients too"
        )
    })
}

fn public_admin(options: &Options, machine: &Allowed) -> Option<String> {
    let admin = options.admin?;
    let advice = "everybody who reaches it may read the counters: give --admin a loopback or private address";
    match admin.ip().to_canonical() {
        // A container has a network of its own, and this is how it is reached from outside.
        ip if ip.is_unspecified() && machine.surroundings == Surroundings::Container => None,
        ip if ip.is_unspecified() => {
            Some(format!("admin is {admin}, which is every address of this machine, public ones too; {advice}"))
        }
        ip if is_private(ip) => None,
        _ => Some(format!("admin is {admin}, a public address; {advice}")),
    }
}

/// Whether only this machine or its own network reaches the address: loopback, link-local, RFC 1918, RFC 6598 and RFC 4193.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && (64..128).contains(&second);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn session_outlives_refresh(options: &Options, _: &Allowed) -> Option<String> {
    let (session, refresh) = (options.session_ttl, options.refresh_ttl);
    (session > refresh).then(|| {
        let [session, refresh] = [session, refresh].map(humantime::format_duration);
        format!(
            "session_ttl is {session}, and refresh_ttl is {refresh}: a session outlives the token that renews it; give a longer \
             --refresh-ttl"
        )
    })
}

fn sessions_end_soon(options: &Options, _: &Allowed) -> Option<String> {
    let session = options.session_ttl;
    (options.close_on_expiry && session < SESSION_SHORT).then(|| {
        let session = humantime::format_duration(session);
        format!(
            "close_on_expiry is true, and session_ttl is {session}: every session is closed after that time, and its client \
             connects again; give a longer --session-ttl"
        )
    })
}

fn keys_left_out(options: &Options) -> Vec<String> {
    options.sign_in.provider.as_ref().map(|provider| provider.left_out().to_vec()).unwrap_or_default()
}

/// Keys that were replaced, and are not accepted any more.
fn keys_that_have_ended(options: &Options) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let previous = [("session", &options.previous_session_key), ("refresh", &options.previous_refresh_key)];
    let ended = previous.into_iter().filter(|(_, key)| key.as_ref().is_some_and(|key| key.until <= now));
    let line = |kind: &str| {
        format!(
            "previous_{kind}_key_until has passed: tokens of that key are refused; remove the previous_{kind}_key options"
        )
    };
    ended.map(|(kind, _)| line(kind)).collect()
}

fn too_many_shards(options: &Options, machine: &Allowed) -> Option<String> {
    let (shards, cores) = (usize::from(options.shards.get()), machine.cores);
    (shards > cores).then(|| {
        format!(
            "shards is {shards}, and this process may use {cores} cores: shards that share a core wait for each other; give \
             --shards {cores}"
        )
    })
}

fn few_descriptors(machine: &Allowed) -> Option<String> {
    let limit = machine.descriptors;
    (limit < DESCRIPTORS_LOW).then(|| {
        format!(
            "the limit on open descriptors is {limit}, which bounds the connections: {}",
            raise(&machine.surroundings, "nofile", DESCRIPTORS_ADVISED)
        )
    })
}

fn little_locked_memory(options: &Options, machine: &Allowed) -> Option<String> {
    let needed = u64::from(options.shards.get()) * LOCKED_BYTES_PER_SHARD;
    let (limit, wanted) = (machine.locked_memory, needed.max(LOCKED_BYTES_ADVISED));
    (limit < needed).then(|| {
        format!(
            "the limit on locked memory is {} KiB, and io_uring needs {} KiB for the rings of these shards, or the server does \
             not start: {}",
            limit / 1024,
            needed / 1024,
            raise(&machine.surroundings, "memlock", wanted)
        )
    })
}

fn short_queue(machine: &Allowed) -> Option<String> {
    let (most, wanted) = (machine.waiting_connections, BACKLOG);
    (most < u64::from(wanted.unsigned_abs())).then(|| {
        let command = match machine.surroundings {
            Surroundings::Container => format!("start the container with: docker run --sysctl net.core.somaxconn={wanted}"),
            Surroundings::Shell | Surroundings::Unit(_) => {
                format!("raise it before a start: sudo sysctl -w net.core.somaxconn={wanted}")
            }
        };
        format!(
            "the kernel lets {most} connections wait for a listener (net.core.somaxconn), and those of a crowd that comes at once \
             are dropped beyond that: {command}"
        )
    })
}

/// If the supervisor does not say how long it waits, this asks for a look where its own default is too short. A server that
/// a shell has started may get a supervisor later, so this tells what it must be told then.
fn short_grace(options: &Options, machine: &Allowed) -> Option<String> {
    let needed = options.drain.stop_max();
    let (grace, whose, setting) = match (&machine.surroundings, machine.stop_grace) {
        (_, Some(grace)) => (grace, "the supervisor kills the server after", "TimeoutStopSec= of the unit"),
        (Surroundings::Unit(_), None) => {
            let whose = "unless the unit says otherwise, systemd kills the server after";
            (GRACE_OF_SYSTEMD, whose, "TimeoutStopSec= of the unit")
        }
        (Surroundings::Shell, None) => {
            (GRACE_OF_SYSTEMD, "a supervisor may kill the server before; systemd does after", "its TimeoutStopSec=")
        }
        (Surroundings::Container, None) => (
            GRACE_OF_CONTAINERS,
            "unless it was told otherwise, the supervisor kills the server after",
            "terminationGracePeriodSeconds of the pod, or stop_grace_period of the container,",
        ),
    };
    (needed > grace).then(|| {
        let [needed, grace] = [needed, grace].map(|time| time.as_secs());
        format!(
            "a stop may take {needed} s (drain_wait, drain_time and 15 s), and {whose} {grace} s: {setting} must be more than \
             {needed} s"
        )
    })
}

/// The command that raises a limit of the process, which `prlimit` and Docker know by this name.
fn raise(surroundings: &Surroundings, limit: &str, wanted: u64) -> String {
    match surroundings {
        Surroundings::Shell => {
            format!("raise it in the shell that starts the server: sudo prlimit --pid $$ --{limit}={wanted}:{wanted}")
        }
        Surroundings::Container => format!("start the container with: docker run --ulimit {limit}={wanted}:{wanted}"),
        Surroundings::Unit(unit) => {
            let setting = limit.to_uppercase();
            format!(
                "raise it: sudo mkdir -p /etc/systemd/system/{unit}.d && printf '[Service]\\nLimit{setting}={wanted}\\n' | sudo \
                 tee /etc/systemd/system/{unit}.d/{limit}.conf && sudo systemctl daemon-reload && sudo systemctl restart {unit}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn said(arguments: &[&str], machine: &Allowed) -> Vec<String> {
        let one_shard = if arguments.contains(&"--shards") { [].as_slice() } else { &["--shards", "1"] };
        let arguments = ["stentor"].iter().chain(one_shard).chain(arguments).map(OsString::from);
        warnings(&Options::from_arguments(arguments).unwrap(), machine)
    }

    fn roomy() -> Allowed {
        Allowed {
            cores: 4,
            descriptors: 1 << 20,
            locked_memory: 8 << 20,
            waiting_connections: 4096,
            surroundings: Surroundings::Shell,
            stop_grace: None,
        }
    }

    fn check(arguments: &[&str], machine: &Allowed, expected: &[&str]) {
        let said = said(arguments, machine);
        assert_eq!(said.len(), usize::from(!expected.is_empty()), "{arguments:?}: {said:?}");
        for part in expected {
            assert!(said[0].contains(part), "{part:?} is not in {said:?}");
        }
    }

    #[test]
    fn the_defaults_are_quiet_on_a_roomy_machine() {
        check(&[], &roomy(), &[]);
    }

    #[test]
    fn the_default_key_is_for_this_machine_alone() {
        let expected = ["defaultkey", "--server-key"];
        for open in ["0.0.0.0:1", "[::]:1", ":1", "192.168.0.1:1", "127.0.0.1:1,198.51.100.1:1"] {
            check(&["--listen", open], &roomy(), &expected);
            check(&["--listen", open, "--server-key", "another"], &roomy(), &[]);
        }
        for closed in ["127.0.0.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1,unix:/a"] {
            check(&["--listen", closed], &roomy(), &[]);
        }
    }

    #[test]
    fn counters_are_not_for_everybody() {
        for public in ["0.0.0.0:1", "[::]:1", "198.51.100.1:1", "[2001:db8::1]:1", "172.32.0.1:1", "100.128.0.1:1"] {
            check(&["--admin", public], &roomy(), &["admin is", public, "--admin"]);
        }
        let private =
            ["127.0.0.1:1", "10.1.2.3:1", "172.31.0.1:1", "192.168.1.1:1", "100.64.0.1:1", "[fd00::1]:1", "off"];
        for private in private {
            check(&["--admin", private], &roomy(), &[]);
        }
        let container = Allowed { surroundings: Surroundings::Container, ..roomy() };
        check(&["--admin", "0.0.0.0:1"], &container, &[]);
        check(&["--admin", "198.51.100.1:1"], &container, &["public address"]);
    }

    #[test]
    fn a_session_ends_before_its_refresh() {
        check(&["--session-ttl", "2d"], &roomy(), &["session_ttl is 2days", "refresh_ttl is 1day", "--refresh-ttl"]);
        check(&["--session-ttl", "1h"], &roomy(), &[]);
    }

    #[test]
    fn sessions_that_end_with_their_tokens_last_a_while() {
        check(
            &["--close-on-expiry", "--session-ttl", "1m"],
            &roomy(),
            &["close_on_expiry is true", "session_ttl is 1m", "--session-ttl"],
        );
        check(&["--close-on-expiry", "--session-ttl", "10m"], &roomy(), &[]);
    }

    #[test]
    fn a_previous_key_is_removed_after_its_end() {
        let of =
            |until: &'static str| ["--previous-session-key", "0123456789abcdef", "--previous-session-key-until", until];
        check(&of("2020-01-01T00:00:00Z"), &roomy(), &["previous_session_key_until has passed"]);
        check(&of("2100-01-01T00:00:00Z"), &roomy(), &[]);
    }

    #[test]
    fn a_shard_has_a_core() {
        check(&["--shards", "5"], &roomy(), &["shards is 5", "4 cores", "--shards 4"]);
        check(&["--shards", "4"], &roomy(), &[]);
    }

    #[test]
    fn a_supervisor_has_more_patience_than_a_stop_takes() {
        let unit = || Allowed { surroundings: Surroundings::Unit("chat.service".into()), ..roomy() };
        let container = || Allowed { surroundings: Surroundings::Container, ..roomy() };
        check(&["--drain-time", "66s"], &unit(), &["take 91 s", "after 90 s", "TimeoutStopSec= of the unit"]);
        check(&["--drain-time", "65s"], &unit(), &[]);
        check(&["--drain-time", "6s"], &container(), &["take 31 s", "after 30 s", "terminationGracePeriodSeconds"]);
        check(&["--drain-wait", "0", "--drain-time", "15s"], &container(), &[]);
        check(&["--drain-time", "65s"], &roomy(), &[]);
        check(&["--drain-time", "66s"], &roomy(), &["take 91 s", "systemd does after 90 s", "its TimeoutStopSec="]);
        // The unit of deploy/.
        let told = |seconds: u64| Allowed { stop_grace: Some(Duration::from_secs(seconds)), ..unit() };
        check(&["--drain-time", "70s"], &told(120), &[]);
        check(&["--drain-time", "1h"], &Allowed { stop_grace: Some(Duration::MAX), ..unit() }, &[]);
        check(&["--drain-time", "96s"], &told(120), &["take 121 s", "kills the server after 120 s"]);
        check(&[], &told(20), &["take 25 s", "kills the server after 20 s", "TimeoutStopSec="]);
    }

    #[test]
    fn rings_and_waiting_connections_have_room() {
        let locked = |bytes: u64, surroundings: Surroundings| Allowed { locked_memory: bytes, surroundings, ..roomy() };
        let four = ["--shards", "4"];
        check(&four, &locked(2 << 20, Surroundings::Shell), &[]);
        let little = (2 << 20) - 1;
        let shell = ["is 2047 KiB", "2048 KiB", "sudo prlimit --pid $$ --memlock=67108864:67108864"];
        check(&four, &locked(little, Surroundings::Shell), &shell);
        check(&four, &locked(little, Surroundings::Container), &["docker run --ulimit memlock=67108864:67108864"]);
        let unit = Surroundings::Unit("chat.service".into());
        check(&four, &locked(little, unit), &["LimitMEMLOCK=67108864", "chat.service.d/memlock.conf"]);
        let queue = |surroundings: Surroundings| Allowed { waiting_connections: 128, surroundings, ..roomy() };
        check(
            &[],
            &queue(Surroundings::Shell),
            &["lets 128 connections wait", "sudo sysctl -w net.core.somaxconn=4096"],
        );
        check(&[], &queue(Surroundings::Container), &["docker run --sysctl net.core.somaxconn=4096"]);
    }

    #[test]
    fn the_command_that_raises_the_limit_fits_the_surroundings() {
        let few = |surroundings: Surroundings| Allowed { descriptors: 4096, surroundings, ..roomy() };
        check(&[], &few(Surroundings::Shell), &["is 4096", "sudo prlimit --pid $$ --nofile=1048576:1048576"]);
        check(&[], &few(Surroundings::Container), &["docker run --ulimit nofile=1048576:1048576"]);
        let unit = Surroundings::Unit("chat.service".into());
        check(
            &[],
            &few(unit),
            &["/etc/systemd/system/chat.service.d", "LimitNOFILE=1048576", "systemctl restart chat.service"],
        );
        check(&[], &Allowed { descriptors: 65_536, ..roomy() }, &[]);
    }
}

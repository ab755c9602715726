//! The addresses of this machine from which users connect, when one address has too few ports for all users.
//!
//! Each connection to a server takes a port of its source address. The kernel first looks for a free port among every
//! second port. Once these are taken, it walks through all ports for each further connection, so that the server seems
//! slow to accept. And a port is not free for a minute after its connection has ended: sign-in connections and the
//! connections of the run before still hold theirs. So the ports are counted in advance. Only loopback has spare
//! addresses, and there each run has its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The file in which the kernel gives the range of ports that it assigns.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The number of ports that the kernel assigns by default.
const PORTS_USUALLY: u32 = 28_232;
/// The part of an address's ports that is found without a search: less than the half that the kernel tries first.
const EASY_PART: (u32, u32) = (2, 5);
/// The first addresses of loopback are left to other programs on this machine.
const ADDRESSES_LEFT: u32 = 256;
/// Each run begins at a different place within this many addresses.
const ADDRESSES: u32 = 1 << 22;

/// How users are spread over loopback addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sources {
    first: Ipv4Addr,
    users_each: u32,
}

/// How many ports this machine assigns to connections.
pub fn ports() -> u32 {
    let range = std::fs::read_to_string(PORT_RANGE).ok();
    range.and_then(|range| count(&range)).unwrap_or(PORTS_USUALLY)
}

fn count(range: &str) -> Option<u32> {
    let mut ends = range.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(u32::from(last.checked_sub(first)?) + 1)
}

impl Sources {
    /// The addresses for a run of `users` users to this server; `None` if the address that the kernel chooses is
    /// enough, or if there is no other.
    pub fn choose(users: u32, server: IpAddr, ports: u32, run: u64) -> Option<Self> {
        let loopback = matches!(server, IpAddr::V4(address) if address.is_loopback());
        let easy = (ports * EASY_PART.0 / EASY_PART.1).max(1);
        // If one address is used for everything, each user may need a second port for its sign-in.
        if !loopback || users.saturating_mul(2) <= easy {
            return None;
        }
        let place = ADDRESSES_LEFT + (run.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % ADDRESSES;
        let first = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 0)) + place);
        // All addresses get nearly the same number of users.
        let addresses = users.div_ceil(easy);
        let users_each = users.div_ceil(addresses);
        assert!((1..=easy).contains(&users_each), "{users_each} users of one address find a port among {easy}");
        Some(Self { first, users_each })
    }

    /// The address from which a user connects.
    pub fn of(&self, user: u32) -> Ipv4Addr {
        let address = Ipv4Addr::from(u32::from(self.first) + user / self.users_each);
        debug_assert!(address.is_loopback(), "user {user} connects from {address}");
        address
    }
}

/// The warning for a run that has more users than one address has ports, and that cannot have other addresses.
pub fn warning(users_a_machine: u32, server: SocketAddr, ports: u32) -> Option<String> {
    let elsewhere = Sources::choose(users_a_machine, server.ip(), ports, 0).is_some();
    (users_a_machine > ports && !elsewhere).then(|| {
        format!(
            "{users_a_machine} users of one machine connect to {server}, and this machine has {ports} ports for that \
             ({PORT_RANGE}): raise them, or take more machines"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn no_address_is_filled_so_far_that_ports_have_to_be_searched_for() {
        for ports in [1, 10, 5_000, PORTS_USUALLY, 64_512] {
            for users in [1, 100, 5_646, 5_647, 11_293, 18_000, 28_233, 1_000_000] {
                let mut taken: HashMap<Ipv4Addr, u32> = HashMap::new();
                let Some(sources) = Sources::choose(users, NEAR, ports, 7) else {
                    assert!(users * 2 <= ports * 2 / 5, "{users} users and their sign-ins share {ports} ports");
                    continue;
                };
                (0..users).for_each(|user| *taken.entry(sources.of(user)).or_default() += 1);
                let most = taken.values().max().copied().unwrap_or_default();
                assert!(most <= (ports * 2 / 5).max(1), "{most} of {users} users share {ports} ports");
                assert!(taken.keys().all(|address| address.is_loopback() && u32::from(*address) & 0xff_ffff >= 256));
            }
        }
    }

    #[test]
    fn only_loopback_has_addresses_to_spare_and_each_run_has_its_own() {
        assert_eq!(Sources::choose(1_000_000, FAR, 28_232, 7), None);
        assert_eq!(Sources::choose(1_000_000, "::1".parse().expect("an address"), 28_232, 7), None);
        let first = |run| Sources::choose(18_000, NEAR, 28_232, run).expect("too many for one address").of(0);
        let firsts: std::collections::HashSet<_> = (0..100).map(first).collect();
        assert_eq!(firsts.len(), 100);
    }

    #[test]
    fn the_kernel_says_how_many_ports_there_are() {
        assert_eq!(
            (count("32768\t60999\n"), count("1024 65535"), count("5 4"), count("")),
            (Some(28_232), Some(64_512), None, None)
        );
        assert!(ports() > 0);
    }

    #[test]
    fn too_many_for_a_server_elsewhere_is_said_beforehand() {
        assert_eq!(warning(28_232, (FAR, 80).into(), 28_232), None);
        assert_eq!(warning(1_000_000, (NEAR, 80).into(), 28_232), None);
        assert!(warning(28_233, (FAR, 80).into(), 28_232).is_some_and(|said| said.contains("28232 ports")));
    }
}

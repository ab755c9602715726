//! What a room of a million users would need, computed from the costs of the largest room measured. This is a
//! projection, not a measurement.
//!
//! It assumes that a connection and a delivery cost what they cost in that room, and that work spreads evenly over
//! cores and machines. The curve shows whether the first assumption holds: compare the costs of its sizes. The second
//! one ignores the traffic between machines.

use serde::Serialize;

use crate::base::words;

pub const USERS: u32 = 1_000_000;
/// How many ports Linux gives to a source address by default.
const PORTS_A_SOURCE: u32 = 28_000;
/// The numbers of cores for which the time to the last member is computed.
const CORES: [u32; 4] = [1, 8, 64, 256];

/// The measured costs.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Basis {
    pub users: u32,
    pub server_bytes_per_connection: f64,
    /// Both ends of the connection, if both were on this machine.
    pub kernel_bytes_per_connection: f64,
    pub generator_bytes_per_user: f64,
    /// The server's CPU time for one delivery: of a single message, and at the highest rate that was sustained.
    pub cpu_us_per_delivery_quiet: f64,
    pub cpu_us_per_delivery_busy: f64,
    /// How many descriptors a process may have on this machine.
    pub descriptors: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Projection {
    pub users: u32,
    pub basis: Basis,
    pub server_bytes: f64,
    pub kernel_bytes: f64,
    pub generator_bytes: f64,
    pub sockets: u32,
    /// Processes of the server, and as many of the generator, with this machine's descriptor limit.
    pub processes: u64,
    pub source_addresses: u32,
    /// What one message to all members costs the server, alone and among many.
    pub cpu_secs_per_message_quiet: f64,
    pub cpu_secs_per_message_busy: f64,
    /// For each number of cores: how long a single message takes to the last member, and how many messages a second are
    /// sustained.
    pub by_cores: Vec<(u32, f64, f64)>,
}

impl Projection {
    pub fn of(basis: Basis) -> Self {
        assert!(basis.users > 0, "the costs are those of a room with members");
        let users = f64::from(USERS);
        let quiet_secs = users * basis.cpu_us_per_delivery_quiet / 1e6;
        let busy_secs = users * basis.cpu_us_per_delivery_busy / 1e6;
        let by_core = |cores: u32| {
            let cores_busy = f64::from(cores);
            (cores, quiet_secs / cores_busy, words::ratio(cores_busy, busy_secs))
        };
        Self {
            users: USERS,
            server_bytes: users * basis.server_bytes_per_connection,
            kernel_bytes: users * basis.kernel_bytes_per_connection,
            generator_bytes: users * basis.generator_bytes_per_user,
            sockets: USERS,
            processes: u64::from(USERS).div_ceil(basis.descriptors.max(1)),
            source_addresses: USERS.div_ceil(PORTS_A_SOURCE),
            cpu_secs_per_message_quiet: quiet_secs,
            cpu_secs_per_message_busy: busy_secs,
            by_cores: CORES.map(by_core).to_vec(),
            basis,
        }
    }

    pub fn title(&self) -> String {
        format!("a room of {}", words::grouped(self.users.into()))
    }

    /// What kind of figures these are.
    pub fn note(&self) -> String {
        let measured = words::grouped(self.basis.users.into());
        format!("A projection from the costs measured with {measured}, not a measurement.")
    }

    /// Names and values, for people.
    pub fn rows(&self) -> Vec<(String, String)> {
        let mut rows = vec![
            ("server memory".to_owned(), words::bytes(self.server_bytes)),
            ("kernel memory for the sockets, both ends".to_owned(), words::bytes(self.kernel_bytes)),
            ("generator memory, all listening".to_owned(), words::bytes(self.generator_bytes)),
            ("sockets of the server".to_owned(), words::grouped(self.sockets.into())),
            ("server processes at this descriptor limit".to_owned(), words::grouped(self.processes)),
            ("source addresses on one generator".to_owned(), words::grouped(self.source_addresses.into())),
            ("CPU for one message on its own".to_owned(), words::duration(self.cpu_secs_per_message_quiet * 1e6)),
            ("CPU for one message among many".to_owned(), words::duration(self.cpu_secs_per_message_busy * 1e6)),
        ];
        for (cores, secs, rate) in &self.by_cores {
            let last = words::duration(secs * 1e6);
            let value = format!("{last} to the last member, {} messages/s", words::number(*rate));
            rows.push((format!("with {cores} server {}", if *cores == 1 { "core" } else { "cores" }), value));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_nothing_are_finite_and_said_in_words() {
        let projection = Projection::of(Basis {
            users: 1,
            server_bytes_per_connection: 0.0,
            kernel_bytes_per_connection: 0.0,
            generator_bytes_per_user: 0.0,
            cpu_us_per_delivery_quiet: 0.0,
            cpu_us_per_delivery_busy: 0.0,
            descriptors: 0,
        });
        assert_eq!(projection.processes, 1_000_000, "at least one descriptor is taken to be there");
        assert!(projection.by_cores.iter().all(|(_, secs, rate)| *secs == 0.0 && *rate == 0.0));
        assert!(!serde_json::to_string(&projection).expect("text").contains("null"));
        assert!(projection.rows().iter().all(|(name, value)| !name.is_empty() && !value.contains("none")));
        assert!(projection.title().contains("1,000,000") && projection.note().contains("not a measurement"));
    }

    #[test]
    fn a_million_costs_what_the_measured_ones_did() {
        let projection = Projection::of(Basis {
            users: 10_000,
            server_bytes_per_connection: 2_048.0,
            kernel_bytes_per_connection: 8_192.0,
            generator_bytes_per_user: 16_384.0,
            cpu_us_per_delivery_quiet: 8.0,
            cpu_us_per_delivery_busy: 2.0,
            descriptors: 20_000,
        });
        assert_eq!((projection.server_bytes, projection.kernel_bytes), (2.048e9, 8.192e9));
        assert_eq!((projection.processes, projection.source_addresses), (50, 36));
        assert_eq!((projection.cpu_secs_per_message_quiet, projection.cpu_secs_per_message_busy), (8.0, 2.0));
        assert_eq!(projection.by_cores[1], (8, 1.0, 4.0));
        assert!(
            projection
                .rows()
                .contains(&("with 8 server cores".to_owned(), "1.00 s to the last member, 4.00 messages/s".to_owned()))
        );
    }
}

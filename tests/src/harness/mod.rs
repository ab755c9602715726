//! Starts the real server and talks to it: over HTTP, over WebSocket, in raw bytes, and in recorded conversations.
//!
//! Every wait has a deadline and reports what it waited for. A test that fails ends its server too.

pub mod cassandra;
mod certificates;
mod disk;
mod fault_proxy;
mod http;
mod node;
pub mod person;
mod ports;
mod process;
pub mod prometheus;
mod proxy;
mod raw;
/// The engine's own tests use this module too.
#[path = "../../../engine/src/wire/tests/schema.rs"]
pub mod schema;
mod server;
mod socket;
pub mod transcript;

use std::time::Duration;

pub use certificates::{make_certificate, make_certificates};
pub use disk::{FaultySyncs, SmallDisk};
pub use fault_proxy::{Fault, FaultProxy};
pub use http::{Account, Answer, Http, SERVER_KEY, bearer};
pub use node::{node_22, run_node, run_node_22, run_to_the_end};
pub use person::Person;
pub use proxy::{Proxy, ProxyKind, ProxyLaunch};
pub use raw::{Ending, Frame, RawSocket, masked_frame, unmasked_frame};
pub use server::{Launch, Refusal, Server, loadgen, run_program};
pub use socket::{Closed, Format, Heard, Socket};

/// The longest time for anything that should happen at once. It is long, because test machines are busy.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// A directory for a server's data, removed when dropped.
pub fn data_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("stentor-test-").tempdir().expect("a temporary directory")
}

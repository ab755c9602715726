//! Tells systemd how the server is, over the socket that `NOTIFY_SOCKET` names: that it serves or stands by (`READY=1`), that
//! it is about to stop (`STOPPING=1`), and, while every shard turns, that it is alive (`WATCHDOG=1`). Without such a socket it
//! tells nothing.
//!
//! A store that does not answer is no reason to be killed: a server whose disk or database is away is not ready, and a
//! restart would not bring them back.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use sd_notify::NotifyState;

use crate::health::Health;
use crate::log_limit;

/// Signs of life within the time after which systemd kills the server.
const BEATS: u32 = 3;

/// The server's word to systemd.
pub struct Supervisor(Arc<Shared>);

#[derive(Default)]
struct Shared {
    stage: Mutex<Stage>,
    changed: Condvar,
}

#[derive(Default)]
enum Stage {
    /// No shard turns yet.
    #[default]
    Starting,
    Serving(Arc<Health>),
    Stopping,
}

impl Supervisor {
    /// Gives signs of life from now on, if systemd wants some. Fails if no thread is left.
    pub fn begin() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        if let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero()) {
            let shared = shared.clone();
            thread::Builder::new().name("watchdog".into()).spawn(move || beat(&shared, patience / BEATS))?;
        }
        Ok(Self(shared))
    }

    /// Says that the server waits behind another one. For systemd it is started.
    pub fn stands_by(&self) {
        tell(&[NotifyState::Ready, NotifyState::Status("standby: another server has the store")]);
    }

    /// Says that the server serves. From now on it is alive while every shard turns.
    pub fn serves(&self, health: Arc<Health>) {
        *self.0.stage.lock() = Stage::Serving(health);
        tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    }

    /// Says that the server is about to stop. systemd then waits as long as `TimeoutStopSec=` says, and for no sign of life.
    pub fn stops(&self) {
        let before = std::mem::replace(&mut *self.0.stage.lock(), Stage::Stopping);
        self.0.changed.notify_all();
        if !matches!(before, Stage::Stopping) {
            tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        *self.0.stage.lock() = Stage::Stopping;
        self.0.changed.notify_all();
    }
}

/// Sends the states without waiting: a reader that does not read must not hold up a stop, and the library's call waits for it.
/// A name with `@` in front is an abstract one (unix(7)).
fn notify(states: &[NotifyState]) -> io::Result<()> {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(()) };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = notify(states) {
        log_limit::warn!(%error, "systemd cannot be told how the server is");
    }
}

/// Gives signs of life until the server stops. Tells without the lock: a supervisor that does not read must not hold up a
/// stop.
fn beat(shared: &Shared, interval: Duration) {
    let mut pulse = Pulse::default();
    loop {
        let stuck = match &*shared.stage.lock() {
            Stage::Starting => None,
            Stage::Serving(health) => pulse.stuck(health.ticks()),
            Stage::Stopping => return,
        };
        match stuck {
            None => tell(&[NotifyState::Watchdog]),
            Some(shard) => {
                tracing::error!(shard, "a shard does not turn: systemd is told nothing, and will kill the server");
            }
        }
        let mut stage = shared.stage.lock();
        if !matches!(*stage, Stage::Stopping) {
            shared.changed.wait_for(&mut stage, interval);
        }
    }
}

/// What the shards had told at the last look.
#[derive(Default)]
struct Pulse(Vec<u64>);

impl Pulse {
    /// The first shard that has told nothing since the last look.
    fn stuck(&mut self, ticks: Vec<u64>) -> Option<usize> {
        let before = std::mem::replace(&mut self.0, ticks);
        before.iter().zip(&self.0).position(|(before, now)| before == now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::HealthReporter;

    #[test]
    fn a_shard_that_tells_nothing_is_stuck() {
        let health = Health::new(2, 10);
        let shards = [0, 1].map(|shard| HealthReporter::new(health.clone(), shard));
        let mut pulse = Pulse::default();
        assert_eq!(pulse.stuck(health.ticks()), None, "the first look has nothing to compare with");
        assert_eq!(pulse.stuck(health.ticks()), Some(0));
        shards[0].tell(0, 0);
        assert_eq!(pulse.stuck(health.ticks()), Some(1), "one turns, the other does not");
        shards.iter().for_each(|shard| shard.tell(0, 0));
        assert_eq!(pulse.stuck(health.ticks()), None);
    }
}

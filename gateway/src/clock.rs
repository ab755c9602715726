//! Watches the system's clock. It moves the server's wall clock slowly towards it, and warns operators when the
//! system's clock was set.

use std::io;
use std::thread::{self, JoinHandle};

use runtime::clock::{self, LOOK_INTERVAL};

/// Starts the thread that looks at the clock once a second, until the process ends. Fails if the thread cannot be
/// started.
pub fn watch() -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("clock".into()).spawn(|| {
        loop {
            thread::sleep(LOOK_INTERVAL);
            if let Some(jump) = clock::look().jump {
                let (direction, seconds) = (if jump > 0 { "forward" } else { "back" }, (jump.abs() + 500_000_000) / 1_000_000_000);
                tracing::warn!(
                    "the system's clock was set {direction} by {seconds} s: the server's time goes on as before and is drawn \
                     towards it by 36 s an hour; to follow at once, start the server anew"
                );
            }
        }
    })
}

//! Whether the person at the terminal has pressed Ctrl-C.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// The exit code after a second Ctrl-C, as a shell gives it.
const EXIT_INTERRUPTED: i32 = 130;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on, the first Ctrl-C only sets a mark, and the second one ends the program at once.
pub fn watch() -> io::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    // In this order: the first signal finds the mark not set, and then sets it.
    flag::register_conditional_shutdown(SIGINT, EXIT_INTERRUPTED, asked.clone())?;
    flag::register(SIGINT, asked.clone()).map(drop)
}

/// Whether Ctrl-C was pressed since `watch`.
pub fn is_asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Relaxed))
}

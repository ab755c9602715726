//! `stentor export` and `stentor import`. The first writes everything in a store to a file. The second fills an empty
//! store from a file, or the database from the embedded store.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use storage::Failure;
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::retention::Retention;
use storage::transfer::{self, End, Movable, Moved};

use crate::database;
use crate::file_modes::is_directory;
use crate::options::{Options, StoreKind};
use crate::terminal;

/// How often, and at what interval, the database is tried until it answers.
const ATTEMPTS_MAX: usize = 300;
const PAUSE: Duration = Duration::from_millis(100);
/// How often progress is printed when there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Writes everything to a file. Returns what was done, for the operator.
pub fn export(options: &Options, file: &Path) -> Result<String, String> {
    let store = open_filled(options)?;
    let moved = carry(End::Store(&*store), End::File(file))?;
    store.close().map_err(said)?;
    whole(moved, format!("{}: {}\n", file.display(), summary(moved)))
}

/// What was done, unless something was left out: then the operator must see it.
fn whole(moved: Moved, done: String) -> Result<String, String> {
    match moved.unreadable {
        0 => Ok(done),
        count => Err(format!(
            "{}; but {count} blocks or rows could not be read and were left out: the lines above name them",
            done.trim_end()
        )),
    }
}

/// Moves everything into an empty store: from a file, or from the embedded store to the database.
/// Returns what was done, for the operator.
pub fn import(options: &Options, file: Option<&Path>) -> Result<String, String> {
    let Some(file) = file else { return move_to_database(options) };
    let store = open(options, options.store)?;
    let moved = carry(End::File(file), End::Store(&*store))?;
    store.close().map_err(said)?;
    Ok(format!("{}\n", summary(moved)))
}

fn move_to_database(options: &Options) -> Result<String, String> {
    let embedded = Options { store: StoreKind::Embedded, ..options.clone() };
    let source = open_filled(&embedded)?;
    let target = open(options, StoreKind::Scylla)?;
    let moved = carry(End::Store(&*source), End::Store(&*target))?;
    source.close().map_err(said)?;
    target.close().map_err(said)?;
    let backup = options.data.display();
    whole(moved, format!("{}. Start with --store scylla now, and keep {backup} as a backup\n", summary(moved)))
}

fn open(options: &Options, kind: StoreKind) -> Result<Arc<dyn Movable>, String> {
    match kind {
        StoreKind::Embedded => {
            // What has come is counted at the end, so nothing may expire before.
            let kept = EmbeddedOptions { retention: Retention::default(), ..options.embedded_store() };
            Ok(Arc::new(Embedded::open(&options.store_directory(), &kept).map_err(said)?))
        }
        StoreKind::Scylla => {
            let store = database::open(&options.database).map_err(said)?;
            await_answers(&*store)?;
            Ok(store)
        }
        StoreKind::Memory => Err("nothing is kept in memory: choose another --store".into()),
    }
}

/// Opens a store that has been used, to read it: opening an embedded store that does not exist would make it.
fn open_filled(options: &Options) -> Result<Arc<dyn Movable>, String> {
    let directory = options.store_directory();
    if options.store == StoreKind::Embedded && !is_directory(&directory)? {
        return Err(format!(
            "there is no embedded store in {}: name its data directory with --data",
            directory.display()
        ));
    }
    match options.store {
        // The store may be on a disk that is full or broken, and must not change under the move.
        StoreKind::Embedded => {
            Ok(Arc::new(Embedded::open_to_read(&directory, &options.embedded_store()).map_err(said)?))
        }
        kind => open(options, kind),
    }
}

/// Runs the move and shows its progress.
fn carry(from: End<'_>, to: End<'_>) -> Result<Moved, String> {
    let counted = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {per_sec}, {eta} to go").map_err(said)?;
    let uncounted = ProgressStyle::with_template("{spinner} {pos} rows, {per_sec}").map_err(said)?;
    let bar = ProgressBar::no_length().with_style(uncounted);
    let mut lines = Lines::default();
    let moved = transfer::run(from, to, &mut |rows, size| {
        if bar.is_hidden()
            && let Some(line) = lines.line(Instant::now(), rows, size)
        {
            terminal::tell(&line);
        }
        if let Some(size) = size
            && bar.length().is_none()
        {
            bar.set_style(counted.clone());
            bar.set_length(size);
            // Rows that an earlier attempt moved say nothing about the speed of this one.
            bar.set_position(rows);
            bar.reset_eta();
        }
        bar.set_position(rows);
    });
    bar.finish_and_clear();
    moved.map_err(|failure| match failure {
        Failure::Passing(_) | Failure::Unknown(_) | Failure::Final(_) | Failure::Broken(_) => {
            format!("{failure}. Begun again, the move goes on where it was")
        }
        failure => failure.to_string(),
    })
}

/// The progress lines that are printed when there is no terminal: one at the beginning, then one at each interval.
#[derive(Default)]
struct Lines {
    last: Option<Instant>,
}

impl Lines {
    /// The line to print now, if one is due.
    fn line(&mut self, now: Instant, rows: u64, size: Option<u64>) -> Option<String> {
        if self.last.is_some_and(|last| now < last + LINE_INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(match size {
            Some(size) => format!("{rows} of {size} rows"),
            None => format!("{rows} rows"),
        })
    }
}

fn summary(Moved { rows, left, .. }: Moved) -> String {
    let moved = format!("{rows} rows are moved and counted");
    match left {
        0 => moved,
        left => format!("{moved}; {left} were left over from things deleted, and stay behind"),
    }
}

fn await_answers(store: &dyn Movable) -> Result<(), String> {
    for attempt in 1.. {
        match store.revocations() {
            Ok(_) => return Ok(()),
            Err(Failure::Passing(_)) if attempt < ATTEMPTS_MAX => std::thread::sleep(PAUSE),
            Err(failure) => return Err(said(failure)),
        }
    }
    Ok(())
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_at_once_and_then_at_intervals() {
        let (mut lines, begun) = (Lines::default(), Instant::now());
        let mut said = |after: Duration, rows, size| lines.line(begun + after, rows, size);
        assert_eq!(said(Duration::ZERO, 0, Some(9_000)), Some("0 of 9000 rows".to_owned()));
        assert_eq!(said(LINE_INTERVAL - Duration::from_millis(1), 4_000, Some(9_000)), None);
        assert_eq!(
            said(LINE_INTERVAL + Duration::from_secs(2), 5_000, Some(9_000)),
            Some("5000 of 9000 rows".to_owned())
        );
        assert_eq!(said(LINE_INTERVAL * 2, 8_000, Some(9_000)), None);
        assert_eq!(said(LINE_INTERVAL * 3, 8_500, None), Some("8500 rows".to_owned()));
    }
}

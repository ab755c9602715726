//! `stentor import`: moves the embedded store in the data directory to the database.

use std::fmt;

use indicatif::{ProgressBar, ProgressStyle};
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::scylla::{Scylla, transfer};
use storage::{Failure, Store};

use crate::options::Options;

/// How often, and how far apart, the database is asked whether it is there.
const ATTEMPTS_MAX: usize = 300;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Moves everything, shows how far it is, and says what has been moved.
pub fn import(options: &Options) -> Result<(), String> {
    let directory = options.store_directory();
    if !directory.is_dir() {
        return Err(format!(
            "there is no embedded store in {}: name its data directory with --data",
            directory.display()
        ));
    }
    let source = Embedded::open(&directory, &EmbeddedOptions::default()).map_err(said)?;
    let target = Scylla::open(options.database.clone()).map_err(said)?;
    await_answers(&target)?;
    let bar = ProgressBar::new(transfer::size_of_move(&source).map_err(said)?);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {per_sec}, {eta} to go");
    bar.set_style(style.map_err(said)?);
    let name = directory.canonicalize().unwrap_or(directory);
    let moved = target.import(&source, &name.to_string_lossy(), &mut |rows| bar.set_position(rows));
    bar.finish_and_clear();
    let moved = moved.map_err(|failure| format!("{failure}. Begun again, the move goes on where it was"))?;
    source.close().map_err(said)?;
    target.close().map_err(said)?;
    println!(
        "{} rows are moved and counted; {} were left over from things deleted, and stay behind. Start with --store scylla \
         now, and keep {} as a backup",
        moved.rows,
        moved.orphans,
        options.data.display()
    );
    Ok(())
}

fn await_answers(target: &Scylla) -> Result<(), String> {
    for attempt in 1.. {
        match target.revocations() {
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

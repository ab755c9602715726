//! Backups: a directory with a copy of a running store, and with the signing keys if they are asked for. `stentor backup`
//! has the server make one (`admin/backups.rs`), `stentor restore` makes a data directory of it, and `stentor verify`
//! reads all of one, or of a data directory.
//!
//! A backup is laid out as a data directory, with one more file that says what it is:
//!
//! ```text
//! backup.json                what this is; written last
//! store/                     the copy of the store
//! session.key, refresh.key   only if asked for
//! ```

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use storage::Failure;
use storage::backup::BackedUp;
use storage::bridge::Client;
use storage::embedded::{self, Verified};

use crate::file_modes::is_directory;
use crate::options::{Options, REFRESH_KEY_FILE, SESSION_KEY_FILE, StoreKind};

/// The file that says that a directory is a backup.
const LABEL: &str = "backup.json";
/// The copy of the store in a backup, as in a data directory.
const STORE: &str = "store";
/// The signing keys that a data directory may have.
const KEYS: [&str; 2] = [SESSION_KEY_FILE, REFRESH_KEY_FILE];
/// What is appended to the name of a directory that is not finished.
const UNFINISHED: &str = ".unfinished";
/// The version of the layout.
const LAYOUT: u64 = 1;
/// The most directories in one another in a store.
const DEPTH_MAX: usize = 8;

/// Makes a backup in a directory that is not there yet, with the keys that `data`, a data directory, has, if they are
/// asked for. Blocks for as long as it takes. Fails with a line for the operator, and leaves nothing behind then.
pub fn make(store: &Client, data: &Path, directory: &Path, with_keys: bool) -> Result<(BackedUp, Vec<String>), String> {
    let unfinished = unfinished(directory);
    let made = DirBuilder::new().mode(0o700).create(&unfinished);
    made.map_err(|error| format!("cannot make {}: {error}", unfinished.display()))?;
    let filled = fill(store, data, &unfinished, with_keys).and_then(|done| {
        fs::rename(&unfinished, directory)
            .and_then(|()| sync(parent_of(directory)))
            .map_err(|error| format!("cannot give {} its name: {error}", directory.display()))?;
        Ok(done)
    });
    if filled.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    filled
}

/// The name of a backup that is being made.
pub fn unfinished(directory: &Path) -> PathBuf {
    // A slash at the end would make the rest of the name a file in the directory.
    let mut name = directory.components().collect::<PathBuf>().into_os_string();
    name.push(UNFINISHED);
    name.into()
}

fn fill(store: &Client, data: &Path, target: &Path, with_keys: bool) -> Result<(BackedUp, Vec<String>), String> {
    let copied = store.back_up(&target.join(STORE)).map_err(not_copied)?;
    let mut keys = Vec::new();
    if with_keys {
        for name in KEYS {
            if data.join(name).exists() {
                copy(&data.join(name), &target.join(name))?;
                keys.push(name.to_owned());
            }
        }
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let label = json!({
        "layout": LAYOUT,
        "version": env!("CARGO_PKG_VERSION"),
        "made_unix_seconds": seconds,
        "files": copied.files,
        "bytes": copied.bytes,
        "keys": keys,
    });
    let path = target.join(LABEL);
    let written = private(&path).and_then(|mut file| {
        file.write_all(format!("{label:#}\n").as_bytes())?;
        file.sync_all()?;
        sync(target)
    });
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok((copied, keys))
}

/// The store works on if it cannot be copied: it is the copy that failed.
fn not_copied(failure: Failure) -> String {
    match failure {
        Failure::Final(reason) | Failure::Passing(reason) => format!("the copy cannot be made: {reason}"),
        failure => failure.to_string(),
    }
}

/// Makes the data directory of a server that does not run yet from a backup. Returns what was done, for the operator.
/// Changes nothing if there is a store already, if the backup is not whole, or if the one directory is in the other. Leaves
/// nothing unfinished behind.
pub fn restore(options: &Options, directory: &Path) -> Result<String, String> {
    if options.store != StoreKind::Embedded {
        return Err("a backup is of the embedded store: restore it with --store embedded".into());
    }
    let label = label_in(directory)?;
    let keys: Vec<_> = KEYS.into_iter().filter(|key| directory.join(key).exists()).collect();
    let (data, store) = (&options.data, options.store_directory());
    let taken: Vec<_> =
        keys.iter().map(|key| data.join(key)).chain([store.clone()]).filter(|path| path.exists()).collect();
    if let Some(path) = taken.first() {
        return Err(format!("{} is there already: name an empty data directory with --data", path.display()));
    }
    let unfinished = unfinished(&store);
    check_apart(directory, data, &unfinished)?;
    if let Some(difference) = difference(directory, &label)? {
        return Err(format!(
            "{difference}. Copy the backup again, or save what is in it: stentor export FILE --data {}",
            directory.display()
        ));
    }
    DirBuilder::new().mode(0o700).recursive(true).create(data).map_err(|error| cannot_write(data, &error))?;
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|error| cannot_write(&unfinished, &error))?;
    }
    let bytes = place(directory, data, &unfinished, &store, &keys).inspect_err(|_| {
        // All is in its place, and only its name may be lost at a power cut: the operator decides.
        if store.exists() {
            return;
        }
        let _ = fs::remove_dir_all(&unfinished);
        for key in &keys {
            let _ = fs::remove_file(data.join(key));
        }
        // Only if there is nothing else in it.
        let _ = fs::remove_dir(data);
    })?;
    let keys = match keys.is_empty() {
        true => "without keys: the server makes new ones, and all users sign in again".to_owned(),
        false => format!("with {}", keys.join(" and ")),
    };
    Ok(format!(
        "{} is restored from {}: {} MiB, {keys}\n",
        data.display(),
        directory.display(),
        bytes.div_ceil(1 << 20)
    ))
}

/// Copies a backup to its place. Returns the bytes of the store.
fn place(directory: &Path, data: &Path, unfinished: &Path, store: &Path, keys: &[&'static str]) -> Result<u64, String> {
    let bytes = copy_tree(&directory.join(STORE), unfinished, DEPTH_MAX)?;
    for key in keys {
        copy(&directory.join(key), &data.join(key))?;
    }
    let named = fs::rename(unfinished, store).and_then(|()| sync(data));
    named.map_err(|error| cannot_write(store, &error))?;
    Ok(bytes)
}

/// Refuses a data directory in the backup, which would be copied into itself, and a backup in what the restore removes.
fn check_apart(directory: &Path, data: &Path, unfinished: &Path) -> Result<(), String> {
    let backup = directory.canonicalize().map_err(|error| cannot_read(directory, &error))?;
    let whole = std::path::absolute(data).map_err(|error| cannot_read(data, &error))?;
    // What is not there yet has no links in it.
    let target = whole.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_default();
    if target.starts_with(&backup) {
        let (data, directory) = (data.display(), directory.display());
        return Err(format!("{data} is in the backup {directory}: name another data directory with --data"));
    }
    match unfinished.canonicalize() {
        Ok(unfinished) if backup.starts_with(&unfinished) => Err(format!(
            "{} is in {}, which a restore removes: move it first",
            directory.display(),
            unfinished.display()
        )),
        _ => Ok(()),
    }
}

/// How the store of a backup differs from what its label says, for the operator; `None` if it does not.
fn difference(directory: &Path, label: &Value) -> Result<Option<String>, String> {
    let (Some(files), Some(bytes)) = (label["files"].as_u64(), label["bytes"].as_u64()) else { return Ok(None) };
    let (files_found, bytes_found) = measure(&directory.join(STORE), DEPTH_MAX)?;
    let store = directory.join(STORE);
    let store = store.display();
    Ok(((files, bytes) != (files_found, bytes_found)).then(|| {
        format!(
            "{store} has {files_found} files with {bytes_found} bytes, and the backup was made with {files} files and \
             {bytes} bytes: it is not whole, or it was changed"
        )
    }))
}

/// The files in a directory and in those in it, and their bytes.
fn measure(directory: &Path, depth: usize) -> Result<(u64, u64), String> {
    check_depth(directory, depth)?;
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(directory).map_err(|error| cannot_read(directory, &error))? {
        let path = entry.map_err(|error| cannot_read(directory, &error))?.path();
        let metadata = fs::metadata(&path).map_err(|error| cannot_read(&path, &error))?;
        let (more_files, more_bytes) = if metadata.is_dir() { measure(&path, depth - 1)? } else { (1, metadata.len()) };
        (files, bytes) = (files + more_files, bytes + more_bytes);
    }
    Ok((files, bytes))
}

fn check_depth(directory: &Path, depth: usize) -> Result<(), String> {
    match depth {
        0 => Err(format!("{} lies too deep to be of a store", directory.display())),
        _ => Ok(()),
    }
}

/// What a backup says of itself. Fails if the directory is none.
fn label_in(directory: &Path) -> Result<Value, String> {
    let path = directory.join(LABEL);
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("{} is no whole backup: {}: {error}", directory.display(), path.display()))?;
    let label: Value = serde_json::from_str(&text).unwrap_or_default();
    if label["layout"].as_u64() != Some(LAYOUT) {
        return Err(format!(
            "{} is a backup of another version ({}): restore it with that version",
            directory.display(),
            label["version"].as_str().unwrap_or("unknown")
        ));
    }
    Ok(label)
}

/// What `stentor verify` has found.
pub struct Verdict {
    /// What there is, and each thing that cannot be read, for the operator.
    pub text: String,
    /// Whether something cannot be read.
    pub is_damaged: bool,
}

/// Reads everything in a backup or a data directory, by default that of `options`, and compares a backup with its label.
/// Fails if there is no store to read.
pub fn verify(options: &Options, directory: Option<&Path>) -> Result<Verdict, String> {
    let directory = directory.unwrap_or(&options.data);
    let store = if is_directory(&directory.join(STORE))? { directory.join(STORE) } else { directory.to_owned() };
    let mut verified = embedded::verify(&store, &options.embedded_store()).map_err(said)?;
    if directory.join(LABEL).exists()
        && let Some(difference) = difference(directory, &label_in(directory)?)?
    {
        verified.unreadable.insert(0, difference);
        verified.unreadable_count += 1;
    }
    let Verified { records, unreadable, unreadable_count } = &verified;
    let mut text = String::new();
    for (table, count) in records {
        text += &format!("{count:>12} {table}\n");
    }
    for line in unreadable {
        text += &format!("unreadable: {line}\n");
    }
    if *unreadable_count > unreadable.len() as u64 {
        text += &format!("and {} more\n", unreadable_count - unreadable.len() as u64);
    }
    text += &match unreadable_count {
        0 => format!("{}: everything can be read\n", store.display()),
        count => format!("{}: {count} things cannot be read\n", store.display()),
    };
    Ok(Verdict { text, is_damaged: *unreadable_count > 0 })
}

/// Copies a directory with everything in it. Returns the bytes of its files.
fn copy_tree(from: &Path, to: &Path, depth: usize) -> Result<u64, String> {
    check_depth(from, depth)?;
    DirBuilder::new().mode(0o700).create(to).map_err(|error| cannot_write(to, &error))?;
    let mut bytes = 0;
    for entry in fs::read_dir(from).map_err(|error| cannot_read(from, &error))? {
        let path = entry.map_err(|error| cannot_read(from, &error))?.path();
        let Some(name) = path.file_name() else { continue };
        let to = to.join(name);
        bytes += if path.is_dir() { copy_tree(&path, &to, depth - 1)? } else { copy(&path, &to)? };
    }
    sync(to).map_err(|error| cannot_write(to, &error))?;
    Ok(bytes)
}

/// Copies a file to a new one for this user alone. Returns its bytes.
fn copy(from: &Path, to: &Path) -> Result<u64, String> {
    let mut source = File::open(from).map_err(|error| cannot_read(from, &error))?;
    let copied = private(to).and_then(|mut target| {
        let bytes = io::copy(&mut source, &mut target)?;
        target.sync_all()?;
        Ok(bytes)
    });
    copied.map_err(|error| cannot_write(to, &error))
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes the names in a directory durable.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}

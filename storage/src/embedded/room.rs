//! The free room on the disk: decides when writes are refused, and which merges of tables may begin.
//!
//! A part of the disk, the reserve, stays free. It is for the store's background work: flushing its memtables and
//! writing its journal. Writes are refused while less than the reserve is free, and a merge begins only if its result
//! fits without using the reserve. Writes are also refused while runs that no merge can read gather at the top of a table.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::failures::DAMAGED;
use crate::{DiskRoom, Failure};

/// After a refusal, writes are accepted only when the free room exceeds the reserve by this fraction of it, so that
/// acceptance and refusal do not alternate quickly.
const MARGIN_PART: u64 = 16;

/// The disk under a store's directory.
pub struct Room {
    path: PathBuf,
    reserve: u64,
    /// The bytes that running merges may still write.
    merging: AtomicU64,
    /// A table has many runs, and there is no room to merge them: with more writes the store would stop for good.
    crowded: AtomicBool,
    /// Why a table has many runs that can be neither merged nor moved, if it has: with more writes the store would stop for
    /// good.
    stuck: Mutex<Option<String>>,
    /// Writes are refused.
    refusing: AtomicBool,
    /// The server has begun its life: from then on refused writes are logged.
    logs: AtomicBool,
}

impl Room {
    /// The disk that holds this path, of which `reserve` bytes are to stay free. Looks at nothing yet.
    pub fn new(path: PathBuf, reserve: u64) -> Self {
        let [crowded, refusing, logs] = [false; 3].map(AtomicBool::new);
        Self { path, reserve, merging: AtomicU64::new(0), crowded, refusing, logs, stuck: Mutex::default() }
    }

    /// The bytes that are free for the store now, and the reserve. Fails if the system does not say.
    pub fn free_and_reserve(&self) -> Result<DiskRoom, Failure> {
        let stat = rustix::fs::statvfs(&self.path);
        let stat = stat.map_err(|error| Failure::Passing(format!("asking {}: {error}", self.path.display())))?;
        Ok(DiskRoom { free: stat.f_bavail.saturating_mul(stat.f_frsize), reserve: self.reserve, used: 0 })
    }

    /// From now on logs when writes begin to be refused, and when they are accepted again.
    pub fn log_from_now_on(&self) {
        self.logs.store(true, Ordering::Release);
    }

    /// Refuses a write while there is no room for it, or while tables can be neither merged nor moved.
    pub fn check(&self) -> Result<(), Failure> {
        self.check_disk()?;
        self.stuck.lock().clone().map_or(Ok(()), |reason| Err(Failure::Corrupt(reason)))
    }

    /// Refuses a write while there is no room for it.
    pub fn check_disk(&self) -> Result<(), Failure> {
        let DiskRoom { free, reserve, .. } = self.free_and_reserve()?;
        let refusing = self.refusing.load(Ordering::Acquire);
        let margin = if refusing { reserve / MARGIN_PART } else { 0 };
        let crowded = self.crowded.load(Ordering::Acquire);
        let refuse = free < reserve.saturating_add(margin) || crowded;
        let text = self.text(free, crowded);
        if self.refusing.swap(refuse, Ordering::AcqRel) != refuse && self.logs.load(Ordering::Acquire) {
            match refuse {
                true => tracing::error!("{text}. Writes are refused until there is more room"),
                false => tracing::info!("{text}. Writes are taken again"),
            }
        }
        if refuse { Err(Failure::Full(text)) } else { Ok(()) }
    }

    fn text(&self, free: u64, crowded: bool) -> String {
        let (path, free, reserve) = (self.path.display(), free >> 20, self.reserve >> 20);
        let merges = if crowded { ", which leaves no room to merge tables" } else { "" };
        format!("the disk of {path} has {free} MiB free, and {reserve} MiB must stay free{merges}")
    }

    /// Lets a merge of tables of this size begin, if the result fits beside the reserve and the running merges. Tables
    /// grow a little when they are merged, because their filters and indexes are rebuilt.
    pub fn claim(&self, input: u64) -> Option<Claim<'_>> {
        let bytes = input.saturating_add(input / 16);
        let Ok(DiskRoom { free, reserve, .. }) = self.free_and_reserve() else { return None };
        let taken = self.merging.fetch_add(bytes, Ordering::AcqRel);
        let claim = Claim { room: self, bytes };
        (free >= reserve.saturating_add(taken).saturating_add(bytes)).then_some(claim)
    }

    /// Sets whether a table has too many runs and there is no room to merge them.
    pub fn set_crowded(&self, crowded: bool) {
        self.crowded.store(crowded, Ordering::Release);
    }

    /// Sets why a table has too many runs that can be neither merged nor moved; `None` if no table has. The log tells of
    /// it once.
    pub fn set_stuck(&self, reason: Option<String>) {
        let mut stuck = self.stuck.lock();
        if let Some(reason) = &reason
            && stuck.is_none()
        {
            tracing::error!("{reason}. Writes are refused. {DAMAGED}");
        }
        *stuck = reason;
    }
}

/// The room of a running merge; dropping it frees the room.
pub struct Claim<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let claimed = self.room.merging.fetch_sub(self.bytes, Ordering::AcqRel);
        debug_assert!(claimed >= self.bytes, "a merge gives back what it has claimed, and no more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_share_the_room_beside_the_reserve() {
        let directory = tempfile::tempdir().unwrap();
        let free = Room::new(directory.path().into(), 0).free_and_reserve().unwrap().free;
        // Other programs use the disk as well, so the bounds are far apart.
        let room = Room::new(directory.path().into(), free / 2);
        let first = room.claim(free / 4).expect("a quarter fits");
        assert!(room.claim(free / 2).is_none(), "a half does not fit beside the reserve and the first");
        drop(first);
        assert_eq!(room.merging.load(Ordering::Acquire), 0, "a refused claim takes nothing");
        assert!(room.claim(free).is_none());
        assert!(room.claim(u64::MAX).is_none());
        assert!(room.claim(free / 4).is_some());
    }

    #[test]
    fn writes_are_refused_for_want_of_room_and_for_runs_that_cannot_be_merged() {
        let directory = tempfile::tempdir().unwrap();
        let room = Room::new(directory.path().into(), 0);
        assert_eq!(room.check(), Ok(()));
        room.set_crowded(true);
        assert!(matches!(room.check(), Err(Failure::Full(text)) if text.contains("merge")));
        room.set_crowded(false);
        assert_eq!(room.check(), Ok(()));
        let full = Room::new(directory.path().into(), u64::MAX);
        let Err(Failure::Full(text)) = full.check() else { panic!("there is not so much room in the world") };
        assert!(text.contains(&directory.path().display().to_string()), "{text}");
    }
}

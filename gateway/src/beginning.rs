//! Begins a life of the server: waits for a store that does not answer yet, and, with `--standby`, for one that another
//! server has.
//!
//! A standby has its addresses, and clients are told 503 there. It takes over when the other server ends: at once if that
//! stops in order. If it was killed, an embedded store is free at once too, and a keyspace when the other server's lease has
//! ended (`storage/scylla/src/lease.rs`), which is 13 s after its last sign of life.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::id::Epoch;
use storage::account::Revocation;
use storage::{Failure, Store};

use crate::waiting::WaitingRoom;

/// How often a store that does not answer yet, or that another server has, is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What a life begins with.
pub struct Life {
    pub store: Arc<dyn Store>,
    pub epoch: Epoch,
    /// The stored logouts of earlier lives.
    pub revocations: Vec<Revocation>,
}

/// How a life begins.
pub struct Beginning<'a> {
    /// Whether to wait behind another server.
    pub standby: bool,
    pub room: &'a WaitingRoom,
    /// Whether the server is told to stop.
    pub is_to_stop: &'a mut dyn FnMut() -> bool,
    /// Called when the server begins to wait behind another one.
    pub stands_by: &'a mut dyn FnMut(),
}

impl Beginning<'_> {
    /// Opens the store and begins a life. Returns `None` if the server is told to stop before. A full disk ends the start:
    /// only the operator can free space.
    pub fn begin(mut self, open: impl Fn() -> Result<Arc<dyn Store>, Failure>) -> Result<Option<Life>, Failure> {
        let mut waits = None;
        let store = loop {
            match open() {
                Ok(store) => break store,
                Err(Failure::InUse(reason)) if self.standby => self.stand_by(&mut waits, &reason),
                Err(failure) => return Err(failure),
            }
            if (self.is_to_stop)() {
                return Ok(None);
            }
            std::thread::sleep(RETRY_INTERVAL);
        };
        loop {
            match store.next_epoch().and_then(|epoch| Ok((epoch, store.revocations()?))) {
                Ok((epoch, revocations)) => {
                    if let Some(since) = waits {
                        let seconds = since.elapsed().as_secs();
                        tracing::info!("standby: this server has taken over, after {seconds} s");
                    }
                    return Ok(Some(Life { store, epoch, revocations }));
                }
                Err(Failure::InUse(reason)) if self.standby => self.stand_by(&mut waits, &reason),
                Err(Failure::Passing(_)) => {}
                Err(failure) => return Err(failure),
            }
            if (self.is_to_stop)() {
                return Ok(None);
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    /// Says once that it waits, and since when.
    fn stand_by(&mut self, waits: &mut Option<Instant>, reason: &str) {
        if waits.is_none() {
            *waits = Some(Instant::now());
            tracing::info!(
                reason,
                "standby: another server has the store; this one takes over when the other has ended"
            );
            self.room.tell("standby: another server has the store".into());
            (self.stands_by)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use storage::memory::Memory;

    use super::*;

    fn taken() -> Failure {
        Failure::InUse("taken".into())
    }

    /// Begins with a store that is taken so many times, and is told to stop after so many looks. Returns the result, and how
    /// often the store was asked for.
    fn begun(standby: bool, taken_times: usize, looks: usize) -> (Result<Option<Life>, Failure>, usize, usize) {
        let (asked, looked, stood) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let room = WaitingRoom::open(Vec::new()).unwrap();
        let mut is_to_stop = || {
            looked.set(looked.get() + 1);
            looked.get() > looks
        };
        let mut stands_by = || stood.set(stood.get() + 1);
        let beginning = Beginning { standby, room: &room, is_to_stop: &mut is_to_stop, stands_by: &mut stands_by };
        let life = beginning.begin(|| {
            asked.set(asked.get() + 1);
            if asked.get() > taken_times { Ok(Arc::new(Memory::new())) } else { Err(taken()) }
        });
        (life, asked.get(), stood.get())
    }

    #[test]
    fn a_standby_waits_until_the_store_is_free_or_it_is_told_to_stop() {
        let (life, asked, stood) = begun(true, 2, 9);
        assert!(life.unwrap().is_some());
        assert_eq!((asked, stood), (3, 1), "it says so once");
        let (life, asked, stood) = begun(true, 99, 2);
        assert!(life.unwrap().is_none());
        assert_eq!((asked, stood), (3, 1));
    }

    #[test]
    fn a_server_that_is_no_standby_refuses_at_once() {
        let (life, asked, stood) = begun(false, 1, 9);
        assert_eq!(life.err(), Some(taken()));
        assert_eq!((asked, stood), (1, 0));
        assert!(begun(false, 0, 0).0.unwrap().is_some());
    }
}

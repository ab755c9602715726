//! Measures what many logouts cost an embedded store: the start that reads them, and the writes that wait while they
//! are removed. `bench -- logouts` measures the table in memory that shards ask: what a logout, a check of a token and
//! forgetting cost there.
//!
//!     cargo run --release -p gateway --example revocations -- 1000000

#![allow(clippy::unwrap_used, reason = "a failed step ends the measurement")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use engine::id::{Timestamp, UserId};
use gateway::revocations::Revocations;
use storage::account::Revocation;
use storage::bridge::{Bridge, Client};
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::{FORGOTTEN_AT_ONCE_MAX, Store, Write};
use uuid::Uuid;

/// How long a logout is kept: as long as refresh tokens are good by default.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
const NOW: Timestamp = Timestamp(1_000_000 * 1_000_000_000);
/// The time at which all logouts of this measurement may be removed.
const LATER: Timestamp = Timestamp(NOW.0 + 2 * LIFE.as_nanos() as i64);
/// Logouts that are made in one commit.
const MADE_AT_ONCE: u128 = 10_000;

fn main() {
    let count: u128 = std::env::args().nth(1).map_or(1_000_000, |count| count.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let open = || Embedded::open(directory.path(), &EmbeddedOptions::default()).unwrap();
    make(&open(), count);

    let begun = Instant::now();
    let store = Arc::new(open());
    let opened = begun.elapsed();
    let kept = store.revocations().unwrap();
    let read = begun.elapsed();
    let revocations = Revocations::new(LIFE, &kept, NOW);
    println!(
        "start with {} logouts: store open {opened:.2?}, read {read:.2?}, in memory {:.2?}",
        kept.len(),
        begun.elapsed()
    );
    drop(kept);

    let (bridge, _ends) = Bridge::start(store, 0).unwrap();
    let quiet = AtomicBool::new(false);
    let alone = thread::scope(|scope| {
        let writer = scope.spawn(|| longest_write(bridge.client(), &quiet));
        thread::sleep(Duration::from_secs(3));
        quiet.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    let forgotten = AtomicBool::new(false);
    let begun = Instant::now();
    let (beside, slices) = thread::scope(|scope| {
        let writer = scope.spawn(|| longest_write(bridge.client(), &forgotten));
        let slices = forget(&bridge.client(), &revocations);
        forgotten.store(true, Ordering::Relaxed);
        (writer.join().unwrap(), slices)
    });
    println!("forgotten in {slices} slices within {:.2?}", begun.elapsed());
    for (name, (writes, longest)) in [("alone", alone), ("beside the forgetting", beside)] {
        println!("other writes {name}: {writes}, the longest took {longest:.2?}");
    }
    bridge.stop().unwrap();
}

/// Makes `count` logouts. One in ten is a logout of all of a user's tokens.
fn make(store: &Embedded, count: u128) {
    let numbers: Vec<u128> = (0..count).collect();
    for some in numbers.chunks(MADE_AT_ONCE as usize) {
        let writes = some.iter().map(|&number| {
            let time = Timestamp(NOW.0 + number as i64);
            let revocation = match Uuid::new_v4() {
                id if number % 10 == 0 => Revocation::User { id: UserId(id), issued_before: time },
                id => Revocation::Token { id, expires: time },
            };
            Write::Revoke(revocation)
        });
        store.commit(&writes.collect::<Vec<_>>()).unwrap();
    }
    store.close().unwrap();
}

/// Removes expired logouts as the server does. Returns the number of slices.
fn forget(client: &Client, revocations: &Revocations) -> usize {
    let (expiry, mut place, mut slices) = (revocations.expiry(LATER), None, 0);
    loop {
        let (expired, next) = wait(client.expired_revocations(expiry, place, FORGOTTEN_AT_ONCE_MAX)).unwrap();
        if !expired.is_empty() {
            wait(client.forget_revocations(expired)).unwrap();
            slices += 1;
        }
        match next {
            Some(next) => place = Some(next),
            None => return slices,
        }
    }
}

/// Writes one record after another until it is told to stop. Returns how many it wrote, and how long the longest write
/// took.
fn longest_write(client: Client, stop: &AtomicBool) -> (usize, Duration) {
    let (mut writes, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let expires = Timestamp(LATER.0 + LIFE.as_nanos() as i64);
        wait(client.revoke(Revocation::Token { id: Uuid::new_v4(), expires })).unwrap();
        longest = longest.max(begun.elapsed());
        writes += 1;
    }
    (writes, longest)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<T>(asked: impl Future<Output = T>) -> T {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut asked = pin!(asked);
    loop {
        match asked.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

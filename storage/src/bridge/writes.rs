//! The queue of writes of HTTP handlers that wait for the committer.
//!
//! The users that ask share it, as they share the queue of reads (`reads.rs`): their writes take turns, and when there is
//! no room, the newest write of the user that has most waiting is refused; the writes have a bound in bytes, too. The
//! writes of one user stay in order. New accounts count as those of the network that asks for them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use engine::fair_queue::{FairQueue, Turns};
use parking_lot::Mutex;

use super::client_counts::ClientAnswer;
use super::reads::RequestedBy;
use super::write_bytes::bytes_of;
use crate::{Failure, Write};

/// A handler's write, and the channel for its answer.
pub struct ClientWrite {
    pub write: Write,
    pub answer: ClientAnswer,
}

/// Most bytes of the writes that wait. A write of storage objects alone may have 256 KiB, and its request has as much again
/// while it waits.
pub const WAITING_BYTES_MAX: usize = 16 << 20;

/// A write that waits.
struct Waiting {
    asker: RequestedBy,
    /// About the memory that it takes.
    bytes: usize,
    write: ClientWrite,
}

/// The handlers' end of the queue.
#[derive(Clone)]
pub struct WriteQueue(Arc<Mutex<State>>);

/// The committer's end. When it is dropped, what waits is dropped with its channels, and nothing more is taken.
pub struct WriteTaker(Arc<Mutex<State>>);

struct State {
    waiting: FairQueue<Turns<RequestedBy, VecDeque<Waiting>>>,
    /// Bytes of all that waits, and of each user's.
    bytes: usize,
    bytes_of: HashMap<RequestedBy, usize>,
    ended: bool,
}

impl State {
    /// Puts a write into the queue. Returns those that find no room.
    fn put(&mut self, waiting: Waiting) -> Vec<Waiting> {
        let (asker, bytes) = (waiting.asker, waiting.bytes);
        let mut displaced = Vec::new();
        while self.bytes + bytes > WAITING_BYTES_MAX {
            let own = self.bytes_of.get(&asker).copied().unwrap_or_default() + bytes;
            let heaviest = self.bytes_of.iter().max_by_key(|(_, bytes)| **bytes).filter(|(_, bytes)| **bytes > own);
            let heaviest = heaviest.map(|(asker, _)| *asker);
            match heaviest.and_then(|heaviest| self.waiting.take_newest(&heaviest)) {
                Some(newest) => displaced.push(self.without(newest)),
                None => {
                    displaced.push(waiting);
                    return displaced;
                }
            }
        }
        self.bytes += bytes;
        *self.bytes_of.entry(asker).or_default() += bytes;
        let without_place = self.waiting.put((asker, ()), waiting);
        displaced.extend(without_place.map(|write| self.without(write)));
        displaced
    }

    fn take(&mut self) -> Option<ClientWrite> {
        let taken = self.waiting.take()?;
        Some(self.without(taken).write)
    }

    /// This write waits no more.
    fn without(&mut self, waiting: Waiting) -> Waiting {
        let Waiting { asker, bytes, .. } = waiting;
        self.bytes -= bytes;
        if let Some(of_asker) = self.bytes_of.get_mut(&asker) {
            *of_asker -= bytes;
            if *of_asker == 0 {
                self.bytes_of.remove(&asker);
            }
        }
        waiting
    }
}

/// A queue with so many places.
pub fn write_queue(places: usize) -> (WriteQueue, WriteTaker) {
    let (waiting, bytes_of) = (FairQueue::new(places), HashMap::new());
    let state = Arc::new(Mutex::new(State { waiting, bytes: 0, bytes_of, ended: false }));
    (WriteQueue(state.clone()), WriteTaker(state))
}

impl WriteQueue {
    /// Puts a write behind those of the same user. If the queue is full, this write or the newest of the user that has
    /// most waiting is answered with [`Failure::Passing`]; if it has too many bytes, the newest ones of the user whose writes
    /// have most bytes are, or this one. A write that is put after the committer has ended is dropped with its channel.
    pub fn put(&self, asker: RequestedBy, write: ClientWrite) {
        let bytes = bytes_of(&write.write);
        let mut state = self.0.lock();
        if state.ended {
            return;
        }
        let displaced = state.put(Waiting { asker, bytes, write });
        drop(state);
        for Waiting { write, .. } in displaced {
            write.answer.give(Err(Failure::Passing("too many requests wait for the store".into())));
        }
    }

    /// About the memory of all writes that wait, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.lock().bytes
    }

    /// Answers all waiting writes with this failure: nothing of them will be done.
    pub fn refuse_all(&self, failure: &Failure) {
        loop {
            let taken = self.0.lock().take();
            let Some(write) = taken else { return };
            write.answer.give(Err(failure.clone()));
        }
    }
}

impl WriteTaker {
    /// Takes the oldest write of the user whose turn it is, if a write waits.
    pub fn take(&self) -> Option<ClientWrite> {
        self.0.lock().take()
    }
}

impl Drop for WriteTaker {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        while state.take().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use engine::id::{Timestamp, UserId};
    use uuid::Uuid;

    use super::*;
    use crate::Written;
    use crate::object::{ObjectCondition, ObjectVersion, ObjectWrite, ReadPermission, WritePermission};

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    /// Puts a write that names a user, and returns where its answer comes.
    fn put(queue: &WriteQueue, asker: RequestedBy, named: u128) -> flume::Receiver<Result<Written, Failure>> {
        let (answer, answered) = ClientAnswer::new(Arc::default());
        queue.put(asker, ClientWrite { write: Write::FinishAccountDeletion { user: user(named) }, answer });
        answered
    }

    fn named(taken: ClientWrite) -> u128 {
        match taken.write {
            Write::FinishAccountDeletion { user } => user.0.as_u128(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_user_with_most_writes_gives_way_to_others() {
        let (queue, taker) = write_queue(4);
        let flood: Vec<_> = (0..5).map(|number| put(&queue, user(1).into(), number)).collect();
        assert!(matches!(flood[4].try_recv(), Ok(Err(Failure::Passing(_)))), "its own share is all there is");
        let other = put(&queue, user(2).into(), 10);
        let nobody = put(&queue, RequestedBy::Server, 20);
        assert!(matches!(flood[3].try_recv(), Ok(Err(Failure::Passing(_)))), "the newest gives way");
        assert!(matches!(flood[2].try_recv(), Ok(Err(Failure::Passing(_)))));
        let taken: Vec<_> = std::iter::from_fn(|| taker.take()).map(named).collect();
        assert_eq!(taken, [0, 10, 20, 1], "users take turns, and a user's writes stay in order");
        for waiting in [&flood[0], &flood[1], &other, &nobody] {
            assert!(matches!(waiting.try_recv(), Err(flume::TryRecvError::Disconnected)), "it was taken, not refused");
        }
    }

    #[test]
    fn the_user_whose_writes_have_most_bytes_gives_way_to_others() {
        let (queue, taker) = write_queue(1000);
        let write = |asker: u128, bytes: usize| {
            let (answer, answered) = ClientAnswer::new(Arc::default());
            let object = ObjectWrite {
                collection: "c".into(),
                key: "k".into(),
                value: "x".repeat(bytes),
                version: ObjectVersion([0; 16]),
                condition: ObjectCondition::Anything,
                read: ReadPermission::Owner,
                write: WritePermission::Owner,
            };
            let write = Write::WriteObjects { owner: user(asker), objects: vec![object], time: Timestamp(1) };
            queue.put(user(asker).into(), ClientWrite { write, answer });
            answered
        };
        let is_refused = |answered: &flume::Receiver<_>| matches!(answered.try_recv(), Ok(Err(Failure::Passing(_))));
        let large = WAITING_BYTES_MAX / 8;
        let flood: Vec<_> = (0..9).map(|_| write(1, large)).collect();
        assert!(is_refused(&flood[7]) && is_refused(&flood[8]), "eight have no room with what they take beside");
        let small: Vec<_> = (2..200).map(|asker| write(asker, 50 * 1024)).collect();
        assert!(small.iter().all(|answered| !is_refused(answered)), "a user with less has room");
        assert!(!is_refused(&flood[0]) && is_refused(&flood[6]), "the newest give way");
        assert!(queue.bytes() <= WAITING_BYTES_MAX);
        while taker.take().is_some() {}
        assert_eq!((queue.bytes(), queue.0.lock().bytes_of.len()), (0, 0));
    }

    #[test]
    fn when_the_committer_has_ended_waiting_handlers_learn_it() {
        let (queue, taker) = write_queue(4);
        let before = put(&queue, RequestedBy::Server, 1);
        drop(taker);
        let after = put(&queue, RequestedBy::Server, 2);
        for answered in [before, after] {
            assert!(matches!(answered.try_recv(), Err(flume::TryRecvError::Disconnected)));
        }
    }
}

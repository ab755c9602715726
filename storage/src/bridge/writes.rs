//! The queue of writes of HTTP handlers that wait for the committer.
//!
//! The users that ask share it, as they share the queue of reads (`reads.rs`): their writes take turns, and when there is
//! no room, the newest write of the user that has most waiting is refused. The writes of one user stay in order. New accounts
//! count as those of the network that asks for them.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::fair_queue::{FairQueue, Turns};
use parking_lot::Mutex;

use super::client_counts::ClientAnswer;
use super::reads::RequestedBy;
use crate::{Failure, Write};

/// A handler's write, and the channel for its answer.
pub struct ClientWrite {
    pub write: Write,
    pub answer: ClientAnswer,
}

type Waiting = FairQueue<Turns<RequestedBy, VecDeque<ClientWrite>>>;

/// The handlers' end of the queue.
#[derive(Clone)]
pub struct WriteQueue(Arc<Mutex<State>>);

/// The committer's end. When it is dropped, what waits is dropped with its channels, and nothing more is taken.
pub struct WriteTaker(Arc<Mutex<State>>);

struct State {
    waiting: Waiting,
    ended: bool,
}

/// A queue with so many places.
pub fn write_queue(places: usize) -> (WriteQueue, WriteTaker) {
    let state = Arc::new(Mutex::new(State { waiting: Waiting::new(places), ended: false }));
    (WriteQueue(state.clone()), WriteTaker(state))
}

impl WriteQueue {
    /// Puts a write behind those of the same user. If the queue is full, this write or the newest of the user that has
    /// most waiting is answered with [`Failure::Passing`]. A write that is put after the committer has ended is dropped
    /// with its channel.
    pub fn put(&self, asker: RequestedBy, write: ClientWrite) {
        let mut state = self.0.lock();
        if state.ended {
            return;
        }
        let displaced = state.waiting.put((asker, ()), write);
        drop(state);
        if let Some(displaced) = displaced {
            displaced.answer.give(Err(Failure::Passing("too many requests wait for the store".into())));
        }
    }

    /// Answers all waiting writes with this failure: nothing of them will be done.
    pub fn refuse_all(&self, failure: &Failure) {
        loop {
            let taken = self.0.lock().waiting.take();
            let Some(write) = taken else { return };
            write.answer.give(Err(failure.clone()));
        }
    }
}

impl WriteTaker {
    /// Takes the oldest write of the user whose turn it is, if a write waits.
    pub fn take(&self) -> Option<ClientWrite> {
        self.0.lock().waiting.take()
    }
}

impl Drop for WriteTaker {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        while state.waiting.take().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use engine::id::UserId;
    use uuid::Uuid;

    use super::*;
    use crate::Written;

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

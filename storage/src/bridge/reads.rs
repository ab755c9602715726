//! The queue of queries that wait for a reader.
//!
//! The users that ask share it: their queries take turns, whatever a user has waiting. Nothing is refused while there is
//! room. When there is none, the user that has most waiting gives way, so one user fills no more than its share. Clients
//! that sign in share it by network, as if each network were a user. Queries of the server itself count as those of one more
//! user.
//!
//! A page in memory is large, and its asker takes it when it comes to it: so while many answers are not taken, readers answer
//! no further client.
//!
//! The questions of shards have places of their own, as many as the shards may have in flight, so none of them is
//! refused. They and the queries of clients take turns, too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use engine::fair_queue::{FairQueue, Turns};
use engine::id::{NetworkKey, UserId};
use engine::persist::StoreQuestion;
use parking_lot::{Condvar, Mutex};

use super::Read;

/// Queries of clients that may wait. At some 100 µs a page this is a twentieth of a second for two readers.
pub const READS_MAX: usize = 1024;

/// Answers to clients of a shard that it has not taken yet, beyond which readers wait: some 26 MB if each has the longest
/// profiles of a thousand users (1.6 MB), and 6 MB if each is a page of the hundred longest messages.
pub const UNTAKEN_MAX: usize = 16;

/// For whom a request is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestedBy {
    /// The server itself.
    Server,
    User(UserId),
    /// A client that has not signed in yet.
    Network(NetworkKey),
}

impl From<UserId> for RequestedBy {
    fn from(user: UserId) -> Self {
        Self::User(user)
    }
}

impl From<NetworkKey> for RequestedBy {
    fn from(network: NetworkKey) -> Self {
        Self::Network(network)
    }
}

/// The deadline of a query, and a number that no other query has.
pub type QueryKey = (Instant, u64);

/// A query that waits.
pub struct WaitingRead {
    pub key: QueryKey,
    pub read: Read,
}

type Queries = FairQueue<Turns<RequestedBy, VecDeque<WaitingRead>>>;

/// See the file's head.
pub struct ReadQueue {
    state: Mutex<State>,
    /// Wakes a reader.
    changed: Condvar,
}

struct State {
    clients: Queries,
    shards: Queries,
    /// Whether it is the shards' turn.
    shards_turn: bool,
    /// Answers that clients have not taken yet.
    untaken: usize,
    untaken_max: usize,
    ended: bool,
}

/// An answer that its client has not taken yet. It is taken when this is dropped.
pub struct Untaken(Arc<ReadQueue>);

impl Untaken {
    /// Counts an answer.
    pub fn new(queue: Arc<ReadQueue>) -> Self {
        queue.state.lock().untaken += 1;
        Self(queue)
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.untaken -= 1;
        let readers_waited = state.untaken + 1 == state.untaken_max;
        drop(state);
        if readers_waited {
            self.0.changed.notify_all();
        }
    }
}

impl ReadQueue {
    /// An empty queue, in which so many questions of shards may wait. So many answers to clients may be untaken.
    pub fn new(questions_max: usize, untaken_max: usize) -> Self {
        let [clients, shards] = [READS_MAX, questions_max.max(1)].map(Queries::new);
        let state = State { clients, shards, shards_turn: false, untaken: 0, untaken_max, ended: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Puts a client's query behind those of the same user. Returns the query that finds no place, if the queue is full:
    /// this one, or the newest of the user that has most waiting.
    #[must_use]
    pub fn put(&self, asker: RequestedBy, read: WaitingRead) -> Option<WaitingRead> {
        let displaced = self.state.lock().clients.put((asker, ()), read);
        self.changed.notify_one();
        displaced
    }

    /// Puts a shard's question behind those for the same user.
    pub fn put_question(&self, asker: RequestedBy, read: WaitingRead) {
        let displaced = self.state.lock().shards.put((asker, ()), read);
        assert!(displaced.is_none(), "a shard has more questions under way than it may");
        self.changed.notify_one();
    }

    /// Waits for the query whose turn it is. Returns `None` when the queue is ended and empty.
    pub fn take(&self) -> Option<Read> {
        let mut state = self.state.lock();
        loop {
            if let Some(waiting) = state.take() {
                return Some(waiting.read);
            }
            if state.ended {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Lets the readers end when they have answered what waits.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Drops what waits, when no reader is left.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        while state.take().is_some() {}
    }
}

impl State {
    fn take(&mut self) -> Option<WaitingRead> {
        if self.untaken >= self.untaken_max && !self.ended {
            return self.shards.take();
        }
        self.shards_turn = !self.shards_turn;
        let (first, second) = if self.shards_turn {
            (&mut self.shards, &mut self.clients)
        } else {
            (&mut self.clients, &mut self.shards)
        };
        first.take().or_else(|| second.take())
    }
}

/// The user for whom a shard asks a question, or the server for what concerns a channel.
pub fn asker_of(question: &StoreQuestion) -> RequestedBy {
    match question {
        StoreQuestion::Head { .. } | StoreQuestion::Newest { .. } => RequestedBy::Server,
        StoreQuestion::MayJoinGroup { user, .. } | StoreQuestion::MayJoinDirect { user, .. } => {
            RequestedBy::User(*user)
        }
        StoreQuestion::Users { follower, .. } => RequestedBy::User(*follower),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::memory::Memory;

    /// Puts queries that tell their names, takes them all, and returns the names in the order of their turns.
    struct Told {
        queue: ReadQueue,
        names: flume::Sender<String>,
        told: flume::Receiver<String>,
    }

    impl Told {
        fn new(questions_max: usize) -> Self {
            let (names, told) = flume::unbounded();
            Self { queue: ReadQueue::new(questions_max, 1), names, told }
        }

        fn read(&self, name: String) -> WaitingRead {
            let names = self.names.clone();
            WaitingRead { key: (Instant::now(), 0), read: Box::new(move |_| names.send(name).unwrap()) }
        }

        /// The name of the query that found no place.
        fn put(&self, user: u128, number: usize) -> Option<String> {
            let displaced =
                self.queue.put(UserId(Uuid::from_u128(user)).into(), self.read(format!("{user}.{number}")))?;
            (displaced.read)(&Memory::new());
            Some(self.told.recv().unwrap())
        }

        fn taken(&self) -> Vec<String> {
            self.queue.end();
            while let Some(read) = self.queue.take() {
                read(&Memory::new());
            }
            self.told.try_iter().collect()
        }
    }

    #[test]
    fn the_user_who_fills_the_queue_gives_way_to_others() {
        let told = Told::new(0);
        for number in 0..READS_MAX {
            assert_eq!(told.put(1, number), None, "there is room");
        }
        assert_eq!(told.put(1, READS_MAX), Some(format!("1.{READS_MAX}")), "its own share is all there is");
        for number in 0..3 {
            assert_eq!(told.put(2, number), Some(format!("1.{}", READS_MAX - 1 - number)));
        }
        let taken = told.taken();
        assert_eq!(taken.len(), READS_MAX);
        assert_eq!(taken[..7], ["1.0", "2.0", "1.1", "2.1", "1.2", "2.2", "1.3"]);
    }

    #[test]
    fn questions_of_shards_have_places_of_their_own() {
        let told = Told::new(2);
        for number in 0..READS_MAX {
            assert_eq!(told.put(1, number), None);
        }
        for number in 0..2 {
            told.queue.put_question(RequestedBy::Server, told.read(format!("shard.{number}")));
        }
        let taken = told.taken();
        assert_eq!(taken[..4], ["shard.0", "1.0", "shard.1", "1.1"]);
        assert_eq!(taken.len(), READS_MAX + 2);
    }

    #[test]
    fn readers_wait_while_many_answers_are_not_taken_and_answer_shards_meanwhile() {
        let queue = Arc::new(ReadQueue::new(1, 2));
        let read = || WaitingRead { key: (Instant::now(), 0), read: Box::new(|_| ()) };
        let mut untaken = vec![Untaken::new(queue.clone()), Untaken::new(queue.clone())];
        assert!(queue.put(RequestedBy::Server, read()).is_none());
        queue.put_question(RequestedBy::Server, read());
        assert!(queue.take().is_some(), "the shard's question");
        assert!(queue.state.lock().take().is_none(), "the client's query waits");
        let reader = std::thread::spawn({
            let queue = queue.clone();
            move || queue.take().is_some()
        });
        untaken.pop();
        assert!(reader.join().unwrap());
        assert!(queue.put(RequestedBy::Server, read()).is_none());
        untaken.push(Untaken::new(queue.clone()));
        queue.end();
        assert!(queue.take().is_some(), "at the end all are answered");
        assert!(queue.take().is_none());
    }

    #[test]
    fn a_reader_that_waits_is_woken() {
        let queue = Arc::new(ReadQueue::new(1, 1));
        let reader = std::thread::spawn({
            let queue = queue.clone();
            move || queue.take().is_some()
        });
        assert!(
            queue.put(RequestedBy::Server, WaitingRead { key: (Instant::now(), 0), read: Box::new(|_| ()) }).is_none()
        );
        assert!(reader.join().unwrap());
        queue.end();
        assert!(queue.take().is_none());
    }
}

//! Limits how long a caller waits for an answer from the store's readers. A query that is not answered in time is
//! refused, whether it is still in the queue or a reader is stuck in the store with it. Each caller gets exactly one
//! answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Line;
use super::reads::{QueryKey, ReadQueue, RequestedBy, Untaken, WaitingRead};
use crate::{Failure, Store};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Puts queries into the readers' queue, and refuses each that is not answered within `patience`. Each client of the
/// bridge and the committer have a clone.
#[derive(Clone)]
pub(super) struct QuerySender {
    line: Arc<Line>,
    reads: Arc<ReadQueue>,
    waiting: Arc<Waiting>,
    patience: Duration,
}

/// All callers that wait: those whose queries are in the readers' queue, and those whose queries a reader is working
/// on.
#[derive(Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    all: BTreeMap<QueryKey, Refuse>,
    next: u64,
    ended: bool,
}

type Refuse = Box<dyn FnOnce(Failure) + Send>;

impl QuerySender {
    /// A sender whose queries are refused when they have waited for longer than `patience`.
    pub fn new(line: Arc<Line>, reads: Arc<ReadQueue>, waiting: Arc<Waiting>, patience: Duration) -> Self {
        Self { line, reads, waiting, patience }
    }

    /// Lets a reader answer a client's query. The answer counts until its `Untaken` is dropped. If the queue is full, the newest query of the user that has most waiting
    /// is refused.
    pub fn ask<T: 'static>(
        &self,
        asker: RequestedBy,
        question: impl FnOnce(&dyn Store) -> Result<T, Failure> + Send + 'static,
        answer: impl Fn(Result<(T, Untaken), Failure>) + Clone + Send + 'static,
    ) {
        let reads = self.reads.clone();
        let question = move |store: &dyn Store| question(store).map(|found| (found, Untaken::new(reads)));
        if let Some(displaced) = self.reads.put(asker, self.query(question, answer)) {
            let reason = "too many requests of one user wait for the store";
            self.waiting.refuse(displaced.key, Failure::Passing(reason.into()));
        }
    }

    /// Lets a reader answer a shard's question, which is never refused.
    pub fn ask_for_shard<T: 'static>(
        &self,
        asker: RequestedBy,
        question: impl FnOnce(&dyn Store) -> Result<T, Failure> + Send + 'static,
        answer: impl Fn(Result<T, Failure>) + Clone + Send + 'static,
    ) {
        self.reads.put_question(asker, self.query(question, answer));
    }

    fn query<T: 'static>(
        &self,
        question: impl FnOnce(&dyn Store) -> Result<T, Failure> + Send + 'static,
        answer: impl Fn(Result<T, Failure>) + Clone + Send + 'static,
    ) -> WaitingRead {
        let deadline = Instant::now() + self.patience;
        let refuse = answer.clone();
        let key = self.waiting.enter(deadline, Box::new(move |failure| refuse(Err(failure))));
        let (line, waiting) = (self.line.clone(), self.waiting.clone());
        let read = move |store: &dyn Store| {
            if !waiting.has(key) {
                return;
            }
            let view = store.until(deadline);
            let found = line.check().and_then(|()| question(view.as_deref().unwrap_or(store)));
            if let Err(failure) = &found {
                line.note(failure);
            }
            if waiting.leave(key) {
                answer(found);
            }
        };
        WaitingRead { key, read: Box::new(read) }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn enter(&self, deadline: Instant, refuse: Refuse) -> QueryKey {
        let mut state = self.lock();
        let key = (deadline, state.next);
        state.next += 1;
        let former = state.all.insert(key, refuse);
        assert!(former.is_none(), "each query has a key of its own");
        if state.all.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.changed.notify_one();
        }
        key
    }

    fn has(&self, key: QueryKey) -> bool {
        self.lock().all.contains_key(&key)
    }

    /// Returns false if the query has already been refused.
    fn leave(&self, key: QueryKey) -> bool {
        self.lock().all.remove(&key).is_some()
    }

    /// Refuses a query, unless it is answered or refused already.
    fn refuse(&self, key: QueryKey, failure: Failure) {
        let refuse = self.lock().all.remove(&key);
        if let Some(refuse) = refuse {
            refuse(failure);
        }
    }

    /// Refuses queries whose deadline has passed, until `end` is called.
    pub fn watch(&self) {
        let mut state = self.lock();
        while !state.ended {
            let now = Instant::now();
            let first = state.all.first_key_value().map(|((deadline, _), _)| *deadline);
            match first {
                Some(deadline) if deadline <= now => {
                    let over = state.all.pop_first();
                    drop(state);
                    if let Some((_, refuse)) = over {
                        refuse(Failure::Passing("the store has not answered in time".into()));
                    }
                    state = self.lock();
                }
                Some(deadline) => {
                    self.changed.wait_for(&mut state, deadline - now);
                }
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Drops all waiting callers' answers: they learn that no answer will come.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.all.clear();
        self.changed.notify_one();
    }
}

//! Whoever waits for an answer of the store's readers, and for how long: what is not answered in time is refused, whether it
//! still stands in the queue or the store is at it and does not come back. Each is told once.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Line, Read};
use crate::{Failure, Store};

/// The way to the readers.
#[derive(Clone)]
pub(super) struct Desk {
    line: Arc<Line>,
    reads: flume::Sender<Option<Read>>,
    waiting: Arc<Waiting>,
    patience: Duration,
}

/// All who wait: as many as find room in the readers' queue, and those whom a reader is at.
#[derive(Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By the time when each has waited long enough.
    all: BTreeMap<Place, Refuse>,
    next: u64,
    ended: bool,
}

type Place = (Instant, u64);
type Refuse = Box<dyn FnOnce(Failure) + Send>;

impl Desk {
    pub fn new(line: Arc<Line>, reads: flume::Sender<Option<Read>>, waiting: Arc<Waiting>, patience: Duration) -> Self {
        Self { line, reads, waiting, patience }
    }

    /// Has a reader answer a question. Where there is no room for it, it is given back.
    pub fn ask<T: 'static>(
        &self,
        question: impl FnOnce(&dyn Store) -> Result<T, Failure> + Send + 'static,
        answer: impl Fn(Result<T, Failure>) + Clone + Send + 'static,
    ) -> Result<(), flume::TrySendError<Unasked>> {
        let deadline = Instant::now() + self.patience;
        let refuse = answer.clone();
        let place = self.waiting.enter(deadline, Box::new(move |failure| refuse(Err(failure))));
        let (line, waiting) = (self.line.clone(), self.waiting.clone());
        let read = move |store: &dyn Store| {
            if !waiting.has(place) {
                return;
            }
            let view = store.until(deadline);
            let found = line.check().and_then(|()| question(view.as_deref().unwrap_or(store)));
            if let Err(failure) = &found {
                line.note(failure);
            }
            if waiting.leave(place) {
                answer(found);
            }
        };
        self.reads.try_send(Some(Box::new(read))).map_err(|error| match error {
            flume::TrySendError::Full(read) => flume::TrySendError::Full(self.unasked(place, read)),
            flume::TrySendError::Disconnected(read) => flume::TrySendError::Disconnected(self.unasked(place, read)),
        })
    }

    fn unasked(&self, place: Place, read: Option<Read>) -> Unasked {
        Unasked { waiting: self.waiting.clone(), place, read }
    }
}

/// A question for which there was no room: asked here after all, or forgotten.
pub(super) struct Unasked {
    waiting: Arc<Waiting>,
    place: Place,
    read: Option<Read>,
}

impl Unasked {
    pub fn ask(mut self, store: &dyn Store) {
        if let Some(read) = self.read.take() {
            read(store);
        }
    }
}

impl Drop for Unasked {
    fn drop(&mut self) {
        self.waiting.leave(self.place);
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, deadline: Instant, refuse: Refuse) -> Place {
        let mut state = self.lock();
        let place = (deadline, state.next);
        state.next += 1;
        state.all.insert(place, refuse);
        if state.all.first_key_value().is_some_and(|(first, _)| *first == place) {
            self.changed.notify_one();
        }
        place
    }

    fn has(&self, place: Place) -> bool {
        self.lock().all.contains_key(&place)
    }

    /// False if it has been refused.
    fn leave(&self, place: Place) -> bool {
        self.lock().all.remove(&place).is_some()
    }

    /// Refuses those whose time is over, until the end.
    pub fn watch(&self) {
        let mut state = self.lock();
        while !state.ended {
            let now = Instant::now();
            let first = state.all.first_key_value().map(|((deadline, _), _)| *deadline);
            state = match first {
                Some(deadline) if deadline <= now => {
                    let over = state.all.pop_first();
                    drop(state);
                    if let Some((_, refuse)) = over {
                        refuse(Failure::Passing("the store has not answered in time".into()));
                    }
                    self.lock()
                }
                Some(deadline) => {
                    self.changed.wait_timeout(state, deadline - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Whoever waits now hears that nobody answers any more.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.all.clear();
        self.changed.notify_one();
    }
}

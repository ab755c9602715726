//! One worker's part of reading a history: pages are requested in an open loop, and each is compared with what it must
//! hold.
//!
//! A read never waits for the read before it. It is requested at its intended time, and its latency counts from that
//! time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::base::clock;
use crate::checks::figures::Figures;
use crate::checks::known_pages::{self, KnownPage, PageKind};
use crate::clients::connect_window::admit;
use crate::clients::pages::{self, Direction};
use crate::clients::sign_in::{FrontDoor, SignInError};
use crate::clients::thread_users::{OTHER_USERS, Share, ThreadUsers};
use crate::costs::recorder::Recorder;
use crate::orders::history_reads::{Fetched, Reading};
use crate::orders::{Order, Word};
use crate::plan::draws::Draws;
use crate::plan::timetable::Timetable;
use crate::wire::history_page::Item;

/// The purpose for which reads are drawn.
const READS: u64 = 40;
/// How many reads may be queued but not started. With more, the timekeeper waits, and the wait counts as its lateness.
const READS_IN_LINE_MAX: usize = 4_096;

/// The readers of one thread: they sign in, read at the intended times, and wait for the reads still under way.
pub struct PageReaders {
    readers: Rc<Readers>,
    under_way: JoinSet<()>,
}

impl PageReaders {
    pub fn new(reading: Arc<Reading>, share: Share) -> Self {
        Self { readers: Rc::new(Readers::new(reading, share)), under_way: JoinSet::new() }
    }
}

impl ThreadUsers for PageReaders {
    async fn obey(&mut self, order: &Order) -> Result<Option<Word>, String> {
        match order {
            Order::Read(_) => self.readers.sign_in().await.map(Some),
            Order::Begin { start_ns } => {
                let due = self.readers.begin(*start_ns);
                self.under_way.spawn_local(self.readers.clone().read_all(due));
                Ok(None)
            }
            Order::Stop => {
                while self.under_way.join_next().await.is_some() {}
                Ok(Some(self.readers.count()))
            }
            Order::SignIn(_) | Order::Hold(_) | Order::Join | Order::Tally { .. } => Err(OTHER_USERS.to_owned()),
        }
    }
}

struct Readers {
    reading: Arc<Reading>,
    /// The readers of this thread.
    users: Vec<u32>,
    places: Arc<Semaphore>,
    door: FrontDoor,
    recorder: Rc<Recorder>,
    by_kind: HashMap<PageKind, Vec<usize>>,
    tokens: RefCell<Vec<Rc<str>>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    start_ns: u64,
    window: Range<u64>,
    fetched: Fetched,
}

/// A read that is due now.
#[derive(Clone, Copy)]
struct Due {
    read: u64,
    /// The reader's place in this thread.
    reader: usize,
    intended_ns: u64,
}

impl Readers {
    fn new(reading: Arc<Reading>, share: Share) -> Self {
        let mut by_kind: HashMap<PageKind, Vec<usize>> = HashMap::new();
        for (at, page) in reading.pages.iter().enumerate() {
            by_kind.entry(page.kind).or_default().push(at);
        }
        // The coordinator has read the newest page, empty or not, before it orders reads.
        assert!(by_kind.contains_key(&PageKind::Newest), "the newest page is known");
        let target = &reading.target;
        Self {
            door: FrontDoor::new(target.server, target.sign_in, &target.server_key),
            places: Arc::new(Semaphore::new(share.part_of(reading.in_flight))),
            tokens: RefCell::new(vec![Rc::from(""); share.users.len()]),
            users: share.users,
            recorder: share.recorder,
            state: RefCell::default(),
            by_kind,
            reading,
        }
    }

    async fn sign_in(&self) -> Result<Word, String> {
        let work = async |at: usize| {
            let token = self.token(self.users[at]).await?;
            self.tokens.borrow_mut()[at] = token;
            self.recorder.gauges().signed_in.bump();
            Ok::<(), SignInError>(())
        };
        let admitted = admit(self.users.len(), self.users.len(), work, SignInError::may_pass).await;
        match admitted.failed.first() {
            None => Ok(Word::SignedIn),
            Some((at, Some(error))) => Err(format!("user {}: {error}", self.users[*at])),
            Some((at, None)) => Err(format!("user {} was not let in", self.users[*at])),
        }
    }

    async fn token(&self, user: u32) -> Result<Rc<str>, SignInError> {
        let id = format!("{}{user:08}", self.reading.target.account_prefix);
        Ok(self.door.sign_in(&id).await?.into())
    }

    /// Starts the measuring. The reads of this thread come from the channel when they are due.
    fn begin(&self, start_ns: u64) -> mpsc::Receiver<Due> {
        let Timetable { warmup_ns, end_ns, .. } = self.reading.timetable;
        let window = start_ns + warmup_ns..start_ns + end_ns;
        self.recorder.begin(window.clone());
        let state = &mut *self.state.borrow_mut();
        (state.start_ns, state.window) = (start_ns, window);
        let (due_in, due) = mpsc::channel(READS_IN_LINE_MAX);
        let (reading, users) = (self.reading.clone(), self.users.clone());
        // A thread of its own, because the kernel's timer is far finer than the runtime's. The thread is not joined: it
        // ends when its receiver is dropped.
        std::thread::spawn(move || keep_time(&reading, &users, start_ns, &due_in));
        due
    }

    async fn read_all(self: Rc<Self>, mut due: mpsc::Receiver<Due>) {
        let mut under_way = JoinSet::new();
        while let Some(due) = due.recv().await {
            // If too many reads are under way, reads wait here, and the wait counts in their latency.
            let Ok(place) = self.places.clone().acquire_owned().await else { break };
            let readers = self.clone();
            under_way.spawn_local(async move {
                readers.read(due).await;
                drop(place);
            });
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn read(&self, due: Due) {
        let asked_ns = clock::now_ns();
        let known = &self.reading.pages[self.draw(due.read)];
        {
            let state = &mut *self.state.borrow_mut();
            state.fetched.asked += 1;
            if due.intended_ns >= state.window.start {
                state.fetched.lateness.record_ns(asked_ns.saturating_sub(due.intended_ns));
            }
        }
        self.recorder.turn(asked_ns);
        self.recorder.sent_late_by(asked_ns.saturating_sub(due.intended_ns));
        self.recorder.gauges().sent.bump();
        let page = self.page(due.reader, known).await;
        let answered_ns = clock::now_ns();
        self.recorder.turn(answered_ns);
        let state = &mut *self.state.borrow_mut();
        match page {
            Ok(items) => {
                self.recorder.gauges().accepted.bump();
                state.fetched.answered += 1;
                let Fetched { asked, answered, refused, failed, .. } = &state.fetched;
                assert!(answered + refused + failed <= *asked, "{asked} reads have {answered} answers");
                state.fetched.items += items.len() as u64;
                state.fetched.answered_in_window += u64::from(state.window.contains(&answered_ns));
                let latency_ns = answered_ns.saturating_sub(due.intended_ns);
                self.recorder.delivered(std::iter::once(latency_ns));
                self.recorder.gauges().delivered.bump();
                if due.intended_ns >= state.window.start {
                    state.fetched.latencies.entry(known.kind).or_default().record_ns(latency_ns);
                }
                self.judge(&mut state.fetched, known, &items);
            }
            Err(error) => {
                self.recorder.gauges().refused.bump();
                match error {
                    SignInError::Refused { .. } => state.fetched.refused += 1,
                    _ => state.fetched.failed += 1,
                }
                state.fetched.samples.put(|| format!("a read of the {}: {error}", known.kind.latency()));
            }
        }
    }

    fn judge(&self, fetched: &mut Fetched, known: &KnownPage, items: &[Item]) {
        if known_pages::digest(items) == known.digest {
            return;
        }
        self.recorder.gauges().faults.bump();
        fetched.wrong += 1;
        fetched.corrupt += known_pages::corrupt_items(items, self.reading.run);
        fetched.samples.put(|| {
            let first = items.first().map_or("none", |item| item.message_id.as_str());
            let (name, held, there) = (known.kind.latency(), known.items, items.len());
            format!("the {name} held {there} items, the first {first}, and not the {held} it held before")
        });
    }

    /// Which page a read is of. The result is the same for every reader.
    fn draw(&self, read: u64) -> usize {
        let mut draws = Draws::new(self.reading.seed, READS, read);
        let deep: Vec<&PageKind> = PageKind::ALL[1..].iter().filter(|kind| self.by_kind.contains_key(kind)).collect();
        let newest = draws.fraction() < self.reading.newest || deep.is_empty();
        let kind = if newest { PageKind::Newest } else { *deep[draws.below(deep.len() as u64) as usize] };
        let pages = &self.by_kind[&kind];
        pages[draws.below(pages.len() as u64) as usize]
    }

    async fn page(&self, reader: usize, known: &KnownPage) -> Result<Vec<Item>, SignInError> {
        let direction = if known.forward { Direction::OldestFirst } else { Direction::NewestFirst };
        let Reading { channel_id, limit, .. } = &*self.reading;
        let token = self.tokens.borrow()[reader].clone();
        let page = match pages::read(&self.door, &token, channel_id, direction, *limit, &known.cursor).await {
            Err(error) if pages::is_expired(&error) => {
                let token = self.token(self.users[reader]).await?;
                self.tokens.borrow_mut()[reader] = token.clone();
                pages::read(&self.door, &token, channel_id, direction, *limit, &known.cursor).await
            }
            other => other,
        };
        Ok(page?.messages)
    }

    fn count(&self) -> Word {
        let mut figures = Figures::default();
        self.recorder.account(&mut figures);
        let mut fetched = self.state.borrow().fetched.clone();
        (fetched.lag, fetched.threads) = (figures.lag, figures.threads);
        Word::Fetched(Box::new(fetched))
    }
}

/// Queues each read at its time.
fn keep_time(reading: &Reading, users: &[u32], start_ns: u64, due: &mpsc::Sender<Due>) {
    let total = u64::from(reading.readers_total);
    assert!(users.iter().all(|user| (1..=total).contains(&u64::from(*user))), "readers are numbered from 1");
    for round in 0..reading.timetable.reads().div_ceil(total) {
        for (reader, user) in users.iter().enumerate() {
            let read = round * total + u64::from(*user - 1);
            if read >= reading.timetable.reads() {
                continue;
            }
            let intended_ns = start_ns + reading.timetable.due_ns(read);
            clock::sleep_until(intended_ns);
            if due.blocking_send(Due { read, reader, intended_ns }).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;

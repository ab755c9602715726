//! How many HTTP requests of a shard begin between two of its turns, and which.
//!
//! The tasks of HTTP connections run between the turns, all that are ready, one after the other. A request that costs
//! its client nothing costs the shard some microseconds, and thousands of connections can have many such requests ready
//! at once. So a connection asks here before it looks at the head of a request. Beyond `REQUESTS_TURN_MAX` it waits for
//! one of the next turns, and the sessions have their turn before it. A request that has come before the answer to the
//! one before it always waits, so that a connection begins one request each time it is polled.
//!
//! Bytes count, too. A connection that is let in may read `READ_BYTES_TURN_MAX` bytes. To read more, of a body or of
//! anything else, it waits for a next turn as a request does. Without this, a connection whose client sends as
//! fast as the server reads would be ready all the time, and glommio looks at no other input while a task is ready.
//!
//! Clients share the turns by site. The requests that wait are ordered in rounds, and each site has one request in a
//! round: so a request waits for one of each other site, and for those that wait before it from its own site. Connections
//! from one proxy are of one site here, because the clients behind it are known only from the heads of requests.
//!
//! Bounded by the number of HTTP connections of a shard, each of which waits once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use runtime::bell::Bell;

use crate::client_network::ClientSite;

/// Requests that begin between two turns: some milliseconds of work, or as much as a turn reads (`TURN_WORK_MAX`) if each
/// asks for a long page. Fewer would keep HTTP clients waiting while turns are long.
pub const REQUESTS_TURN_MAX: usize = 64;

/// Bytes that a connection reads each time it is let in: nearly every request comes with fewer. So a shard reads a
/// megabyte between two turns at most, which takes it a few milliseconds.
pub const READ_BYTES_TURN_MAX: usize = 16 << 10;

/// Lets the requests of a shard's connections begin.
#[derive(Default)]
pub struct RequestTurns {
    /// Requests that were let in since the last turn began, or before it and have not begun.
    let_in: Cell<usize>,
    /// Those of them that were waiting and have not begun.
    granted: Cell<usize>,
    waiting: RefCell<Waiting>,
    bell: Bell,
    /// The number of the turn.
    turn: Cell<u64>,
}

/// The connections that wait.
#[derive(Default)]
struct Waiting {
    places: BTreeMap<Number, Rc<Place>>,
    /// The round of the request that was let in last.
    round: u64,
    asked: u64,
    /// The sites of the requests that wait.
    sites: HashMap<ClientSite, Line>,
}

/// What decides when a request is let in: first its round, and within the round the order of asking.
type Number = (u64, u64);

/// The requests of one site that wait, and the round of the newest.
struct Line {
    requests: usize,
    round: u64,
}

impl Waiting {
    fn put(&mut self, place: Rc<Place>) -> Number {
        let line = self.sites.entry(place.site).or_insert(Line { requests: 0, round: self.round });
        line.requests += 1;
        line.round = line.round.max(self.round) + 1;
        let number = (line.round, self.asked);
        self.asked += 1;
        self.places.insert(number, place);
        number
    }

    fn take(&mut self) -> Option<Rc<Place>> {
        let (number, place) = self.places.pop_first()?;
        debug_assert!(number.0 >= self.round, "round {} after round {}", number.0, self.round);
        self.round = number.0;
        self.end(place.site);
        Some(place)
    }

    fn remove(&mut self, number: Number) {
        if let Some(place) = self.places.remove(&number) {
            self.end(place.site);
        }
    }

    fn end(&mut self, site: ClientSite) {
        if let Some(line) = self.sites.get_mut(&site) {
            line.requests -= 1;
            if line.requests == 0 {
                self.sites.remove(&site);
            }
        }
    }
}

/// A connection among those whose requests begin in turn.
pub struct Beginner {
    turns: Rc<RequestTurns>,
    place: Rc<Place>,
}

struct Place {
    site: ClientSite,
    standing: Cell<Standing>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Standing {
    /// No request of the connection waits.
    #[default]
    Absent,
    /// It waits under this number.
    Waiting(Number),
    /// It may begin, and counts already.
    Granted,
}

impl RequestTurns {
    /// Begins a turn: lets the first of the waiting requests begin. Returns whether others still wait.
    pub fn begin_turn(&self) -> bool {
        self.turn.set(self.turn.get() + 1);
        // A connection whose task has not run since the last turn keeps its place.
        let mut let_in = self.granted.get();
        let mut waiting = self.waiting.borrow_mut();
        while let_in < REQUESTS_TURN_MAX
            && let Some(place) = waiting.take()
        {
            place.standing.set(Standing::Granted);
            self.granted.set(self.granted.get() + 1);
            let_in += 1;
            if let Some(waker) = place.waker.borrow_mut().take() {
                waker.wake();
            }
        }
        debug_assert!(let_in <= REQUESTS_TURN_MAX, "{let_in} requests may begin in this turn");
        debug_assert!(self.granted.get() <= let_in, "a granted request counts among those that are let in");
        self.let_in.set(let_in);
        !waiting.places.is_empty()
    }

    /// Ready if requests have begun to wait for a turn since this was last ready.
    pub fn poll_waiting(&self, context: &mut Context<'_>) -> Poll<()> {
        self.bell.poll(context)
    }
}

impl Beginner {
    /// A connection of the site that shares these turns.
    pub fn new(turns: Rc<RequestTurns>, site: ClientSite) -> Self {
        let place = Place { site, standing: Cell::default(), waker: RefCell::default() };
        Self { turns, place: Rc::new(place) }
    }

    /// Ready when the connection's next request may begin. Call it again until then. `is_pipelined` says whether the
    /// request has come before the answer to the one before it.
    pub fn poll_begin(&self, is_pipelined: bool, context: &Context<'_>) -> Poll<()> {
        let Self { turns, place } = self;
        match place.standing.get() {
            Standing::Granted => {
                place.standing.set(Standing::Absent);
                turns.granted.set(turns.granted.get() - 1);
                return Poll::Ready(());
            }
            Standing::Absent => {
                let mut waiting = turns.waiting.borrow_mut();
                if !is_pipelined && waiting.places.is_empty() && turns.let_in.get() < REQUESTS_TURN_MAX {
                    turns.let_in.set(turns.let_in.get() + 1);
                    return Poll::Ready(());
                }
                place.standing.set(Standing::Waiting(waiting.put(place.clone())));
                turns.bell.ring();
            }
            Standing::Waiting(number) => {
                debug_assert!(
                    turns.waiting.borrow().places.contains_key(&number),
                    "a connection that waits has its place"
                );
            }
        }
        *place.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// The number of the shard's turn.
    pub fn turn(&self) -> u64 {
        self.turns.turn.get()
    }

    /// Gives the connection's place to others: it will not begin before it asks again.
    pub fn leave(&self) {
        match self.place.standing.take() {
            Standing::Absent => {}
            Standing::Waiting(number) => self.turns.waiting.borrow_mut().remove(number),
            Standing::Granted => self.turns.granted.set(self.turns.granted.get() - 1),
        }
    }
}

impl Drop for Beginner {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_network::ClientNetwork;

    fn begins(beginner: &Beginner, is_pipelined: bool) -> bool {
        beginner.poll_begin(is_pipelined, &Context::from_waker(Waker::noop())).is_ready()
    }

    fn beginner(turns: &Rc<RequestTurns>, site: u8) -> Beginner {
        Beginner::new(turns.clone(), ClientNetwork::of([192, 0, 2, site].into()).site())
    }

    fn beginners(turns: &Rc<RequestTurns>, count: usize) -> Vec<Beginner> {
        (0..count).map(|_| beginner(turns, 1)).collect()
    }

    /// Lets all of them try. Returns the numbers of those whose requests begin.
    fn begun(beginners: &[Beginner]) -> Vec<usize> {
        (0..beginners.len()).filter(|number| begins(&beginners[*number], false)).collect()
    }

    #[test]
    fn so_many_requests_begin_in_a_turn_and_the_others_in_their_order() {
        let turns = Rc::new(RequestTurns::default());
        let clients = beginners(&turns, 2 * REQUESTS_TURN_MAX + 1);
        assert_eq!(begun(&clients), (0..REQUESTS_TURN_MAX).collect::<Vec<_>>());
        let waiting = &clients[REQUESTS_TURN_MAX..];
        assert!(begun(waiting).is_empty(), "there was no turn");
        assert!(turns.begin_turn(), "one still waits");
        assert!(turns.begin_turn(), "no task has run, so no more are let in");
        let newcomer = beginner(&turns, 1);
        assert!(!begins(&newcomer, false), "others were first");
        assert_eq!(begun(waiting), (0..REQUESTS_TURN_MAX).collect::<Vec<_>>());
        assert!(!turns.begin_turn());
        assert!(begins(&waiting[REQUESTS_TURN_MAX], false) && begins(&newcomer, false));
    }

    #[test]
    fn a_request_that_has_come_too_early_waits_for_a_turn() {
        let turns = Rc::new(RequestTurns::default());
        let client = beginner(&turns, 1);
        assert!(begins(&client, false));
        for _ in 0..3 {
            assert!(!begins(&client, true) && !begins(&client, true));
            turns.begin_turn();
            assert!(begins(&client, true));
        }
    }

    #[test]
    fn connections_that_end_keep_no_place() {
        let turns = Rc::new(RequestTurns::default());
        let mut clients = beginners(&turns, 4 * REQUESTS_TURN_MAX);
        begun(&clients);
        turns.begin_turn();
        // Of those that are let in and of those that wait, all end but the last one.
        let last = clients.pop().unwrap();
        drop(clients);
        assert!(!turns.begin_turn());
        assert!(begins(&last, false));
        assert_eq!(
            (turns.granted.get(), turns.waiting.borrow().places.len(), turns.waiting.borrow().sites.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn a_connection_that_leaves_gives_its_place_to_others() {
        let turns = Rc::new(RequestTurns::default());
        let clients = beginners(&turns, 3 * REQUESTS_TURN_MAX);
        begun(&clients);
        turns.begin_turn();
        // Those that are let in leave, and one of those that wait.
        clients[..=2 * REQUESTS_TURN_MAX].iter().for_each(Beginner::leave);
        assert_eq!(turns.granted.get(), 0);
        assert!(!turns.begin_turn(), "no other connection waits");
        assert_eq!(begun(&clients[2 * REQUESTS_TURN_MAX + 1..]).len(), REQUESTS_TURN_MAX - 1);
        assert!(begins(&clients[0], false), "it may come back");
    }

    #[test]
    fn a_site_with_many_requests_keeps_no_other_site_waiting() {
        let turns = Rc::new(RequestTurns::default());
        let crowd = beginners(&turns, 10 * REQUESTS_TURN_MAX);
        begun(&crowd);
        let others = [beginner(&turns, 2), beginner(&turns, 2), beginner(&turns, 3)];
        assert!(begun(&others).is_empty());
        turns.begin_turn();
        assert_eq!(begun(&others), [0, 1, 2], "each site has a request in each round");
        assert_eq!(begun(&crowd[REQUESTS_TURN_MAX..]).len(), REQUESTS_TURN_MAX - others.len());
        // A site that comes back begins in the present round, and not behind those that were served meanwhile.
        assert!(begun(&others[..1]).is_empty());
        turns.begin_turn();
        assert_eq!(begun(&others[..1]), [0]);
    }
}

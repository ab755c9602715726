//! What the resources use to do their work. Each shard has one `Services`.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::budget::Work;
use engine::counters::{
    ANSWER_CLASSES, COSTLY_KINDS, GRPC_CODES, HTTP_ROUTES, Histogram, SIGN_IN_REFUSALS, SocketCounters,
};
use engine::gate::Guest;
use engine::id::{NetworkKey, Timestamp};
use engine::limits::Rules;
use engine::message::Message;
use engine::process_rates::{ProcessRate, ProcessRates};
use engine::session::costs::{OPENING, TLS_HANDSHAKE};
use engine::session::shared_budgets::{Payer, Purse, Reserved, SharedBudgets};
use hyper::StatusCode;
use storage::bridge::{Client, RequestedBy};
use storage::retention::Retention;

use super::account_deletions::queue::AccountDeletions;
use super::answer::{self, Answer};
use super::bodies::{BODIES_BYTES_MAX, Bodies};
use super::connections::Connections;
use super::costs;
use super::cursor::CursorKey;
use super::error::Refusal;
use super::open_calls::OpenCalls;
use super::pages::NewestPages;
use super::request_turns::RequestTurns;
use super::returns::Returns;
use super::unread_answers::{ANSWERS_BYTES_MAX, UnreadAnswers};
use crate::allowed_origins::AllowedOrigins;
use crate::channel_queries::ChannelQueries;
use crate::health::{Health, HealthReporter};
use crate::keys::SigningKeys;
use crate::live::{Live, live};
use crate::options::KEEP_ALIVE;
use crate::password::Passwords;
use crate::sign_in::SignInTerms;
use crate::token::Tokens;

/// A shard's access to tokens, passwords and the store.
pub struct Services {
    pub(super) server_key: Live<String>,
    pub(super) sign_in: Live<SignInTerms>,
    origins: Live<AllowedOrigins>,
    /// The rates of the process, and how many shards share them.
    rates: Option<(Live<ProcessRates>, NonZeroU16)>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) cursors: CursorKey,
    pub(super) passwords: Passwords,
    store: Client,
    pub(super) bodies: Bodies,
    pub(super) unread_answers: Rc<UnreadAnswers>,
    pub(super) connections: Connections,
    pub(super) request_turns: Rc<RequestTurns>,
    pub(super) returns: Returns,
    pub(super) newest_pages: NewestPages,
    pub(super) open_calls: OpenCalls,
    /// How long a connection waits for its next request.
    pub(super) keep_alive: Duration,
    channel_queries: ChannelQueries,
    budgets: SharedBudgets,
    account_deletions: AccountDeletions,
    answered: Answered,
    health: HealthReporter,
    retention: Retention,
    clock: Box<dyn Fn() -> Timestamp>,
}

impl Services {
    /// `tokens` and the threads of `passwords` are shared by all shards; `clock` tells the present time.
    pub fn new(
        server_key: &str,
        keys: &SigningKeys,
        tokens: Arc<Tokens>,
        passwords: Passwords,
        store: Client,
        clock: impl Fn() -> Timestamp + 'static,
    ) -> Self {
        Self {
            server_key: live(server_key.to_owned()),
            sign_in: Live::default(),
            origins: Live::default(),
            rates: None,
            tokens,
            cursors: CursorKey::new(keys),
            passwords,
            store,
            bodies: Bodies::new(BODIES_BYTES_MAX),
            unread_answers: UnreadAnswers::new(ANSWERS_BYTES_MAX),
            connections: Connections::default(),
            request_turns: Rc::default(),
            returns: Returns::default(),
            newest_pages: NewestPages::default(),
            open_calls: OpenCalls::default(),
            keep_alive: KEEP_ALIVE,
            channel_queries: ChannelQueries::default(),
            budgets: SharedBudgets::new(&Rules { work_per_user: None, ..Rules::default() }),
            account_deletions: AccountDeletions::default(),
            answered: Answered::default(),
            health: HealthReporter::new(Health::new(1, usize::MAX), 0),
            retention: Retention::default(),
            clock: Box::new(clock),
        }
    }

    /// The same, with messages that are kept for so long only.
    pub fn keeping_messages(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// Whether this message has expired.
    pub(super) fn has_expired(&self, message: &Message) -> bool {
        let now = u64::try_from(self.now().milliseconds()).unwrap_or(0);
        self.retention.floor(&message.channel, now).is_some_and(|floor| message.id < floor)
    }

    /// The store, for requests of this user, or of a client of this network that has not signed in yet.
    pub(super) fn store_for(&self, by: impl Into<RequestedBy>) -> Client {
        self.store.of(by)
    }

    /// The store, for work of the server itself.
    pub fn own_store(&self) -> &Client {
        &self.store
    }

    /// Connections whose next request opens a WebSocket.
    pub fn returns(&self) -> &Returns {
        &self.returns
    }

    /// The order in which HTTP requests begin, some in each turn.
    pub fn request_turns(&self) -> &RequestTurns {
        &self.request_turns
    }

    /// The bytes that HTTP answers hold now, until the kernel has taken them.
    pub fn answer_bytes(&self) -> usize {
        self.unread_answers.bytes()
    }

    /// The most bytes that these answers have held since the last call.
    pub fn take_most_answer_bytes(&self) -> usize {
        self.unread_answers.take_most_bytes()
    }

    /// Sets how long a connection waits for its next request.
    pub fn keeping_connections(self, keep_alive: Duration) -> Self {
        Self { keep_alive, ..self }
    }

    /// Takes a server key that may change while the server runs.
    pub fn following_server_key(self, server_key: Live<String>) -> Self {
        Self { server_key, ..self }
    }

    /// Takes terms of signing in that may change while the server runs.
    pub fn following_sign_in_terms(self, sign_in: Live<SignInTerms>) -> Self {
        Self { sign_in, ..self }
    }

    /// Takes origins that may change while the server runs.
    pub fn following_origins(self, origins: Live<AllowedOrigins>) -> Self {
        Self { origins, ..self }
    }

    /// Takes rates of the process that may change while the server runs, and which so many shards share.
    pub fn following_rates(self, rates: Live<ProcessRates>, shards: NonZeroU16) -> Self {
        Self { rates: Some((rates, shards)), ..self }
    }

    /// Puts the rates of the process in force as they are now. Call it from time to time.
    pub fn take_up_rates(&self) {
        if let Some((rates, shards)) = &self.rates {
            self.budgets.set_rates(&rates.load(), *shards);
        }
    }

    /// Takes the budgets that the shard's sessions share.
    pub fn sharing_budgets(self, budgets: SharedBudgets) -> Self {
        Self { budgets, ..self }
    }

    /// Tells of this shard's connections in the process's health.
    pub fn reporting_health(self, health: HealthReporter) -> Self {
        Self { health, ..self }
    }

    /// Sets the bytes that the bodies which this shard is collecting may hold together.
    pub fn collecting_bodies(self, bytes_max: usize) -> Self {
        Self { bodies: Bodies::new(bytes_max), ..self }
    }

    /// Queries to the owners of channels, and broadcasts for sessions.
    pub fn channel_queries(&self) -> &ChannelQueries {
        &self.channel_queries
    }

    pub(super) fn account_deletions(&self) -> &AccountDeletions {
        &self.account_deletions
    }

    /// Continues account deletions that an earlier run of the server began. Call it for one shard only.
    pub fn take_up_departures(&self) {
        self.account_deletions.take_up();
    }

    /// The shard's counts of answered HTTP requests.
    pub(crate) fn answered(&self) -> &Answered {
        &self.answered
    }

    /// The answer of a refusal, which is counted.
    pub(super) fn refuse(&self, refusal: &Refusal) -> Answer {
        self.answered.count_refusal(refusal);
        answer::refused(refusal)
    }

    /// Adds this shard's counts of HTTP to the counters of the sockets.
    pub fn add_to(&self, counters: &mut SocketCounters) {
        self.answered.add_to(counters);
        counters.http_answers_cut = self.unread_answers.cuts();
        counters.body_bytes += self.bodies.bytes() as u64;
        counters.answer_bytes += self.unread_answers.bytes() as u64;
    }

    /// Charges work to the payer's purses before it begins, or refuses it. A refusal is charged too, but less.
    pub(super) fn afford(&self, payer: Payer, purse: Purse, work: Work) -> Result<(), Refusal> {
        let afforded = self.budgets.afford(payer, purse, work, costs::REFUSAL);
        let about = payer.user;
        afforded.map_err(|(limit, retry_after)| Refusal { about, ..Refusal::over_budget(limit, retry_after) })
    }

    /// Whether the payer is so far beyond a budget that its connections are read later.
    pub(super) fn is_far_beyond(&self, payer: Payer, purse: Purse) -> bool {
        self.budgets.standings(payer, purse).into_iter().any(|(_, standing)| standing.is_far_beyond())
    }

    /// Charges the network for an opening before its token is checked, or returns the time after which it may try again.
    pub fn afford_opening(&self, network: NetworkKey) -> Result<(), Duration> {
        let payer = Payer { user: None, network: Some(network) };
        self.budgets.afford(payer, Purse::Requests, OPENING, OPENING).map_err(|(_, retry_after)| retry_after)
    }

    /// Charges the network for a TLS handshake before it begins. Returns whether the network could afford it.
    pub fn affords_handshake(&self, network: NetworkKey) -> bool {
        let payer = Payer { user: None, network: Some(network) };
        self.budgets.afford(payer, Purse::Requests, TLS_HANDSHAKE, TLS_HANDSHAKE).is_ok()
    }

    /// Whether a request with these values of `Origin` may be let in.
    pub(crate) fn allows_origins<'a>(&self, origins: impl Iterator<Item = &'a [u8]>) -> bool {
        self.origins.load().allow(origins)
    }

    /// Lets a client of this network in, unless the rate of the process is used up.
    pub(super) fn let_in(&self, rate: ProcessRate, network: NetworkKey) -> Result<(), Refusal> {
        self.budgets
            .let_in(rate, Guest::Network(network))
            .map_err(|(limit, retry_after)| Refusal::over_budget(limit, retry_after))
    }

    /// Whether an opening from this network would be let in now, or the time after which its client may try again.
    pub fn has_room_for_opening(&self, network: NetworkKey) -> Result<(), Duration> {
        self.budgets.has_room(ProcessRate::Openings, Guest::Network(network)).map_err(|(_, retry_after)| retry_after)
    }

    /// Counts an opening that was let in.
    pub fn count_opening(&self, network: NetworkKey) {
        self.budgets.count(ProcessRate::Openings, Guest::Network(network));
    }

    /// Whether one more refused opening may be accepted, to be closed with a reason.
    pub fn may_close_an_opening(&self) -> bool {
        self.budgets.may_close_an_opening()
    }

    /// Charges the most work that a request can cost, before it begins.
    pub(super) fn reserve(&self, payer: Payer, most: Work) -> Reserved {
        self.budgets.reserve(payer, most)
    }

    /// Takes in how much work a request was, of that which was reserved.
    pub(super) fn settle(&self, reserved: Reserved, work: Work) {
        self.budgets.settle(reserved, work);
    }

    /// Charges work that is known only after it is done.
    pub(super) fn charge(&self, payer: Payer, work: Work) {
        self.budgets.charge(payer, Purse::Requests, work);
    }

    /// The terms on which users sign in now.
    pub(crate) fn sign_in_terms(&self) -> Arc<SignInTerms> {
        self.sign_in.load_full()
    }

    /// What makes and checks the tokens of this server.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// How many reads of the store the resources have asked for.
    #[cfg(test)]
    pub(super) fn store_reads(&self) -> u64 {
        self.store.reads()
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Why the store takes no requests now, or `None` if it takes them.
    pub fn unready(&self) -> Option<String> {
        self.store.unready()
    }

    /// Why new clients should go elsewhere, or `None` if they may come.
    pub fn unready_for_clients(&self) -> Option<String> {
        self.health.unready(self.unready())
    }

    /// Takes in how many connections the shard has, and how many of them are sessions.
    pub fn tell_connections(&self, connections: usize, sessions: usize) {
        self.health.tell(connections, sessions);
    }

    /// Takes in that the shard opens no session any more.
    pub fn tell_of_drain(&self) {
        self.health.tell_of_drain();
    }

    /// While `crowded`, connections close after their answer, because the shard has little room for others.
    pub fn be_crowded(&self, crowded: bool) {
        self.connections.be_crowded(crowded);
    }

    /// Whether a connection may stay open for its next request.
    pub fn may_keep(&self) -> bool {
        self.connections.may_keep() && !self.health.is_draining()
    }

    /// Begins the stop: each connection closes after the answer that it still owes, idle connections close at once.
    pub fn close_connections(&self) {
        self.connections.close();
        self.account_deletions.close();
    }
}

/// Counts the requests that were answered.
#[derive(Default)]
pub struct Answered {
    classes: [Cell<u64>; ANSWER_CLASSES.len()],
    sign_ins: Cell<u64>,
    sign_ins_refused: [Cell<u64>; SIGN_IN_REFUSALS.len()],
    accounts: Cell<u64>,
    calls: [Cell<u64>; GRPC_CODES.len()],
    latency: RefCell<[Histogram; HTTP_ROUTES.len()]>,
    costly: [Cell<u64>; COSTLY_KINDS.len()],
}

impl Answered {
    pub(super) fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(2);
        if let Some(count) = self.classes.get(class) {
            count.set(count.get() + 1);
        }
    }

    /// Counts a call of gRPC by the code of its status, which is a place among `GRPC_CODES`.
    pub(super) fn count_call(&self, code: u8) {
        if let Some(count) = self.calls.get(usize::from(code)) {
            count.set(count.get() + 1);
        }
    }

    fn count_refusal(&self, refusal: &Refusal) {
        if let Some(kind) = refusal.code.costly_kind() {
            self.costly[kind].set(self.costly[kind].get() + 1);
        }
    }

    pub(super) fn count_sign_in(&self) {
        self.sign_ins.set(self.sign_ins.get() + 1);
    }

    /// Counts a sign-in that was refused.
    pub(super) fn count_refused_sign_in(&self, refusal: &Refusal) {
        let count = &self.sign_ins_refused[refusal.of_sign_in() as usize];
        count.set(count.get() + 1);
    }

    pub(super) fn count_account(&self) {
        self.accounts.set(self.accounts.get() + 1);
    }

    /// Counts how long an answer took. `route` is a place among `HTTP_ROUTES`.
    pub(super) fn count_latency(&self, route: usize, took: Duration) {
        self.latency.borrow_mut()[route].record(took.as_micros() as u64);
    }

    fn add_to(&self, counters: &mut SocketCounters) {
        counters.http_latency.clone_from(&self.latency.borrow());
        let refused = counters.sign_ins_refused.iter_mut().zip(&self.sign_ins_refused);
        refused.for_each(|(total, count)| *total += count.get());
        counters.accounts_made += self.accounts.get();
        counters.http_answers.iter_mut().zip(&self.classes).for_each(|(total, count)| *total += count.get());
        counters.http_refused.iter_mut().zip(&self.costly).for_each(|(total, count)| *total += count.get());
        counters.grpc_calls.iter_mut().zip(&self.calls).for_each(|(total, count)| *total += count.get());
        counters.sign_ins += self.sign_ins.get();
    }
}

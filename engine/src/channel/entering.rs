//! The members of a channel whose owner is new. Their homes hand them over, and each home hears where the channel is now.
//!
//! Only the homes know the members, because the owner before may have died. What members were told of each other
//! stays true meanwhile: nothing is told of a member that enters again. After `ENTER_GRACE` every node that is up has handed
//! over its members. Then each home is told who is known, and tells its readers the difference. So those leave whose node
//! died, and joins that the owner before did not tell are told.
//!
//! Into a room any user may enter. Who may enter another channel is the store's word: the owner before may have removed a
//! member without its home having heard of it.

use std::collections::VecDeque;

use super::catching_up::Behind;
use super::{Channel, Gate, History, StepContext};
use crate::channel::members::{Address, Member};
use crate::id::{Monotonic, ShardId};
use crate::limits::{ENTER_GRACE, ENTRIES_ASKED_MAX, HISTORY_RETRY_INTERVAL};
use crate::outbox::{Outbox, Purpose};
use crate::parcel::{Enter, Entrant, Item, Reached};
use crate::persist::{StoreQuestion, StoreReceipt};
use crate::query::Version;

/// The members that enter, and when the homes are told who is known.
#[derive(Default)]
pub struct Entering {
    /// When the known members are told; `None` if no home has handed over members since they were.
    settles: Option<Monotonic>,
    /// Until when messages wait for homes of members that the owner before this one has named; `None` if none waits.
    waits_until: Option<Monotonic>,
    /// Those of these homes that have not handed over their members, or were not answered yet.
    awaited: Vec<ShardId>,
    /// When the store is asked again where the history ends, because it could not say so while homes waited.
    asks_again: Option<Monotonic>,
    /// Homes whose members are not all here.
    homes: Vec<EnteringHome>,
    /// Members on whom the store has not been asked yet.
    waiting: VecDeque<Member>,
    /// Members on whom the store has not answered.
    asked: Vec<Member>,
}

/// A home that hands over its members.
struct EnteringHome {
    home: ShardId,
    reached: Option<Reached>,
    /// Members of this home that the owner knew already, and that have not entered again.
    former: Vec<Member>,
    is_complete: bool,
}

impl Entering {
    /// Whether homes wait, or their readers have not been told who is known.
    pub fn is_over(&self) -> bool {
        self.settles.is_none() && self.homes.is_empty() && self.waits_until.is_none()
    }

    /// When something is to be done without anything else happening.
    pub fn due(&self) -> Option<Monotonic> {
        self.settles.into_iter().chain(self.waits_until).chain(self.asks_again).min()
    }

    /// Whether the known members have not been told yet.
    pub fn is_unsettled(&self) -> bool {
        self.settles.is_some()
    }
}

impl Channel {
    /// The owner before this one has named these homes of members.
    pub(super) fn wait_for_homes(&mut self, homes: Vec<ShardId>, until: Monotonic) {
        self.entering.waits_until = (!homes.is_empty()).then_some(until);
        self.entering.awaited = homes;
    }

    /// The homes that the owner before this one has named and that messages wait for.
    pub(super) fn awaited_homes(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.entering.awaited.iter().copied()
    }

    /// Whether no message waits for a home.
    pub(super) fn has_its_homes(&self) -> bool {
        self.entering.waits_until.is_none()
    }

    /// The store could not say where the history ends. If homes wait for that, it is asked again soon.
    pub(super) fn history_is_unknown(&mut self, now: Monotonic) {
        if self.waits_for_history() {
            self.entering.asks_again = Some(now.plus(HISTORY_RETRY_INTERVAL));
        }
    }

    /// Whether homes that have entered go on from the end of the history, which is not known yet.
    pub(super) fn waits_for_history(&self) -> bool {
        !matches!(self.history, History::Known(_)) && self.behind.iter().any(|behind| behind.entered)
    }

    /// Whether it is time to ask the store again where the history ends.
    pub fn may_ask_again(&self, now: Monotonic) -> bool {
        self.entering.asks_again.is_some_and(|asks| asks <= now)
    }

    /// If it is time, asks the store again where the history ends.
    pub(super) fn ask_again(&mut self, now: Monotonic, outbox: &mut Outbox) {
        if self.may_ask_again(now) {
            self.entering.asks_again = None;
            self.want_head(outbox);
        }
    }

    /// Whether messages need not wait for homes any more.
    pub fn may_stop_waiting_for_homes(&self, now: Monotonic) -> bool {
        self.entering.waits_until.is_some_and(|until| self.entering.awaited.is_empty() || until <= now)
    }

    /// If messages need not wait for homes any more, lets them go on.
    pub(super) fn stop_waiting_for_homes(&mut self, now: Monotonic) {
        if self.may_stop_waiting_for_homes(now) {
            self.entering.awaited.clear();
            self.entering.waits_until = None;
        }
    }

    /// A home has handed over its members and was answered, so it hears what is announced from here on; or it has none.
    pub(super) fn has_home(&mut self, home: ShardId, now: Monotonic) {
        let awaited = self.entering.awaited.len();
        self.entering.awaited.retain(|awaited| *awaited != home);
        if awaited > 0 && self.entering.awaited.is_empty() {
            // All have entered that may enter.
            self.entering.settles = Some(now);
        }
    }

    /// Takes in members of a home. The home is answered when all of them have entered or were refused. If the newest
    /// messages must be loaded first, they are kept as version `unused`.
    pub fn enter(&mut self, enter: Enter, unused: Version, context: &StepContext, outbox: &mut Outbox) {
        let Enter { from: home, reached, members, part, .. } = enter;
        self.want_head(outbox);
        self.entering.settles.get_or_insert(context.now.monotonic.plus(ENTER_GRACE));
        if part.is_first {
            self.begin_entering(home, reached);
        }
        for entrant in members {
            self.enter_one(home, entrant, outbox);
        }
        if part.is_last
            && let Some(entering) = self.entering.homes.iter_mut().find(|entering| entering.home == home)
        {
            entering.is_complete = true;
        }
        self.end_entering(unused, outbox);
    }

    /// The home hands over all its members anew.
    fn begin_entering(&mut self, home: ShardId, reached: Option<Reached>) {
        self.entering.homes.retain(|entering| entering.home != home);
        self.entering.waiting.retain(|member| member.address.home != home);
        self.entering.asked.retain(|member| member.address.home != home);
        let addresses: Vec<Address> = self.members.addresses().filter(|address| address.home == home).collect();
        let former = addresses.into_iter().filter_map(|address| self.take_out(address)).collect();
        self.entering.homes.push(EnteringHome { home, reached, former, is_complete: false });
    }

    fn enter_one(&mut self, home: ShardId, entrant: Entrant, outbox: &mut Outbox) {
        let Entrant { connection, presence, hidden, known, format } = entrant;
        let address = Address { home, connection };
        let member = Member { address, presence, hidden, format, known: known && !hidden };
        match self.gate() {
            None => self.let_in(member),
            Some(gate) => {
                self.entering.waiting.push_back(member);
                self.ask_for_entries(gate, outbox);
            }
        }
    }

    /// Asks the store about members that wait, a bounded number at a time.
    fn ask_for_entries(&mut self, gate: Gate, outbox: &mut Outbox) {
        while self.entering.asked.len() < ENTRIES_ASKED_MAX
            && let Some(member) = self.entering.waiting.pop_front()
        {
            let (user, address) = (member.presence.user, member.address);
            let question = match gate {
                Gate::Group(group) => StoreQuestion::MayJoinGroup { group, user },
                Gate::Direct(one, other) => {
                    StoreQuestion::MayJoinDirect { user, other: if one == user { other } else { one } }
                }
            };
            self.entering.asked.push(member);
            self.ask_store(Purpose::Entry(address), question, outbox);
        }
    }

    /// Takes in what the store says of a member that enters. If the store cannot say it, the member does not enter: it is
    /// not told why, and joins again.
    pub fn entry_decided(&mut self, address: Address, decision: super::Decision, unused: Version, outbox: &mut Outbox) {
        // It may have departed, or entered anew, since the store was asked.
        let Some(place) = self.entering.asked.iter().position(|member| member.address == address) else { return };
        let member = self.entering.asked.swap_remove(place);
        if matches!(decision, Ok(StoreReceipt::Admitted(_))) {
            self.let_in(member);
        }
        if let Some(gate) = self.gate() {
            self.ask_for_entries(gate, outbox);
        }
        self.end_entering(unused, outbox);
    }

    /// The connection of a member that may be about to enter has departed.
    pub(super) fn end_entry(&mut self, address: Address) {
        self.entering.waiting.retain(|member| member.address != address);
        self.entering.asked.retain(|member| member.address != address);
    }

    fn let_in(&mut self, member: Member) {
        let address = member.address;
        if self.members.get(address).is_some() {
            return;
        }
        self.announcements.seal(&self.members);
        let is_news = !member.known && !member.hidden;
        self.members.insert(member);
        self.presence_changes.has_returned();
        if is_news {
            self.presence_changes.arrive(address);
        }
        for entering in &mut self.entering.homes {
            entering.former.retain(|former| former.address != address);
        }
    }

    /// Homes all of whose members have entered are behind from here on, and are answered like others that are.
    fn end_entering(&mut self, unused: Version, outbox: &mut Outbox) {
        let undecided = |home: ShardId, entering: &Entering| {
            entering.waiting.iter().chain(&entering.asked).any(|member| member.address.home == home)
        };
        let mut homes = std::mem::take(&mut self.entering.homes);
        let ready = |of: &mut EnteringHome| of.is_complete && !undecided(of.home, &self.entering);
        let complete: Vec<EnteringHome> = homes.extract_if(.., ready).collect();
        self.entering.homes = homes;
        for EnteringHome { home, reached, former, .. } in complete {
            former.into_iter().for_each(|member| self.presence_changes.depart(member));
            self.wait_for_answer(Behind { home, reached, entered: true }, unused, outbox);
        }
    }

    /// If it is time, tells every home who is known. A home that has just entered goes on behind the batch of this turn, so
    /// it is told in a later one.
    pub(super) fn settle(&mut self, now: Monotonic) {
        let is_answered = self.behind.iter().all(|behind| !behind.entered);
        if self.entering.settles.is_none_or(|settles| settles > now) || !is_answered {
            return;
        }
        self.entering.settles = None;
        let (presences, count) = self.presence_changes.all_known(&self.members);
        self.announcements.tell_homes(&self.members, &Item::Presences { presences, count });
    }

    /// Members whose node is not up any more leave. Returns whether the channel has something to do.
    pub fn depart_homes(&mut self, is_up: impl Fn(ShardId) -> bool) -> bool {
        self.entering.homes.retain(|entering| is_up(entering.home));
        self.entering.awaited.retain(|home| is_up(*home));
        self.entering.waiting.retain(|member| is_up(member.address.home));
        self.entering.asked.retain(|member| is_up(member.address.home));
        self.behind.retain(|behind| is_up(behind.home));
        let has_gone = !self.members.homes().all(&is_up);
        if has_gone {
            let gone = self.members.addresses().filter(|address| !is_up(address.home)).collect();
            self.end_also(gone);
        }
        has_gone || self.entering.waits_until.is_some()
    }
}

//! Joins and leaves of a channel: exact in a room, a count and a sample in a crowd.
//!
//! The joins and leaves of a turn are told together, in one event. If many members come and go, they are told together
//! once a second. Then the others never hear of members who came and went in between.
//!
//! A member is *known* once the others were told of it, and members that were told of its join are always told of its
//! leave. In a room every visible member is known. In a crowd the number of known members is at most a room's maximum, so
//! that the cost of a join or a leave does not grow with the crowd. The count is exact, and told at most once a second.
//! When a crowd becomes a room again, all members are told of all visible members. A crowd becomes a room only after it
//! was small for some seconds. So sessions which come and go cannot cause this again and again, and a crowd stays a crowd
//! when most members are cut off at once and come back.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::channel::members::{Address, Member, Members};
use crate::id::Monotonic;
use crate::limits::{CROWD_EVENT_INTERVAL, CROWD_LASTS_MIN, CROWD_LIST_MAX, CROWD_SAMPLE_MAX, PRESENCES_PER_SECOND};
use crate::message::Presence;
use crate::presence_list::SharedPresences;
use crate::rate::Used;

/// A presence event: joins, leaves and, in a crowd, the count.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PresenceNews {
    pub joins: Vec<Presence>,
    pub leaves: Vec<Presence>,
    /// In a crowd, the number of visible members, because the presences do not show it.
    pub count: Option<u32>,
}

/// The presences that a joining member is told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresenceList {
    pub presences: SharedPresences,
    pub count: Option<u32>,
}

/// What to do about a session that joins again before its leave was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    No,
    TellFirst,
    /// Drop the leave: to the others the session never left.
    NeverLeft,
}

/// The joins and leaves of one channel that were not told yet.
#[derive(Default)]
pub struct PresenceChanges {
    crowd: Option<Crowd>,
    /// Joins that were not told yet. In a crowd, only the newest `CROWD_SAMPLE_MAX`.
    arrived: VecDeque<Address>,
    /// Members of a room that were not told of their own join yet.
    unaware: Vec<Address>,
    /// Known members whose leave was not told yet. A member may be back with another presence, and not known: then its
    /// join is told in place of its leave.
    left: Vec<Presence>,
    /// The members that became known last. A member that joins a crowd is told of these.
    recent: VecDeque<Address>,
    /// The presences that a joining member is told of, cached until the next event.
    list: Option<SharedPresences>,
    churn: Churn,
}

/// How many members of a room came and went lately.
#[derive(Default)]
struct Churn {
    /// Joins and leaves since the last look.
    changes: u32,
    /// How much of the rate the joins and leaves so far use up.
    used: Used,
    /// When the last event was told.
    told: Monotonic,
}

impl Churn {
    /// Counts the joins and leaves since the last look.
    fn look(&mut self, now: Monotonic) {
        let used = self.used.with(std::mem::take(&mut self.changes), PRESENCES_PER_SECOND, now);
        // However many there were, the room is calm again soon after the last of them.
        self.used = used.recovering_in(CALM_AFTER, now);
    }

    /// When joins and leaves may be told.
    fn due(&self, now: Monotonic) -> Monotonic {
        if self.used.is_within(now) { now } else { self.told.plus(CROWD_EVENT_INTERVAL) }
    }
}

/// How long after its last join or leave a room is calm again.
const CALM_AFTER: Duration = Duration::from_secs(1);

/// Whether an event may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Telling {
    /// At the end of a turn: if many members come and go, the event waits.
    InTurn,
    /// Before a message of a member that the others do not know, or before a member returns.
    Now,
}

/// A channel that is a crowd.
#[derive(Default)]
struct Crowd {
    /// Since when the members fit a room; `None` while they do not.
    fits_since: Option<Monotonic>,
    told: Monotonic,
    /// The count that all members were told last; `None` if a member was told another one since, in an answer.
    told_count: Option<u32>,
}

impl PresenceChanges {
    /// Notes the join of a visible member that the others do not know.
    pub fn arrive(&mut self, address: Address) {
        self.churn.changes = self.churn.changes.saturating_add(1);
        self.arrived.push_back(address);
        if self.crowd.is_none() {
            self.unaware.push(address);
        } else if self.arrived.len() > CROWD_SAMPLE_MAX {
            self.arrived.pop_front();
        }
    }

    /// The members of a room that have joined since the last event or since the last call. If the event waits, they must
    /// be told of their own join.
    pub fn take_unaware(&mut self) -> Vec<Address> {
        std::mem::take(&mut self.unaware)
    }

    /// Notes the leave of a member. If the member was not known, the leave is not told.
    pub fn depart(&mut self, member: Member) {
        self.churn.changes = self.churn.changes.saturating_add(1);
        if member.known {
            self.left.push(member.presence);
        }
    }

    /// Decides what to do if this member's session has left and the leave was not told yet. One event does not hold both
    /// its leave and its join.
    pub fn returns(&mut self, member: &Member, now: Monotonic) -> Return {
        let Some(place) = self.left.iter().position(|presence| presence.session == member.presence.session) else {
            return Return::No;
        };
        if self.crowd.is_none() && self.churn.due(now) <= now {
            return Return::TellFirst;
        }
        // If the leave were told at once, any client could cause events as often as it likes. So the session counts as
        // never having left, unless the others must be told that its presence is another one.
        if member.hidden || self.left[place] != member.presence {
            return Return::No;
        }
        self.left.swap_remove(place);
        Return::NeverLeft
    }

    /// A member is back whose leave is not told. Later joiners are told of it.
    pub fn has_returned(&mut self) {
        self.list = None;
    }

    /// The presences that a member who joins now is told of: exactly those that the others were told of. So the next
    /// event is news to all members alike.
    pub fn list(&mut self, members: &Members) -> PresenceList {
        let presences = self.list.get_or_insert_with(|| match self.crowd {
            None => {
                let known = members.visible_after(None).filter(|member| member.known);
                known.map(|member| member.presence.clone()).chain(self.left.iter().cloned()).collect()
            }
            Some(_) => {
                let recent = self.recent.iter().rev().filter_map(|&address| members.get(address));
                recent
                    .filter(|member| member.known)
                    .map(|member| member.presence.clone())
                    .take(CROWD_LIST_MAX)
                    .collect()
            }
        });
        let presences = presences.clone();
        let count = self.crowd.as_mut().map(|crowd| crowd.count_in_answer(count(members)));
        PresenceList { presences, count }
    }

    /// All presences that the others were told of, in no particular order; in a crowd, with the count that all are told now.
    pub fn all_known(&mut self, members: &Members) -> (SharedPresences, Option<u32>) {
        let known = members.visible_after(None).filter(|member| member.known).map(|member| member.presence.clone());
        let presences: SharedPresences = known.chain(self.left.iter().cloned()).collect();
        let count = self.crowd.as_mut().map(|crowd| {
            crowd.told_count = Some(count(members));
            count(members)
        });
        (presences, count)
    }

    /// The number of joins and leaves that are not told.
    fn waiting(&self) -> usize {
        self.arrived.len() + self.left.len()
    }

    /// When the next event may be told, if there are changes that must wait.
    pub fn due(&self, members: &Members) -> Option<Monotonic> {
        let Some(crowd) = self.crowd.as_ref() else {
            return (self.waiting() > 0).then(|| self.churn.told.plus(CROWD_EVENT_INTERVAL));
        };
        crowd.due(members, self.waiting()).into_iter().chain(crowd.room_due()).min()
    }

    /// Ends a turn: returns the event to be told now, if any. A channel becomes a crowd with more than `room_max`
    /// visible members. It becomes a room again when it had 10% fewer than `room_max`, or fewer still, in all turns of
    /// `CROWD_LASTS_MIN`, so that it does not switch back and forth.
    pub fn tell(
        &mut self,
        members: &mut Members,
        room_max: usize,
        telling: Telling,
        now: Monotonic,
    ) -> Option<PresenceNews> {
        self.churn.look(now);
        let was_crowd = self.crowd.is_some();
        if let Some(crowd) = &mut self.crowd {
            crowd.look(members, room_max, now);
        }
        let news = match &self.crowd {
            None if members.visible_count() <= room_max => {
                self.arrived.retain(|&address| members.get(address).is_some());
                if self.waiting() == 0 || (telling == Telling::InTurn && self.churn.due(now) > now) {
                    return None;
                }
                self.churn.told = now;
                self.all_arrived(members)
            }
            None => self.become_crowd(members, room_max, now),
            Some(crowd) if crowd.room_due().is_some_and(|due| due <= now) => self.become_room(members, now),
            Some(crowd) => {
                if crowd.due(members, self.waiting())? > now {
                    return None;
                }
                self.sample(members, room_max, now)
            }
        };
        // When a crowd becomes a room, send the event even if it has no joins and no leaves. Otherwise members would keep
        // showing the last count.
        let is_told = was_crowd || news.count.is_some() || !news.joins.is_empty() || !news.leaves.is_empty();
        is_told.then(|| {
            self.list = None;
            self.unaware.clear();
            news
        })
    }

    fn all_arrived(&mut self, members: &mut Members) -> PresenceNews {
        let arrived = std::mem::take(&mut self.arrived);
        let joins: Vec<_> = arrived.into_iter().filter_map(|address| members.tell_of(address)).collect();
        PresenceNews { leaves: self.take_left(&joins), joins, count: None }
    }

    /// The leaves to tell beside these joins. A client that hears a join of a session that it lists takes the new
    /// presence for the old one, so the leave of such a session is not told.
    fn take_left(&mut self, joins: &[Presence]) -> Vec<Presence> {
        let mut left = std::mem::take(&mut self.left);
        if !left.is_empty() && !joins.is_empty() {
            let joined: HashSet<_> = joins.iter().map(|presence| presence.session).collect();
            left.retain(|presence| !joined.contains(&presence.session));
        }
        left
    }

    fn become_crowd(&mut self, members: &mut Members, room_max: usize, now: Monotonic) -> PresenceNews {
        let surplus = self.arrived.len().saturating_sub(CROWD_SAMPLE_MAX);
        self.arrived.drain(..surplus);
        let known = members.visible_after(None).filter(|member| member.known).map(|member| member.address);
        self.recent = known.take(CROWD_LIST_MAX).collect();
        self.sample(members, room_max, now)
    }

    fn become_room(&mut self, members: &mut Members, now: Monotonic) -> PresenceNews {
        let visible: Vec<Address> = members.visible_after(None).map(|member| member.address).collect();
        for &address in &visible {
            members.tell_of(address);
        }
        let presence = |address: &Address| members.get(*address).map(|member| member.presence.clone());
        let joins: Vec<_> = visible.iter().filter_map(presence).collect();
        let leaves = self.take_left(&joins);
        let churn = Churn { told: now, ..std::mem::take(&mut self.churn) };
        *self = Self { churn, ..Self::default() };
        PresenceNews { joins, leaves, count: None }
    }

    fn sample(&mut self, members: &mut Members, room_max: usize, now: Monotonic) -> PresenceNews {
        let mut joins = Vec::new();
        // The join of a member that came back with another presence is told in place of its leave. If it were not, the
        // member would hear of its own leave.
        let back: Vec<Address> = self.left.iter().filter_map(|left| members.visible_at(left.session)).collect();
        for address in back.into_iter().chain(std::mem::take(&mut self.arrived)) {
            if members.known_count() < room_max
                && let Some(presence) = members.tell_of(address)
            {
                joins.push(presence);
                // It may have been known before it left, and it is listed once.
                self.recent.retain(|known| *known != address);
                self.recent.push_back(address);
            }
        }
        // Some of these members may have left, so twice as many are remembered as are listed.
        let surplus = self.recent.len().saturating_sub(2 * CROWD_LIST_MAX);
        self.recent.drain(..surplus);
        let count = count(members);
        let crowd = self.crowd.get_or_insert_default();
        (crowd.told, crowd.told_count) = (now, Some(count));
        PresenceNews { leaves: self.take_left(&joins), joins, count: Some(count) }
    }
}

impl Crowd {
    /// Notes whether the members fit a room. A room that has just shrunk must shrink by 10% to fit.
    fn look(&mut self, members: &Members, room_max: usize, now: Monotonic) {
        let fits = members.visible_count() <= room_max - room_max / 10;
        self.fits_since = fits.then(|| self.fits_since.unwrap_or(now));
    }

    /// When the crowd becomes a room, unless more members come.
    fn room_due(&self) -> Option<Monotonic> {
        self.fits_since.map(|since| since.plus(CROWD_LASTS_MIN))
    }

    /// When the next event may be told, if there is something to tell. `waiting` is the number of joins and leaves that
    /// are not told.
    fn due(&self, members: &Members, waiting: usize) -> Option<Monotonic> {
        let changed = waiting > 0 || self.told_count != Some(count(members));
        changed.then(|| self.told.plus(CROWD_EVENT_INTERVAL))
    }

    /// The count in an answer to some members only. If the others were told another one, all members must be told the
    /// count in the next event, even if it is then what the others were told.
    fn count_in_answer(&mut self, count: u32) -> u32 {
        self.told_count = self.told_count.filter(|told| *told == count);
        count
    }
}

fn count(members: &Members) -> u32 {
    u32::try_from(members.visible_count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;
    use crate::fanout::frames::Format;
    use crate::id::{ConnectionId, SessionId, ShardId, UserId};

    fn member(slot: u32) -> Member {
        let id = Uuid::from_u128(slot.into());
        Member {
            address: Address { home: ShardId::alone(0), connection: ConnectionId { slot, generation: 0 } },
            presence: Presence { user: UserId(id), session: SessionId(id), username: "ada".into(), persistence: true },
            hidden: false,
            format: Format::Json,
            known: false,
        }
    }

    /// Sessions 1 to 50 come and go again and again, a thousand times a second in all, for ten seconds.
    #[test]
    fn a_room_where_many_come_and_go_is_told_the_net_change_once_a_second() {
        let (mut members, mut changes) = (Members::default(), PresenceChanges::default());
        let (mut events, mut presences) = (0, 0);
        let mut known = BTreeSet::new();
        let mut tell = |members: &mut Members, changes: &mut PresenceChanges, telling, now| {
            let Some(news) = changes.tell(members, 1000, telling, now) else { return };
            (events, presences) = (events + 1, presences + news.joins.len() + news.leaves.len());
            news.leaves.iter().for_each(|presence| assert!(known.remove(&presence.session)));
            news.joins.iter().for_each(|presence| assert!(known.insert(presence.session)));
            let here: BTreeSet<_> = members.visible_after(None).map(|member| member.presence.session).collect();
            assert_eq!(known, here, "the others know exactly who is here");
        };
        let millisecond = |number: u32| Monotonic(3_600_000_000_000).plus(Duration::from_millis(number.into()));
        for step in 0..10_000 {
            let (now, comer) = (millisecond(step), member(1 + step % 50));
            if let Some(gone) = members.remove(comer.address) {
                changes.depart(gone);
            } else {
                let returns = changes.returns(&comer, now);
                if returns == Return::TellFirst {
                    tell(&mut members, &mut changes, Telling::Now, now);
                }
                if returns != Return::NeverLeft {
                    changes.arrive(comer.address);
                }
                members.insert(Member { known: returns == Return::NeverLeft, ..comer });
            }
            tell(&mut members, &mut changes, Telling::InTurn, now);
        }
        tell(&mut members, &mut changes, Telling::InTurn, millisecond(20_000));
        assert_eq!(changes.due(&members), None, "all is told");
        assert!(events <= 110 + 20 && presences <= 110 + 10 * 50, "{events} events told {presences}");
    }

    #[test]
    fn a_session_that_returns_with_another_presence_is_told_once_and_not_as_a_leave() {
        let (mut members, mut changes) = (Members::default(), PresenceChanges::default());
        let now = Monotonic(3_600_000_000_000);
        for slot in 0..300 {
            members.insert(member(slot));
            changes.arrive(member(slot).address);
        }
        let told = changes.tell(&mut members, 1000, Telling::InTurn, now).expect("all are told of");
        assert_eq!(told.joins.len(), 300);
        let later = now.plus(CROWD_EVENT_INTERVAL);
        let presence = |persistence| Presence { persistence, ..member(7).presence };
        for persistence in [false, true, false] {
            changes.depart(members.remove(member(7).address).expect("it is a member"));
            let comer = Member { presence: presence(persistence), ..member(7) };
            let returns = changes.returns(&comer, now);
            assert_eq!(returns, if persistence { Return::NeverLeft } else { Return::No });
            if returns == Return::No {
                changes.arrive(comer.address);
            }
            members.insert(Member { known: returns == Return::NeverLeft, ..comer });
        }
        assert!(changes.list(&members).presences.contains(&presence(true)), "the others still know the old presence");
        let told = changes.tell(&mut members, 1000, Telling::InTurn, later).expect("there is something to tell");
        assert_eq!((told.joins, told.leaves), (vec![presence(false)], Vec::new()));
        assert!(changes.tell(&mut members, 1000, Telling::Now, later).is_none(), "it is told once");
    }

    #[test]
    fn a_member_that_was_told_another_count_than_the_others_is_told_the_count_again() {
        const ROOM_MAX: usize = 2;
        let (mut members, mut changes) = (Members::default(), PresenceChanges::default());
        for slot in 0..5 {
            members.insert(member(slot));
            changes.arrive(member(slot).address);
        }
        let told =
            changes.tell(&mut members, ROOM_MAX, Telling::InTurn, Monotonic(0)).expect("the channel becomes a crowd");
        assert_eq!(told.count, Some(5));
        assert_eq!(changes.due(&members), None, "all members know the count");
        let left = members.remove(member(0).address).expect("it is a member");
        assert!(left.known, "the others were told of it");
        changes.depart(left);
        assert_eq!(changes.list(&members).count, Some(4), "a hidden session that joins now is told this count");
        assert_eq!(changes.returns(&member(0), Monotonic(0)), Return::NeverLeft);
        members.insert(Member { known: true, ..member(0) });
        let due = changes.due(&members).expect("one member was told another count");
        let told = changes.tell(&mut members, ROOM_MAX, Telling::InTurn, due).expect("the count is told");
        assert_eq!((told.count, told.joins, told.leaves), (Some(5), Vec::new(), Vec::new()));
        assert_eq!(changes.due(&members), None);
    }

    #[test]
    fn a_member_that_left_a_crowd_and_came_back_is_listed_once() {
        let (mut members, mut changes) = (Members::default(), PresenceChanges::default());
        for slot in 0..5 {
            members.insert(member(slot));
            changes.arrive(member(slot).address);
        }
        let mut now = Monotonic(0);
        assert!(changes.tell(&mut members, 4, Telling::InTurn, now).is_some());
        for _ in 0..4 {
            match members.remove(member(0).address) {
                Some(gone) => changes.depart(gone),
                None => {
                    members.insert(member(0));
                    changes.arrive(member(0).address);
                }
            }
            now = now.plus(CROWD_EVENT_INTERVAL);
            assert!(changes.tell(&mut members, 4, Telling::InTurn, now).is_some());
        }
        let listed: Vec<_> = changes.list(&members).presences.iter().map(|presence| presence.session).collect();
        let sessions: BTreeSet<_> = listed.iter().copied().collect();
        assert_eq!((listed.len(), sessions.len()), (4, 4), "{listed:?}");
    }

    #[test]
    fn hidden_members_are_told_that_an_empty_crowd_is_a_room() {
        const ROOM_MAX: usize = 2;
        let (mut members, mut changes) = (Members::default(), PresenceChanges::default());
        members.insert(Member { hidden: true, ..member(9) });
        for slot in 0..5 {
            members.insert(member(slot));
            changes.arrive(member(slot).address);
        }
        let mut now = Monotonic(0);
        let tell = |members: &mut Members, changes: &mut PresenceChanges, now| {
            changes.tell(members, ROOM_MAX, Telling::InTurn, now).map(|news| news.count)
        };
        assert_eq!(tell(&mut members, &mut changes, now), Some(Some(5)));
        // The known members leave first, and then the others, whom no event names.
        for (gone, count) in [(0..2, Some(3)), (2..5, Some(0)), (5..5, None)] {
            for slot in gone {
                changes.depart(members.remove(member(slot).address).expect("it is a member"));
            }
            now = changes.due(&members).expect("a change is to be told");
            assert_eq!(tell(&mut members, &mut changes, now), Some(count));
        }
    }

    #[test]
    fn a_crowd_whose_members_are_cut_off_and_come_back_stays_a_crowd() {
        const ROOM_MAX: usize = 10;
        let (mut members, mut changes) = (Members::default(), PresenceChanges::default());
        let come = |members: &mut Members, changes: &mut PresenceChanges| {
            for slot in 0..20 {
                members.insert(member(slot));
                changes.arrive(member(slot).address);
            }
        };
        come(&mut members, &mut changes);
        let mut now = Monotonic(0);
        assert!(changes.tell(&mut members, ROOM_MAX, Telling::InTurn, now).is_some());
        for _ in 0..5 {
            now = now.plus(CROWD_LASTS_MIN * 2);
            for slot in 0..20 {
                changes.depart(members.remove(member(slot).address).expect("it is a member"));
            }
            let empty = changes.tell(&mut members, ROOM_MAX, Telling::InTurn, now).expect("the leaves are told");
            assert_eq!(empty.count, Some(0));
            now = now.plus(CROWD_LASTS_MIN / 2);
            come(&mut members, &mut changes);
            let back = changes.tell(&mut members, ROOM_MAX, Telling::InTurn, now).expect("the joins are told");
            assert_eq!(back.count, Some(20), "it has not become a room");
        }
    }
}

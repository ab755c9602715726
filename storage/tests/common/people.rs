//! Users and groups for the tests of the laws: named by small numbers, with outcomes as short texts.

use std::collections::BTreeMap;

use engine::id::{ChannelId, GroupId, NotificationId, Timestamp, UserId};
use engine::persist::{ChannelHead, StoreReceipt, StoreWrite};
use engine::social::friend::{FriendAct, FriendState};
use engine::social::group::{GroupAct, GroupChange, GroupOutcome, GroupRefusal, Role};
use engine::social::notification::Notice;
use storage::account::{Credential, CredentialKind};
use storage::friend::Related;
use storage::group::{Group, GroupCreated, GroupFilter, GroupPlace};
use storage::repeats::REPEAT_INTERVAL_NS;
use storage::{Failure, PageStart, Store, Write, Written};
use uuid::Uuid;

use super::*;

/// What users note of others in tests.
pub const NOTES: [&str; 3] = ["", r#"{"note":"first"}"#, r#"{"note":"an\"other","n":[1,2]}"#];

/// A store with users in it, and a clock that advances by itself.
pub struct World<S> {
    pub tested: S,
    time: i64,
    places: u32,
}

impl<S: StoreUnderTest> World<S> {
    /// Users from 1 to `users`, called `name-1` and so on, each with a device of its own.
    pub fn of(users: u32) -> Self {
        let tested = S::begin();
        let registrations: Vec<_> = (1..=users)
            .map(|number| register(number, &format!("name-{number}"), device(&format!("device-{number}"))))
            .collect();
        commit(tested.store(), &registrations);
        Self::on(tested)
    }

    /// A world on a store that has its users already.
    pub fn on(tested: S) -> Self {
        Self { tested, time: 1_000, places: 0 }
    }

    pub fn store(&self) -> &dyn Store {
        self.tested.store()
    }

    /// A time so much later than all before that no request counts as a repetition.
    pub fn now(&mut self) -> Timestamp {
        self.time += REPEAT_INTERVAL_NS;
        Timestamp(self.time)
    }

    pub fn write(&self, write: Write) -> Written {
        commit(self.store(), &[write]).remove(0)
    }

    /// Makes an open group with a hundred seats.
    pub fn make(&mut self, number: u32, creator: u32) {
        self.make_as(Group { open: true, ..group(number, creator) });
    }

    pub fn make_as(&mut self, group: Group) {
        let group = Group { create_time: self.now(), ..group };
        assert_eq!(self.write(Write::CreateGroup(group)), Written::GroupCreated(GroupCreated::Created));
    }

    /// A change of a group, as its channel's owner would request it.
    pub fn request(&mut self, group: u32, actor: u32, act: GroupAct) -> Write {
        let places = (0..act.messages_max()).map(|_| self.place()).collect();
        let change = GroupChange { group: group_id(group), actor: user(actor), act };
        Write::Request(StoreWrite::ChangeGroup { change, time: self.now(), places })
    }

    pub fn place(&mut self) -> ChannelHead {
        self.places += 1;
        place(self.places)
    }

    /// Changes a group, and returns the outcome as text.
    pub fn act(&mut self, group: u32, actor: u32, act: GroupAct) -> String {
        match self.outcome(group, actor, act) {
            Ok(outcome) => tell(&outcome),
            Err(refusal) => format!("{refusal:?}"),
        }
    }

    pub fn outcome(&mut self, group: u32, actor: u32, act: GroupAct) -> Result<GroupOutcome, GroupRefusal> {
        let request = self.request(group, actor, act);
        match self.write(request) {
            Written::Receipt(StoreReceipt::GroupChanged(changed)) => changed,
            other => panic!("{other:?}"),
        }
    }

    /// Brings users into a group in which user 1 is a superadmin, each in the given role.
    pub fn cast(&mut self, group: u32, roles: &[(u32, Role)]) {
        for &(number, role) in roles {
            let users = vec![user(number)];
            if role != Role::JoinRequest {
                assert!(self.outcome(group, 1, GroupAct::Add(users.clone())).is_ok());
            }
            let raises = match role {
                Role::Superadmin => 2,
                Role::Admin => 1,
                Role::Member => 0,
                Role::JoinRequest => {
                    assert!(self.outcome(group, number, GroupAct::Join).is_ok());
                    continue;
                }
                Role::Banned => {
                    assert!(self.outcome(group, 1, GroupAct::Ban(users)).is_ok());
                    continue;
                }
            };
            for _ in 0..raises {
                assert!(self.outcome(group, 1, GroupAct::Promote(users.clone())).is_ok());
            }
        }
    }

    /// The users and roles of a group, in the order of the list, the banned last.
    pub fn roster(&self, group: u32) -> String {
        let of = |role| self.store().group_members(group_id(group), role, None, usize::MAX).unwrap();
        let people = of(None).into_iter().chain(of(Some(Role::Banned)));
        people.map(|(user, place)| format!("{}:{}", number(user), place.role as u8)).collect::<Vec<_>>().join(" ")
    }

    pub fn relate(&mut self, act: FriendAct, one: u32, others: &[u32]) -> Related {
        self.relate_and_note(act, one, others, "")
    }

    /// The same with metadata.
    pub fn relate_and_note(&mut self, act: FriendAct, one: u32, others: &[u32], metadata: &str) -> Related {
        let (others, metadata, time) = (users(others), metadata.into(), self.now());
        match self.write(Write::Relate { act, user: user(one), others, metadata, time }) {
            Written::Related(related) => related,
            other => panic!("{other:?}"),
        }
    }

    /// The users of a user's list of friends with what the user has noted of each, in the order of the list. Reads it in
    /// pages of one.
    pub fn notes(&self, one: u32) -> String {
        let (mut notes, mut after) = (Vec::new(), None);
        loop {
            let page = self.store().friends(user(one), None, after, 1).unwrap();
            let Some((friend, place)) = page.into_iter().next() else { return notes.join(" ") };
            notes.push(format!("{}:{}", number(friend.user), friend.metadata));
            after = Some(place);
        }
    }

    /// The users and states of a user's list of friends, in the order of the list.
    pub fn friends(&self, one: u32) -> String {
        let friends = self.store().friends(user(one), None, None, usize::MAX).unwrap();
        let texts = friends.iter().map(|(friend, _)| format!("{}:{}", number(friend.user), friend.state as u8));
        texts.collect::<Vec<_>>().join(" ")
    }

    /// The codes of a user's notifications, oldest first.
    pub fn notified(&self, one: u32) -> Vec<i32> {
        let all = self.store().notifications(user(one), None, usize::MAX).unwrap();
        all.into_iter().map(|notification| notification.code as i32).collect()
    }
}

pub fn group_id(number: u32) -> GroupId {
    GroupId(Uuid::from_u128(0x6000 << 64 | u128::from(number)))
}

pub fn channel_of(group: u32) -> ChannelId {
    ChannelId::group(group_id(group))
}

/// A closed group with a hundred seats, called `group-1` and so on.
pub fn group(number: u32, creator: u32) -> Group {
    Group {
        id: group_id(number),
        creator: user(creator),
        name: format!("group-{number}"),
        description: String::new(),
        lang_tag: "en".into(),
        metadata: "{}".into(),
        avatar_url: String::new(),
        open: false,
        edge_count: 1,
        max_count: 100,
        create_time: Timestamp(5),
        update_time: Timestamp(5),
    }
}

pub fn place(number: u32) -> ChannelHead {
    ChannelHead { id: message_id(number), sequence: engine::id::Sequence(u64::from(number)) }
}

pub fn number(user: UserId) -> u32 {
    user.0.as_u128() as u32
}

pub fn users(numbers: &[u32]) -> Vec<UserId> {
    numbers.iter().map(|&number| user(number)).collect()
}

/// An outcome as text: messages, notices, removed users.
pub fn tell(outcome: &GroupOutcome) -> String {
    let messages = outcome.messages.iter().map(|m| format!("message {} of {}", m.code as i32, number(m.sender)));
    let notices = outcome.notices.iter().map(tell_notice);
    let removed = outcome.removed.iter().map(|user| format!("{} is removed", number(*user)));
    let deleted = outcome.deleted.then(|| "deleted".to_owned());
    messages.chain(removed).chain(notices).chain(deleted).collect::<Vec<_>>().join(", ")
}

pub fn tell_notice(notice: &Notice) -> String {
    format!("notice {} to {}", notice.notification.code as i32, number(notice.user))
}

/// Checks that the lists of groups `1..=groups` and users `1..=users` agree with each other.
pub fn check_sound(store: &dyn Store, groups: u32, users: u32) {
    let mut user_lists: BTreeMap<u32, Vec<(u32, Role)>> = BTreeMap::new();
    let mut present = Vec::new();
    for number_of_group in 1..=groups {
        let id = group_id(number_of_group);
        let people: Vec<_> = [None, Some(Role::Banned)]
            .into_iter()
            .flat_map(|role| store.group_members(id, role, None, usize::MAX).unwrap())
            .collect();
        let Some(group) = store.group(id).unwrap() else {
            assert!(people.is_empty(), "a group that is gone has people");
            continue;
        };
        let seats = people.iter().filter(|(_, place)| place.role.is_member()).count();
        assert_eq!(group.edge_count as usize, seats, "{}", group.name);
        assert!(group.edge_count <= group.max_count, "{}", group.name);
        assert!(people.iter().any(|(_, place)| place.role == Role::Superadmin), "{} has no superadmin", group.name);
        for (member, place) in &people {
            assert_eq!(store.group_role(id, *member).unwrap(), Some(place.role));
            user_lists.entry(number(*member)).or_default().push((number_of_group, place.role));
        }
        present.push(group);
    }
    for number_of_user in 1..=users {
        let mut list: Vec<_> = [None, Some(Role::Banned)]
            .into_iter()
            .flat_map(|role| store.user_groups(user(number_of_user), role, None, usize::MAX).unwrap())
            .map(|(group, place)| (group.id.0.as_u128() as u32, place.role))
            .collect();
        list.sort();
        assert_eq!(list, user_lists.remove(&number_of_user).unwrap_or_default(), "the groups of {number_of_user}");
        check_friends(store, number_of_user);
    }
    let mut names: Vec<_> = present.iter().map(|group| group.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), present.len(), "two groups have one name");
    assert_eq!(all_groups(store, 7), all_groups(store, 1000), "pages are the whole");
    present.sort_by_key(|group| (group.name.to_lowercase(), group.id));
    assert_eq!(all_groups(store, 1000), present);
}

fn check_friends(store: &dyn Store, number_of_user: u32) {
    let friends = store.friends(user(number_of_user), None, None, usize::MAX).unwrap();
    let count = friends.iter().filter(|(friend, _)| friend.state == FriendState::Friend).count();
    assert_eq!(store.edge_count(user(number_of_user)).unwrap() as usize, count);
    for (friend, _) in friends {
        let sides = store.sides(user(number_of_user), friend.user).unwrap();
        let own = sides.own.unwrap();
        assert_eq!(own, friend.state);
        let fits = match own {
            FriendState::Friend => sides.others == Some(FriendState::Friend),
            FriendState::InviteSent => sides.others == Some(FriendState::InviteReceived),
            FriendState::InviteReceived => sides.others == Some(FriendState::InviteSent),
            FriendState::Blocked => matches!(sides.others, None | Some(FriendState::Blocked)),
        };
        assert!(fits, "{number_of_user} and {}: {sides:?}", friend.user);
    }
}

/// Compares everything that can be read about people in both stores.
pub fn compare(model: &dyn Store, other: &dyn Store, groups: u32, users: u32) {
    let roles = [None, Some(Role::Admin), Some(Role::Banned)];
    assert_eq!(all_groups(model, 2), all_groups(other, 2));
    for id in (1..=groups).map(group_id) {
        assert_eq!(model.group(id), other.group(id));
        for role in roles {
            assert_eq!(model.group_members(id, role, None, 99), other.group_members(id, role, None, 99));
        }
        for one in (1..=users).map(user) {
            assert_eq!(model.group_role(id, one), other.group_role(id, one));
        }
    }
    for channel in (1..=groups).map(channel_of).chain([room("lobby")]) {
        assert_eq!(
            model.messages(&channel, PageStart::Oldest, 9999),
            other.messages(&channel, PageStart::Oldest, 9999)
        );
        assert_eq!(model.head(&channel), other.head(&channel));
    }
    for one in (1..=users).map(user) {
        assert_eq!(model.account(one), other.account(one));
        for role in roles {
            assert_eq!(model.user_groups(one, role, None, 99), other.user_groups(one, role, None, 99));
        }
        for state in [None, Some(FriendState::Blocked)] {
            assert_eq!(model.friends(one, state, None, 99), other.friends(one, state, None, 99));
        }
        assert_eq!(model.edge_count(one), other.edge_count(one));
        assert_eq!(model.notifications(one, None, 9999), other.notifications(one, None, 9999));
        let middle = Some(NotificationId(Uuid::from_u128(1 << 80)));
        assert_eq!(model.notifications(one, middle, 3), other.notifications(one, middle, 3));
        assert_eq!(model.channels_written(one, None, 99), other.channels_written(one, None, 99));
    }
    for number in 0..=users {
        let name = format!("name-{number}");
        assert_eq!(model.user_by_username(&name), other.user_by_username(&name));
        for kind in 0..3 {
            assert_eq!(model.credential(&credential(kind, number)), other.credential(&credential(kind, number)));
        }
    }
    super::objects::compare_objects(model, other, users);
    assert_eq!(model.account_deletions(99), other.account_deletions(99));
    assert_eq!(model.revocations(), other.revocations());
}

/// One of the few credentials that the random tests use.
pub fn credential(kind: usize, ident: u32) -> Credential {
    use CredentialKind::{Custom, Device, Email};
    Credential { kind: [Device, Custom, Email][kind], ident: format!("device-{ident}") }
}

/// All groups, page by page.
pub fn all_groups(store: &dyn Store, limit: usize) -> Vec<Group> {
    let (mut all, mut after) = (Vec::new(), None::<GroupPlace>);
    loop {
        let (page, next) = store.groups(&GroupFilter::default(), after.as_ref(), limit).unwrap();
        all.extend(page);
        match next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

pub fn is_unfit(written: Result<Written, Failure>) -> bool {
    matches!(written, Err(Failure::Unfit(_)))
}

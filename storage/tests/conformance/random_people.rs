//! Groups, friends, notifications and accounts under random use: the stores must give the same answers and the same
//! lists, and their lists must agree with each other.

use std::collections::HashSet;

use engine::id::{Timestamp, UserId};
use engine::persist::StoreWrite;
use engine::social::friend::FriendAct;
use engine::social::group::{GroupAct, GroupChange};
use proptest::prelude::*;
use storage::group::{Group, GroupEdit};
use storage::object::{ObjectCondition, ObjectWrite, ReadPermission, WritePermission};
use storage::repeats::REPEAT_INTERVAL_NS;
use storage::{Store, Write};

use crate::common::objects::*;
use crate::common::people::*;
use crate::common::*;

/// Few of each, so that steps affect each other. Users beyond the first ones never exist, or register late.
const USERS: u32 = 8;
const USERS_AT_FIRST: u32 = 6;
const GROUPS: u32 = 5;
const NAMES: [&str; 4] = ["one", "One", "two", "üne"];
/// The keys and values of objects. The collection follows from the key.
const KEYS: [&str; 4] = ["a", "ab", "b", "é"];
const VALUES: [&str; 3] = ["{}", "{\"a\":1}", "{\"b\":[]}"];

#[derive(Clone, Debug)]
pub enum Step {
    Commit(Vec<Act>),
    Reopen,
}

/// One write, by numbers.
#[derive(Clone, Debug)]
pub enum Act {
    Make {
        creator: u32,
        name: usize,
        open: bool,
        seats: u32,
    },
    Edit {
        group: u32,
        actor: u32,
        name: Option<usize>,
        open: Option<bool>,
    },
    Group {
        group: u32,
        actor: u32,
        kind: u8,
        named: Vec<u32>,
    },
    Relate {
        act: FriendAct,
        user: u32,
        others: Vec<u32>,
        note: usize,
    },
    Block {
        user: u32,
        other: u32,
    },
    Knock {
        user: u32,
        other: u32,
    },
    DeleteNotifications {
        user: u32,
        whose: u32,
        places: Vec<usize>,
    },
    Send {
        group: Option<u32>,
        user: u32,
    },
    /// By key, value, and what is asked of the stored object; the number has the rest.
    WriteObjects {
        user: u32,
        objects: Vec<(usize, usize, u8)>,
    },
    DeleteObjects {
        user: u32,
        keys: Vec<(usize, Option<usize>)>,
    },
    Register {
        user: u32,
    },
    Link {
        user: u32,
        kind: usize,
        ident: u32,
    },
    Unlink {
        user: u32,
        kind: usize,
        ident: u32,
    },
    Rename {
        user: u32,
        name: u32,
    },
    Delete {
        user: u32,
    },
    Finish {
        user: u32,
    },
}

fn acts() -> impl Strategy<Value = Act> {
    let user = || 1..=USERS;
    let group = || 1..=GROUPS;
    let named = || prop::collection::vec(1..=USERS, 0..4);
    let friend_act = prop_oneof![3 => Just(FriendAct::Add), 1 => Just(FriendAct::Delete), 1 => Just(FriendAct::Block)];
    prop_oneof![
        3 => (user(), 0..NAMES.len(), any::<bool>(), 1u32..5)
            .prop_map(|(creator, name, open, seats)| Act::Make { creator, name, open, seats }),
        2 => (group(), user(), prop::option::of(0..NAMES.len()), any::<Option<bool>>())
            .prop_map(|(group, actor, name, open)| Act::Edit { group, actor, name, open }),
        20 => (group(), user(), 0u8..14, named())
            .prop_map(|(group, actor, kind, named)| Act::Group { group, actor, kind, named }),
        8 => (friend_act, user(), named(), 0..NOTES.len())
            .prop_map(|(act, user, others, note)| Act::Relate { act, user, others, note }),
        1 => (user(), user()).prop_map(|(user, other)| Act::Block { user, other }),
        3 => (user(), user()).prop_map(|(user, other)| Act::Knock { user, other }),
        2 => (user(), user(), prop::collection::vec(0usize..6, 0..4))
            .prop_map(|(user, whose, places)| Act::DeleteNotifications { user, whose, places }),
        3 => (prop::option::of(group()), user()).prop_map(|(group, user)| Act::Send { group, user }),
        6 => (user(), prop::collection::vec((0..KEYS.len(), 0..VALUES.len(), 0u8..24), 0..4))
            .prop_map(|(user, objects)| Act::WriteObjects { user, objects }),
        2 => (user(), prop::collection::vec((0..KEYS.len(), prop::option::of(0..VALUES.len())), 0..3))
            .prop_map(|(user, keys)| Act::DeleteObjects { user, keys }),
        1 => user().prop_map(|user| Act::Register { user }),
        2 => (user(), 0usize..3, 0u32..4).prop_map(|(user, kind, ident)| Act::Link { user, kind, ident }),
        2 => (user(), 0usize..3, 0u32..4).prop_map(|(user, kind, ident)| Act::Unlink { user, kind, ident }),
        1 => (user(), user()).prop_map(|(user, name)| Act::Rename { user, name }),
        1 => user().prop_map(|user| Act::Delete { user }),
        1 => user().prop_map(|user| Act::Finish { user }),
    ]
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => prop::collection::vec(acts(), 1..8).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

/// Converts acts to writes: with rising places and times, and ids that are each used once.
struct Scribe {
    time: i64,
    places: u32,
    groups: u32,
    gone: HashSet<u32>,
    /// Users who have sent in this commit.
    senders: HashSet<u32>,
}

impl Scribe {
    /// `None` for writes that no server would send: a second group with the same id, the return of a deleted user, or
    /// the end of a deletion while a message of the user is still being written.
    fn write(&mut self, model: &dyn Store, act: &Act) -> Option<Write> {
        // No request counts as a repetition: a restart, which the model does not know of, would forget it.
        self.time += REPEAT_INTERVAL_NS;
        let time = Timestamp(self.time);
        Some(match act {
            Act::Make { creator, name, open, seats } => {
                if self.groups == GROUPS {
                    return None;
                }
                self.groups += 1;
                let made = group(self.groups, *creator);
                let (name, open, max_count) = (NAMES[*name].into(), *open, *seats);
                Write::CreateGroup(Group { name, open, max_count, create_time: time, ..made })
            }
            Act::Edit { group, actor, name, open } => Write::UpdateGroup {
                id: group_id(*group),
                actor: user(*actor),
                edit: GroupEdit { name: name.map(|name| NAMES[name].into()), open: *open, ..GroupEdit::default() },
                time,
            },
            Act::Group { group, actor, kind, named } => {
                let act = group_act(*kind, users(named));
                let places = (0..act.messages_max()).map(|_| self.place()).collect();
                let change = GroupChange { group: group_id(*group), actor: user(*actor), act };
                Write::Request(StoreWrite::ChangeGroup { change, time, places })
            }
            Act::Relate { act, user: one, others, note } => {
                let metadata = NOTES[*note].into();
                Write::Relate { act: *act, user: user(*one), others: users(others), metadata, time }
            }
            Act::Block { user: one, other } => {
                Write::Request(StoreWrite::Block { user: user(*one), other: user(*other), time })
            }
            Act::Knock { user: one, other } => {
                let username = format!("name-{one}").into();
                Write::Request(StoreWrite::RequestChat { user: user(*one), username, other: user(*other), time })
            }
            Act::DeleteNotifications { user: one, whose, places } => {
                let all = model.notifications(user(*whose), None, usize::MAX).unwrap();
                let ids = places.iter().filter_map(|&place| all.get(place)).map(|notification| notification.id);
                Write::DeleteNotifications { user: user(*one), ids: ids.collect() }
            }
            Act::Send { group, user: one } => {
                let channel = group.map_or_else(|| room("lobby"), channel_of);
                // The owner of a channel lets only users write who are in it.
                if group.is_some_and(|group| model.group_role(group_id(group), user(*one)).unwrap().is_none())
                    || self.gone.contains(one)
                {
                    return None;
                }
                self.places += 1;
                self.senders.insert(*one);
                insert(&channel, self.places, *one)
            }
            Act::WriteObjects { user: one, objects } => Write::WriteObjects {
                owner: user(*one),
                objects: objects.iter().map(|&(key, value, rest)| object_write(key, value, rest)).collect(),
                time,
            },
            Act::DeleteObjects { user: one, keys } => {
                let versions: Vec<_> =
                    keys.iter().map(|(_, value)| value.map(|value| version(VALUES[value]).to_string())).collect();
                let deletes = keys.iter().zip(&versions);
                let deletes = deletes.map(|((key, _), version)| (collection(*key), KEYS[*key], version.as_deref()));
                delete_objects(*one, &deletes.collect::<Vec<_>>())
            }
            Act::Register { user: one } => {
                if self.gone.contains(one) || model.account(user(*one)).unwrap().is_some() {
                    return None;
                }
                register(*one, &format!("name-{one}"), device(&format!("device-{one}")))
            }
            Act::Link { user: one, kind, ident } => Write::Link {
                user: user(*one),
                credential: credential(*kind, *ident),
                secret: format!("${time:?}"),
                time,
            },
            Act::Unlink { user: one, kind, ident } => {
                Write::Unlink { user: user(*one), credential: credential(*kind, *ident), time }
            }
            Act::Rename { user: one, name } => Write::ChangeAccount {
                id: user(*one),
                change: storage::account::AccountChange {
                    username: Some(format!("name-{name}")),
                    ..storage::account::AccountChange::default()
                },
                update_time: time,
            },
            Act::Delete { user: one } => {
                self.gone.insert(*one);
                Write::DeleteAccount { user: user(*one), time }
            }
            Act::Finish { user: one } => {
                if self.senders.contains(one) {
                    return None;
                }
                self.gone.insert(*one);
                Write::FinishAccountDeletion { user: user(*one) }
            }
        })
    }

    fn place(&mut self) -> engine::persist::ChannelHead {
        self.places += 1;
        place(self.places)
    }
}

fn collection(key: usize) -> &'static str {
    COLLECTIONS[key % COLLECTIONS.len()]
}

fn object_write(key: usize, value: usize, rest: u8) -> ObjectWrite {
    let condition = match rest % 4 {
        0 => ObjectCondition::Absent,
        1 => ObjectCondition::Version(version(VALUES[usize::from(rest) % VALUES.len()]).to_string()),
        _ => ObjectCondition::Anything,
    };
    ObjectWrite {
        condition,
        read: ReadPermission::ALL[usize::from(rest / 4) % ReadPermission::ALL.len()],
        write: if rest == 23 { WritePermission::NoClient } else { WritePermission::Owner },
        ..object(collection(key), KEYS[key], VALUES[value])
    }
}

fn group_act(kind: u8, named: Vec<UserId>) -> GroupAct {
    match kind {
        0 => GroupAct::Delete,
        1..=3 => GroupAct::Join,
        4 => GroupAct::Leave,
        5 => GroupAct::Depart,
        6..=8 => GroupAct::Add(named),
        9 => GroupAct::Kick(named),
        10 => GroupAct::Ban(named),
        11 | 12 => GroupAct::Promote(named),
        _ => GroupAct::Demote(named),
    }
}

/// Whether the write may notify users that it does not name: a request to join a closed group notifies the group's
/// admins. A store learns their names only while it carries the write out. So no store promises which comes first, this
/// notification or that of another write in the same commit.
fn may_notify_unnamed(model: &dyn Store, write: &Write) -> bool {
    let closes = |group: Group| !group.open;
    match write {
        Write::Request(StoreWrite::ChangeGroup { change, .. }) if change.act == GroupAct::Join => {
            model.group(change.group).unwrap().is_some_and(closes)
        }
        Write::CreateGroup(group) => !group.open,
        Write::UpdateGroup { edit, .. } => edit.open == Some(false),
        _ => false,
    }
}

/// Runs the same steps on the model and on another store, which must answer in the same way.
pub fn agree_with_the_model<S: StoreUnderTest>(steps: &[Step]) {
    let (model, mut other) = (World::<InMemory>::of(USERS_AT_FIRST), World::<S>::of(USERS_AT_FIRST));
    let mut scribe = Scribe { time: 0, places: 0, groups: 0, gone: HashSet::new(), senders: HashSet::new() };
    for step in steps {
        match step {
            Step::Commit(acts) => {
                scribe.senders.clear();
                let mut writes: Vec<_> = acts.iter().filter_map(|act| scribe.write(model.store(), act)).collect();
                // Messages come first: a user does not send after the change that removes them, because the channel's
                // owner waits until that change is decided.
                writes.sort_by_key(|write| !matches!(write, Write::Request(StoreWrite::Insert(_))));
                // One commit, unless the order within it may differ.
                let size =
                    if writes.iter().any(|write| may_notify_unnamed(model.store(), write)) { 1 } else { writes.len() };
                for writes in writes.chunks(size.max(1)) {
                    assert_eq!(model.store().commit(writes), other.store().commit(writes));
                }
                check_sound(model.store(), GROUPS, USERS);
            }
            Step::Reopen => other.tested.reopen(),
        }
    }
    compare(model.store(), other.store(), GROUPS, USERS);
    other.tested.reopen();
    compare(model.store(), other.store(), GROUPS, USERS);
    check_sound(other.store(), GROUPS, USERS);
}

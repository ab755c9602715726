//! Tests of the groups' rules: as tables, and properties that hold after any act on any group.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::Role::*;
use super::*;

fn user(number: u8) -> UserId {
    UserId(Uuid::from_u128(u128::from(number)))
}

/// A group in a test: roles by the user's number, in the order in which the users came.
#[derive(Clone, PartialEq, Eq, Debug)]
struct TestGroup {
    open: bool,
    seats_max: u32,
    roles: BTreeMap<u8, Role>,
}

/// Users from 1 to 9 exist, and 11; 8 has no room for another group, and 11 has blocked every other user.
const USERS: u8 = 9;
const CROWDED: u8 = 8;
const BLOCKING: u8 = 11;

impl TestGroup {
    fn new(roles: &[(u8, Role)]) -> Self {
        Self { open: true, seats_max: 100, roles: roles.iter().copied().collect() }
    }

    fn seats_taken(&self) -> u32 {
        self.roles.values().filter(|role| role.is_member()).count() as u32
    }

    fn roster(&self, change: &GroupChange) -> Roster {
        let concerned = change.act.named().iter().chain([&change.actor]);
        let person = |id: UserId| {
            let number = id.0.as_u128() as u8;
            let exists = (1..=USERS).contains(&number) || number == BLOCKING;
            let role = self.roles.get(&number).copied();
            Person { role, exists, has_room: number != CROWDED, blocks_actor: number == BLOCKING }
        };
        let others = self.roles.iter().filter(|(number, role)| user(**number) != change.actor && role.is_member());
        Roster {
            open: self.open,
            seats_taken: self.seats_taken(),
            seats_max: self.seats_max,
            people: concerned.map(|&id| (id, person(id))).collect(),
            next: others.min_by_key(|(number, role)| (**role, **number)).map(|(number, role)| (user(*number), *role)),
        }
    }

    fn decide(&self, actor: u8, act: GroupAct) -> Result<GroupDecision, GroupRefusal> {
        let change = GroupChange { group: GroupId(Uuid::nil()), actor: user(actor), act };
        change.decide(Some(&self.roster(&change)))
    }

    fn apply(&mut self, moves: &[Move]) {
        for made in moves {
            let number = made.user.0.as_u128() as u8;
            let before = match made.after {
                Some(role) => self.roles.insert(number, role),
                None => self.roles.remove(&number),
            };
            assert_eq!(before, made.before, "{made:?}");
        }
    }
}

/// The moves as text: which user, to which role, and with which message.
fn told(decision: Result<GroupDecision, GroupRefusal>) -> String {
    match decision {
        Err(refusal) => format!("{refusal:?}"),
        Ok(GroupDecision::Delete) => "delete".into(),
        Ok(GroupDecision::Move(moves)) => {
            let texts = moves.iter().map(|made| {
                let number = made.user.0.as_u128();
                let after = made.after.map_or("out".into(), |role| format!("{role:?}"));
                let message = made.message.map_or("silent".into(), |code| (code as i32).to_string());
                format!("{number} {after} {message}")
            });
            texts.collect::<Vec<_>>().join(", ")
        }
    }
}

/// 1 and 2 are superadmins, 3 and 4 admins, 5 is a member, 6 has asked to join, 7 is banned; 8 and 9 have no role, and
/// 10 does not exist.
fn full_cast() -> TestGroup {
    let roles = [(1, Superadmin), (2, Superadmin), (3, Admin), (4, Admin), (5, Member), (6, JoinRequest), (7, Banned)];
    TestGroup::new(&roles)
}

fn everybody() -> Vec<UserId> {
    (1..=9).map(user).collect()
}

#[track_caller]
fn check(group: &TestGroup, actor: u8, act: GroupAct, expected: &str) {
    assert_eq!(told(group.decide(actor, act.clone())), expected, "{actor}: {act:?}");
}

#[test]
fn joins() {
    let open = full_cast();
    let closed = TestGroup { open: false, ..open.clone() };
    let full = TestGroup { seats_max: 5, ..open.clone() };
    for (actor, in_open, in_closed) in [
        (9, "9 Member 3", "9 JoinRequest silent"),
        (5, "", ""),
        (6, "", ""),
        (7, "", ""),
        (8, "TooManyGroups", "TooManyGroups"),
        (10, "UnknownUser", "UnknownUser"),
    ] {
        check(&open, actor, GroupAct::Join, in_open);
        check(&closed, actor, GroupAct::Join, in_closed);
        check(&full, actor, GroupAct::Join, "Full");
    }
}

#[test]
fn leaves() {
    let group = full_cast();
    for (actor, expected) in [(1, "1 out 5"), (3, "3 out 5"), (5, "5 out 5"), (6, "6 out silent"), (7, ""), (9, "")] {
        check(&group, actor, GroupAct::Leave, expected);
    }
    check(&TestGroup::new(&[(1, Superadmin), (3, Admin)]), 1, GroupAct::Leave, "LastSuperadmin");
    check(&TestGroup::new(&[(1, Superadmin), (5, Member)]), 1, GroupAct::Leave, "LastSuperadmin");
    check(&TestGroup::new(&[(1, Superadmin), (6, JoinRequest), (7, Banned)]), 1, GroupAct::Leave, "delete");
}

#[test]
fn account_deletions() {
    let group = full_cast();
    for (actor, expected) in [(1, "1 out 5"), (5, "5 out 5"), (6, "6 out silent"), (7, "7 out silent"), (9, "")] {
        check(&group, actor, GroupAct::Depart, expected);
    }
    let depart = |roles: &[(u8, Role)], expected| check(&TestGroup::new(roles), 1, GroupAct::Depart, expected);
    depart(&[(1, Superadmin), (3, Admin), (2, Member)], "3 Superadmin 7, 1 out 5");
    depart(&[(1, Superadmin), (2, Member), (5, Member)], "2 Superadmin 7, 1 out 5");
    depart(&[(1, Superadmin), (2, Superadmin), (3, Admin)], "1 out 5");
    depart(&[(1, Superadmin), (6, JoinRequest), (7, Banned)], "delete");
}

#[test]
fn adds() {
    let group = full_cast();
    let add = |numbers: &[u8]| GroupAct::Add(numbers.iter().map(|&number| user(number)).collect());
    check(&group, 3, add(&[9, 6, 5, 7, 9, 3]), "9 Member 4, 6 Member 4");
    check(&group, 1, add(&[]), "");
    check(&group, 3, add(&[9, 10]), "UnknownUser");
    check(&group, 3, add(&[9, 8]), "TooManyGroups");
    check(&group, 3, add(&[11, 9]), "9 Member 4");
    let mut asked = group.clone();
    asked.roles.insert(BLOCKING, JoinRequest);
    check(&asked, 3, add(&[11]), "11 Member 4");
    for actor in [5, 6, 7, 9] {
        check(&group, actor, add(&[9]), "NotFound");
    }
    let one_left = TestGroup { seats_max: 6, ..group.clone() };
    check(&one_left, 3, add(&[9]), "9 Member 4");
    check(&one_left, 3, add(&[9, 6]), "Full");
    check(&one_left, 3, add(&[9, 5, 7, 9]), "9 Member 4");
    let full = TestGroup { seats_max: 5, ..group };
    check(&full, 3, add(&[5, 7]), "");
    check(&full, 3, add(&[6]), "Full");
}

#[test]
fn kicks_bans_promotions_and_demotions() {
    let group = full_cast();
    for (actor, act, expected) in [
        (1, GroupAct::Kick(everybody()), "2 out 6, 3 out 6, 4 out 6, 5 out 6, 6 out silent, 7 out silent"),
        (3, GroupAct::Kick(everybody()), "5 out 6, 6 out silent, 7 out silent"),
        (1, GroupAct::Ban(everybody()), "2 Banned 8, 3 Banned 8, 4 Banned 8, 5 Banned 8, 6 Banned silent"),
        (3, GroupAct::Ban(everybody()), "5 Banned 8, 6 Banned silent"),
        (1, GroupAct::Promote(everybody()), "3 Superadmin 7, 4 Superadmin 7, 5 Admin 7"),
        (3, GroupAct::Promote(everybody()), "5 Admin 7"),
        (1, GroupAct::Demote(everybody()), "2 Admin 9, 3 Member 9, 4 Member 9"),
        (3, GroupAct::Demote(everybody()), "4 Member 9"),
        (1, GroupAct::Promote(vec![user(5), user(5)]), "5 Admin 7"),
        (1, GroupAct::Kick(vec![user(10)]), ""),
    ] {
        check(&group, actor, act.clone(), expected);
    }
    for actor in [5, 6, 7, 9] {
        for act in [GroupAct::Kick, GroupAct::Ban, GroupAct::Promote, GroupAct::Demote] {
            check(&group, actor, act(everybody()), "NotFound");
        }
    }
}

#[test]
fn deletions() {
    let group = full_cast();
    check(&group, 2, GroupAct::Delete, "delete");
    for actor in [3, 5, 6, 7, 9] {
        check(&group, actor, GroupAct::Delete, "NotSuperadmin");
    }
}

#[test]
fn without_a_group_one_can_only_have_left() {
    for act in [
        GroupAct::Delete,
        GroupAct::Join,
        GroupAct::Add(vec![]),
        GroupAct::Kick(vec![]),
        GroupAct::Ban(vec![]),
        GroupAct::Promote(vec![]),
        GroupAct::Demote(vec![]),
    ] {
        let change = GroupChange { group: GroupId(Uuid::nil()), actor: user(1), act };
        assert_eq!(change.decide(None), Err(GroupRefusal::NotFound), "{change:?}");
    }
    for act in [GroupAct::Leave, GroupAct::Depart] {
        let change = GroupChange { group: GroupId(Uuid::nil()), actor: user(1), act };
        assert_eq!(change.decide(None), Ok(GroupDecision::Move(vec![])));
    }
}

fn groups() -> impl Strategy<Value = TestGroup> {
    let role = (0..5).prop_filter_map("a role", Role::from_number);
    (any::<bool>(), 0u32..4, prop::collection::btree_map(2..USERS, role, 0..7)).prop_map(|(open, free, mut roles)| {
        roles.insert(1, Superadmin);
        let group = TestGroup { open, seats_max: 0, roles };
        TestGroup { seats_max: group.seats_taken() + free, ..group }
    })
}

fn acts() -> impl Strategy<Value = GroupAct> {
    let named = prop::collection::vec((1..=USERS).prop_map(user), 0..6);
    let act: fn(Vec<UserId>, u8) -> GroupAct = |users, kind| match kind {
        0 => GroupAct::Delete,
        1 => GroupAct::Join,
        2 => GroupAct::Leave,
        3 => GroupAct::Depart,
        4 | 5 => GroupAct::Add(users),
        6 => GroupAct::Kick(users),
        7 => GroupAct::Ban(users),
        8 => GroupAct::Promote(users),
        _ => GroupAct::Demote(users),
    };
    (named, 0u8..10).prop_map(move |(users, kind)| act(users, kind))
}

proptest! {
    #[test]
    fn a_group_stays_sound_whatever_is_done(
        mut group in groups(),
        steps in prop::collection::vec((1..=USERS, acts()), 1..20),
    ) {
        for (actor, act) in steps {
            let rank = group.roles.get(&actor).copied();
            let Ok(decision) = group.decide(actor, act.clone()) else { continue };
            let GroupDecision::Move(moves) = decision else {
                let others = group.roles.iter().filter(|(number, role)| **number != actor && role.is_member());
                prop_assert!(others.count() == 0 || (act == GroupAct::Delete && rank == Some(Superadmin)));
                return Ok(());
            };
            prop_assert!(moves.iter().filter(|made| made.message.is_some()).count() <= act.messages_max());
            prop_assert!(act.may_remove() || !moves.iter().any(Move::removes), "{:?}", act);
            let (before, seats) = (group.clone(), moves.iter().map(Move::seats).sum());
            group.apply(&moves);
            prop_assert_eq!(before.seats_taken().saturating_add_signed(seats), group.seats_taken());
            prop_assert!(group.seats_taken() <= group.seats_max);
            prop_assert!(group.roles.values().any(|role| *role == Superadmin), "{:?}: {:?} is left", act, group);
            for made in &moves {
                prop_assert!(made.before != made.after);
                if matches!(act, GroupAct::Kick(_) | GroupAct::Ban(_)) && rank == Some(Admin) {
                    prop_assert!(made.before >= Some(Member));
                }
                if matches!(act, GroupAct::Add(_) | GroupAct::Promote(_)) {
                    prop_assert!(made.after >= rank, "nobody is raised above the actor");
                }
                prop_assert!(made.user != user(actor) || act.named().is_empty(), "nobody does it to themselves");
            }
        }
    }
}

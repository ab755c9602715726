//! Tests what no reader can see: rows that can no longer be reached are really removed, a bounded number at a time.

use engine::id::{Sequence, Timestamp};
use engine::message::MessageCode;
use engine::persist::{ChannelHead, StoreReceipt, StoreWrite};
use engine::social::friend::FriendAct;
use engine::social::group::{GroupAct, GroupChange, Role};
use fjall::AbstractTree;
use uuid::Uuid;

use super::draft::sweep::SWEEP_ROWS_MAX;
use super::*;
use crate::account::{CredentialKind, Registration};

/// More rows than one group of writes can remove.
const MANY: u32 = 3 * SWEEP_ROWS_MAX as u32 / 2;

fn user(number: u32) -> UserId {
    UserId(Uuid::from_u128(u128::from(number)))
}

fn group() -> GroupId {
    GroupId(Uuid::from_u128(77))
}

fn open(directory: &tempfile::TempDir) -> Embedded {
    Embedded::open(
        directory.path(),
        &EmbeddedOptions { cache_bytes: 8 << 20, free_bytes_min: 0, ..EmbeddedOptions::default() },
    )
    .unwrap()
}

fn commit(store: &Embedded, writes: impl IntoIterator<Item = Write>) -> Vec<Written> {
    let writes: Vec<_> = writes.into_iter().collect();
    store.commit(&writes).unwrap().into_iter().map(Result::unwrap).collect()
}

fn register(number: u32) -> Write {
    let ident = format!("device-{number}");
    let account = Account {
        id: user(number),
        username: format!("name-{number}"),
        display_name: String::new(),
        avatar_url: String::new(),
        lang_tag: "en".into(),
        location: String::new(),
        timezone: String::new(),
        metadata: "{}".into(),
        email: String::new(),
        custom_id: String::new(),
        devices: vec![ident.clone()],
        create_time: Timestamp(1),
        update_time: Timestamp(1),
        disable_time: None,
    };
    let credential = Credential { kind: CredentialKind::Device, ident };
    Write::Register(Registration { account, credential, secret: String::new() })
}

fn message(channel: &ChannelId, number: u32, sender: u32) -> Write {
    Write::Request(StoreWrite::Insert(Message {
        channel: channel.clone(),
        id: MessageId(Uuid::from_u128(u128::from(number))),
        sequence: Sequence(u64::from(number)),
        code: MessageCode::Chat,
        sender: user(sender),
        username: "".into(),
        content: "{}".into(),
        create_time: Timestamp(1),
        update_time: Timestamp(1),
        persistent: true,
    }))
}

fn change(actor: u32, act: GroupAct, place: u32) -> Write {
    let places = (0..act.messages_max() as u32)
        .map(|n| ChannelHead { id: MessageId(Uuid::from_u128(u128::from(place + n))), sequence: Sequence(1) })
        .collect();
    let change = GroupChange { group: group(), actor: user(actor), act };
    Write::Request(StoreWrite::ChangeGroup { change, time: Timestamp(9), places })
}

fn new_group(creator: u32) -> Write {
    Write::CreateGroup(Group {
        id: group(),
        creator: user(creator),
        name: "large".into(),
        description: String::new(),
        lang_tag: "en".into(),
        metadata: "{}".into(),
        avatar_url: String::new(),
        open: true,
        edge_count: 1,
        max_count: 100_000,
        create_time: Timestamp(1),
        update_time: Timestamp(1),
    })
}

fn rows(store: &Embedded, tables: &[Table]) -> Vec<usize> {
    let all = || keys::beginning_with(&[], None);
    tables.iter().map(|&table| store.tables().unwrap().view().keys(table, all()).count()).collect()
}

/// Commits empty groups until there are no leftovers; checks that no commit removes more rows than allowed. The store
/// is reopened in between.
fn sweep_all(directory: &tempfile::TempDir, mut store: Embedded, tables: &[Table]) -> (Embedded, usize) {
    let mut commits = 0;
    while rows(&store, &[Table::Leftovers]) != [0] {
        let before = rows(&store, tables);
        commit(&store, []);
        commits += 1;
        for (before, after) in before.into_iter().zip(rows(&store, tables)) {
            // A list row may have a counterpart on the other side, and a note.
            assert!(before - after <= 3 * SWEEP_ROWS_MAX, "{before} rows, then {after}");
        }
        if commits % 2 == 1 {
            drop(store);
            store = open(directory);
        }
        assert!(commits < 100);
    }
    (store, commits)
}

#[test]
fn a_large_group_is_swept_by_and_by() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let channel = ChannelId::group(group());
    commit(&store, (1..=MANY).map(register));
    commit(&store, [new_group(1)]);
    commit(&store, [change(1, GroupAct::Add((2..=MANY).map(user).collect()), 1)]);
    commit(&store, (0..MANY).map(|number| message(&channel, 10_000 + number, 1)));
    let people = [Table::Members, Table::Rosters, Table::UserGroups];
    assert_eq!(rows(&store, &people), [MANY as usize; 3]);
    assert_eq!(rows(&store, &[Table::Messages]), [2 * MANY as usize - 1]);

    let deleted = commit(&store, [change(1, GroupAct::Delete, 0)]);
    assert!(matches!(&deleted[0], Written::Receipt(StoreReceipt::GroupChanged(Ok(outcome))) if outcome.deleted));
    assert_eq!(rows(&store, &people), [MANY as usize - SWEEP_ROWS_MAX; 3], "the rest waits");
    for number in [1, MANY] {
        assert_eq!(store.group_role(group(), user(number)).unwrap(), None);
        assert_eq!(store.user_groups(user(number), None, None, 9).unwrap(), []);
    }
    assert_eq!(store.group_members(group(), None, None, 9).unwrap(), []);
    assert_eq!(rows(&store, &[Table::Groups, Table::GroupNames, Table::Browsing]), [0; 3]);

    let (store, commits) = sweep_all(&directory, store, &people);
    assert!(commits >= 4, "{commits}");
    assert_eq!(rows(&store, &people), [0; 3]);
    assert_eq!(rows(&store, &[Table::Messages, Table::Heads]), [0; 2]);
}

#[test]
fn what_hung_on_an_account_is_swept_by_and_by() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    commit(&store, (1..=2 * MANY).map(register));
    let relate = |act, one, others: Vec<UserId>| Write::Relate {
        act,
        user: user(one),
        others,
        metadata: "".into(),
        time: Timestamp(3),
    };
    let everybody = || (2..=2 * MANY).map(user).collect();
    commit(&store, [relate(FriendAct::Add, 1, everybody())]);
    commit(&store, (2..=MANY).map(|one| relate(FriendAct::Add, one, vec![user(1)])));
    commit(&store, (MANY + 1..=2 * MANY).map(|one| relate(FriendAct::Block, one, vec![user(1)])));
    commit(
        &store,
        (0..MANY).map(|number| {
            let channel = ChannelId::room(&format!("room-{number}")).unwrap();
            message(&channel, 1, 1)
        }),
    );
    commit(
        &store,
        [new_group(2), change(2, GroupAct::Add(vec![user(1)]), 1), change(2, GroupAct::Ban(vec![user(1)]), 2)],
    );
    let knock =
        StoreWrite::RequestChat { user: user(2), username: "name-2".into(), other: user(1), time: Timestamp(4) };
    commit(&store, (0..MANY).map(|_| Write::Request(knock.clone())));
    assert_eq!(store.edge_count(user(2)).unwrap(), 1);
    assert_eq!(store.group_members(group(), Some(Role::Banned), None, 9).unwrap().len(), 1);

    let deleted = commit(&store, [Write::DeleteAccount { user: user(1), time: Timestamp(5) }]);
    assert_eq!(deleted, [Written::AccountDeleted(true)]);
    let tables = [Table::Edges, Table::Friends, Table::Notifications];
    let (store, commits) = sweep_all(&directory, store, &tables);
    assert!(commits >= 5, "{commits}");
    // Half of all users were friends of the deleted user, the other half had blocked it.
    assert_eq!(rows(&store, &[Table::Edges, Table::Friends]), [0; 2]);
    assert_eq!(store.notifications(user(1), None, 9).unwrap(), []);
    assert_eq!(store.edge_count(user(2)).unwrap(), 0);
    assert_eq!(rows(&store, &[Table::Members, Table::Rosters, Table::UserGroups]), [1; 3], "the ban is gone");
    for gone in [Table::FriendCounts, Table::Inboxes] {
        assert!(store.tables().unwrap().get(gone, &keys::user(user(1))).unwrap().is_none());
    }

    let written = |store: &Embedded| store.channels_written(user(1), None, usize::MAX).unwrap().len();
    assert_eq!(written(&store), MANY as usize + 1, "where it has written is known until the purge is done");
    commit(&store, [Write::FinishAccountDeletion { user: user(1) }]);
    let (store, _) = sweep_all(&directory, store, &[Table::Authored]);
    assert_eq!((written(&store), store.account_deletions(9).unwrap()), (0, vec![]));
}

/// Checks that each user's count of groups is the number of rows that it stands for.
fn check_group_counts(store: &Embedded, users: u32) {
    for number in 1..=users {
        let key = keys::user(user(number));
        let count = store.tables().unwrap().read(Table::GroupCounts, &key, record::decode_group_count).unwrap();
        let view = store.tables().unwrap().view();
        let rows = view.keys(Table::UserGroups, keys::beginning_with(&key, None));
        let groups = rows.filter(|key| keys::Listed::of(key.as_ref().unwrap()).unwrap().rank != Role::Banned as u8);
        assert_eq!(count.unwrap_or(0) as usize, groups.count(), "user {number}");
    }
}

#[test]
fn groups_of_users_are_counted_through_every_change() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    commit(&store, (1..=MANY).map(register));
    commit(&store, [new_group(1), change(1, GroupAct::Add((2..=MANY).map(user).collect()), 1)]);
    check_group_counts(&store, MANY);
    for (place, act) in (10_000..).zip([
        GroupAct::Promote(vec![user(2), user(3)]),
        GroupAct::Ban(vec![user(4), user(5), user(3)]),
        GroupAct::Ban(vec![user(4)]),
        GroupAct::Kick(vec![user(5), user(6)]),
        GroupAct::Add(vec![user(5), user(7)]),
    ]) {
        commit(&store, [change(1, act, place)]);
        check_group_counts(&store, 9);
    }
    commit(&store, [change(8, GroupAct::Leave, 20_000), Write::DeleteAccount { user: user(2), time: Timestamp(5) }]);
    check_group_counts(&store, 9);
    commit(&store, [change(1, GroupAct::Delete, 0)]);
    check_group_counts(&store, MANY);
    let (store, _) = sweep_all(&directory, store, &[Table::Members]);
    check_group_counts(&store, MANY);
    assert_eq!(rows(&store, &[Table::GroupCounts]), [0]);
}

fn relate(act: FriendAct, one: u32, other: u32, time: i64) -> Write {
    Write::Relate { act, user: user(one), others: vec![user(other)], metadata: "".into(), time: Timestamp(time) }
}

/// A store in which user 1 has invited user 2 and taken that back, at each of these times.
fn with_goings(directory: &tempfile::TempDir, times: i64) -> Embedded {
    let store = open(directory);
    commit(&store, (1..=3).map(register));
    let writes = |time| [FriendAct::Add, FriendAct::Delete].map(|act| relate(act, 1, 2, time));
    commit(&store, (1..=times).flat_map(writes));
    store
}

fn friends(store: &Embedded) -> Vec<UserId> {
    store.friends(user(1), None, None, 99).unwrap().into_iter().map(|(friend, _)| friend.user).collect()
}

#[test]
fn a_row_that_is_written_into_a_hollow_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_goings(&directory, 200);
    assert_eq!(friends(&store), [], "now there is a hollow");
    let key = |time| {
        keys::friend(user(1), FriendPlace { state: FriendState::InviteSent, since: Timestamp(time), user: user(2) })
    };
    let hollow = || store.tables().unwrap().hollows.around(Table::Friends, &key(100));
    assert_eq!(hollow(), Some((key(1), key(200))));
    commit(&store, [relate(FriendAct::Add, 1, 3, 100)]);
    assert_eq!(hollow(), None);
    assert_eq!(friends(&store), [user(3)]);
    let before = store.rows_read();
    assert_eq!(friends(&store), [user(3)]);
    assert!(store.rows_read() - before < 9, "there are two hollows");
}

#[test]
fn an_older_reader_hides_a_newer_row_from_no_other_reader() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_goings(&directory, 200);
    let view = store.tables().unwrap().view();
    commit(&store, [relate(FriendAct::Add, 1, 3, 100)]);
    assert_eq!(view.friends(user(1), None, None, 99).unwrap().items, [], "it reads what was there when it began");
    assert_eq!(friends(&store), [user(3)]);
}

#[test]
fn a_merge_into_the_last_level_drops_marks() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_goings(&directory, 200);
    commit(&store, [relate(FriendAct::Add, 1, 3, 300)]);
    let keyspace = store.tables().unwrap().keyspace(Table::Friends);
    assert_eq!(keyspace.iter().count(), 402, "both sides of each going, and of what is there");
    keyspace.rotate_memtable_and_wait().unwrap();
    keyspace.tree.major_compact(64 << 20, u64::MAX).unwrap();
    assert_eq!(keyspace.iter().count(), 2);
    assert_eq!(friends(&store), [user(3)]);
}

#[test]
fn damage_among_leftovers_prevents_no_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    commit(&store, [register(1), new_group(1)]);
    store.tables().unwrap().keyspace(Table::Leftovers).insert("no key of ours", "").unwrap();
    commit(&store, [change(1, GroupAct::Delete, 0)]);
    commit(&store, [register(2)]);
    assert_eq!(store.group(group()).unwrap(), None);
    assert!(store.account(user(2)).unwrap().is_some());
}

//! The laws of `Store`, asked of every keeper; and the keepers compared with each other under random use.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use common::cql;
use common::*;
use engine::id::{ChannelId, Epoch, MessageId, Sequence, Timestamp};
use engine::persist::{ChannelHead, StoreReceipt, StoreRequest};
use proptest::prelude::*;
use storage::account::{AccountChange, Changed, Credential, CredentialKind, CredentialOwner, Registered, Revocation};
use storage::{Failure, NAME_BYTES_MAX, Place, Store, Write, Written};
use uuid::Uuid;

/// Each law as a test of each keeper.
macro_rules! laws {
    ($($law:ident)*) => {
        mod memory {
            $(#[test] fn $law() { super::$law::<super::InMemory>() })*
        }
        mod embedded {
            $(#[test] fn $law() { super::$law::<super::OnDisk>() })*
        }
        mod in_a_cluster {
            $(#[test] fn $law() { super::common::cql::with_node(super::$law::<super::common::cql::OnCql>) })*
        }
    };
}

laws! {
    a_group_is_applied_in_order
    one_username_has_one_account_even_within_a_group
    names_are_freed_and_taken_in_order
    the_head_never_moves_back
    pages_agree_with_the_whole_history
    only_the_sender_in_the_right_channel_changes_a_message
    everything_is_there_after_reopening
    epochs_rise
    revocations_never_weaken
    an_unfit_write_fails_alone
    a_closed_store_refuses
}

fn numbers(store: &dyn Store, channel: &ChannelId, from: Place, limit: usize) -> Vec<u64> {
    store.messages(channel, from, limit).unwrap().iter().map(|message| message.sequence.0).collect()
}

fn a_group_is_applied_in_order<K: Keeper>() {
    let keeper = K::begin();
    let (store, lobby) = (keeper.store(), room("lobby"));
    let written = commit(
        store,
        &[
            insert(&lobby, 1, 7),
            update(&lobby, 1, 7, "second"),
            update(&lobby, 1, 7, "third"),
            remove(&lobby, 1, 7),
            update(&lobby, 1, 7, "fourth"),
            remove(&lobby, 1, 7),
            insert(&lobby, 2, 7),
            update(&lobby, 2, 7, "kept"),
        ],
    );
    let contents: Vec<_> = written
        .iter()
        .map(|written| match written {
            Written::Receipt(StoreReceipt::Inserted) => "inserted".to_owned(),
            Written::Receipt(StoreReceipt::Updated(message)) => format!("updated {}", message.content),
            Written::Receipt(StoreReceipt::Removed(message)) => format!("removed {}", message.content),
            Written::Receipt(StoreReceipt::NotFound) => "not found".to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = "inserted/updated second/updated third/removed third/not found/not found/inserted/updated kept";
    assert_eq!(contents.join("/"), expected);
    let message = store.message(&lobby, message_id(2)).unwrap().unwrap();
    assert_eq!((&*message.content, &*message.username), ("kept", "renamed-7"));
    assert_eq!((message.create_time, message.update_time), (Timestamp(2_000_000_014), Timestamp(99)));
    assert_eq!(store.message(&lobby, message_id(1)).unwrap(), None);
}

fn one_username_has_one_account_even_within_a_group<K: Keeper>() {
    let keeper = K::begin();
    let store = keeper.store();
    let written = commit(
        store,
        &[
            register(1, "ann", device("a")),
            register(2, "ann", device("b")),
            register(3, "bob", device("a")),
            register(4, "bob", Credential { kind: CredentialKind::Custom, ident: "a".into() }),
        ],
    );
    let ann = CredentialOwner { user: user(1), secret: "$hash-1".into() };
    let expected =
        [Registered::Created, Registered::UsernameTaken, Registered::Existing(ann.clone()), Registered::Created];
    assert_eq!(written, expected.map(Written::Registered));
    assert_eq!(store.user_by_username("ann").unwrap(), Some(user(1)));
    assert_eq!(store.user_by_username("bob").unwrap(), Some(user(4)));
    assert_eq!(store.user_by_username("Ann").unwrap(), None);
    assert_eq!(store.user_by_username("").unwrap(), None);
    assert_eq!(store.user_by_username(&"x".repeat(100_000)).unwrap(), None);
    assert_eq!(store.credential(&device("a")).unwrap(), Some(ann));
    assert_eq!(store.credential(&device("b")).unwrap(), None, "a refused registration leaves nothing");
    assert_eq!(store.account(user(2)).unwrap(), None);
    assert_eq!(store.account(user(4)).unwrap(), Some(account(4, "bob")));
}

fn names_are_freed_and_taken_in_order<K: Keeper>() {
    let keeper = K::begin();
    let store = keeper.store();
    let rename = |id, name: &str| Write::ChangeAccount {
        id: user(id),
        change: AccountChange { username: Some(name.into()), ..Default::default() },
        update_time: Timestamp(5),
    };
    let written = commit(
        store,
        &[
            register(1, "ann", device("a")),
            register(2, "bob", device("b")),
            rename(1, "bob"),
            rename(1, "ann"),
            rename(1, "cat"),
            rename(2, "ann"),
            rename(1, "bob"),
            rename(3, "dan"),
            register(4, "cat", device("c")),
        ],
    );
    use Changed::*;
    let changes = [UsernameTaken, Done, Done, Done, Done, NotFound].map(Written::Changed);
    assert_eq!(written[2..8], changes);
    assert_eq!(written[8], Written::Registered(Registered::Created));
    for (name, id) in [("ann", 2), ("bob", 1), ("cat", 4)] {
        assert_eq!(store.user_by_username(name).unwrap(), Some(user(id)), "{name}");
        assert_eq!(store.account(user(id)).unwrap().unwrap().username, name);
    }
    assert_eq!(store.user_by_username("dan").unwrap(), None);
}

fn the_head_never_moves_back<K: Keeper>() {
    let mut keeper = K::begin();
    let lobby = room("lobby");
    let head = |number| Some(ChannelHead { id: message_id(number), sequence: Sequence(u64::from(number)) });
    assert_eq!(keeper.store().head(&lobby).unwrap(), None);
    commit(keeper.store(), &[insert(&lobby, 1, 7), insert(&lobby, 2, 7), insert(&lobby, 3, 7)]);
    commit(keeper.store(), &[remove(&lobby, 3, 7), remove(&lobby, 2, 7)]);
    assert_eq!(keeper.store().head(&lobby).unwrap(), head(3));
    commit(keeper.store(), &[insert(&lobby, 2, 7)]);
    assert_eq!(keeper.store().head(&lobby).unwrap(), head(3));
    keeper.reopen();
    assert_eq!(keeper.store().head(&lobby).unwrap(), head(3));
    assert_eq!(keeper.store().head(&room("lobb")).unwrap(), None);
    commit(keeper.store(), &[insert(&lobby, 4, 7)]);
    assert_eq!(keeper.store().head(&lobby).unwrap(), head(4));
}

fn pages_agree_with_the_whole_history<K: Keeper>() {
    let keeper = K::begin();
    let store = keeper.store();
    // Neighbours in the key space, whose messages must never be seen.
    for name in ["lobb", "lobbx", "lobby0", "lobbz"] {
        commit(store, &[insert(&room(name), 1, 7), insert(&room(name), 99, 7)]);
    }
    let lobby = room("lobby");
    let group: Vec<_> = [10, 20, 30, 40, 50].map(|number| insert(&lobby, number, 7)).into();
    commit(store, &group);
    commit(store, &[remove(&lobby, 30, 7)]);

    let check = |from, limit, expected: &[u64]| {
        assert_eq!(numbers(store, &lobby, from, limit), expected, "{from:?}, {limit}");
    };
    let after = |number| Place::After(message_id(number));
    let before = |number| Place::Before(message_id(number));
    check(Place::Oldest, 100, &[10, 20, 40, 50]);
    check(Place::Oldest, 2, &[10, 20]);
    check(Place::Oldest, 0, &[]);
    check(Place::Newest, 100, &[50, 40, 20, 10]);
    check(Place::Newest, 1, &[50]);
    check(after(10), 2, &[20, 40]);
    check(after(30), 9, &[40, 50]);
    check(after(35), 1, &[40]);
    check(after(50), 9, &[]);
    check(before(50), 2, &[40, 20]);
    check(before(30), 9, &[20, 10]);
    check(before(10), 9, &[]);
    check(Place::After(MessageId(Uuid::nil())), 9, &[10, 20, 40, 50]);
    check(Place::Before(MessageId(Uuid::max())), 9, &[50, 40, 20, 10]);
    check(Place::After(MessageId(Uuid::max())), 9, &[]);
    check(Place::Before(MessageId(Uuid::nil())), 9, &[]);
    assert_eq!(numbers(store, &room("empty"), Place::Newest, 9), [0; 0]);
    assert_eq!(store.messages(&lobby, after(10), 1).unwrap(), [message(&lobby, 20, 7)]);
}

fn only_the_sender_in_the_right_channel_changes_a_message<K: Keeper>() {
    let keeper = K::begin();
    let (store, lobby) = (keeper.store(), room("lobby"));
    commit(store, &[insert(&lobby, 1, 7)]);
    let other = room("other");
    let forged = [
        update(&lobby, 1, 8, "forged"),
        update(&other, 1, 7, "forged"),
        update(&lobby, 2, 7, "forged"),
        remove(&lobby, 1, 8),
        remove(&other, 1, 7),
        remove(&lobby, 2, 7),
    ];
    let written = commit(store, &forged);
    assert!(written.iter().all(|written| *written == Written::Receipt(StoreReceipt::NotFound)), "{written:?}");
    assert_eq!(store.message(&lobby, message_id(1)).unwrap(), Some(message(&lobby, 1, 7)));
    assert_eq!(store.head(&other).unwrap(), None);
}

fn everything_is_there_after_reopening<K: Keeper>() {
    let mut keeper = K::begin();
    let lobby = room("lobby");
    let revocation = Revocation::Token { id: Uuid::from_u128(9), expires: Timestamp(77) };
    commit(
        keeper.store(),
        &[
            insert(&lobby, 1, 7),
            insert(&lobby, 2, 7),
            remove(&lobby, 1, 7),
            register(1, "ann", device("a")),
            Write::Revoke(revocation),
        ],
    );
    for _ in 0..3 {
        keeper.reopen();
        let store = keeper.store();
        assert_eq!(store.messages(&lobby, Place::Oldest, 9).unwrap(), [message(&lobby, 2, 7)]);
        assert_eq!(store.account(user(1)).unwrap(), Some(account(1, "ann")));
        assert_eq!(store.user_by_username("ann").unwrap(), Some(user(1)));
        assert_eq!(store.credential(&device("a")).unwrap().map(|owner| owner.user), Some(user(1)));
        assert_eq!(store.revocations().unwrap(), [revocation]);
    }
}

fn epochs_rise<K: Keeper>() {
    let mut keeper = K::begin();
    let mut last = Epoch(0);
    for _ in 0..3 {
        for _ in 0..2 {
            let next = keeper.store().next_epoch().unwrap();
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
        keeper.reopen();
    }
}

fn revocations_never_weaken<K: Keeper>() {
    let keeper = K::begin();
    let store = keeper.store();
    let token = |id, expires| Revocation::Token { id: Uuid::from_u128(id), expires: Timestamp(expires) };
    let of_user = |id, time| Revocation::User { id: user(id), issued_before: Timestamp(time) };
    let revoke = [token(1, 10), token(1, 5), token(2, 20), of_user(1, 30), of_user(1, 20), of_user(1, 40)];
    commit(store, &revoke.map(Write::Revoke));
    assert_eq!(store.revocations().unwrap(), [token(1, 10), token(2, 20), of_user(1, 40)]);
    commit(store, &[Write::Revoke(token(3, 9)), Write::ForgetRevocations { expired_by: Timestamp(10) }]);
    assert_eq!(store.revocations().unwrap(), [token(2, 20), of_user(1, 40)]);
    commit(store, &[Write::ForgetRevocations { expired_by: Timestamp(99) }, Write::Revoke(token(2, 20))]);
    assert_eq!(store.revocations().unwrap(), [token(2, 20), of_user(1, 40)]);
}

fn an_unfit_write_fails_alone<K: Keeper>() {
    let keeper = K::begin();
    let (store, lobby) = (keeper.store(), room("lobby"));
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let rename = AccountChange { username: Some(long.clone()), ..Default::default() };
    let written = store
        .commit(&[
            insert(&lobby, 1, 7),
            register(1, "", device("a")),
            register(1, &long, device("a")),
            register(1, "ann", device("")),
            register(1, "ann", device(&long)),
            Write::Request(StoreRequest::Head { channel: lobby.clone() }),
            register(1, "ann", device(&long[1..])),
            Write::ChangeAccount { id: user(1), change: rename, update_time: Timestamp(1) },
            insert(&lobby, 2, 7),
        ])
        .unwrap();
    let unfit: Vec<_> = written.iter().map(|written| matches!(written, Err(Failure::Unfit(_)))).collect();
    assert_eq!(unfit, [false, true, true, true, true, true, false, true, false]);
    assert_eq!(numbers(store, &lobby, Place::Oldest, 9), [1, 2]);
    assert_eq!(store.account(user(1)).unwrap(), Some(account(1, "ann")));
}

fn a_closed_store_refuses<K: Keeper>() {
    let keeper = K::begin();
    let (store, lobby) = (keeper.store(), room("lobby"));
    store.close().unwrap();
    assert!(matches!(store.commit(&[insert(&lobby, 1, 7)]), Err(Failure::Final(_))));
    assert!(matches!(store.messages(&lobby, Place::Oldest, 9), Err(Failure::Final(_))));
    assert!(matches!(store.next_epoch(), Err(Failure::Final(_))));
}

/// A step of random use, over few channels, ids and names, so that steps meet.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<RandomWrite>),
    Page { channel: usize, place: Place, limit: usize },
    Reopen,
}

#[derive(Clone, Debug)]
enum RandomWrite {
    Insert { channel: usize, number: u32, sender: u32 },
    Update { channel: usize, number: u32, sender: u32, content: String },
    Remove { channel: usize, number: u32, sender: u32 },
    Register { name: usize, kind: CredentialKind, ident: usize },
    Change { account: u32, username: Option<usize>, location: Option<String>, time: i64 },
    RevokeToken { id: u128, expires: i64 },
    RevokeUser { id: u32, issued_before: i64 },
    Forget { expired_by: i64 },
}

const CHANNELS: [&str; 3] = ["a", "ab", "b"];
const NAMES: [&str; 4] = ["ann", "bob", "", "ann "];
const NUMBERS: u32 = 12;

fn places() -> impl Strategy<Value = Place> {
    let ids = prop_oneof![
        1 => Just(MessageId(Uuid::nil())),
        1 => Just(MessageId(Uuid::max())),
        2 => any::<u128>().prop_map(|id| MessageId(Uuid::from_u128(id))),
        8 => (0..NUMBERS + 2).prop_map(message_id),
    ];
    ids.prop_flat_map(|id| {
        prop_oneof![Just(Place::Oldest), Just(Place::Newest), Just(Place::After(id)), Just(Place::Before(id))]
    })
}

fn writes() -> impl Strategy<Value = RandomWrite> {
    use RandomWrite::*;
    let place = (0..CHANNELS.len(), 1..=NUMBERS, 0u32..2);
    let kinds = prop_oneof![Just(CredentialKind::Device), Just(CredentialKind::Custom), Just(CredentialKind::Email)];
    prop_oneof![
        6 => place.clone().prop_map(|(channel, number, sender)| Insert { channel, number, sender }),
        3 => (place.clone(), ".{0,20}").prop_map(|((channel, number, sender), content)| {
            Update { channel, number, sender, content }
        }),
        3 => place.prop_map(|(channel, number, sender)| Remove { channel, number, sender }),
        2 => (0..NAMES.len(), kinds, 0..NAMES.len()).prop_map(|(name, kind, ident)| Register { name, kind, ident }),
        2 => (1u32..9, prop::option::of(0..NAMES.len()), any::<Option<String>>(), any::<i64>())
            .prop_map(|(account, username, location, time)| Change { account, username, location, time }),
        1 => (0u128..4, 0i64..9).prop_map(|(id, expires)| RevokeToken { id, expires }),
        1 => (0u32..4, 0i64..9).prop_map(|(id, issued_before)| RevokeUser { id, issued_before }),
        1 => (0i64..9).prop_map(|expired_by| Forget { expired_by }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(writes(), 0..12).prop_map(Step::Commit),
        6 => (0..CHANNELS.len(), places(), 0usize..NUMBERS as usize + 2)
            .prop_map(|(channel, place, limit)| Step::Page { channel, place, limit }),
        1 => Just(Step::Reopen),
    ]
}

/// The write as a store takes it. Accounts get numbers of their own, as their ids are new by construction.
fn concrete(write: &RandomWrite, accounts: &mut u32) -> Write {
    let channel = |index: usize| room(CHANNELS[index]);
    match write.clone() {
        RandomWrite::Insert { channel: c, number, sender } => insert(&channel(c), number, sender),
        RandomWrite::Update { channel: c, number, sender, content } => update(&channel(c), number, sender, &content),
        RandomWrite::Remove { channel: c, number, sender } => remove(&channel(c), number, sender),
        RandomWrite::Register { name, kind, ident } => {
            *accounts += 1;
            register(*accounts, NAMES[name], Credential { kind, ident: NAMES[ident].into() })
        }
        RandomWrite::Change { account, username, location, time } => Write::ChangeAccount {
            id: user(account),
            change: AccountChange {
                username: username.map(|index| NAMES[index].into()),
                location,
                ..Default::default()
            },
            update_time: Timestamp(time),
        },
        RandomWrite::RevokeToken { id, expires } => {
            Write::Revoke(Revocation::Token { id: Uuid::from_u128(id), expires: Timestamp(expires) })
        }
        RandomWrite::RevokeUser { id, issued_before } => {
            Write::Revoke(Revocation::User { id: user(id), issued_before: Timestamp(issued_before) })
        }
        RandomWrite::Forget { expired_by } => Write::ForgetRevocations { expired_by: Timestamp(expired_by) },
    }
}

/// Everything that can be read of either store, compared.
fn compare(model: &dyn Store, other: &dyn Store, accounts: u32) {
    for channel in CHANNELS.map(room) {
        assert_eq!(model.head(&channel), other.head(&channel));
        let places = (0..NUMBERS + 2).flat_map(|n| [Place::After(message_id(n)), Place::Before(message_id(n))]);
        for place in places.chain([Place::Oldest, Place::Newest]) {
            assert_eq!(model.messages(&channel, place, 99), other.messages(&channel, place, 99), "{place:?}");
        }
        for number in 0..NUMBERS + 2 {
            let id = message_id(number);
            assert_eq!(model.message(&channel, id), other.message(&channel, id));
        }
    }
    for number in 0..=accounts {
        assert_eq!(model.account(user(number)), other.account(user(number)));
    }
    for name in NAMES {
        assert_eq!(model.user_by_username(name), other.user_by_username(name));
        for kind in [CredentialKind::Device, CredentialKind::Custom, CredentialKind::Email] {
            let credential = Credential { kind, ident: name.into() };
            assert_eq!(model.credential(&credential), other.credential(&credential));
        }
    }
    assert_eq!(model.revocations(), other.revocations());
}

/// Runs the same steps on the model and on another keeper. A keeper that joins later needs one more line below.
fn agree_with_the_model<K: Keeper>(steps: &[Step]) {
    let (model, mut keeper) = (InMemory::begin(), K::begin());
    let mut accounts = 0;
    for step in steps {
        match step {
            Step::Commit(writes) => {
                let group: Vec<_> = writes.iter().map(|write| concrete(write, &mut accounts)).collect();
                assert_eq!(model.store().commit(&group), keeper.store().commit(&group));
            }
            Step::Page { channel, place, limit } => {
                let channel = room(CHANNELS[*channel]);
                let [expected, found] =
                    [model.store(), keeper.store()].map(|store| store.messages(&channel, *place, *limit));
                assert_eq!(expected, found);
            }
            Step::Reopen => keeper.reopen(),
        }
    }
    compare(model.store(), keeper.store(), accounts);
    keeper.reopen();
    compare(model.store(), keeper.store(), accounts);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_keeper_agrees_with_the_model(steps in prop::collection::vec(steps(), 1..40)) {
        agree_with_the_model::<OnDisk>(&steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn the_keeper_for_scale_agrees_with_the_model(steps in prop::collection::vec(steps(), 1..30)) {
        cql::with_node(|| agree_with_the_model::<cql::OnCql>(&steps));
    }
}

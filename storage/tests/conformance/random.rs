//! Compares the stores with each other under random use of histories and accounts.

use engine::id::{MessageId, Timestamp};
use proptest::prelude::*;
use storage::account::{AccountChange, Credential, CredentialKind, Expiry, Revocation};
use storage::{PageStart, Store, Write};
use uuid::Uuid;

use crate::common::*;

/// A step of random use, with few channels, ids and names, so that steps affect each other.
#[derive(Clone, Debug)]
pub enum Step {
    Commit(Vec<RandomWrite>),
    Page { channel: usize, place: PageStart, limit: usize },
    Reopen,
}

#[derive(Clone, Debug)]
pub enum RandomWrite {
    Insert { channel: usize, number: u32, sender: u32 },
    Update { channel: usize, number: u32, sender: u32, content: String },
    Remove { channel: usize, number: u32, sender: u32 },
    Register { name: usize, kind: CredentialKind, ident: usize },
    Change { account: u32, username: Option<usize>, location: Option<String>, time: i64 },
    RevokeToken { id: u128, expires: i64 },
    RevokeUser { id: u32, issued_before: i64 },
    Forget { users: bool, id: u32, time: i64 },
}

const CHANNELS: [&str; 3] = ["a", "ab", "b"];
const NAMES: [&str; 4] = ["ann", "bob", "", "ann "];
const NUMBERS: u32 = 12;

fn places() -> impl Strategy<Value = PageStart> {
    let ids = prop_oneof![
        1 => Just(MessageId(Uuid::nil())),
        1 => Just(MessageId(Uuid::max())),
        2 => any::<u128>().prop_map(|id| MessageId(Uuid::from_u128(id))),
        8 => (0..NUMBERS + 2).prop_map(message_id),
    ];
    ids.prop_flat_map(|id| {
        prop_oneof![
            Just(PageStart::Oldest),
            Just(PageStart::Newest),
            Just(PageStart::After(id)),
            Just(PageStart::Before(id))
        ]
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
        1 => (any::<bool>(), 0u32..4, 0i64..9).prop_map(|(users, id, time)| Forget { users, id, time }),
    ]
}

/// A step of random use.
pub fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(writes(), 0..12).prop_map(Step::Commit),
        6 => (0..CHANNELS.len(), places(), 0usize..NUMBERS as usize + 2)
            .prop_map(|(channel, place, limit)| Step::Page { channel, place, limit }),
        1 => Just(Step::Reopen),
    ]
}

/// Converts it to a store's write. Accounts get new numbers, because a new account always has a new id.
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
        RandomWrite::Forget { users: true, id, time } => {
            Write::ForgetRevocations(vec![Revocation::User { id: user(id), issued_before: Timestamp(time) }])
        }
        // One time occurs twice: it must be forgotten only once.
        RandomWrite::Forget { users: false, id, time } => {
            let of = |time| Revocation::Token { id: Uuid::from_u128(id.into()), expires: Timestamp(time) };
            Write::ForgetRevocations(vec![of(time), of(time + 1), of(time)])
        }
    }
}

/// Compares everything that can be read from either store.
fn compare(model: &dyn Store, other: &dyn Store, accounts: u32) {
    for channel in CHANNELS.map(room) {
        assert_eq!(model.head(&channel), other.head(&channel));
        let places = (0..NUMBERS + 2).flat_map(|n| [PageStart::After(message_id(n)), PageStart::Before(message_id(n))]);
        for place in places.chain([PageStart::Oldest, PageStart::Newest]) {
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
    for (tokens, users) in [(4, 9), (9, 4)] {
        let expiry = Expiry { tokens: Timestamp(tokens), users: Timestamp(users) };
        let [mut expected, mut found] =
            [model, other].map(|store| store.expired_revocations(expiry, None, 99).unwrap().0);
        for revocations in [&mut expected, &mut found] {
            revocations.sort_by_key(|revocation| format!("{revocation:?}"));
        }
        assert_eq!(found, expected);
    }
}

/// Runs the same steps on the model and on another store, which must answer in the same way.
pub fn agree_with_the_model<S: StoreUnderTest>(steps: &[Step]) {
    let (model, mut tested) = (InMemory::begin(), S::begin());
    let mut accounts = 0;
    for step in steps {
        match step {
            Step::Commit(writes) => {
                let group: Vec<_> = writes.iter().map(|write| concrete(write, &mut accounts)).collect();
                assert_eq!(model.store().commit(&group), tested.store().commit(&group));
            }
            Step::Page { channel, place, limit } => {
                let channel = room(CHANNELS[*channel]);
                let [expected, found] =
                    [model.store(), tested.store()].map(|store| store.messages(&channel, *place, *limit));
                assert_eq!(expected, found);
            }
            Step::Reopen => tested.reopen(),
        }
    }
    compare(model.store(), tested.store(), accounts);
    tested.reopen();
    compare(model.store(), tested.store(), accounts);
}

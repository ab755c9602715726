//! Tests histories, accounts and logouts, and the rules for all writes.

use engine::id::{ChannelId, Epoch, GroupId, MessageId, Sequence, Timestamp};
use engine::message::{Message, MessageCode};
use engine::persist::{ChannelHead, StoreReceipt, StoreWrite, UpdateMessage};
use storage::account::{
    AccountChange, Changed, Credential, CredentialKind, CredentialOwner, Expiry, Registered, Revocation,
};
use storage::{FORGOTTEN_AT_ONCE_MAX, Failure, NAME_BYTES_MAX, PageStart, Store, Write, Written};
use uuid::Uuid;

use crate::common::*;

laws! {
    a_group_is_applied_in_order
    one_username_has_one_account_even_within_a_group
    names_are_freed_and_taken_in_order
    the_head_never_moves_back
    pages_agree_with_the_whole_history
    only_the_sender_in_the_right_channel_changes_a_message
    what_the_server_said_about_a_user_is_not_the_users_to_change
    everything_is_there_after_reopening
    epochs_rise
    revocations_never_weaken
    what_has_expired_is_found_page_by_page
    forgetting_is_bounded
    an_unfit_write_fails_alone
    a_closed_store_refuses
}

fn numbers(store: &dyn Store, channel: &ChannelId, from: PageStart, limit: usize) -> Vec<u64> {
    store.messages(channel, from, limit).unwrap().iter().map(|message| message.sequence.0).collect()
}

fn a_group_is_applied_in_order<S: StoreUnderTest>() {
    let tested = S::begin();
    let (store, lobby) = (tested.store(), room("lobby"));
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
    assert_eq!((message.create_time, message.update_time), (Timestamp(2_000_000_014), Timestamp(2_000_000_113)));
    assert_eq!(store.message(&lobby, message_id(1)).unwrap(), None);

    // When the clock is set back, an update time does not move back.
    let Write::Request(StoreWrite::Update(earlier)) = update(&lobby, 2, 7, "later") else { unreachable!() };
    let earlier = Write::Request(StoreWrite::Update(UpdateMessage { update_time: Timestamp(5), ..earlier }));
    commit(store, &[earlier]);
    let message = store.message(&lobby, message_id(2)).unwrap().unwrap();
    assert_eq!((&*message.content, message.update_time), ("later", Timestamp(2_000_000_113)));
}

fn one_username_has_one_account_even_within_a_group<S: StoreUnderTest>() {
    let tested = S::begin();
    let store = tested.store();
    let custom_a = Credential { kind: CredentialKind::Custom, ident: "a".into() };
    let written = commit(
        store,
        &[
            register(1, "ann", device("a")),
            register(2, "ann", device("b")),
            register(3, "bob", device("a")),
            register(4, "bob", custom_a.clone()),
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
    assert_eq!(store.account(user(4)).unwrap(), Some(account_with(4, "bob", &custom_a)));
}

fn names_are_freed_and_taken_in_order<S: StoreUnderTest>() {
    let tested = S::begin();
    let store = tested.store();
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

fn the_head_never_moves_back<S: StoreUnderTest>() {
    let mut tested = S::begin();
    let lobby = room("lobby");
    let head = |number| Some(ChannelHead { id: message_id(number), sequence: Sequence(u64::from(number)) });
    assert_eq!(tested.store().head(&lobby).unwrap(), None);
    commit(tested.store(), &[insert(&lobby, 1, 7), insert(&lobby, 2, 7), insert(&lobby, 3, 7)]);
    commit(tested.store(), &[remove(&lobby, 3, 7), remove(&lobby, 2, 7)]);
    assert_eq!(tested.store().head(&lobby).unwrap(), head(3));
    commit(tested.store(), &[insert(&lobby, 2, 7)]);
    assert_eq!(tested.store().head(&lobby).unwrap(), head(3));
    tested.reopen();
    assert_eq!(tested.store().head(&lobby).unwrap(), head(3));
    assert_eq!(tested.store().head(&room("lobb")).unwrap(), None);
    commit(tested.store(), &[insert(&lobby, 4, 7)]);
    assert_eq!(tested.store().head(&lobby).unwrap(), head(4));
}

fn pages_agree_with_the_whole_history<S: StoreUnderTest>() {
    let tested = S::begin();
    let store = tested.store();
    // Neighbours in the key space, whose messages must never appear.
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
    let after = |number| PageStart::After(message_id(number));
    let before = |number| PageStart::Before(message_id(number));
    check(PageStart::Oldest, 100, &[10, 20, 40, 50]);
    check(PageStart::Oldest, 2, &[10, 20]);
    check(PageStart::Oldest, 0, &[]);
    check(PageStart::Newest, 100, &[50, 40, 20, 10]);
    check(PageStart::Newest, 1, &[50]);
    check(after(10), 2, &[20, 40]);
    check(after(30), 9, &[40, 50]);
    check(after(35), 1, &[40]);
    check(after(50), 9, &[]);
    check(before(50), 2, &[40, 20]);
    check(before(30), 9, &[20, 10]);
    check(before(10), 9, &[]);
    check(PageStart::After(MessageId(Uuid::nil())), 9, &[10, 20, 40, 50]);
    check(PageStart::Before(MessageId(Uuid::max())), 9, &[50, 40, 20, 10]);
    check(PageStart::After(MessageId(Uuid::max())), 9, &[]);
    check(PageStart::Before(MessageId(Uuid::nil())), 9, &[]);
    assert_eq!(numbers(store, &room("empty"), PageStart::Newest, 9), [0; 0]);
    assert_eq!(store.messages(&lobby, after(10), 1).unwrap(), [message(&lobby, 20, 7)]);
}

fn only_the_sender_in_the_right_channel_changes_a_message<S: StoreUnderTest>() {
    let tested = S::begin();
    let (store, lobby) = (tested.store(), room("lobby"));
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
    let [not_own, not_found] = [StoreReceipt::NotOwn, StoreReceipt::NotFound].map(Written::Receipt);
    let expected = [&not_own, &not_found, &not_found, &not_own, &not_found, &not_found];
    assert_eq!(written.iter().collect::<Vec<_>>(), expected);
    assert_eq!(store.message(&lobby, message_id(1)).unwrap(), Some(message(&lobby, 1, 7)));
    assert_eq!(store.head(&other).unwrap(), None);
}

fn what_the_server_said_about_a_user_is_not_the_users_to_change<S: StoreUnderTest>() {
    let mut tested = S::begin();
    let channel = ChannelId::group(GroupId(Uuid::from_u128(3)));
    let events = (MessageCode::GroupJoin as i32..=MessageCode::GroupDemote as i32).zip(1_u32..);
    let events: Vec<Message> = events
        .map(|(code, number)| {
            let code = MessageCode::from_number(code).expect("a code");
            Message { code, content: "{}".into(), ..message(&channel, number, 7) }
        })
        .collect();
    let inserts: Vec<Write> = events.iter().map(|event| Write::Request(StoreWrite::Insert(event.clone()))).collect();
    commit(tested.store(), &inserts);
    for _ in 0..2 {
        for number in 1..=events.len() as u32 {
            let written =
                commit(tested.store(), &[update(&channel, number, 7, "rewritten"), remove(&channel, number, 7)]);
            assert_eq!(written, [StoreReceipt::NotOwn, StoreReceipt::NotOwn].map(Written::Receipt));
        }
        assert_eq!(tested.store().messages(&channel, PageStart::Oldest, 9).unwrap(), events);
        tested.reopen();
    }
}

fn everything_is_there_after_reopening<S: StoreUnderTest>() {
    let mut tested = S::begin();
    let lobby = room("lobby");
    let revocation = Revocation::Token { id: Uuid::from_u128(9), expires: Timestamp(77) };
    commit(
        tested.store(),
        &[
            insert(&lobby, 1, 7),
            insert(&lobby, 2, 7),
            remove(&lobby, 1, 7),
            register(1, "ann", device("a")),
            Write::Revoke(revocation),
        ],
    );
    for _ in 0..3 {
        tested.reopen();
        let store = tested.store();
        assert_eq!(store.messages(&lobby, PageStart::Oldest, 9).unwrap(), [message(&lobby, 2, 7)]);
        assert_eq!(store.account(user(1)).unwrap(), Some(account_with(1, "ann", &device("a"))));
        assert_eq!(store.user_by_username("ann").unwrap(), Some(user(1)));
        assert_eq!(store.credential(&device("a")).unwrap().map(|owner| owner.user), Some(user(1)));
        assert_eq!(store.revocations().unwrap(), [revocation]);
    }
}

fn epochs_rise<S: StoreUnderTest>() {
    let mut tested = S::begin();
    let mut last = Epoch(0);
    for _ in 0..3 {
        for _ in 0..2 {
            let next = tested.store().next_epoch().unwrap();
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
        tested.reopen();
    }
}

fn revocations_never_weaken<S: StoreUnderTest>() {
    let tested = S::begin();
    let store = tested.store();
    let token = |id, expires| Revocation::Token { id: Uuid::from_u128(id), expires: Timestamp(expires) };
    let of_user = |id, time| Revocation::User { id: user(id), issued_before: Timestamp(time) };
    let revoke = [token(1, 10), token(1, 5), token(2, 20), of_user(1, 30), of_user(1, 20), of_user(1, 40)];
    commit(store, &revoke.map(Write::Revoke));
    assert_eq!(store.revocations().unwrap(), [token(1, 10), token(2, 20), of_user(1, 40)]);
    commit(store, &[Write::Revoke(token(3, 9)), Write::ForgetRevocations(vec![token(1, 10), token(3, 9)])]);
    assert_eq!(store.revocations().unwrap(), [token(2, 20), of_user(1, 40)]);
    // Revocations that are not stored, or have been replaced by a later one, are not touched.
    commit(store, &[Write::ForgetRevocations(vec![token(2, 19), of_user(1, 30), token(9, 9), of_user(2, 40)])]);
    assert_eq!(store.revocations().unwrap(), [token(2, 20), of_user(1, 40)]);
    commit(store, &[Write::ForgetRevocations(vec![token(2, 20)]), Write::Revoke(token(2, 20))]);
    assert_eq!(store.revocations().unwrap(), [token(2, 20), of_user(1, 40)]);
    commit(store, &[Write::ForgetRevocations(vec![token(2, 20), of_user(1, 40)])]);
    assert_eq!(store.revocations().unwrap(), []);
}

fn what_has_expired_is_found_page_by_page<S: StoreUnderTest>() {
    let mut tested = S::begin();
    let tokens = |numbers: std::ops::Range<u128>| {
        numbers
            .map(|number| Revocation::Token { id: Uuid::from_u128(number * 7919), expires: Timestamp(number as i64) })
    };
    let users = |numbers: std::ops::Range<u32>| {
        numbers.map(|number| Revocation::User { id: user(number), issued_before: Timestamp(i64::from(number)) })
    };
    commit(tested.store(), &tokens(0..40).chain(users(0..30)).map(Write::Revoke).collect::<Vec<_>>());
    // Only the later time counts.
    let later = Revocation::Token { id: Uuid::from_u128(7919), expires: Timestamp(1000) };
    commit(tested.store(), &[Write::Revoke(later)]);
    let expiry = Expiry { tokens: Timestamp(24), users: Timestamp(9) };
    for limit in [0, 1, 7, 35, 36, 1000] {
        let store = tested.store();
        let (mut found, mut place) = (Vec::new(), None);
        loop {
            let (page, next) = store.expired_revocations(expiry, place.as_ref(), limit).unwrap();
            assert!(page.len() <= limit);
            found.extend(page);
            match next {
                Some(next) => place = Some(next),
                None => break,
            }
        }
        found.sort_by_key(|revocation| match *revocation {
            Revocation::Token { id, expires } => (0, expires, id),
            Revocation::User { id, issued_before } => (1, issued_before, id.0),
        });
        let expected: Vec<_> = tokens(0..1).chain(tokens(2..25)).chain(users(0..10)).collect();
        assert_eq!(found, if limit == 0 { Vec::new() } else { expected }, "by {limit}");
        tested.reopen();
    }
    let store = tested.store();
    let (expired, _) = store.expired_revocations(expiry, None, 1000).unwrap();
    commit(store, &[Write::ForgetRevocations(expired)]);
    assert_eq!(store.expired_revocations(expiry, None, 1000).unwrap(), (vec![], None));
    let mut left: Vec<_> = tokens(25..40).chain([later]).chain(users(10..30)).collect();
    let mut kept = store.revocations().unwrap();
    for revocations in [&mut left, &mut kept] {
        revocations.sort_by_key(|revocation| format!("{revocation:?}"));
    }
    assert_eq!(kept, left);
}

fn forgetting_is_bounded<S: StoreUnderTest>() {
    let tested = S::begin();
    let revocations: Vec<_> = (0..=FORGOTTEN_AT_ONCE_MAX as u128)
        .map(|id| Revocation::Token { id: Uuid::from_u128(id), expires: Timestamp(1) })
        .collect();
    let store = tested.store();
    for some in revocations.chunks(100) {
        commit(store, &some.iter().copied().map(Write::Revoke).collect::<Vec<_>>());
    }
    let written = store.commit(&[Write::ForgetRevocations(revocations.clone())]).unwrap();
    assert!(matches!(written[..], [Err(Failure::Unfit(_))]), "{written:?}");
    assert_eq!(store.revocations().unwrap().len(), revocations.len());
    commit(store, &[Write::ForgetRevocations(revocations[1..].to_vec())]);
    assert_eq!(store.revocations().unwrap(), revocations[..1]);
}

fn an_unfit_write_fails_alone<S: StoreUnderTest>() {
    let tested = S::begin();
    let (store, lobby) = (tested.store(), room("lobby"));
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let rename = AccountChange { username: Some(long.clone()), ..Default::default() };
    let written = store
        .commit(&[
            insert(&lobby, 1, 7),
            register(1, "", device("a")),
            register(1, &long, device("a")),
            register(1, "ann", device("")),
            register(1, "ann", device(&long)),
            register(1, "ann", device(&long[1..])),
            Write::ChangeAccount { id: user(1), change: rename, update_time: Timestamp(1) },
            insert(&lobby, 2, 7),
        ])
        .unwrap();
    let unfit: Vec<_> = written.iter().map(|written| matches!(written, Err(Failure::Unfit(_)))).collect();
    assert_eq!(unfit, [false, true, true, true, true, false, true, false]);
    assert_eq!(numbers(store, &lobby, PageStart::Oldest, 9), [1, 2]);
    assert_eq!(store.account(user(1)).unwrap(), Some(account_with(1, "ann", &device(&long[1..]))));
}

fn a_closed_store_refuses<S: StoreUnderTest>() {
    let tested = S::begin();
    let (store, lobby) = (tested.store(), room("lobby"));
    store.close().unwrap();
    assert!(matches!(store.commit(&[insert(&lobby, 1, 7)]), Err(Failure::Final(_))));
    assert!(matches!(store.messages(&lobby, PageStart::Oldest, 9), Err(Failure::Final(_))));
    assert!(matches!(store.next_epoch(), Err(Failure::Final(_))));
}

//! Tests specific to the cluster store: partitions and their borders, few requests for sparse channels, crashes between
//! two steps, one server per keyspace, retention, and the move from the embedded store. They need a node, as
//! `common/cql.rs` says, except the test of a database that cannot be reached.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::time::{Duration, Instant};

use common::cql::{OnCql, open, wall, with_node};
use common::moves::*;
use common::*;
use engine::id::{ChannelId, MessageId, Sequence, Timestamp};
use engine::message::Message;
use engine::persist::{ChannelHead, StoreWrite};
use storage::account::{Changed, Linked, Registered, Unlinked};
use storage::memory::Memory;
use storage::transfer::{self, End};
use storage::{Answer, Failure, PageStart, Store, Submission, Write, Written};
use storage_scylla::Scylla;
use storage_scylla::options::{BucketBounds, Retention, ScyllaOptions};
use uuid::Uuid;

/// A bucket is full with five messages.
const SMALL: BucketBounds =
    BucketBounds { rows: 5, bytes: u64::MAX, young_ms: 0, hard_factor: 4, age_ms: 365 * 24 * 3600 * 1000 };

fn walk(store: &dyn Store, channel: &ChannelId, limit: usize, rising: bool) -> Vec<u64> {
    let (mut all, mut place) = (Vec::new(), if rising { PageStart::Oldest } else { PageStart::Newest });
    loop {
        let page = store.messages(channel, place, limit).unwrap();
        let Some(last) = page.last() else { return all };
        place = if rising { PageStart::After(last.id) } else { PageStart::Before(last.id) };
        all.extend(page.iter().map(|message| message.sequence.0));
    }
}

#[test]
fn pages_cross_every_border_with_every_limit() {
    with_node(|| {
        const COUNT: u32 = 37;
        let (model, mut tested) = (Memory::new(), OnCql::begin_with(SMALL));
        let lobby = room("lobby");
        // One by one, so that the counts that close buckets come from the database.
        for number in 1..=COUNT {
            if number == 13 || number == 25 {
                tested.reopen();
            }
            for store in [&model as &dyn Store, tested.store()] {
                commit(store, &[insert(&lobby, number, 7)]);
            }
        }
        assert_eq!(tested.count("SELECT bucket FROM channel_buckets"), COUNT.div_ceil(5) as usize);
        // All messages of one bucket, the first or last messages of others, and the newest of all.
        for number in [6, 7, 8, 9, 10, 15, 16, 31, COUNT] {
            for store in [&model as &dyn Store, tested.store()] {
                commit(store, &[remove(&lobby, number, 7)]);
            }
        }
        for reopened in [false, true] {
            let store = tested.store();
            let all = walk(&model, &lobby, 100, true);
            for limit in 1..=COUNT as usize + 1 {
                assert_eq!(walk(store, &lobby, limit, true), all, "rising, {limit}, {reopened}");
                let falling: Vec<_> = all.iter().rev().copied().collect();
                assert_eq!(walk(store, &lobby, limit, false), falling, "falling, {limit}, {reopened}");
            }
            for number in 0..=COUNT + 1 {
                for place in [PageStart::After(message_id(number)), PageStart::Before(message_id(number))] {
                    for limit in [1, 6, 100] {
                        assert_eq!(store.messages(&lobby, place, limit), model.messages(&lobby, place, limit));
                    }
                }
            }
            assert_eq!(store.head(&lobby), model.head(&lobby));
            tested.reopen();
        }
    });
}

#[test]
fn a_run_of_messages_is_divided_among_buckets() {
    with_node(|| {
        let tested = OnCql::begin_with(SMALL);
        let lobby = room("lobby");
        let all: Vec<_> = (1..=300).map(|number| insert(&lobby, number, 7)).collect();
        commit(tested.store(), &all);
        assert_eq!(walk(tested.store(), &lobby, 100, true), (1..=300).collect::<Vec<_>>());
        assert_eq!(tested.count("SELECT bucket FROM channel_buckets"), 60);
        for bucket in tested.numbers("SELECT bucket FROM channel_buckets") {
            let rows = format!("SELECT message_id FROM messages WHERE channel_id = '2...lobby' AND bucket = {bucket}");
            assert_eq!(tested.count(&rows), 5);
        }
    });
}

#[test]
fn what_comes_together_leaves_together() {
    with_node(|| {
        let tested = OnCql::begin_with(BucketBounds::default());
        let lobby = room("lobby");
        // After this the channel and its only author are cached.
        commit(tested.store(), &[insert(&lobby, 1, 7)]);
        let requests_for = |numbers: std::ops::RangeInclusive<u32>| {
            let before = tested.scylla().requests();
            let (answers, answered) = flume::unbounded();
            let burst = numbers.clone().map(|number| {
                let answers = answers.clone();
                let answer: Answer = Box::new(move |done| answers.send(done).unwrap());
                Submission::Write(insert(&lobby, number, 7), answer)
            });
            tested.store().lanes().unwrap().take(burst.collect());
            for _ in numbers {
                answered.recv().unwrap().unwrap();
            }
            tested.scylla().requests() - before
        };
        // A batch has 128 messages at most. A burst may take one request more: if the lane still lingers behind the last
        // batch, it takes the first few messages of the burst before the rest has come.
        for (burst, full_batches) in [(2..=2, 1), (3..=101, 1), (102..=401, 3)] {
            let requests = requests_for(burst.clone());
            assert!((full_batches..=full_batches + 1).contains(&requests), "{requests} requests for {burst:?}");
        }
        assert_eq!(walk(tested.store(), &lobby, 100, true), (1..=401).collect::<Vec<_>>());
    });
}

/// A message from some years ago.
fn old(channel: &ChannelId, years: u64, sequence: u64) -> Write {
    let ms = 1_795_338_279_575 - years * 366 * 24 * 3600 * 1000;
    let id = MessageId(Uuid::from_u128(u128::from(ms) << 80 | 7 << 76 | 0b10 << 62 | u128::from(sequence)));
    Write::Request(StoreWrite::Insert(Message { id, sequence: Sequence(sequence), ..message(channel, 1, 7) }))
}

#[test]
fn a_sparse_channel_is_read_with_a_handful_of_queries() {
    with_node(|| {
        let mut tested = OnCql::begin_with(BucketBounds::default());
        let (quiet, sparse) = (room("quiet"), room("sparse"));
        commit(tested.store(), &[old(&quiet, 1, 1)]);
        commit(tested.store(), &[old(&sparse, 5, 1), old(&sparse, 3, 2), old(&sparse, 1, 3)]);
        let asked = |tested: &OnCql, channel: &ChannelId, expected: usize| {
            let before = tested.scylla().requests();
            assert_eq!(tested.store().messages(channel, PageStart::Newest, 100).unwrap().len(), expected);
            tested.scylla().requests() - before
        };
        tested.reopen();
        // Four requests: the epochs, the buckets of one epoch, the end of history, and the page.
        assert_eq!(asked(&tested, &quiet, 1), 4);
        assert_eq!(asked(&tested, &quiet, 1), 1);
        // The same with three epochs, and a page from each bucket.
        assert_eq!(asked(&tested, &sparse, 3), 8);
        assert_eq!(asked(&tested, &sparse, 3), 3);
    });
}

#[test]
fn a_crash_between_two_steps_leaves_nothing_in_the_way() {
    with_node(|| {
        let mut tested = OnCql::begin_with(SMALL);
        let lobby = room("lobby");
        commit(tested.store(), &[insert(&lobby, 1, 7), insert(&lobby, 2, 7)]);
        // A bucket is in the index without messages; then it is also the channel's newest.
        let bucket = 9_i64 << 16;
        tested.say(&format!("INSERT INTO channel_epochs (channel_id, epoch) VALUES ('2...lobby', {})", bucket >> 31));
        tested.crash();
        check_history(&tested, &lobby, 2);
        let row = format!("('2...lobby', {}, {bucket})", bucket >> 31);
        tested.say(&format!("INSERT INTO channel_buckets (channel_id, epoch, bucket) VALUES {row}"));
        tested.crash();
        check_history(&tested, &lobby, 2);
        tested.say(&format!(
            "UPDATE channels SET head_bucket = {bucket} WHERE channel_id = '2...lobby' IF owner_epoch = 0"
        ));
        tested.crash();
        check_history(&tested, &lobby, 2);
        commit(tested.store(), &[insert(&lobby, 3, 7), insert(&lobby, 10, 7)]);
        tested.crash();
        check_history(&tested, &lobby, 10);

        // Names were claimed, but their owners were never created.
        let ghost = Uuid::from_u128(99);
        tested.say(&format!("INSERT INTO usernames (username, user_id) VALUES ('ann', {ghost}) IF NOT EXISTS"));
        tested.say(&format!(
            "INSERT INTO credentials (kind, ident, user_id, secret) VALUES (0, 'a', {ghost}, '') IF NOT EXISTS"
        ));
        tested.crash();
        assert_eq!(tested.store().user_by_username("ann").unwrap(), None);
        assert_eq!(tested.store().credential(&device("a")).unwrap(), None);
        let written = commit(tested.store(), &[register(1, "ann", device("a")), register(2, "ann", device("b"))]);
        assert_eq!(written, [Registered::Created, Registered::UsernameTaken].map(Written::Registered));
        assert_eq!(tested.store().user_by_username("ann").unwrap(), Some(user(1)));
        // A name was claimed, but the account never got it.
        tested.say(&format!("INSERT INTO usernames (username, user_id) VALUES ('cat', {}) IF NOT EXISTS", user(1)));
        tested.crash();
        assert_eq!(tested.store().user_by_username("cat").unwrap(), None);
        let change = storage::account::AccountChange { username: Some("cat".into()), ..Default::default() };
        let rename = Write::ChangeAccount { id: user(1), change, update_time: Timestamp(5) };
        assert_eq!(commit(tested.store(), &[rename]), [Written::Changed(Changed::Done)]);
        assert_eq!(tested.store().user_by_username("cat").unwrap(), Some(user(1)));
        // A credential was removed from an account, but is not released yet.
        tested
            .say(&format!("INSERT INTO credentials (kind, ident, user_id, secret) VALUES (0, 'old', {}, '')", user(1)));
        tested.crash();
        assert_eq!(tested.store().credential(&device("old")).unwrap(), None);
        let unlink = Write::Unlink { user: user(1), credential: device("old"), time: Timestamp(6) };
        assert_eq!(commit(tested.store(), &[unlink]), [Written::Unlinked(Unlinked::NotFound)]);
        let link = |number| Write::Link {
            user: user(number),
            credential: device("old"),
            secret: String::new(),
            time: Timestamp(7),
        };
        commit(tested.store(), &[register(3, "dan", device("d"))]);
        let linked = commit(tested.store(), &[link(3), link(1)]);
        assert_eq!(linked, [Linked::Done, Linked::Taken].map(Written::Linked));
        assert_eq!(tested.store().credential(&device("old")).unwrap().map(|owner| owner.user), Some(user(3)));
    });
}

fn check_history(tested: &OnCql, channel: &ChannelId, last: u32) {
    let head = ChannelHead { id: message_id(last), sequence: Sequence(u64::from(last)) };
    assert_eq!(tested.store().head(channel).unwrap(), Some(head));
    let all = walk(tested.store(), channel, 1, true);
    assert_eq!(all.last(), Some(&u64::from(last)));
    assert_eq!(walk(tested.store(), channel, 9, false), all.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn one_server_has_a_keyspace() {
    with_node(|| {
        let mut tested = OnCql::begin_with(BucketBounds::default());
        let first = tested.store().next_epoch().unwrap();
        let rival = open(&tested.options);
        assert!(matches!(rival.next_epoch(), Err(Failure::InUse(_))));
        // The server ends without leaving; the next server waits until it is sure of that.
        tested.crash();
        let since = Instant::now();
        let next = rival.next_epoch().unwrap();
        assert!(next > first && since.elapsed() > Duration::from_secs(5));
        rival.close().unwrap();
        let since = Instant::now();
        assert!(tested.store().next_epoch().unwrap() > next);
        assert!(since.elapsed() < Duration::from_secs(5), "it was left in order");
    });
}

/// Such a keyspace could be made, but nothing could be written to it, and a second attempt would find it made.
#[test]
fn more_copies_than_nodes_are_refused_before_anything_is_made() {
    with_node(|| {
        let tested = OnCql::begin_with(BucketBounds::default());
        let keyspace = "too_many_copies".parse().unwrap();
        let options = ScyllaOptions { keyspace, replication: 200, ..tested.options.clone() };
        let Err(Failure::Unfit(reason)) = storage_scylla::apply_schema(&options, wall()) else { panic!("made") };
        assert!(reason.contains("200 copies") && reason.contains("Give --replication 1"), "{reason}");
        let cql = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = 'too_many_copies'";
        assert_eq!(tested.count(cql), 0, "nothing was made");
    });
}

#[test]
fn what_is_not_there_fails_in_time_and_passes() {
    // A port on which nothing listens any more.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = Scylla::open(ScyllaOptions::at(vec![address.to_string()]), wall).unwrap();
    let since = Instant::now();
    assert!(store.unready().is_some());
    let lobby = room("lobby");
    let written = store.commit(&[insert(&lobby, 1, 7), register(1, "ann", device("a"))]).unwrap();
    assert!(written.iter().all(|written| matches!(written, Err(Failure::Passing(_)))), "{written:?}");
    assert!(matches!(store.messages(&lobby, PageStart::Newest, 9), Err(Failure::Passing(_))));
    assert!(matches!(store.next_epoch(), Err(Failure::Passing(_))));
    assert!(since.elapsed() < Duration::from_secs(5));
    store.close().unwrap();
}

#[test]
fn a_question_fails_when_its_time_is_over() {
    with_node(|| {
        let tested = OnCql::begin_with(BucketBounds::default());
        commit(tested.store(), &[register(1, "ann", device("a")), insert(&room("lobby"), 1, 1)]);
        let until = |time: Instant| tested.store().until(time).unwrap();
        type Question = fn(&dyn Store) -> Result<bool, Failure>;
        let questions: [(&str, Question); 5] = [
            ("account", |store| Ok(store.account(user(1))?.is_some())),
            ("credential", |store| Ok(store.credential(&device("a"))?.is_some())),
            ("name", |store| Ok(store.user_by_username("ann")?.is_some())),
            ("page", |store| Ok(!store.messages(&room("lobby"), PageStart::Newest, 9)?.is_empty())),
            ("head", |store| Ok(store.head(&room("lobby"))?.is_some())),
        ];
        for (name, question) in questions {
            assert_eq!(question(&*until(Instant::now() + Duration::from_secs(60))), Ok(true), "{name}");
        }
        for (name, question) in questions {
            let late = question(&*until(Instant::now()));
            assert!(matches!(late, Err(Failure::Passing(_))), "{name}: {late:?}");
        }
    });
}

#[test]
fn messages_live_as_long_as_their_channel_keeps_them() {
    with_node(|| {
        let mut tested = OnCql::begin_with(BucketBounds::default());
        tested.options.retention = Retention { room: Some(Duration::from_secs(1000)), ..Retention::default() };
        tested.reopen();
        let (lobby, direct) = (room("lobby"), ChannelId::direct(user(1), user(2)));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let aged = |channel: &ChannelId, number, age: u64| {
            let create_time = Timestamp((now - Duration::from_secs(age)).as_nanos() as i64);
            Write::Request(StoreWrite::Insert(Message { create_time, ..message(channel, number, 7) }))
        };
        commit(tested.store(), &[aged(&lobby, 1, 0), aged(&lobby, 2, 900), aged(&direct, 1, 0)]);
        let notes = |tested: &OnCql, channel: &ChannelId| {
            let notes = format!("FROM author_buckets WHERE user_id = {} AND channel_id = '{channel}'", user(7));
            tested.numbers(&format!("SELECT kept_s {notes}"))
        };
        assert_eq!([notes(&tested, &lobby), notes(&tested, &direct)], [vec![1000], vec![0]]);
        let left = |tested: &OnCql, channel: &ChannelId, number: u32| {
            let bucket = tested
                .numbers(&format!("SELECT bucket FROM channel_buckets WHERE channel_id = '{channel}' ALLOW FILTERING"))
                [0];
            let id = message_id(number);
            let rows =
                format!("FROM messages WHERE channel_id = '{channel}' AND bucket = {bucket} AND message_id = {id}");
            tested.numbers(&format!("SELECT TTL(content) {rows}")).first().copied()
        };
        assert!((900..=1000).contains(&left(&tested, &lobby, 1).unwrap()));
        assert!((1..=100).contains(&left(&tested, &lobby, 2).unwrap()));
        assert_eq!(left(&tested, &direct, 1), None);
        // An edited text expires with its message.
        commit(tested.store(), &[update(&lobby, 2, 7, "edited")]);
        assert!((1..=100).contains(&left(&tested, &lobby, 2).unwrap()));
        // The note of a bucket stays as long as the message that is kept longest there.
        for (number, room) in [(3, None), (4, Some(Duration::from_secs(5000)))] {
            tested.options.retention = Retention { room, ..Retention::default() };
            tested.reopen();
            commit(tested.store(), &[aged(&lobby, number, 0)]);
        }
        assert_eq!(notes(&tested, &lobby), [0, 1000, 5000]);
    });
}

#[test]
fn a_whole_store_moves_to_the_database_and_goes_on_where_it_was_interrupted() {
    with_node(|| {
        let directory = scratch();
        let source = common::open(&directory);
        fill(&source);
        let given = source.next_epoch().unwrap();
        let tested = OnCql::begin_with(SMALL);
        move_in_steps(End::Store(&source), End::Store(tested.scylla()));
        check_same(&source, tested.store());
        assert_eq!(tested.count("SELECT * FROM authored LIMIT 1"), 0, "what has moved is found bucket by bucket");
        assert!(tested.store().next_epoch().unwrap() > given);
        let again = transfer::run(End::Store(&source), End::Store(tested.scylla()), &mut |_, _| ());
        assert!(matches!(again, Err(Failure::InUse(_))), "{again:?}");
    });
}

#[test]
fn an_export_goes_to_the_database_and_from_there_to_an_embedded_store() {
    with_node(|| {
        let directories = [scratch(), scratch(), scratch()];
        let [first, second] = ["first", "second"].map(|name| directories[2].path().join(name));
        let source = common::open(&directories[0]);
        fill(&source);
        let mut given = source.next_epoch().unwrap();
        move_in_steps(End::Store(&source), End::File(&first));

        let mut tested = OnCql::begin_with(SMALL);
        move_in_steps(End::File(&first), End::Store(tested.scylla()));
        check_same(&source, tested.store());
        assert!(tested.store().next_epoch().unwrap() > given);
        tested.reopen();

        move_in_steps(End::Store(tested.scylla()), End::File(&second));
        given = tested.store().next_epoch().unwrap();
        let target = common::open(&directories[1]);
        move_in_steps(End::File(&second), End::Store(&target));
        check_same(&source, &target);
        go_on(&source);
        go_on(tested.store());
        go_on(&target);
        check_same(&source, &target);
        check_same(tested.store(), &target);
        assert!(target.next_epoch().unwrap() >= given);
    });
}

#[test]
fn a_keyspace_that_has_come_in_part_serves_no_client() {
    with_node(|| {
        let directory = scratch();
        let source = common::open(&directory);
        fill(&source);
        let tested = OnCql::begin_with(SMALL);
        interrupt(End::Store(&source), End::Store(tested.scylla()), 2);
        assert!(matches!(tested.store().next_epoch(), Err(Failure::InUse(_))));
        // A source that was used meanwhile is no longer the source whose move was begun.
        source.next_epoch().unwrap();
        let refused = transfer::run(End::Store(&source), End::Store(tested.scylla()), &mut |_, _| ());
        assert!(matches!(&refused, Err(Failure::InUse(text)) if text.contains("used since")), "{refused:?}");
    });
}

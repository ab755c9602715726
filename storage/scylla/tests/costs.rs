//! What requests and changes cost the database: requests and rows, which do not grow with what others have. Needs a
//! node, as `common/cql.rs` says.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::time::{Duration, Instant};

use common::cql::{OnCql, with_node};
use common::objects::*;
use common::people::*;
use common::*;
use engine::id::{ChannelId, MessageId, Timestamp};
use engine::social::friend::FriendAct;
use engine::social::group::{GroupAct, Role};
use storage::account::CredentialKind;
use storage::group::{GROUPS_EXAMINED_MAX, Group, GroupFilter};
use storage::object::{ObjectWrite, ObjectsWritten, ReadPermission};
use storage::{PageStart, Write, Written};
use storage_scylla::options::BucketBounds;
use storage_scylla::{apply_schema, schema};

/// Requests and rows of some work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cost {
    requests: u64,
    rows: u64,
}

/// Does something, and returns what it has cost.
fn cost<T>(world: &mut World<OnCql>, act: impl FnOnce(&mut World<OnCql>) -> T) -> (T, Cost) {
    let count = |world: &World<OnCql>| [world.tested.scylla().requests(), world.store().rows_read()];
    let [requests, rows] = count(world);
    let done = act(world);
    let [more_requests, more_rows] = count(world);
    (done, Cost { requests: more_requests - requests, rows: more_rows - rows })
}

#[test]
fn a_user_in_many_groups_joins_at_the_cost_of_one_in_few() {
    with_node(|| {
        const GROUPS: u32 = 60;
        let mut world = World::<OnCql>::of(2);
        world.make(1, 1);
        world.make(2, 1);
        for number in [1, 2] {
            assert!(world.outcome(number, 2, GroupAct::Join).is_ok());
            assert!(world.outcome(number, 2, GroupAct::Leave).is_ok());
        }
        let (_, few) = cost(&mut world, |world| world.outcome(1, 2, GroupAct::Join).unwrap());
        let makes: Vec<_> = (3..=GROUPS).map(|number| Write::CreateGroup(group(number, 2))).collect();
        commit(world.store(), &makes);
        let (_, many) = cost(&mut world, |world| world.outcome(2, 2, GroupAct::Join).unwrap());
        assert_eq!(few, many);
        assert!(many.rows < 12, "{many:?}");
        let mut counts = world.tested.numbers("SELECT group_count FROM group_counts");
        counts.sort_unstable();
        assert_eq!(counts, [2, i64::from(GROUPS)]);
        check_sound(world.store(), GROUPS, 2);
    });
}

/// The groups of a user whom an older version has not counted are counted once.
#[test]
fn a_user_who_was_not_counted_yet_is_counted_once() {
    with_node(|| {
        let mut world = World::<OnCql>::of(2);
        (1..=20).for_each(|number| world.make(number, 1));
        (21..=22).for_each(|number| world.make(number, 2));
        world.cast(1, &[(2, Role::Banned)]);
        world.tested.say("TRUNCATE group_counts");
        let (_, first) = cost(&mut world, |world| world.outcome(21, 1, GroupAct::Join).unwrap());
        assert!(first.rows >= 20, "{first:?}");
        let (_, second) = cost(&mut world, |world| world.outcome(22, 1, GroupAct::Join).unwrap());
        assert!(second.rows < 12, "{second:?}");
        assert_eq!(world.tested.numbers("SELECT group_count FROM group_counts"), [22]);
    });
}

#[test]
fn a_group_that_is_deleted_counts_no_more() {
    with_node(|| {
        let mut world = World::<OnCql>::of(4);
        (1..=3).for_each(|number| world.make(number, 1));
        world.cast(1, &[(2, Role::Member), (3, Role::JoinRequest), (4, Role::Banned)]);
        world.cast(2, &[(2, Role::Member), (3, Role::Member)]);
        assert_eq!(world.act(1, 1, GroupAct::Delete), "deleted");
        world.tested.scylla().sweep_now().unwrap();
        let count = |number| {
            let of = format!("SELECT group_count FROM group_counts WHERE user_id = {}", user(number));
            world.tested.numbers(&of)
        };
        assert_eq!([1, 2, 3].map(count), [[2], [1], [1]]);
        assert!(count(4).iter().all(|count| *count == 0));
        check_sound(world.store(), 3, 4);
    });
}

/// A bucket is full with five messages.
const SMALL: BucketBounds =
    BucketBounds { rows: 5, bytes: u64::MAX, young_ms: 0, hard_factor: 4, age_ms: 365 * 24 * 3600 * 1000 };

#[test]
fn buckets_whose_messages_were_removed_are_read_once_and_so_many_at_a_time() {
    with_node(|| {
        const COUNT: u32 = 5 * 100;
        let mut world = World::on(OnCql::begin_with(SMALL));
        let lobby = room("lobby");
        commit(world.store(), &(1..=COUNT).map(|number| insert(&lobby, number, 1)).collect::<Vec<_>>());
        let removed = (2..=COUNT).filter(|number| *number != 250);
        commit(world.store(), &removed.map(|number| remove(&lobby, number, 1)).collect::<Vec<_>>());
        for from in [PageStart::Newest, PageStart::Oldest] {
            let (mut found, mut place, mut parts) = (Vec::new(), from, 0);
            loop {
                let read = |world: &mut World<OnCql>| world.store().messages_part(&lobby, place, 10).unwrap();
                let (part, cost) = cost(&mut world, read);
                assert!(cost.requests <= 31, "{cost:?}");
                found.extend(part.items.iter().map(|message| message.sequence.0));
                parts += 1;
                match part.stopped {
                    Some(stopped) => place = place.behind(stopped),
                    None => break,
                }
            }
            let expected = if from == PageStart::Newest { [(vec![250, 1]), vec![4]] } else { [vec![1, 250], vec![1]] };
            assert_eq!([found, vec![parts]], expected);
        }
        // What was found to be empty is passed: three buckets are left, of which the newest may yet get messages.
        let (part, cost) =
            cost(&mut world, |world| world.store().messages_part(&lobby, PageStart::Newest, 10).unwrap());
        assert_eq!((part.items.len(), part.stopped, cost.requests), (2, None, 3));
    });
}

#[test]
fn a_page_of_a_large_groups_members_reads_little_more_than_the_page() {
    with_node(|| {
        const MEMBERS: u32 = 91;
        let mut world = World::<OnCql>::of(MEMBERS);
        // Three shards.
        world.make_as(Group { max_count: 30_000, ..group(1, 1) });
        assert!(world.outcome(1, 1, GroupAct::Add((2..=MEMBERS).map(user).collect())).is_ok());
        let whole = world.store().group_members(group_id(1), None, None, usize::MAX).unwrap();
        assert_eq!(whole.len(), MEMBERS as usize);
        for limit in [1, 7, 30, 60, 90, 91, 92] {
            let read = |world: &mut World<OnCql>| {
                world.store().group_members_part(group_id(1), None, None, limit).unwrap().items
            };
            let (page, cost) = cost(&mut world, read);
            assert_eq!(page, whole[..limit.min(whole.len())]);
            let each = limit.div_ceil(3) + 8;
            assert!(cost.rows <= 1 + 2 * 3 * each as u64 && cost.requests <= 1 + 3 + 3, "{cost:?} for {limit}");
        }
        let middle = Some(whole[40].1);
        let page = world.store().group_members(group_id(1), None, middle, 20).unwrap();
        assert_eq!(page, whole[41..61]);
    });
}

#[test]
fn a_page_of_groups_looks_up_little_more_than_the_page() {
    with_node(|| {
        const GROUPS: u32 = 150;
        let mut world = World::<OnCql>::of(1);
        commit(world.store(), &(1..=GROUPS).map(|number| Write::CreateGroup(group(number, 1))).collect::<Vec<_>>());
        let (page, cost_of_page) =
            cost(&mut world, |world| world.store().group_page(&GroupFilter::default(), None, 10).unwrap());
        assert_eq!(page.groups.len(), 10);
        // 16 shards of the list, and the groups.
        assert!(cost_of_page.requests <= 16 + 16 + 16, "{cost_of_page:?}");
        assert!(page.examined <= 64, "{}", page.examined);
        let none = GroupFilter { open: Some(true), ..GroupFilter::default() };
        let (page, cost_of_none) = cost(&mut world, |world| world.store().group_page(&none, None, 10).unwrap());
        assert_eq!((page.groups.len(), page.next, page.examined), (0, None, 2 * GROUPS as usize));
        assert!(cost_of_none.rows <= 2 * u64::from(GROUPS) + 16, "{cost_of_none:?}");
        assert_eq!(all_groups(world.store(), 7).len(), GROUPS as usize);
    });
}

/// Entries of the list whose groups are gone count, too.
#[test]
fn entries_without_groups_are_looked_at_in_bounded_numbers() {
    with_node(|| {
        const DEAD: u32 = 1_200;
        let mut world = World::<OnCql>::of(1);
        let entry = |number: u32| {
            let (shard, group) = (number % 16, group_id(number));
            format!("INSERT INTO group_list (shard, place, group_id) VALUES ({shard}, 0x61{number:08x}, {group})")
        };
        world.tested.say_all(&(1..=DEAD).map(entry).collect::<Vec<_>>());
        world.make(DEAD + 1, 1);
        let page = world.store().group_page(&GroupFilter::default(), None, 10).unwrap();
        assert_eq!(page.groups.len(), 0);
        assert!(page.examined <= 2 * (GROUPS_EXAMINED_MAX + 64), "{}", page.examined);
        let rest = world.store().group_page(&GroupFilter::default(), page.next.as_ref(), 10).unwrap();
        assert_eq!((rest.groups.len(), rest.next), (1, None));
        let member = |number: u32| {
            let (user, group) = (user(1), group_id(number));
            format!("INSERT INTO user_groups (user_id, role, since_ns, group_id) VALUES ({user}, 2, 7, {group})")
        };
        world.tested.say_all(&(1..=100).map(member).collect::<Vec<_>>());
        let read = |world: &mut World<OnCql>| world.store().user_groups_part(user(1), None, None, 20).unwrap();
        let (part, cost) = cost(&mut world, read);
        assert!(part.items.len() == 1 && part.stopped.is_some() && cost.requests <= 21, "{cost:?}");
        assert_eq!(world.store().user_groups(user(1), None, None, 20).unwrap().len(), 1);
    });
}

#[test]
fn the_hundredth_device_costs_what_the_second_costs() {
    with_node(|| {
        let mut world = World::<OnCql>::of(2);
        let link = |number: u32| Write::Link {
            user: user(1),
            credential: device(&format!("more-{number}")),
            secret: String::new(),
            time: Timestamp(i64::from(number)),
        };
        let (_, first) = cost(&mut world, |world| world.write(link(1)));
        commit(world.store(), &(2..99).map(link).collect::<Vec<_>>());
        let (linked, last) = cost(&mut world, |world| world.write(link(99)));
        assert_eq!(linked, Written::Linked(storage::account::Linked::Done));
        assert_eq!(first, last);
        assert_eq!(world.store().account(user(1)).unwrap().unwrap().devices.len(), 100);
        let unlink = |number: u32| Write::Unlink {
            user: user(1),
            credential: device(&format!("more-{number}")),
            time: Timestamp(200),
        };
        let (_, unlinked) = cost(&mut world, |world| world.write(unlink(50)));
        assert!(unlinked.requests <= 6, "{unlinked:?}");
        let (_, many) = cost(&mut world, |world| world.store().profile(user(1)).unwrap().unwrap());
        let (_, one) = cost(&mut world, |world| world.store().profile(user(2)).unwrap().unwrap());
        assert_eq!((many, many), (one, Cost { requests: 1, rows: 1 }));
        assert_eq!(CredentialKind::Device, device("x").kind);
    });
}

/// The messages of a user, as the deletion of the account finds them: all, or those after a floor.
fn found(world: &World<OnCql>, one: u32, floor: Option<u32>) -> Vec<(ChannelId, u64)> {
    let number = |(channel, id): (ChannelId, MessageId)| (channel, u64::try_from(id.0.as_u128() >> 96).unwrap());
    written(world.store(), one, floor.map(message_id), 256).into_iter().map(number).collect()
}

#[test]
fn a_user_who_wrote_once_in_a_large_room_is_found_in_one_bucket() {
    with_node(|| {
        let mut world = World::on(OnCql::begin_with(SMALL));
        let mut costs = Vec::new();
        for (name, count, one) in [("small", 20, 2), ("large", 1_000, 3)] {
            let (room, middle) = (room(name), count / 2);
            let sender = |number| if number == middle { one } else { 1 };
            commit(world.store(), &(1..=count).map(|number| insert(&room, number, sender(number))).collect::<Vec<_>>());
            let (all, cost_of_all) = cost(&mut world, |world| found(world, one, None));
            assert_eq!(all, [(room.clone(), u64::from(middle))]);
            // The second round of a deletion looks for what was written meanwhile.
            let (rest, cost_of_rest) = cost(&mut world, |world| found(world, one, Some(count)));
            assert_eq!(rest, []);
            assert_eq!(found(&world, 1, None).len(), found(&world, 1, Some(1)).len() + costs.len() + 1);
            costs.push([cost_of_all, cost_of_rest]);
        }
        let [small, large] = costs[..] else { panic!("{costs:?}") };
        assert_eq!(small, large);
        let [all, rest] = large;
        // A note and a bucket, which has five rows. The requests: two for the next channel, the bucket, the next bucket,
        // two for the next channel.
        assert!(all.rows <= 1 + 5 && all.requests <= 6, "{all:?}");
        assert!(rest.rows <= 1 && rest.requests <= 5, "{rest:?}");
        commit(world.store(), &[Write::FinishAccountDeletion { user: user(3) }]);
        let notes = |one| world.tested.count(&format!("SELECT * FROM author_buckets WHERE user_id = {}", user(one)));
        assert_eq!([2, 3].map(notes), [1, 0]);
    });
}

#[test]
fn a_message_in_a_bucket_that_is_noted_is_one_request() {
    with_node(|| {
        let mut world = World::on(OnCql::begin_with(SMALL));
        let lobby = room("lobby");
        let mut send = |number: u32, one: u32| {
            cost(&mut world, |world| commit(world.store(), &[insert(&lobby, number, one)])).1.requests
        };
        // The first message of all begins the bucket.
        send(1, 1);
        assert_eq!([(2, 1), (3, 2), (4, 2), (5, 1)].map(|(number, one)| send(number, one)), [1, 2, 1, 1]);
        // The sixth begins the next bucket.
        send(6, 1);
        assert_eq!([(7, 1), (8, 2), (9, 2)].map(|(number, one)| send(number, one)), [1, 2, 1]);
        assert_eq!(world.tested.count("SELECT * FROM author_buckets"), 4);
    });
}

/// A schema of version 3 has notes without buckets.
#[test]
fn what_was_written_before_the_upgrade_is_found_and_what_came_later_is_found_in_its_buckets() {
    with_node(|| {
        let mut world = World::on(OnCql::begin_with(SMALL));
        let [lobby, stage] = ["lobby", "stage"].map(room);
        commit(world.store(), &(1..=40).map(|number| insert(&lobby, number, 1 + number % 2)).collect::<Vec<_>>());
        let note = |one| format!("INSERT INTO authored (user_id, channel_id) VALUES ({}, '{lobby}')", user(one));
        let earlier = "INSERT INTO schema_version (id, version, applied_us) VALUES (0, 3, 1)";
        world.tested.say_all(&[note(1), note(2), "DROP TABLE author_buckets".into(), earlier.into()]);
        let options = world.tested.options.clone();
        assert_eq!(apply_schema(&options, common::cql::wall()), Ok(3));
        assert_eq!(apply_schema(&options, common::cql::wall()), Ok(schema::VERSION));
        world.tested.reopen();
        commit(
            world.store(),
            &[insert(&lobby, 41, 2), insert(&lobby, 42, 3), insert(&stage, 43, 2), insert(&stage, 44, 3)],
        );
        let of = |channel: &ChannelId, numbers: &[u64]| -> Vec<_> {
            numbers.iter().map(|number| (channel.clone(), *number)).collect()
        };
        let [even, odd] = [2, 1].map(|first| (first..=40).step_by(2).collect::<Vec<u64>>());
        assert_eq!(found(&world, 1, None), of(&lobby, &even));
        assert_eq!(found(&world, 2, None), [of(&lobby, &odd), of(&lobby, &[41]), of(&stage, &[43])].concat());
        assert_eq!(found(&world, 2, Some(39)), [of(&lobby, &[41]), of(&stage, &[43])].concat());
        let (later, cost) = cost(&mut world, |world| found(world, 3, None));
        assert_eq!(later, [of(&lobby, &[42]), of(&stage, &[44])].concat());
        assert!(cost.rows <= 2 + 2 * 5, "{cost:?}");
        let channels = |one| world.store().channels_written(user(one), None, 9).unwrap();
        assert_eq!(
            [1, 2, 3].map(channels),
            [vec![lobby.clone()], vec![lobby.clone(), stage.clone()], vec![lobby, stage]]
        );
        commit(world.store(), &[Write::FinishAccountDeletion { user: user(2) }]);
        assert_eq!(found(&world, 2, None), []);
    });
}

/// How long the background may take to write some lists anew.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_list_that_loses_entries_all_the_time_is_written_anew_and_has_no_marks_of_them() {
    with_node(|| {
        const REMOVALS: usize = 20;
        let mut world = World::<OnCql>::of(3);
        world.make(1, 1);
        world.make(2, 2);
        assert!(world.outcome(1, 3, GroupAct::Join).is_ok());
        world.relate(FriendAct::Add, 1, &[3]);
        let come_and_go = |world: &mut World<OnCql>| {
            world.relate(FriendAct::Add, 2, &[1]);
            world.relate(FriendAct::Delete, 2, &[1]);
            assert!(world.outcome(1, 2, GroupAct::Join).is_ok());
            assert!(world.outcome(1, 2, GroupAct::Leave).is_ok());
        };
        let lists = [
            format!("friends WHERE user_id = {}", user(1)),
            format!("friends WHERE user_id = {}", user(2)),
            format!("user_groups WHERE user_id = {}", user(2)),
            format!("group_rosters WHERE group_id = {} AND shard = 0", group_id(1)),
        ];
        let read = |list: &String| format!("SELECT * FROM {list}");
        let marks = |world: &World<OnCql>| lists.each_ref().map(|list| world.tested.marks(&read(list)));
        let entries = |world: &World<OnCql>| lists.each_ref().map(|list| world.tested.rows(&read(list)));
        (0..REMOVALS).for_each(|_| come_and_go(&mut world));
        assert_eq!(marks(&world), [REMOVALS; 4]);
        let before = entries(&world);
        assert_eq!(before.each_ref().map(Vec::len), [1, 0, 1, 2]);
        // Now every removal has its list written anew.
        world.tested.options.removals_per_rewrite = 1;
        world.tested.reopen();
        come_and_go(&mut world);
        let since = Instant::now();
        while marks(&world) != [0; 4] {
            assert!(since.elapsed() < PATIENCE, "{:?}", marks(&world));
        }
        assert_eq!(entries(&world), before);
        check_sound(world.store(), 2, 3);
    });
}

#[test]
fn objects_cost_what_is_asked_for_and_not_what_others_have() {
    with_node(|| {
        const USERS: u32 = 12;
        let mut world = World::<OnCql>::of(USERS);
        for owner in 1..=USERS {
            let public =
                |number| ObjectWrite { read: ReadPermission::Public, ..object("c", &format!("{number:02}"), "{}") };
            let objects = (0..60).map(public).collect();
            let write = Write::WriteObjects { owner: user(owner), objects, time: world.now() };
            assert!(matches!(world.write(write), Written::ObjectsWritten(ObjectsWritten::Done(_))));
        }
        for (listing, most) in [
            // Whether the owner has an account, and two reads of up to eight objects.
            (own(3, "c"), Cost { requests: 3, rows: 12 }),
            // Sixteen shards, each with its share and eight more; eleven objects, and their owners.
            (public("c"), Cost { requests: 16 + 2 * 11, rows: 16 * 9 + 2 * 11 }),
        ] {
            let (part, cost) = cost(&mut world, |world| world.store().objects_part(&listing, None, 11).unwrap());
            assert_eq!(part.items.len(), 11);
            assert!(cost.requests <= most.requests && cost.rows <= most.rows, "{cost:?} for {listing:?}");
        }
        let one = |world: &mut World<OnCql>| {
            let objects = vec![object("c", "more", "{}")];
            world.write(Write::WriteObjects { owner: user(1), objects, time: Timestamp(1) })
        };
        let (_, cost) = cost(&mut world, one);
        assert!(cost.requests <= 5 && cost.rows <= 3, "{cost:?}");
    });
}

//! Listing messages.

use engine::id::{ChannelId, Epoch, MessageId, Sequence};
use engine::message::{Message, MessageCode};
use engine::persist::StoreWrite;
use engine::query::{NewestMessages, NewestQuery, Version};
use storage::PageStart;
use uuid::Uuid;

use super::*;

fn fill(world: &World, channel: &ChannelId, numbers: std::ops::RangeInclusive<u64>) {
    let message = |number: u64| Message {
        channel: channel.clone(),
        id: MessageId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number))),
        sequence: Sequence(number),
        code: MessageCode::Chat,
        sender: UserId(Uuid::from_u128(7)),
        username: "alice".into(),
        content: format!(r#"{{"n": {number}}}"#).into(),
        create_time: Timestamp(START * 1_000_000_000 + 726_683_000),
        update_time: Timestamp(START * 1_000_000_000 + 726_683_000),
        persistent: true,
    };
    let writes: Vec<Write> = numbers.map(|number| Write::Request(StoreWrite::Insert(message(number)))).collect();
    world.keep(&writes);
}

fn lobby() -> ChannelId {
    ChannelId::room("lobby").unwrap()
}

struct Reader<'a> {
    world: &'a World,
    token: String,
}

impl Reader<'_> {
    fn get(&self, target: &str) -> Heard {
        self.world.ask(&format!("GET /v2/channel{target}"), As::User(&self.token), "")
    }

    /// The numbers of the messages on a page.
    fn numbers(&self, target: &str) -> (Vec<u64>, Value) {
        let heard = self.get(target);
        assert_eq!(heard.status, 200, "{target}: {}", heard.text);
        let page = heard.json();
        let number = |item: &Value| {
            let content: Value = serde_json::from_str(item["content"].as_str().unwrap()).unwrap();
            content["n"].as_u64().unwrap()
        };
        let numbers = page["messages"].as_array().map(|items| items.iter().map(number).collect()).unwrap_or_default();
        (numbers, page)
    }
}

fn reader(world: &World) -> Reader<'_> {
    Reader { world, token: world.sign_in("reader").token }
}

fn cursor(page: &Value, name: &str) -> String {
    page[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {page}")).to_owned()
}

#[test]
fn a_page_is_written_exactly_so() {
    let world = World::new();
    fill(&world, &lobby(), 1..=1);
    let heard = reader(&world).get("/2...lobby?limit=1&");
    let item = r#"{"messages":[{"channel_id":"2...lobby","message_id":"01900000-0000-7000-8000-000000000001","code":0,"sender_id":"00000000-0000-0000-0000-000000000007","username":"alice","content":"{\"n\": 1}","create_time":"1970-01-12T13:46:40.726683Z","update_time":"1970-01-12T13:46:40.726683Z","persistent":true,"room_name":"lobby"}],"cacheable_cursor":""#;
    assert!(heard.text.starts_with(item), "{}", heard.text);
    assert_eq!(reader(&world).get("/2...empty").text, "{}");
}

#[test]
fn pages_in_both_directions() {
    let world = World::new();
    fill(&world, &lobby(), 1..=7);
    let reader = reader(&world);
    assert_eq!(reader.numbers("/2...lobby").0, [1], "one message, the oldest, is what is given unasked");
    let (numbers, first) = reader.numbers("/2...lobby?limit=3");
    assert_eq!(numbers, [1, 2, 3]);
    assert!(first.get("prev_cursor").is_none());
    let (numbers, second) = reader.numbers(&format!("/2...lobby?limit=3&cursor={}", cursor(&first, "next_cursor")));
    assert_eq!(numbers, [4, 5, 6]);
    let back = format!("/2...lobby?limit=3&forward=true&cursor={}", cursor(&second, "prev_cursor"));
    assert_eq!(reader.numbers(&back).0, [1, 2, 3]);
    let (numbers, newest) = reader.numbers("/2...lobby?limit=3&forward=false&cursor=");
    assert_eq!(numbers, [7, 6, 5]);
    let on = format!("/2...lobby?limit=3&forward=false&cursor={}", cursor(&newest, "next_cursor"));
    assert_eq!(reader.numbers(&on).0, [4, 3, 2]);
    let (numbers, _) = reader.numbers(&format!("/2...lobby?limit=3&cursor={}", cursor(&newest, "cacheable_cursor")));
    assert_eq!(numbers, [6, 7]);
}

#[test]
fn what_is_newer_than_what_was_seen() {
    let world = World::new();
    fill(&world, &lobby(), 1..=2);
    let reader = reader(&world);
    let seen = cursor(&reader.numbers("/2...lobby?limit=100").1, "cacheable_cursor");
    let (numbers, page) = reader.numbers(&format!("/2...lobby?limit=100&cursor={seen}"));
    assert_eq!((numbers.as_slice(), cursor(&page, "cacheable_cursor")), ([].as_slice(), seen.clone()));
    assert_eq!(page.as_object().unwrap().len(), 1, "{page}");
    fill(&world, &lobby(), 3..=4);
    assert_eq!(reader.numbers(&format!("/2...lobby?limit=100&cursor={seen}")).0, [3, 4]);
}

#[test]
fn exactly_what_lies_between_two_messages() {
    let world = World::new();
    fill(&world, &lobby(), 1..=9);
    let reader = reader(&world);
    let id = |number: u64| format!("01900000-0000-7000-8000-00000000000{number}");
    let between = format!("/2...lobby?limit=3&after_message_id={}&before_message_id={}", id(2), id(8));
    let (numbers, page) = reader.numbers(&between);
    assert_eq!(numbers, [3, 4, 5]);
    let (numbers, page) = reader.numbers(&format!("{between}&cursor={}", cursor(&page, "next_cursor")));
    assert_eq!(numbers, [6, 7]);
    assert!(page.get("next_cursor").is_none(), "{page}");
    assert_eq!(reader.numbers(&format!("/2...lobby?limit=9&beforeMessageId={}", id(3))).0, [1, 2]);
    assert_eq!(reader.numbers(&format!("/2...lobby?limit=9&forward=false&after_message_id={}", id(7))).0, [9, 8]);
    assert_eq!(reader.numbers("/2...lobby?limit=2&after_message_id=&before_message_id=").0, [1, 2]);
}

#[test]
fn both_forms_and_encoded_ids() {
    let world = World::new();
    let slashed = ChannelId::room("a/b c+ü").unwrap();
    fill(&world, &slashed, 5..=6);
    let reader = reader(&world);
    for target in [
        "/2...a%2Fb%20c+%C3%BC?limit=2",
        "/2...a%2fb%20c%2B%c3%bc?limit=2&",
        "?channel_id=2...a%2Fb+c%2B%C3%BC&limit=2",
        "?limit=2&channelId=2...a/b%20c%2B%C3%BC&",
    ] {
        assert_eq!(reader.numbers(target).0, [5, 6], "{target}");
    }
}

#[test]
fn the_newest_page_comes_from_memory_and_is_written_once_a_version() {
    let world = World::new();
    fill(&world, &lobby(), 1..=7);
    let reader = reader(&world);
    let newest = "/2...lobby?limit=3&forward=false";
    let from_store = reader.get(newest).text;
    let reads = world.services.store_reads();
    assert!(reads > 0);

    let changes = Rc::new(Cell::new(0));
    let (known, told) = (world.store.messages(&lobby(), PageStart::Newest, 100).unwrap(), changes.clone());
    world.own(move |channel, channel_query| {
        let ChannelQuery::Newest(NewestQuery { limit }) = channel_query else { panic!("{channel_query:?}") };
        assert_eq!(*channel, lobby());
        let version = Version { epoch: Epoch(1), reading: 1, changes: told.get() };
        // Each change gives older messages, so that every version is a different page.
        let messages = known.iter().skip(told.get() as usize).take(limit).cloned().collect();
        QueryAnswer::Newest(Some(NewestMessages { messages, version }))
    });
    assert_eq!(reader.get(newest).text, from_store);
    assert_eq!(reader.get("?channel_id=2...lobby&limit=3&forward=false&cursor=").text, from_store);
    assert_eq!(reader.numbers("/2...lobby?limit=2&forward=false").0, [7, 6]);
    changes.set(1);
    let (numbers, page) = reader.numbers(newest);
    assert_eq!(numbers, [6, 5, 4]);
    assert_eq!(world.services.store_reads(), reads, "none of these was read from the store");

    let older = format!("{newest}&cursor={}", cursor(&page, "next_cursor"));
    assert_eq!(reader.numbers(&older).0, [3, 2, 1]);
    assert_eq!(reader.numbers("/2...lobby?limit=2").0, [1, 2]);
    assert_eq!(world.services.store_reads(), reads + 2, "these were");
    reader.get("/2...lobby?limit=101&forward=false").expect_refusal(400, 3, "whatever is in memory");
    world.ask("GET /v2/channel/2...lobby?forward=false", As::Nobody, "").expect_refusal(401, 16, "nobody");
}

#[test]
fn equal_reads_share_one_writing() {
    let world = World::new();
    fill(&world, &lobby(), 1..=2);
    let reader = reader(&world);
    let mut known = world.store.messages(&lobby(), PageStart::Newest, 100).unwrap();
    let mut times = 0;
    world.own(move |_, _| {
        // This owner breaks its promise: it has other messages under the same version. So the test sees which requests
        // read them.
        known.truncate(2 - times);
        times += 1;
        let version = Version { epoch: Epoch(1), reading: 1, changes: times.saturating_sub(2) as u64 };
        QueryAnswer::Newest(Some(NewestMessages { messages: known.clone().into(), version }))
    });
    assert_eq!(reader.numbers("/2...lobby?limit=3&forward=false").0, [2, 1]);
    assert_eq!(reader.numbers("/2...lobby?limit=3&forward=false").0, [2, 1], "the same version");
    assert!(reader.numbers("/2...lobby?limit=3&forward=false").0.is_empty(), "the next");
}

#[test]
fn refusals() {
    let world = World::new();
    fill(&world, &lobby(), 1..=3);
    let reader = reader(&world);
    let page = reader.numbers("/2...lobby?limit=1").1;
    let (next, cacheable) = (cursor(&page, "next_cursor"), cursor(&page, "cacheable_cursor"));
    for target in [
        "",
        "?",
        "/",
        "?channel_id=",
        "?channel_id=lobby",
        "?channel_id=2...lobby&channel_id=2...lobby",
        "/lobby",
        "/2...",
        "/2...%ff",
        "/2...%",
        &format!("/2...{}", "x".repeat(65)),
        "/2...lobby?limit=0",
        "/2...lobby?limit=101",
        "/2...lobby?limit=-1",
        "/2...lobby?limit=",
        "/2...lobby?limit=ten",
        "/2...lobby?limit=1&limit=1",
        "/2...lobby?forward=",
        "/2...lobby?forward=maybe",
        "/2...lobby?after_message_id=nonsense",
        "/2...lobby?before_message_id=7",
        "/2...lobby?cursor=nonsense",
        &format!("/2...lobby?cursor={next}A"),
        &format!("/2...lobby?cursor={next}&cursor={next}"),
        &format!("/2...lobby?forward=false&cursor={next}"),
        &format!("/2...lobby?forward=false&cursor={cacheable}"),
        &format!("/2...other?cursor={next}"),
        "/3.801a0c03-a0ac-42af-9ac2-d2b694ccafc6..",
        "/4.65aea872-a336-4029-90c9-6f507b75281c.8764eaba-85b6-4c62-88f1-c205fa39b581.",
    ] {
        reader.get(target).expect_refusal(400, 3, target);
    }
}

#[test]
fn direct_messages_are_for_the_two() {
    let world = World::new();
    let (alice, bob, carol) = (world.sign_in("alice"), world.sign_in("bob"), world.sign_in("carol"));
    let channel = ChannelId::direct(alice.user, bob.user);
    fill(&world, &channel, 1..=2);
    for session in [&alice, &bob] {
        let reader = Reader { world: &world, token: session.token.clone() };
        assert_eq!(reader.numbers(&format!("/{channel}?limit=2")).0, [1, 2]);
        let turned = format!("/4.{}.{}.?limit=2", channel.as_str()[39..].trim_matches('.'), &channel.as_str()[2..38]);
        assert_eq!(reader.numbers(&turned).0, [1, 2], "{turned}");
    }
    let reader = Reader { world: &world, token: carol.token };
    reader.get(&format!("/{channel}")).expect_refusal(400, 3, "carol is neither");
}

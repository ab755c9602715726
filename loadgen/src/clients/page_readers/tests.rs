//! Readers of a history, against a server whose pages a test writes: what is right, wrong, refused or lost, and who reads
//! what.

use std::collections::BTreeMap;

use super::*;
use crate::base::clock::SECOND_NS;
use crate::base::content::{self, Content, ScheduleSlot};
use crate::clients::tests::{answer, plan, run, serve, share};

const RUN: u32 = 1;
const READS: u64 = 20;

fn item(number: u32) -> Item {
    let mut content = String::new();
    content::write(&mut content, RUN, Content { slot: ScheduleSlot { publisher: 0, number }, intended_ns: 0 }, 100);
    Item { message_id: format!("m{number}"), code: 0, content }
}

fn known(kind: PageKind, cursor: &str, items: &[Item]) -> KnownPage {
    let (items, digest) = (items.len() as u32, known_pages::digest(items));
    KnownPage { kind, forward: kind == PageKind::OldestFirst, cursor: cursor.to_owned(), items, digest }
}

/// Twenty reads of two readers, all due at once.
fn reading(server: std::net::SocketAddr, newest: f64) -> Reading {
    Reading {
        target: plan(server, 2).target,
        run: RUN,
        seed: 7,
        channel_id: "2...r".to_owned(),
        limit: 10,
        pages: vec![
            known(PageKind::Newest, "", &[item(3), item(2)]),
            known(PageKind::OldestFirst, "old", &[item(0)]),
            known(PageKind::Back, "back", &[]),
        ],
        newest,
        timetable: Timetable { rate_milli: READS * 1_000_000, warmup_ns: 0, end_ns: SECOND_NS / 1_000 },
        readers: 1..3,
        readers_total: 2,
        threads: None,
        in_flight: 4,
    }
}

fn page(items: &[Item]) -> Option<String> {
    let items: Vec<_> = items
        .iter()
        .map(|item| serde_json::json!({ "message_id": item.message_id, "code": item.code, "content": item.content }))
        .collect();
    answer("200 OK", &serde_json::json!({ "messages": items }).to_string())
}

/// The page that a server without a fault sends.
fn right(head: &str) -> Option<String> {
    match head {
        _ if head.starts_with("POST") => answer("200 OK", r#"{"token":"any"}"#),
        _ if head.contains("&cursor=old ") => page(&[item(0)]),
        _ if head.contains("&cursor=back ") => page(&[]),
        _ => page(&[item(3), item(2)]),
    }
}

async fn order(readers: &mut PageReaders, order: Order) -> Result<Option<Word>, String> {
    readers.obey(&order).await
}

/// All reads against a server that answers so.
fn fetched(newest: f64, door: impl Fn(&str) -> Option<String> + 'static) -> Fetched {
    let found = Rc::new(RefCell::new(None));
    let outcome = found.clone();
    run(async move {
        let reading = Arc::new(reading(serve(door, |_, _| async {}).await, newest));
        let mut readers = PageReaders::new(reading.clone(), share(1..3));
        let begin = Order::Read((*reading).clone());
        assert!(matches!(order(&mut readers, begin).await, Ok(Some(Word::SignedIn))));
        let begin = Order::Begin { start_ns: clock::now_ns() };
        assert!(matches!(order(&mut readers, begin).await, Ok(None)));
        let Ok(Some(Word::Fetched(fetched))) = order(&mut readers, Order::Stop).await else { panic!("figures") };
        *outcome.borrow_mut() = Some(*fetched);
    });
    found.take().expect("the test has run")
}

#[test]
fn every_read_is_made_and_each_kind_of_page_has_its_latencies() {
    for newest in [0.0, 0.5, 1.0] {
        let fetched = fetched(newest, right);
        assert_eq!((fetched.asked, fetched.answered), (READS, READS), "newest {newest}");
        assert_eq!((fetched.wrong, fetched.refused, fetched.failed), (0, 0, 0), "newest {newest}");
        assert_eq!(fetched.lateness.percentiles().count, READS);
        let counts: BTreeMap<PageKind, u64> =
            fetched.latencies.iter().map(|(kind, latency)| (*kind, latency.percentiles().count)).collect();
        assert_eq!(counts.values().sum::<u64>(), READS);
        let of = |kind| counts.get(&kind).copied().unwrap_or(0);
        assert_eq!(fetched.items, 2 * of(PageKind::Newest) + of(PageKind::OldestFirst), "newest {newest}");
        assert_eq!(of(PageKind::NewestFirst), 0, "there is no such page");
        match newest {
            0.0 => assert!(of(PageKind::Newest) == 0 && of(PageKind::OldestFirst) > 0 && of(PageKind::Back) > 0),
            1.0 => assert_eq!(of(PageKind::Newest), READS),
            _ => assert!((1..READS).contains(&of(PageKind::Newest))),
        }
    }
}

#[test]
fn a_page_with_other_items_is_wrong_and_one_with_other_bytes_is_corrupt_too() {
    let corrupt = || Item { content: item(3).content.replacen('.', ",", 1), ..item(3) };
    for (what, items, wrong_items) in [
        ("nothing", vec![], 0),
        ("an item less", vec![item(3)], 0),
        ("an item more", vec![item(3), item(2), item(1)], 0),
        ("another order", vec![item(2), item(3)], 0),
        ("another id", vec![Item { message_id: "x".to_owned(), ..item(3) }, item(2)], 0),
        ("another content", vec![corrupt(), item(2)], 1),
    ] {
        let wrong = page(&items);
        let said = move |head: &str| if head.starts_with("POST") { right(head) } else { wrong.clone() };
        let fetched = fetched(1.0, said);
        assert_eq!((fetched.answered, fetched.wrong), (READS, READS), "{what}");
        assert_eq!(fetched.corrupt, wrong_items * READS, "{what}");
        let texts = fetched.samples.into_texts();
        assert!(texts[0].contains(&format!("held {} items", items.len())), "{what}: {}", texts[0]);
    }
}

#[test]
fn a_refusal_is_told_from_a_read_that_failed() {
    let get =
        |said: Option<String>| move |head: &str| if head.starts_with("POST") { right(head) } else { said.clone() };
    let refused = fetched(1.0, get(answer("500 Oops", "no disk")));
    assert_eq!((refused.asked, refused.answered, refused.refused, refused.failed), (READS, 0, READS, 0));
    assert!(refused.samples.into_texts()[0].contains("no disk"));
    let failed = fetched(1.0, get(answer("200 OK", "this is no page")));
    assert_eq!((failed.answered, failed.refused, failed.failed, failed.wrong), (0, 0, READS, 0));
    assert!(failed.latencies.is_empty(), "only answers have a latency");
}

#[test]
fn readers_whose_sessions_have_expired_sign_in_again() {
    let sign_ins = std::cell::Cell::new(0);
    let door = move |head: &str| {
        if head.starts_with("POST") {
            sign_ins.set(sign_ins.get() + 1);
            let token = if sign_ins.get() <= 2 { "expired" } else { "new" };
            return answer("200 OK", &format!(r#"{{"token":"{token}"}}"#));
        }
        if head.contains("Bearer expired") { answer("401 No", "") } else { right(head) }
    };
    let fetched = fetched(0.5, door);
    assert_eq!((fetched.answered, fetched.refused, fetched.failed, fetched.wrong), (READS, 0, 0, 0));
}

#[test]
fn a_reader_that_is_refused_ends_the_stage() {
    run(async {
        let server = serve(|_| answer("403 Forbidden", "go away"), |_, _| async {}).await;
        let reading = Arc::new(reading(server, 1.0));
        let mut readers = PageReaders::new(reading.clone(), share(1..3));
        let failed = order(&mut readers, Order::Read((*reading).clone())).await.expect_err("the server refuses");
        assert!(failed.starts_with("user ") && failed.contains("go away"), "{failed}");
        assert_eq!(order(&mut readers, Order::Join).await.err().as_deref(), Some(OTHER_USERS));
    });
}

#[test]
fn all_readers_together_make_each_read_once_and_agree_on_its_page() {
    let mut all = reading(([127, 0, 0, 1], 1).into(), 0.5);
    all.readers_total = 7;
    all.timetable.end_ns = all.timetable.due_ns(19) + 1;
    let mut made: BTreeMap<u64, usize> = BTreeMap::new();
    for users in [1..3, 3..4, 4..8] {
        let users: Vec<u32> = users.collect();
        let (sender, mut due) = mpsc::channel(READS_IN_LINE_MAX);
        keep_time(&all, &users, 0, &sender);
        while let Ok(Due { read, reader, intended_ns }) = due.try_recv() {
            assert_eq!(u64::from(users[reader] - 1), read % 7, "reads go to the readers in turn");
            assert_eq!(intended_ns, all.timetable.due_ns(read));
            *made.entry(read).or_default() += 1;
        }
    }
    assert!(made.keys().copied().eq(0..all.timetable.reads()) && made.values().all(|count| *count == 1), "{made:?}");
    let readers = |users| Readers::new(Arc::new(all.clone()), share(users));
    let (one, other) = (readers(1..3), readers(4..8));
    assert!((0..1_000).all(|read| one.draw(read) == other.draw(read)));
}

//! Reading a history page by page, from a server whose answers a test writes beforehand.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::clients::tests::{answer, run, serve};
use crate::plan::target::SignInKind;

/// What a reader asks for: sign-ins, and pages by cursor with their token.
type Asked = Rc<RefCell<Vec<String>>>;

/// A page with one item for each letter of `items`, and this cursor.
fn page(items: &str, next_cursor: &str) -> Option<String> {
    let items: Vec<_> = items.chars().map(|id| serde_json::json!({ "message_id": id })).collect();
    answer("200 OK", &serde_json::json!({ "messages": items, "next_cursor": next_cursor }).to_string())
}

/// The ids that a reader finds, or its error; and what it asked for. `pages` gets a cursor, a token, and how often a page
/// was asked for before.
fn read_all(
    pages: impl Fn(&str, &str, usize) -> Option<String> + 'static,
    items_max: usize,
) -> (Result<String, PagesError>, Vec<String>) {
    let asked = Asked::default();
    let (noted, found) = (asked.clone(), Rc::new(RefCell::new(None)));
    let outcome = found.clone();
    run(async move {
        let door = move |head: &str| {
            let count = |what: &str| noted.borrow().iter().filter(|asked| asked.starts_with(what)).count();
            if head.starts_with("POST") {
                let token = format!("token{}", count("sign-in"));
                noted.borrow_mut().push("sign-in".to_owned());
                return answer("200 OK", &format!(r#"{{"token":"{token}"}}"#));
            }
            assert!(head.starts_with("GET /v2/channel/2...a%20b?limit=100&forward=true"), "{head}");
            let cursor = head.split_once("&cursor=").map_or("", |(_, rest)| rest.split(' ').next().unwrap_or(""));
            let token = head.split_once("Bearer ").map_or("", |(_, rest)| rest.lines().next().unwrap_or(""));
            let said = pages(cursor, token, count("page"));
            noted.borrow_mut().push(format!("page {cursor:?} {token}"));
            said
        };
        let server = serve(door, |_, _| async {}).await;
        let door = FrontDoor::new(server, SignInKind::Custom, "key");
        let mut reader = Reader::new(&door, "reader".to_owned()).await.expect("signed in");
        let items = reader.read_all(&channel_of_room("a b"), Direction::OldestFirst, items_max).await;
        let ids = items.map(|items| items.into_iter().map(|item| item.message_id).collect::<String>());
        *outcome.borrow_mut() = Some(ids);
    });
    let found = found.take().expect("the test has run");
    let asked = asked.take();
    (found, asked)
}

#[test]
fn a_history_is_read_from_cursor_to_cursor_to_its_end() {
    let pages = |cursor: &str, _: &str, _| match cursor {
        "" => page("ab", "one+/="),
        // A page may be empty although others follow.
        "one%2B%2F%3D" => page("", "two"),
        "two" => page("c", ""),
        other => panic!("{other}"),
    };
    let (found, asked) = read_all(pages, 100);
    assert_eq!(found.expect("a history"), "abc");
    let expected = ["sign-in", "page \"\" token0", "page \"one%2B%2F%3D\" token0", "page \"two\" token0"];
    assert_eq!(asked, expected);
    let (found, asked) = read_all(|_, _, _| page("", ""), 0);
    assert_eq!((found.expect("an empty history"), asked.len()), (String::new(), 2));
}

#[test]
fn a_history_without_an_end_is_given_up() {
    let (found, asked) = read_all(|_, _, _| page("abc", "again"), 10);
    assert!(matches!(found, Err(PagesError::Endless { items_max: 10, .. })), "{found:?}");
    assert_eq!(asked.len(), 1 + 4, "after twelve items");
    // The cursor leads to itself, and there is nothing there.
    let (found, asked) = read_all(|cursor, _, _| page(if cursor.is_empty() { "a" } else { "" }, "again"), 10);
    assert!(matches!(found, Err(PagesError::Endless { .. })), "{found:?}");
    assert_eq!(asked.len(), 1 + 2);
}

#[test]
fn a_session_that_has_expired_is_replaced_and_another_refusal_is_not_hidden() {
    let pages = |_: &str, token: &str, _| if token == "token0" { answer("401 No", "") } else { page("a", "") };
    let (found, asked) = read_all(pages, 10);
    assert_eq!(found.expect("a history"), "a");
    assert_eq!(asked, ["sign-in", "page \"\" token0", "sign-in", "page \"\" token1"]);
    let (found, asked) = read_all(|_, _, _| answer("401 No", "never"), 10);
    assert!(matches!(found, Err(PagesError::Exchange(ref error)) if is_expired(error)), "{found:?}");
    assert_eq!(asked.len(), 4, "it signs in once more, and not for ever");
    for (said, expected) in [
        (answer("404 Not Found", "no channel"), "no channel"),
        (answer("200 OK", "<html>"), "no page of history"),
        (answer("429 Too Many", "when?"), "when?"),
    ] {
        let (found, asked) = read_all(move |_, _, _| said.clone(), 10);
        let error = found.expect_err("no history").to_string();
        assert!(error.contains(expected) && asked.len() == 2, "{error}, {asked:?}");
    }
}

#[test]
fn a_reader_that_asks_too_much_waits_as_long_as_it_is_told_but_not_for_ever() {
    let too_much = || Some("HTTP/1.1 429 Too Many\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".to_owned());
    let (found, asked) = read_all(move |_, _, before| if before < 3 { too_much() } else { page("a", "") }, 10);
    assert_eq!((found.expect("a history"), asked.len()), ("a".to_owned(), 1 + 4));
    let (found, asked) = read_all(move |_, _, _| too_much(), 10);
    assert!(matches!(found, Err(PagesError::Exchange(SignInError::Refused { .. }))), "{found:?}");
    assert_eq!(asked.len(), 1 + WAITS_MAX as usize + 1);
}

#[test]
fn ids_and_cursors_are_encoded() {
    for (text, expected) in [("2...lobby", "2...lobby"), ("2...a b/ü", "2...a%20b%2F%C3%BC"), ("a+b=", "a%2Bb%3D")] {
        assert_eq!(encoded(text), expected);
    }
}

//! A page of history, as a server sends it over HTTP.

use serde::Deserialize;

/// One page: items in the requested order, and a cursor where there is more.
#[derive(Deserialize, Default, Debug)]
pub struct Page {
    #[serde(default)]
    pub messages: Vec<Item>,
    #[serde(default)]
    pub next_cursor: String,
    #[serde(default)]
    pub prev_cursor: String,
}

#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Item {
    pub message_id: String,
    #[serde(default)]
    pub code: i32,
    #[serde(default)]
    pub content: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_and_an_empty_one_too() {
        let page: Page = serde_json::from_str(
            r#"{"messages":[{"channel_id":"2...x","message_id":"m","code":0,"content":"{}"}],"next_cursor":"n","prev_cursor":"p"}"#,
        )
        .expect("a page");
        assert_eq!((page.messages.len(), page.next_cursor.as_str()), (1, "n"));
        let empty: Page = serde_json::from_str("{}").expect("a page");
        assert!(empty.messages.is_empty() && empty.next_cursor.is_empty());
    }
}

//! Reads history page by page over HTTP.

use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

use crate::clients::sign_in::{FrontDoor, SignInError};
use crate::wire::history_page::{Item, Page};

/// The most items that a server puts on one page.
pub const PAGE_ITEMS_MAX: u32 = 100;

/// How often in a row a page is asked for again because the server says that its user asks too much, and the longest
/// wait before it. A server's budget of a user's work is full again after some seconds.
const WAITS_MAX: u32 = 10;
const WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    OldestFirst,
    NewestFirst,
}

/// The id of the channel for a room of this name.
pub fn channel_of_room(room: &str) -> String {
    format!("2...{room}")
}

/// Reads one page. The first page has an empty cursor.
pub async fn read(
    door: &FrontDoor,
    token: &str,
    channel_id: &str,
    direction: Direction,
    limit: u32,
    cursor: &str,
) -> Result<Page, SignInError> {
    let forward = direction == Direction::OldestFirst;
    let mut path = format!("/v2/channel/{}?limit={limit}&forward={forward}", encoded(channel_id));
    if !cursor.is_empty() {
        path.push_str(&format!("&cursor={}", encoded(cursor)));
    }
    let body = door.get(&path, token).await?;
    serde_json::from_slice(&body).map_err(SignInError::NoPage)
}

/// Whether a refusal says that the token is no longer valid.
pub fn is_expired(error: &SignInError) -> bool {
    matches!(error, SignInError::Refused { status: StatusCode::UNAUTHORIZED, .. })
}

/// Reads as one account, which signs in again when its session has expired.
pub struct Reader<'a> {
    door: &'a FrontDoor,
    account: String,
    token: String,
}

#[derive(Debug, Error)]
pub enum PagesError {
    #[error(transparent)]
    Exchange(#[from] SignInError),
    #[error("the history of {channel_id} has more than {items_max} items, or its cursors lead nowhere")]
    Endless { channel_id: String, items_max: usize },
}

impl<'a> Reader<'a> {
    pub async fn new(door: &'a FrontDoor, account: String) -> Result<Self, SignInError> {
        let token = door.sign_in(&account).await?;
        Ok(Self { door, account, token })
    }

    /// Reads one page. Waits and asks again, a few times, when the server says that the user asks too much: the reader
    /// is one user, and reads a history as fast as it can.
    pub async fn page(
        &mut self,
        channel_id: &str,
        direction: Direction,
        limit: u32,
        cursor: &str,
    ) -> Result<Page, SignInError> {
        for _ in 0..WAITS_MAX {
            let page = self.ask(channel_id, direction, limit, cursor).await;
            let Some(wait) = page.as_ref().err().and_then(SignInError::retry_after) else { return page };
            tokio::time::sleep(wait.min(WAIT_MAX)).await;
        }
        self.ask(channel_id, direction, limit, cursor).await
    }

    async fn ask(
        &mut self,
        channel_id: &str,
        direction: Direction,
        limit: u32,
        cursor: &str,
    ) -> Result<Page, SignInError> {
        match read(self.door, &self.token, channel_id, direction, limit, cursor).await {
            Err(error) if is_expired(&error) => {
                self.token = self.door.sign_in(&self.account).await?;
                read(self.door, &self.token, channel_id, direction, limit, cursor).await
            }
            other => other,
        }
    }

    /// Reads from the first page to the last, by cursor.
    pub async fn read_all(
        &mut self,
        channel_id: &str,
        direction: Direction,
        items_max: usize,
    ) -> Result<Vec<Item>, PagesError> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.page(channel_id, direction, PAGE_ITEMS_MAX, &cursor).await?;
            let nothing_more = page.next_cursor.is_empty();
            let stuck = page.messages.is_empty() && page.next_cursor == cursor;
            items.extend(page.messages);
            cursor = page.next_cursor;
            if nothing_more {
                return Ok(items);
            }
            if stuck || items.len() > items_max {
                return Err(PagesError::Endless { channel_id: channel_id.to_owned(), items_max });
            }
        }
    }
}

/// Percent-encodes everything but the characters that are allowed in every part of a URL.
fn encoded(text: &str) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            url.push(byte.into());
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

#[cfg(test)]
mod tests;

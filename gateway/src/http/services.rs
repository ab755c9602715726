//! What the resources work with; one a shard.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::id::Timestamp;
use storage::bridge::Client;

use super::connections::Connections;
use super::cursor::CursorKey;
use super::pages::NewestPages;
use crate::enquiries::Enquiries;
use crate::keys::SigningKeys;
use crate::password::Passwords;
use crate::token::Tokens;

/// A shard's way to tokens, passwords and the store.
pub struct Services {
    pub(super) server_key: String,
    pub(super) tokens: Arc<Tokens>,
    pub(super) cursors: CursorKey,
    pub(super) passwords: Passwords,
    pub(super) store: Client,
    pub(super) connections: Connections,
    pub(super) newest_pages: NewestPages,
    enquiries: Enquiries,
    clock: Box<dyn Fn() -> Timestamp>,
}

impl Services {
    /// `tokens` and the threads of `passwords` are shared by all shards; `clock` tells the present time.
    pub fn new(
        server_key: &str,
        keys: &SigningKeys,
        tokens: Arc<Tokens>,
        passwords: Passwords,
        store: Client,
        clock: impl Fn() -> Timestamp + 'static,
    ) -> Self {
        Self {
            server_key: server_key.to_owned(),
            tokens,
            cursors: CursorKey::new(keys),
            passwords,
            store,
            connections: Connections::default(),
            newest_pages: NewestPages::default(),
            enquiries: Enquiries::default(),
            clock: Box::new(clock),
        }
    }

    /// Questions to the owners of channels.
    pub fn enquiries(&self) -> &Enquiries {
        &self.enquiries
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// How many reads of the store the resources have asked for.
    pub fn store_reads(&self) -> u64 {
        self.store.reads()
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Begins the end: each connection closes as soon as it has given the answer that it owes, idle ones at once.
    pub fn close_connections(&self) {
        self.connections.close();
    }

    /// Waits until no connection is left. After `close_connections` this takes as long as the slowest answer.
    pub async fn connections_closed(&self) {
        self.connections.closed().await;
    }
}

/// The system's clock.
pub fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

//! The bridge's end for HTTP handlers: each call is a future that any executor may run.

use std::cell::Cell;
use std::sync::Arc;

use engine::id::{ChannelId, Timestamp, UserId};
use engine::message::Message;

use super::{Line, Read};
use crate::account::{
    Account, AccountChange, Changed, Credential, CredentialOwner, Registered, Registration, Revocation,
};
use crate::{Failure, Place, Store, Write, Written};

/// A handler's write, and where its answer goes.
pub(super) struct ClientWrite {
    pub write: Write,
    pub answer: flume::Sender<Result<Written, Failure>>,
}

/// Asks the store and waits for the answer. A full queue answers `Failure::Passing` at once.
///
/// A future that is dropped early gives up the answer, not the work.
///
/// Each clone counts for itself, from 0 on.
pub struct Client {
    line: Arc<Line>,
    bell: flume::Sender<()>,
    writes: flume::Sender<ClientWrite>,
    reads: flume::Sender<Option<Read>>,
    reads_asked: Cell<u64>,
}

impl Clone for Client {
    fn clone(&self) -> Self {
        Self::new(self.line.clone(), self.bell.clone(), self.writes.clone(), self.reads.clone())
    }
}

impl Client {
    pub(super) fn new(
        line: Arc<Line>,
        bell: flume::Sender<()>,
        writes: flume::Sender<ClientWrite>,
        reads: flume::Sender<Option<Read>>,
    ) -> Self {
        Self { line, bell, writes, reads, reads_asked: Cell::new(0) }
    }

    /// How many reads of the store this end has asked for.
    pub fn reads(&self) -> u64 {
        self.reads_asked.get()
    }

    pub async fn register(&self, registration: Registration) -> Result<Registered, Failure> {
        match self.write(Write::Register(registration)).await? {
            Written::Registered(registered) => Ok(registered),
            other => unreachable!("{other:?} answers a registration"),
        }
    }

    pub async fn change_account(
        &self,
        id: UserId,
        change: AccountChange,
        update_time: Timestamp,
    ) -> Result<Changed, Failure> {
        match self.write(Write::ChangeAccount { id, change, update_time }).await? {
            Written::Changed(changed) => Ok(changed),
            other => unreachable!("{other:?} answers a change"),
        }
    }

    pub async fn revoke(&self, revocation: Revocation) -> Result<(), Failure> {
        self.write(Write::Revoke(revocation)).await.map(|_| ())
    }

    /// Drops the revocations of tokens that have expired anyway.
    pub async fn forget_revocations(&self, expired_by: Timestamp) -> Result<(), Failure> {
        self.write(Write::ForgetRevocations { expired_by }).await.map(|_| ())
    }

    pub async fn revocations(&self) -> Result<Vec<Revocation>, Failure> {
        self.read(|store| store.revocations()).await
    }

    pub async fn credential(&self, credential: Credential) -> Result<Option<CredentialOwner>, Failure> {
        self.read(move |store| store.credential(&credential)).await
    }

    pub async fn account(&self, id: UserId) -> Result<Option<Account>, Failure> {
        self.read(move |store| store.account(id)).await
    }

    /// The accounts that exist among these, in the order asked for.
    pub async fn accounts(&self, ids: &[UserId]) -> Result<Vec<Account>, Failure> {
        let ids = ids.to_vec();
        self.read(move |store| ids.into_iter().filter_map(|id| store.account(id).transpose()).collect()).await
    }

    pub async fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure> {
        let username = username.to_owned();
        self.read(move |store| store.user_by_username(&username)).await
    }

    pub async fn messages(&self, channel: ChannelId, from: Place, limit: usize) -> Result<Vec<Message>, Failure> {
        self.read(move |store| store.messages(&channel, from, limit)).await
    }

    async fn write(&self, write: Write) -> Result<Written, Failure> {
        let (answer, answered) = flume::bounded(1);
        self.line.while_open(|| {
            self.writes.try_send(ClientWrite { write, answer }).map_err(not_taken)?;
            // A full bell has been rung already.
            let _ = self.bell.try_send(());
            Ok(())
        })?;
        answered.recv_async().await.unwrap_or_else(|_| Err(unanswered()))
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.reads_asked.set(self.reads_asked.get() + 1);
        let (answer, answered) = flume::bounded(1);
        let line = self.line.clone();
        let read = move |store: &dyn Store| {
            let found = line.check().and_then(|()| question(store));
            if let Err(failure) = &found {
                line.note(failure);
            }
            let _ = answer.send(found);
        };
        self.line.while_open(|| self.reads.try_send(Some(Box::new(read))).map_err(not_taken))?;
        answered.recv_async().await.unwrap_or_else(|_| Err(unanswered()))
    }
}

fn not_taken<T>(error: flume::TrySendError<T>) -> Failure {
    match error {
        flume::TrySendError::Full(_) => Failure::Passing("too many requests wait for the store".into()),
        flume::TrySendError::Disconnected(_) => unanswered(),
    }
}

fn unanswered() -> Failure {
    Failure::Final("the storage threads have ended".into())
}

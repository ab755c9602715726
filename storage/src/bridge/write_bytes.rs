//! How large a write is: for the committer's groups, and for the queue of writes that wait.

use engine::persist::StoreWrite;

use crate::Write;
use crate::object::ObjectWrite;

/// Roughly the bytes that a write takes in memory and adds to the journal: its texts, and a flat sum for keys, ids and
/// headers.
pub fn bytes_of(write: &Write) -> usize {
    const REST: usize = 256;
    /// The key of a removed row.
    const ID: usize = 64;
    /// A row of a list, with its key, header and counterparts.
    const ROW: usize = 512;
    REST + match write {
        Write::Request(StoreWrite::Insert(message)) => message.content.len() + message.username.len(),
        Write::Request(StoreWrite::Update(update)) => update.content.len() + update.username.len(),
        Write::Request(StoreWrite::ChangeGroup { change, .. }) => (1 + change.act.named().len()) * ROW,
        Write::Request(StoreWrite::Purge { ids, .. }) => ids.len() * ID,
        Write::Request(_) => ROW,
        Write::ForgetRevocations(revocations) => 2 * revocations.len() * ID,
        Write::Revoke(_) | Write::FinishAccountDeletion { .. } => 0,
        Write::Register(registration) => registration.account.metadata.len() + 1024,
        Write::ChangeAccount { .. } | Write::Link { .. } | Write::Unlink { .. } | Write::DeleteAccount { .. } => 1024,
        Write::CreateGroup(_) | Write::UpdateGroup { .. } => 1024,
        Write::Relate { others, metadata, .. } => others.len() * (ROW + 2 * metadata.len()),
        Write::DeleteNotifications { ids, .. } => ids.len() * ID,
        Write::WriteObjects { objects, .. } => {
            let bytes = |object: &ObjectWrite| object.value.len() + 2 * (object.collection.len() + object.key.len());
            objects.iter().map(|object| ROW + bytes(object)).sum()
        }
        Write::DeleteObjects { objects, .. } => objects.len() * ROW,
    }
}

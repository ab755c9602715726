//! Carries out changes of accounts, groups, friends, notifications and revocations on a store's rows. The pure rules of
//! `engine` decide what is allowed; this module looks up the rows, applies the rules, and writes the result.
//!
//! Any of these functions may fail in the middle: the store then takes back what it has written so far.

mod accounts;
mod friends;
mod groups;
mod inbox;
mod objects;
mod revocations;

pub(crate) use friends::may_chat;

use engine::persist::{StoreReceipt, StoreWrite};

use crate::rows::Rows;
use crate::{Failure, Write, Written};

/// Applies a write, unless it stores, edits or removes a message of a user: each store does that itself. Fails only if
/// the store does: a rule that forbids the write is part of the result.
pub fn apply(rows: &mut impl Rows, write: &Write) -> Result<Written, Failure> {
    Ok(match write {
        Write::Request(write) => Written::Receipt(carry_out(rows, write)?),
        Write::CreateGroup(group) => Written::GroupCreated(groups::create(rows, group)?),
        Write::UpdateGroup { id, actor, edit, time } => {
            Written::GroupEdited(groups::update(rows, *id, *actor, edit, *time)?)
        }
        Write::Relate { act, user, others, metadata, time } => {
            Written::Related(friends::relate(rows, *act, *user, others, metadata, *time)?)
        }
        Write::DeleteNotifications { user, ids } => {
            inbox::delete(rows, *user, ids)?;
            Written::Done
        }
        Write::Register(registration) => Written::Registered(accounts::register(rows, registration)?),
        Write::ChangeAccount { id, change, update_time } => {
            Written::Changed(accounts::change(rows, *id, change, *update_time)?)
        }
        Write::Link { user, credential, secret, time } => {
            Written::Linked(accounts::link(rows, *user, credential, secret, *time)?)
        }
        Write::Unlink { user, credential, time } => {
            Written::Unlinked(accounts::unlink(rows, *user, credential, *time)?)
        }
        Write::DeleteAccount { user, time } => Written::AccountDeleted(accounts::delete(rows, *user, *time)?),
        Write::FinishAccountDeletion { user } => {
            rows.remove_account_deletion(*user)?;
            Written::Done
        }
        Write::WriteObjects { owner, objects, time } => {
            Written::ObjectsWritten(objects::write(rows, *owner, objects, *time)?)
        }
        Write::DeleteObjects { owner, objects } => Written::ObjectsDeleted(objects::delete(rows, *owner, objects)?),
        Write::Revoke(revocation) => {
            revocations::revoke(rows, revocation)?;
            Written::Done
        }
        Write::ForgetRevocations(revocations) => {
            revocations::forget(rows, revocations)?;
            Written::Done
        }
    })
}

fn carry_out(rows: &mut impl Rows, write: &StoreWrite) -> Result<StoreReceipt, Failure> {
    Ok(match write {
        StoreWrite::ChangeGroup { change, time, places } => {
            StoreReceipt::GroupChanged(groups::change(rows, change, *time, places)?)
        }
        StoreWrite::RequestChat { user, username, other, time } => {
            friends::admit(rows, *user, username, *other, *time)?
        }
        StoreWrite::Block { user, other, time } => {
            friends::relate(rows, engine::social::friend::FriendAct::Block, *user, &[*other], "", *time)?;
            StoreReceipt::Blocked
        }
        StoreWrite::Purge { channel, sender, ids } => {
            for &id in ids {
                if rows.sender(channel, id)? == Some(*sender) {
                    rows.remove_message(channel, id)?;
                }
            }
            StoreReceipt::Purged
        }
        StoreWrite::Insert(_) | StoreWrite::Update(_) | StoreWrite::Remove { .. } => {
            return Err(Failure::Unfit("each store stores and changes messages itself".into()));
        }
    })
}

//! The results of writes, and how their askers take them.

use engine::persist::StoreReceipt;

use crate::Failure;
use crate::account::{Changed, Linked, Registered, Unlinked};
use crate::friend::Related;
use crate::group::{GroupCreated, GroupEdited};
use crate::object::{ObjectsDeleted, ObjectsWritten};

/// The result of one write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// The answer to a channel owner's request.
    Receipt(StoreReceipt),
    Registered(Registered),
    Changed(Changed),
    Linked(Linked),
    Unlinked(Unlinked),
    /// Whether the account existed.
    AccountDeleted(bool),
    GroupCreated(GroupCreated),
    GroupEdited(GroupEdited),
    Related(Related),
    ObjectsWritten(ObjectsWritten),
    ObjectsDeleted(ObjectsDeleted),
    /// The write is done and has no result to report.
    Done,
}

impl Written {
    /// The answer, for a caller that knows from its write which type the answer has. Fails if a store has answered as if
    /// the write were of another kind.
    pub fn answer<A: TryFrom<Self, Error = Self>>(self) -> Result<A, Failure> {
        A::try_from(self).map_err(|other| Failure::Broken(format!("{other:?} answers another kind of write")))
    }
}

/// For each variant with an answer: takes the answer out, or gives back another variant.
macro_rules! answers {
    ($($variant:ident($answer:ty)),+) => {$(
        impl TryFrom<Written> for $answer {
            type Error = Written;

            fn try_from(written: Written) -> Result<Self, Written> {
                match written {
                    Written::$variant(answer) => Ok(answer),
                    other => Err(other),
                }
            }
        }
    )+};
}

answers!(Receipt(StoreReceipt), Registered(Registered), Changed(Changed), Linked(Linked), Unlinked(Unlinked));
answers!(AccountDeleted(bool), GroupCreated(GroupCreated), GroupEdited(GroupEdited), Related(Related));
answers!(ObjectsWritten(ObjectsWritten), ObjectsDeleted(ObjectsDeleted));

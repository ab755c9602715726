//! The lists that have a partition of their own and lose entries as often as people want.

use std::collections::HashSet;

use engine::id::{GroupId, UserId};
use engine::social::group::Role;
use parking_lot::Mutex;
use storage::Failure;
use storage::friend::FriendPlace;
use storage::group::RosterPlace;

use crate::change_scheduler::Subject;
use crate::database::DatabaseSession;
use crate::tables::{Mutation, friends, group_rosters, objects, user_groups};

/// A list of more entries is never written anew: the mutation would become too large. Only blocks and bans are that many.
pub const ENTRIES_MAX: usize = 20_000;

/// Bytes of the entries of a list that is written anew: half of what the database takes as one mutation by default. Only the
/// metadata of friends is that much, and only the user who has given it makes it so much. Objects are less.
pub const ENTRIES_BYTES_MAX: usize = 8 << 20;

/// One list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum List {
    Friends(UserId),
    GroupsOfUser(UserId),
    /// A shard of a group's members.
    Roster(GroupId, i32),
    /// A user's storage objects, at most 4 MiB.
    Objects(UserId),
}

/// The lists that wait to be written anew.
pub type Rewrites = Mutex<HashSet<List>>;

impl List {
    /// All changes of the list declare it.
    pub fn subject(self) -> Subject {
        match self {
            Self::Friends(user) | Self::GroupsOfUser(user) | Self::Objects(user) => Subject::User(user),
            Self::Roster(group, _) => Subject::Group(group),
        }
    }

    /// Deletes all entries.
    pub fn deletion(self) -> Mutation {
        match self {
            Self::Friends(user) => friends::delete_all(user),
            Self::GroupsOfUser(user) => user_groups::delete_all(user),
            Self::Roster(group, shard) => group_rosters::delete_shard(group, shard),
            Self::Objects(user) => objects::delete_all(user),
        }
    }

    /// Writes the entries as they are. If there are more than [`ENTRIES_MAX`], these are one more than that.
    pub async fn entries(self, database: &DatabaseSession) -> Result<Vec<Mutation>, Failure> {
        let ([first, _], [_, last]) = (RosterPlace::span(None), RosterPlace::span(Some(Role::Banned)));
        let limit = ENTRIES_MAX + 1;
        Ok(match self {
            Self::Friends(user) => {
                let rows = database.all(friends::between(user, FriendPlace::span(None), limit)).await?;
                rows.into_iter().map(|row| row.put_again(user)).collect()
            }
            Self::GroupsOfUser(user) => {
                let rows = database.all(user_groups::between(user, [first, last], limit)).await?;
                rows.into_iter().map(|row| row.put_again(user)).collect()
            }
            Self::Roster(group, shard) => {
                let rows = database.all(group_rosters::between(group, shard, [first, last], limit)).await?;
                rows.into_iter().map(|row| row.put_again(group, shard)).collect()
            }
            Self::Objects(user) => {
                let rows = database.all(objects::page(user, &objects::Name::FIRST, limit)).await?;
                let objects = rows.into_iter().map(|row| Ok(objects::put(&row.object(user)?)));
                objects.collect::<Result<_, Failure>>()?
            }
        })
    }
}

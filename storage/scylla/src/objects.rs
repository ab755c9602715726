//! Reads objects and their lists.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use engine::id::UserId;
use storage::object::{
    OBJECT_VALUE_BYTES_MAX, OBJECTS_PART_BYTES_MAX, Object, ObjectCounts, ObjectId, ObjectListing, ObjectPlace,
    ObjectsPart, ReadPermission, public_place,
};
use storage::{Failure, Part};
use tokio::task::JoinSet;

use crate::cluster_store::ClusterStore;
use crate::tables::objects::Name;
use crate::tables::{object_counts, objects, public_objects, users};

/// Objects that are read at a time: their values fit a part of a list.
const AT_ONCE: usize = OBJECTS_PART_BYTES_MAX / OBJECT_VALUE_BYTES_MAX;
/// Most rounds of reading entries of a collection for one part of its list: entries may be older than their objects.
const ROUNDS_MAX: usize = 32;

impl ClusterStore {
    /// The object with this name, or `None`. Does not ask whether its owner has an account.
    pub async fn object_row(&self, id: &ObjectId) -> Result<Option<Object>, Failure> {
        self.database.one(objects::one(id)).await?.map(|row| row.object(id.owner)).transpose()
    }

    /// How many objects a user has, or `None` if that was never written.
    pub async fn object_counts(&self, owner: UserId) -> Result<Option<ObjectCounts>, Failure> {
        Ok(self.database.one(object_counts::one(owner)).await?.map(object_counts::Row::counts))
    }

    /// Those of these objects that exist and whose owners have accounts, in their order.
    pub async fn objects_named(self: &Arc<Self>, ids: &[ObjectId]) -> Result<Vec<Object>, Failure> {
        let owners = self.with_accounts(ids.iter().map(|id| id.owner).collect()).await?;
        let mut found = vec![None; ids.len()];
        let mut reading = JoinSet::new();
        for (place, id) in ids.iter().enumerate().filter(|(_, id)| id.can_exist() && owners.contains(&id.owner)) {
            let (store, id) = (self.clone(), id.clone());
            reading.spawn(async move { (place, store.object_row(&id).await) });
        }
        while let Some(read) = reading.join_next().await {
            let (place, object) = read.map_err(|error| Failure::Passing(error.to_string()))?;
            found[place] = object?;
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Those of these users that have accounts.
    async fn with_accounts(&self, users: BTreeSet<UserId>) -> Result<HashSet<UserId>, Failure> {
        let mut looking = JoinSet::new();
        for user in users {
            let database = self.database.clone();
            looking.spawn(async move { (user, database.one(users::username_of(user)).await) });
        }
        let mut found = HashSet::new();
        while let Some(looked) = looking.join_next().await {
            let (user, name) = looked.map_err(|error| Failure::Passing(error.to_string()))?;
            found.extend(name?.map(|_| user));
        }
        Ok(found)
    }

    /// Some objects of one user in a list.
    pub async fn objects_of(
        &self,
        owner: UserId,
        listing: &ObjectListing,
        after: Option<&ObjectPlace>,
        limit: usize,
    ) -> Result<Part<Object, ObjectPlace>, Failure> {
        let mut part = ObjectsPart::of(limit);
        if self.with_accounts([owner].into()).await?.is_empty() {
            return Ok(part.end(None));
        }
        let mut places = Name::span(listing, after);
        while !part.is_full() {
            let asked = part.room().min(AT_ONCE);
            let rows = self.database.all(objects::between(owner, &places, asked)).await?;
            let is_last = rows.len() < asked;
            for row in rows {
                let object = row.object(owner)?;
                places[0] = Name::of(&object);
                part.add(object);
            }
            if is_last {
                break;
            }
        }
        Ok(part.end(None))
    }

    /// Some public objects of a collection, merged from all shards. An object whose entry is left over is passed.
    pub async fn public_objects(
        self: &Arc<Self>,
        collection: &str,
        after: Option<&ObjectPlace>,
        limit: usize,
    ) -> Result<Part<Object, ObjectPlace>, Failure> {
        let mut part = ObjectsPart::of(limit);
        let mut from = after.map_or_else(Vec::new, |after| public_place(&after.key, after.owner));
        for _ in 0..ROUNDS_MAX {
            if part.is_full() {
                return Ok(part.end(None));
            }
            let (entries, is_last) = self.public_entries(collection, &from, part.room()).await?;
            for some in entries.chunks(AT_ONCE) {
                if part.is_full() {
                    return Ok(part.end(None));
                }
                let id = |(key, owner): &(String, UserId)| ObjectId {
                    owner: *owner,
                    collection: collection.to_owned(),
                    key: key.clone(),
                };
                let found = self.objects_named(&some.iter().map(id).collect::<Vec<_>>()).await?;
                let public = found.into_iter().filter(|object| object.read == ReadPermission::Public);
                public.for_each(|object| part.add(object));
            }
            match entries.last() {
                Some((key, owner)) if !is_last => from = public_place(key, *owner),
                _ => return Ok(part.end(None)),
            }
        }
        let (key, owner) = public_objects::named(&from)?;
        Ok(part.end(Some(public_objects::place_of(key, owner))))
    }

    /// The first entries of a collection after a place, at most `limit`, in order; and whether there are no more.
    async fn public_entries(
        &self,
        collection: &str,
        after: &[u8],
        limit: usize,
    ) -> Result<(Vec<(String, UserId)>, bool), Failure> {
        const MORE: usize = 8;
        // Owners are spread evenly: each shard is asked for little more than its share.
        let each = limit.min(limit.div_ceil(public_objects::SHARDS as usize) + MORE);
        let mut reading = JoinSet::new();
        for shard in 0..public_objects::SHARDS {
            let database = self.database.clone();
            let query = public_objects::page(collection, shard, after, each);
            reading.spawn(async move { database.all(query).await });
        }
        // Beyond the last entry of a shard that may have more, what comes next is not known.
        let (mut places, mut known_to) = (Vec::new(), None::<Vec<u8>>);
        while let Some(read) = reading.join_next().await {
            let rows = read.map_err(|error| Failure::Passing(error.to_string()))??;
            if rows.len() == each
                && let Some((last,)) = rows.last()
                && known_to.as_ref().is_none_or(|known| last < known)
            {
                known_to = Some(last.clone());
            }
            places.extend(rows.into_iter().map(|(place,)| place));
        }
        places.sort_unstable();
        let found = places.len();
        places.retain(|place| known_to.as_ref().is_none_or(|known| place <= known));
        places.truncate(limit);
        let is_last = known_to.is_none() && places.len() == found;
        Ok((places.iter().map(|place| public_objects::named(place)).collect::<Result<_, _>>()?, is_last))
    }
}

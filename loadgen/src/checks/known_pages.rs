//! The pages of a history that was read once from end to end, and what each must hold when it is read again.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::base::content::{self, ContentFault};
use crate::checks::latency_name::LatencyName;
use crate::wire::history_page::Item;

/// Which page of a listing is requested.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum PageKind {
    /// The first page, newest first: users read it when they open the chat.
    Newest,
    /// A page after a cursor.
    OldestFirst,
    NewestFirst,
    /// From a page after a cursor back to the page before it.
    Back,
}

impl PageKind {
    pub const ALL: [Self; 4] = [Self::Newest, Self::OldestFirst, Self::NewestFirst, Self::Back];

    /// The latency of reading such a page.
    pub fn latency(self) -> LatencyName {
        match self {
            Self::Newest => LatencyName::NewestPage,
            Self::OldestFirst => LatencyName::DeepOldestFirst,
            Self::NewestFirst => LatencyName::DeepNewestFirst,
            Self::Back => LatencyName::DeepBack,
        }
    }
}

/// A page, and what it must hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KnownPage {
    pub kind: PageKind,
    pub forward: bool,
    pub cursor: String,
    pub items: u32,
    pub digest: u64,
}

/// A hash of a page's items. The standard hasher has fixed keys, so every process gets the same value.
pub fn digest(items: &[Item]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for item in items {
        (&item.message_id, item.code, &item.content).hash(&mut hasher);
    }
    hasher.finish()
}

/// How many items of a changed page have a content that no run wrote.
pub fn corrupt_items(items: &[Item], run: u32) -> u64 {
    let corrupt = |item: &&Item| content::read_stored(&item.content, run).err() == Some(ContentFault::Corrupt);
    items.iter().filter(corrupt).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str) -> Item {
        Item { message_id: id.to_owned(), code: 0, content: format!("content of {id}") }
    }

    #[test]
    fn a_digest_is_that_of_ids_codes_and_contents_in_order() {
        let (one, two) = (item("1"), item("2"));
        let same = digest(&[one.clone(), two.clone()]);
        assert_eq!(digest(&[item("1"), item("2")]), same);
        let mut other_code = two.clone();
        other_code.code = 1;
        for different in [vec![two, one.clone()], vec![one.clone()], vec![one, other_code], Vec::new()] {
            assert_ne!(digest(&different), same);
        }
    }
}

//! The nouns of groups, as the stores keep them. Who may do what to whom is `engine::group`'s to decide.

use engine::id::{GroupId, Timestamp, UserId};
use engine::social::group::Role;
use uuid::Uuid;

use crate::Failure;

/// Longest name of a group, in bytes of UTF-8.
pub const GROUP_NAME_BYTES_MAX: usize = 255;

/// Groups that one listing looks at before it says where to go on: some milliseconds, whatever is looked for.
pub const GROUPS_EXAMINED_MAX: usize = 1000;

/// Groups that a user may have made, joined, or asked to be let into at a time. Bans are not counted, because their
/// bearers cannot get rid of them.
pub const GROUPS_PER_USER_MAX: usize = 1000;

/// Admins who hear of a request to be let in: those of the highest rank, and of them the longest-serving.
pub const ADMINS_NOTIFIED_MAX: usize = 100;

/// Bytes of a folded name that the order of browsing looks at.
const FOLDED_BYTES_MAX: usize = 256;

/// A group (docs/protocol.md, section 5.1). Absent texts are empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub id: GroupId,
    pub creator: UserId,
    /// Unique, compared byte for byte.
    pub name: String,
    pub description: String,
    pub lang_tag: String,
    /// A JSON object.
    pub metadata: String,
    pub avatar_url: String,
    /// Whether one joins without being let in.
    pub open: bool,
    /// Seats taken, by superadmins, admins and members.
    pub edge_count: u32,
    /// Seats there are.
    pub max_count: u32,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

/// What an admin may set of a group; `None` leaves it as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupEdit {
    pub name: Option<String>,
    pub description: Option<String>,
    pub lang_tag: Option<String>,
    pub avatar_url: Option<String>,
    pub open: Option<bool>,
}

impl GroupEdit {
    /// Sets what is asked for. Whether the name is free is to be decided first.
    pub(crate) fn apply_to(&self, group: &mut Group, update_time: Timestamp) {
        let texts = [
            (&self.name, &mut group.name),
            (&self.description, &mut group.description),
            (&self.lang_tag, &mut group.lang_tag),
            (&self.avatar_url, &mut group.avatar_url),
        ];
        for (asked, field) in texts {
            if let Some(text) = asked {
                field.clone_from(text);
            }
        }
        group.open = self.open.unwrap_or(group.open);
        group.update_time = update_time;
    }
}

/// What became of a new group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupCreated {
    Created,
    NameTaken,
    /// The creator has no account.
    UnknownUser,
    /// The creator is in as many groups as anybody may be.
    TooManyGroups,
}

/// What became of an edit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupEdited {
    Done,
    /// No such group, or the actor is no admin of it.
    NotFound,
    NameTaken,
}

/// Which groups are looked for: those that fit all that is asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupFilter {
    /// A pattern in which `%` is any text, compared without regard to case.
    pub name: Option<String>,
    pub lang_tag: Option<String>,
    pub open: Option<bool>,
    /// The most seats that may be taken.
    pub members_max: Option<u32>,
}

/// Where a listing of groups goes on; opaque, at most 300 bytes. Any bytes are a place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GroupPlace(Vec<u8>);

const _: () = assert!(FOLDED_BYTES_MAX + 1 + 16 <= 300);

impl From<Vec<u8>> for GroupPlace {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<GroupPlace> for Vec<u8> {
    fn from(place: GroupPlace) -> Self {
        place.0
    }
}

impl GroupPlace {
    /// A group's own place: by its name without regard to case, then by its id.
    pub(crate) fn of(group: &Group) -> Self {
        let mut bytes = begin(&fold(&group.name));
        bytes.push(0);
        bytes.extend(group.id.0.as_bytes());
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Where a listing of a group's people, or of a user's groups, goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RosterPlace {
    pub role: Role,
    /// When the user entered this role.
    pub since: Timestamp,
    /// The user in a group's list, the group in a user's.
    pub id: Uuid,
}

impl RosterPlace {
    /// The first and the last place there can be, of one role, or of all but the banned.
    pub(crate) fn span(role: Option<Role>) -> [Self; 2] {
        let [first, last] = role.map_or([Role::Superadmin, Role::JoinRequest], |role| [role, role]);
        [
            Self { role: first, since: Timestamp(i64::MIN), id: Uuid::nil() },
            Self { role: last, since: Timestamp(i64::MAX), id: Uuid::max() },
        ]
    }
}

/// How a user stands to a group, and since when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Membership {
    pub role: Role,
    pub since: Timestamp,
}

impl Membership {
    pub fn place(self, id: Uuid) -> RosterPlace {
        RosterPlace { role: self.role, since: self.since, id }
    }
}

/// A page of groups out of rows in browsing order: those that fit, and where to go on if there may be more.
pub(crate) fn browse(
    rows: impl Iterator<Item = Result<(GroupPlace, Group), Failure>>,
    filter: &GroupFilter,
    limit: usize,
) -> Result<(Vec<Group>, Option<GroupPlace>), Failure> {
    let pattern = filter.name.as_deref().map(Pattern::new);
    let fits = |group: &Group| {
        pattern.as_ref().is_none_or(|pattern| pattern.fits(&group.name))
            && filter.lang_tag.as_ref().is_none_or(|lang_tag| *lang_tag == group.lang_tag)
            && filter.open.is_none_or(|open| open == group.open)
            && filter.members_max.is_none_or(|most| group.edge_count <= most)
    };
    let (mut found, mut last) = (Vec::new(), None);
    for (examined, row) in rows.enumerate() {
        let (place, group) = row?;
        let fits = fits(&group);
        if examined == GROUPS_EXAMINED_MAX || (fits && found.len() == limit) {
            return Ok((found, last));
        }
        if fits {
            found.push(group);
        }
        last = Some(place);
    }
    Ok((found, None))
}

/// What the places of all groups begin with that can fit the filter.
pub(crate) fn common_beginning(filter: &GroupFilter) -> Vec<u8> {
    let pattern = filter.name.as_deref().unwrap_or("%");
    let fixed = pattern.split('%').next().unwrap_or_default();
    begin(&fold(fixed))
}

fn begin(folded: &str) -> Vec<u8> {
    let mut bytes = Vec::from(folded);
    bytes.truncate(FOLDED_BYTES_MAX);
    bytes
}

/// Lower case, letter by letter, so that what a text begins with does not depend on what follows.
fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// A name in which `%` is any text.
struct Pattern {
    first: String,
    /// What comes behind each `%`; nothing where there is none.
    rest: Vec<String>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let mut parts = text.split('%').map(fold);
        Self { first: parts.next().unwrap_or_default(), rest: parts.collect() }
    }

    fn fits(&self, name: &str) -> bool {
        let name = fold(name);
        let Some((last, middle)) = self.rest.split_last() else {
            return name == self.first;
        };
        let Some(mut open) = name.strip_prefix(&self.first) else {
            return false;
        };
        // Each part as early as it comes leaves the most for those behind it.
        for part in middle {
            let Some(place) = open.find(part.as_str()) else {
                return false;
            };
            open = &open[place + part.len()..];
        }
        open.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, fitting, others) in [
            ("chess", vec!["chess", "CHESS", "Chess"], vec!["chess club", "ches", ""]),
            ("chess%", vec!["chess", "Chess Club"], vec!["my chess"]),
            ("%chess", vec!["chess", "my Chess"], vec!["chess club"]),
            ("c%s%b", vec!["chess club", "csb", "cssb"], vec!["chess clubs", "cb", "sb"]),
            ("ab%b", vec!["abb", "ab b"], vec!["ab"]),
            ("%a%a%", vec!["aa", "banana"], vec!["a", ""]),
            ("%", vec!["", "x"], vec![]),
            ("", vec![""], vec!["x"]),
            ("ΟΔΥΣ%", vec!["Οδυσσέας", "οδυσ"], vec!["οδυ"]),
        ] {
            let parsed = Pattern::new(pattern);
            for name in fitting {
                assert!(parsed.fits(name), "{pattern:?} fits {name:?}");
            }
            for name in others {
                assert!(!parsed.fits(name), "{pattern:?} does not fit {name:?}");
            }
        }
    }

    fn group(name: &str, id: u128) -> Group {
        Group {
            id: GroupId(Uuid::from_u128(id)),
            creator: UserId(Uuid::nil()),
            name: name.into(),
            description: String::new(),
            lang_tag: "en".into(),
            metadata: "{}".into(),
            avatar_url: String::new(),
            open: true,
            edge_count: 1,
            max_count: 100,
            create_time: Timestamp(0),
            update_time: Timestamp(0),
        }
    }

    #[test]
    fn places_are_in_the_order_of_names() {
        let mut groups = [("b", 1), ("Ab", 9), ("ab", 3), ("a", 7), ("A b", 5), ("İ", 2), ("i", 4)];
        groups.sort_by_key(|(name, id)| GroupPlace::of(&group(name, *id)));
        let ids = groups.map(|(_, id)| id);
        assert_eq!(ids, [7, 5, 3, 9, 1, 4, 2]);
        let longest = group(&"İ".repeat(GROUP_NAME_BYTES_MAX / 2), 1);
        assert!(Vec::from(GroupPlace::of(&longest)).len() <= 300);
    }

    proptest! {
        #[test]
        fn a_place_begins_as_its_pattern_does(name in ".{1,80}", cut in any::<prop::sample::Index>(), rest in ".{0,9}") {
            let letters: Vec<char> = name.chars().collect();
            let pattern: String = letters[..cut.index(letters.len())].iter().chain(&['%']).collect();
            let filter = GroupFilter { name: Some(pattern + &rest), ..GroupFilter::default() };
            let group = group(&name, 1);
            let (found, _) = browse([Ok((GroupPlace::of(&group), group.clone()))].into_iter(), &filter, 1).unwrap();
            if !found.is_empty() {
                prop_assert!(GroupPlace::of(&group).as_bytes().starts_with(&common_beginning(&filter)));
            }
        }
    }
}

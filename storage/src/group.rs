//! The types of groups, as the stores keep them. `engine::social::group` decides what a user may do to others.

use engine::id::{GroupId, Timestamp, UserId};
use engine::social::group::Role;
use uuid::Uuid;

use crate::Failure;

/// Longest name of a group, in bytes of UTF-8.
pub const GROUP_NAME_BYTES_MAX: usize = 255;

/// Groups that one listing examines before it returns a place to continue from: this takes some milliseconds, whatever
/// the filter.
pub const GROUPS_EXAMINED_MAX: usize = 1000;

/// Most groups that a user may have made, joined, or asked to join at a time. Bans are not counted, because a banned
/// user cannot remove them.
pub const GROUPS_PER_USER_MAX: usize = 1000;

/// Groups of a user beyond which others cannot add the user to further groups. The user can still make, join and ask to
/// join groups, so no other user can use up the user's places.
pub const GROUPS_ADDED_MAX: usize = GROUPS_PER_USER_MAX / 2;

/// Most admins who are notified of a request to join: those of the highest rank first, and within a rank the
/// longest-serving.
pub const ADMINS_NOTIFIED_MAX: usize = 100;

/// Bytes of a folded name that count in the order of browsing.
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
    /// Whether users can join without an admin's approval.
    pub open: bool,
    /// Seats taken, by superadmins, admins and members.
    pub edge_count: u32,
    /// Total seats.
    pub max_count: u32,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

/// The fields of a group that an admin may set; `None` leaves a field unchanged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupEdit {
    pub name: Option<String>,
    pub description: Option<String>,
    pub lang_tag: Option<String>,
    pub avatar_url: Option<String>,
    pub open: Option<bool>,
}

impl GroupEdit {
    /// Sets the given fields of the record.
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

/// The result of making a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupCreated {
    Created,
    NameTaken,
    /// The creator has no account.
    UnknownUser,
    /// The creator is in the maximum number of groups.
    TooManyGroups,
}

/// The result of an edit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupEdited {
    Done,
    /// There is no such group, or the actor is not an admin of it.
    NotFound,
    NameTaken,
}

/// The groups to look for: those that meet every given condition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupFilter {
    /// A pattern in which `%` stands for any text, compared without regard to case.
    pub name: Option<String>,
    pub lang_tag: Option<String>,
    pub open: Option<bool>,
    /// The most seats that may be taken.
    pub members_max: Option<u32>,
}

/// The place from which a list of groups continues; opaque, at most 300 bytes. Any bytes are a valid place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GroupPlace(Vec<u8>);

/// Longest place: a folded name, a zero and an id.
const PLACE_BYTES_MAX: usize = FOLDED_BYTES_MAX + 1 + 16;

const _: () = assert!(PLACE_BYTES_MAX <= 300);

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
    /// The place of a group: by its name without regard to case, then by its id.
    pub fn of(group: &Group) -> Self {
        let mut bytes = begin(&fold(&group.name));
        bytes.push(0);
        bytes.extend(group.id.0.as_bytes());
        debug_assert!(bytes.ends_with(group.id.0.as_bytes()) && bytes.len() <= PLACE_BYTES_MAX, "{bytes:?}");
        Self(bytes)
    }

    /// The bytes, whose order is the order of the list.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The place from which a list of a group's members, or of a user's groups, continues.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RosterPlace {
    pub role: Role,
    /// When the user got this role.
    pub since: Timestamp,
    /// The user in a group's list, or the group in a user's list.
    pub id: Uuid,
}

impl RosterPlace {
    /// The first and the last possible place, of one role, or of all roles except banned.
    pub fn span(role: Option<Role>) -> [Self; 2] {
        let [first, last] = role.map_or([Role::Superadmin, Role::JoinRequest], |role| [role, role]);
        [
            Self { role: first, since: Timestamp(i64::MIN), id: Uuid::nil() },
            Self { role: last, since: Timestamp(i64::MAX), id: Uuid::max() },
        ]
    }
}

impl RosterPlace {
    /// The place behind this one, in the same role and at the same time. `None` if the id is the greatest.
    pub fn next(self) -> Option<Self> {
        Some(Self { id: Uuid::from_u128(self.id.as_u128().checked_add(1)?), ..self })
    }
}

/// A user's role in a group, and since when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership {
    pub role: Role,
    pub since: Timestamp,
}

impl Membership {
    /// The place of this membership in a list; `id` is the user in a group's list, or the group in a user's list.
    pub fn place(self, id: Uuid) -> RosterPlace {
        RosterPlace { role: self.role, since: self.since, id }
    }
}

/// A page of groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupPage {
    pub groups: Vec<Group>,
    /// The place to continue from, if there may be more.
    pub next: Option<GroupPlace>,
    /// How many rows of the list the store has looked at, and groups for them.
    pub examined: usize,
}

/// A page of groups from rows in browsing order: those that match.
pub fn browse(
    rows: impl Iterator<Item = Result<(GroupPlace, Group), Failure>>,
    filter: &GroupFilter,
    limit: usize,
) -> Result<GroupPage, Failure> {
    let pattern = filter.name.as_deref().map(Pattern::new);
    let fits = |group: &Group| {
        pattern.as_ref().is_none_or(|pattern| pattern.fits(&group.name))
            && filter.lang_tag.as_ref().is_none_or(|lang_tag| *lang_tag == group.lang_tag)
            && filter.open.is_none_or(|open| open == group.open)
            && filter.members_max.is_none_or(|most| group.edge_count <= most)
    };
    let (mut groups, mut last, mut examined) = (Vec::new(), None, 0);
    for row in rows {
        let (place, group) = row?;
        debug_assert!(last.as_ref().is_none_or(|last| *last < place), "groups come in the order of their places");
        let fits = fits(&group);
        if examined == GROUPS_EXAMINED_MAX || (fits && groups.len() == limit) {
            return Ok(GroupPage { groups, next: last, examined: 2 * (examined + 1) });
        }
        if fits {
            groups.push(group);
        }
        (last, examined) = (Some(place), examined + 1);
    }
    debug_assert!(groups.len() <= limit, "a page has as many groups as were asked for, or fewer");
    Ok(GroupPage { groups, next: None, examined: 2 * examined })
}

/// The common prefix of the places of all groups that can match the filter.
pub fn common_beginning(filter: &GroupFilter) -> Vec<u8> {
    let pattern = filter.name.as_deref().unwrap_or("%");
    let fixed = pattern.split('%').next().unwrap_or_default();
    begin(&fold(fixed))
}

fn begin(folded: &str) -> Vec<u8> {
    let mut bytes = Vec::from(folded);
    bytes.truncate(FOLDED_BYTES_MAX);
    bytes
}

/// Converts to lower case, letter by letter, so that the fold of a prefix is a prefix of the fold.
fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// A name pattern in which `%` stands for any text.
struct Pattern {
    first: String,
    /// The parts after each `%`; empty if there is no `%`.
    rest: Vec<String>,
    /// Bytes of all parts together.
    parts_bytes: usize,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let mut parts = text.split('%').map(fold);
        let (first, rest): (String, Vec<String>) = (parts.next().unwrap_or_default(), parts.collect());
        let parts_bytes = first.len() + rest.iter().map(String::len).sum::<usize>();
        // Neighbouring `%` are as good as one.
        let last = rest.len().saturating_sub(1);
        let rest = rest.into_iter().enumerate().filter(|(place, part)| *place == last || !part.is_empty());
        Self { first, rest: rest.map(|(_, part)| part).collect(), parts_bytes }
    }

    fn fits(&self, name: &str) -> bool {
        let name = fold(name);
        // To search for a long text takes as long as the text, even in a short name that it cannot fit.
        if self.parts_bytes > name.len() {
            return false;
        }
        let Some((last, middle)) = self.rest.split_last() else {
            return name == self.first;
        };
        let Some(mut open) = name.strip_prefix(&self.first) else {
            return false;
        };
        // Matching each part as early as possible leaves the most text for the parts after it.
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
            ("a%%%b%%", vec!["ab", "axbx"], vec!["a", "ba"]),
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
            let page = browse([Ok((GroupPlace::of(&group), group.clone()))].into_iter(), &filter, 1).unwrap();
            if !page.groups.is_empty() {
                prop_assert!(GroupPlace::of(&group).as_bytes().starts_with(&common_beginning(&filter)));
            }
        }
    }
}

//! Everything that the server shows of a world's users and groups, and what it must show according to the model.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::harness::person::{MEMBER, Person, direct_channel, group_channel, number, text};

use crate::world::{User, World};

/// Group ids by number.
pub type Ids = BTreeMap<usize, String>;

/// Lists that can be compared, with users by their ids. A `BTreeMap` is used where there is no order.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Observed {
    groups: BTreeMap<String, Value>,
    rosters: BTreeMap<String, Vec<(String, u64)>>,
    histories: BTreeMap<String, Vec<(u64, String, String)>>,
    memberships: BTreeMap<User, BTreeMap<String, u64>>,
    friends: BTreeMap<User, BTreeMap<String, u64>>,
    inboxes: BTreeMap<User, Vec<(i64, String, Value)>>,
}

impl Observed {
    /// Reads everything. `ids` are the groups that may exist. The first user who is a member of a group reads its
    /// history.
    pub fn read(people: &[Person], ids: &Ids, chats: &[(User, User)]) -> Self {
        let mut seen = Self::default();
        for (user, person) in people.iter().enumerate() {
            let memberships = person.memberships();
            for item in &memberships {
                let (group, role) = (&item["group"], number(&item["state"]));
                let id = text(&group["id"]);
                let told = json!([group["name"], group["open"], group["edge_count"], group["max_count"]]);
                assert_eq!(seen.groups.entry(id.clone()).or_insert(told.clone()), &told, "all are told the same");
                let channel = group_channel(&id);
                if role <= MEMBER && !seen.histories.contains_key(&channel) {
                    seen.histories.insert(channel.clone(), said(person, &channel));
                }
                seen.memberships.entry(user).or_default().insert(id, role);
            }
            let friends = person.friends();
            let mutual = friends.values().filter(|state| **state == 0).count() as u64;
            let own = person.done("GET", "/v2/account", Value::Null);
            assert_eq!(number(&own["user"]["edge_count"]), mutual, "{}: friends are counted", person.name());
            seen.friends.insert(user, friends);
            seen.inboxes.insert(user, person.notifications().iter().map(notice).collect());
        }
        for id in ids.values() {
            let roster = people[0].roster(id);
            if !roster.is_empty() {
                seen.rosters.insert(id.clone(), roster);
            }
        }
        for &(one, other) in chats {
            let channel = direct_channel(&people[one], &people[other]);
            let kept = said(&people[one], &channel);
            if !kept.is_empty() {
                seen.histories.insert(channel, kept);
            }
        }
        seen
    }

    /// What must be read if this is the state of the world.
    pub fn expected(world: &World, people: &[Person], ids: &Ids) -> Self {
        let id = |user: User| people[user].id().to_string();
        let mut expected = Self::default();
        for (number, group) in &world.groups {
            let group_id = &ids[number];
            let told = json!([group.name, group.open, group.members(), group.seats]);
            expected.groups.insert(group_id.clone(), told);
            let mut roster: Vec<_> =
                group.people.iter().map(|(user, (role, since))| (*role, *since, id(*user))).collect();
            roster.sort();
            let roster = roster.into_iter().map(|(role, _, user)| (user, role)).collect();
            expected.rosters.insert(group_id.clone(), roster);
            let history = group.history.iter().map(|(code, user, content)| (*code, id(*user), content.clone()));
            expected.histories.insert(group_channel(group_id), history.collect());
            for (user, (role, _)) in &group.people {
                expected.memberships.entry(*user).or_default().insert(group_id.clone(), *role);
            }
        }
        for user in 0..people.len() {
            let edges = world.edges.iter().filter(|((own, _), _)| *own == user);
            expected.friends.insert(user, edges.map(|((_, other), state)| (id(*other), *state)).collect());
            let inbox = world.inboxes.get(&user).into_iter().flatten().map(|(code, sender, group)| {
                let group = group.map_or(Value::Null, |group| json!(ids[&group]));
                (*code, id(*sender), group)
            });
            expected.inboxes.insert(user, inbox.collect());
        }
        for ((one, other), said) in &world.chats {
            let channel = direct_channel(&people[*one], &people[*other]);
            let said = said.iter().map(|(code, user, content)| (*code, id(*user), content.clone()));
            expected.histories.insert(channel, said.collect());
        }
        expected
    }

    /// The differences between the two, to find the cause.
    pub fn difference(&self, expected: &Self) -> String {
        let mut told = String::new();
        let mut compare = |what: &str, seen: String, expected: String| {
            if seen != expected {
                told += &format!("{what}\n  is  {seen}\n  not {expected}\n");
            }
        };
        macro_rules! compare_maps {
            ($($field:ident),*) => {$(
                for key in self.$field.keys().chain(expected.$field.keys()) {
                    let (seen, expected) = (self.$field.get(key), expected.$field.get(key));
                    compare(&format!("{} of {key}", stringify!($field)), format!("{seen:?}"), format!("{expected:?}"));
                }
            )*};
        }
        compare_maps!(groups, rosters, histories, memberships, friends, inboxes);
        told
    }
}

fn said(person: &Person, channel: &str) -> Vec<(u64, String, String)> {
    let history = person.history(channel);
    let times: Vec<String> = history.iter().map(|message| text(&message["message_id"])).collect();
    assert!(times.is_sorted_by(|one, next| one < next), "{channel}: ids rise, across restarts too");
    history
        .iter()
        .map(|message| (number(&message["code"]), text(&message["sender_id"]), text(&message["content"])))
        .collect()
}

fn notice(notification: &Value) -> (i64, String, Value) {
    let content: Value = serde_json::from_str(notification["content"].as_str().expect("a content")).expect("JSON");
    assert_eq!(notification["persistent"], true);
    let code = notification["code"].as_i64().expect("a code");
    (code, text(&notification["sender_id"]), content["group_id"].clone())
}

//! A signed-in user who sends requests over HTTP. Also reads everything that is visible of people and groups: the whole
//! listings.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Account, Answer, Format, Http, Server, Socket, bearer};

/// The roles of a user in a group, by their numbers in the protocol.
pub const SUPERADMIN: u64 = 0;
/// Changes the group and its ordinary members.
pub const ADMIN: u64 = 1;
/// Reads and writes.
pub const MEMBER: u64 = 2;
/// Waits for an admin, and takes no seat.
pub const JOIN_REQUEST: u64 = 3;
/// Cannot come back.
pub const BANNED: u64 = 4;

/// The codes of messages that tell a group what happened to a member.
pub const GROUP_JOIN: u64 = 3;
/// An admin added a member.
pub const GROUP_ADD: u64 = 4;
/// A member left.
pub const GROUP_LEAVE: u64 = 5;
/// An admin removed a member.
pub const GROUP_KICK: u64 = 6;
/// A member got a higher role.
pub const GROUP_PROMOTE: u64 = 7;
/// An admin banned a member.
pub const GROUP_BAN: u64 = 8;
/// A member got a lower role.
pub const GROUP_DEMOTE: u64 = 9;

/// A signed-in user.
pub struct Person {
    http: Http,
    account: Account,
}

impl Server {
    /// Signs in the user called `name`, and creates the user the first time.
    pub fn person(&self, name: &str) -> Person {
        Person { http: self.http(), account: self.sign_in(name) }
    }

    /// Signs in several users, as [`Server::person`] does.
    pub fn people<const N: usize>(&self, names: [&str; N]) -> [Person; N] {
        names.map(|name| self.person(name))
    }
}

impl Person {
    /// The same user with the same token, at a restarted server.
    pub fn at(&self, server: &Server) -> Self {
        Self { http: server.http(), account: self.account.clone() }
    }

    /// The user id, as in REST answers.
    pub fn id(&self) -> &str {
        &self.account.user_id
    }

    /// The username.
    pub fn name(&self) -> &str {
        &self.account.username
    }

    /// The ids and tokens of the sign-in.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The address of the server at which the user is signed in.
    pub fn address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Opens a WebSocket with the user's token, for JSON.
    pub fn connect(&self) -> Socket {
        self.connect_in(Format::Json)
    }

    /// Opens a WebSocket with the user's token, for this format.
    pub fn connect_in(&self, format: Format) -> Socket {
        Socket::connect_in(format, self.address(), &self.account.token)
    }

    /// Sends a request with this body, or without a body if it is `null`.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.try_ask(method, path, body).unwrap_or_else(|error| panic!("{}: {method} {path}: {error}", self.name()))
    }

    /// The same, but returns an error if the server ends meanwhile.
    pub fn try_ask(&self, method: &str, path: &str, body: &Value) -> Result<Answer, ureq::Error> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.http.try_request(method, path, &[("Authorization", &bearer(&self.account.token))], body)
    }

    /// Sends a request, asserts that it succeeds, and returns the answer.
    pub fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.ask(method, path, &body);
        assert_eq!(answer.status, 200, "{}: {method} {path} {body}: {}", self.name(), answer.body);
        answer.json()
    }

    /// Creates a group from the fields of the request, and returns its id.
    pub fn create_group(&self, fields: Value) -> String {
        text(&self.done("POST", "/v2/group", fields)["id"])
    }

    /// Does an act in a group, on these users: `join`, `kick` and so on.
    pub fn act(&self, act: &str, group: &str, users: &[&Person]) -> Answer {
        self.ask("POST", &act_path(act, group, users), &Value::Null)
    }

    /// The same, and asserts that it succeeds.
    pub fn acts(&self, act: &str, group: &str, users: &[&Person]) {
        self.done("POST", &act_path(act, group, users), Value::Null);
    }

    /// Sends `POST /v2/friend`, `DELETE /v2/friend` or `POST /v2/friend/block`, named `add`, `delete` and `block`.
    pub fn relate(&self, act: &str, other: &Person) -> Answer {
        let (method, path) = friend_path(act, other);
        self.ask(method, &path, &Value::Null)
    }

    /// The same, and asserts that it succeeds.
    pub fn relates(&self, act: &str, other: &Person) {
        let answer = self.relate(act, other);
        assert_eq!(answer.status, 200, "{} {act} {}: {}", self.name(), other.name(), answer.body);
    }

    /// All items of a listing, page by page. `path` already contains the `?` of its query.
    pub fn listing(&self, path: &str, member: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.done("GET", &format!("{path}{cursor}"), Value::Null);
            items.extend(page[member].as_array().into_iter().flatten().cloned());
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// The members of a group with their roles, in the order of the listing, and then the banned users.
    pub fn roster(&self, group: &str) -> Vec<(String, u64)> {
        let list = |query: &str| self.listing(&format!("/v2/group/{group}/user?limit=100{query}"), "group_users");
        let items = [list(""), list("&state=4")].concat();
        items.iter().map(|item| (text(&item["user"]["id"]), number(&item["state"]))).collect()
    }

    /// This user's groups as listed, with the user's role in `state`, and then the groups that have banned the user.
    pub fn memberships(&self) -> Vec<Value> {
        let list = |query: &str| {
            self.listing(&format!("/v2/user/{}/group?limit=100{query}", self.account.user_id), "user_groups")
        };
        [list(""), list("&state=4")].concat()
    }

    /// The user's role in each group.
    pub fn groups(&self) -> BTreeMap<String, u64> {
        self.memberships().iter().map(|item| (text(&item["group"]["id"]), number(&item["state"]))).collect()
    }

    /// The state of each friend.
    pub fn friends(&self) -> BTreeMap<String, u64> {
        let items = self.listing("/v2/friend?limit=1000", "friends");
        items.iter().map(|item| (text(&item["user"]["id"]), number(&item["state"]))).collect()
    }

    /// All notifications, oldest first.
    pub fn notifications(&self) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.done("GET", &format!("/v2/notification?limit=100&cacheable_cursor={cursor}"), Value::Null);
            let Some(page_items) = page["notifications"].as_array() else { return items };
            items.extend(page_items.iter().cloned());
            cursor = text(&page["cacheable_cursor"]);
        }
    }

    /// Every message in a channel, oldest first.
    pub fn history(&self, channel: &str) -> Vec<Value> {
        self.http.history_after(&self.account.token, channel, None).0
    }

    /// The groups with exactly this name.
    pub fn groups_called(&self, name: &str) -> Vec<Value> {
        let mut found = self.listing(&format!("/v2/group?limit=100&name={}", name.replace(' ', "+")), "groups");
        found.retain(|group| group["name"] == name);
        found
    }
}

/// The channel of a group.
pub fn group_channel(group: &str) -> String {
    format!("3.{group}..")
}

/// The channel of two users.
pub fn direct_channel(one: &Person, other: &Person) -> String {
    let (first, second) = (one.id().min(other.id()), one.id().max(other.id()));
    format!("4.{first}.{second}.")
}

/// The target of a request that does something to users in a group.
pub fn act_path(act: &str, group: &str, users: &[&Person]) -> String {
    let users: Vec<String> = users.iter().map(|user| format!("user_ids={}", user.id())).collect();
    format!("/v2/group/{group}/{act}?{}", users.join("&"))
}

/// The method and the target of a request about a friend. `act` is `add`, `delete` or `block`.
pub fn friend_path(act: &str, other: &Person) -> (&'static str, String) {
    let (method, path) = match act {
        "add" => ("POST", "/v2/friend"),
        "delete" => ("DELETE", "/v2/friend"),
        "block" => ("POST", "/v2/friend/block"),
        other => panic!("{other:?} is nothing that one does about friends"),
    };
    (method, format!("{path}?ids={}", other.id()))
}

/// The events that a group's history records: code and user, in order.
pub fn events(history: &[Value]) -> Vec<(u64, String)> {
    let told = history.iter().map(|message| (number(&message["code"]), text(&message["sender_id"])));
    told.filter(|(code, _)| *code >= GROUP_JOIN).collect()
}

/// The roles after all events in a group's history, beginning with the founder as superadmin. Panics if the history
/// records an event that cannot have happened.
pub fn roles_after(founder: &str, events: &[(u64, String)]) -> BTreeMap<String, u64> {
    let mut roles = BTreeMap::from([(founder.to_string(), SUPERADMIN)]);
    for (place, (code, user)) in events.iter().enumerate() {
        let before = roles.get(user).copied().filter(|role| *role <= MEMBER);
        let after = match (*code, before) {
            (GROUP_JOIN | GROUP_ADD, None) => Some(MEMBER),
            (GROUP_LEAVE | GROUP_KICK, Some(_)) => None,
            (GROUP_BAN, Some(_)) => Some(BANNED),
            (GROUP_PROMOTE, Some(role @ (ADMIN | MEMBER))) => Some(role - 1),
            (GROUP_DEMOTE, Some(role @ (SUPERADMIN | ADMIN))) => Some(role + 1),
            _ => panic!("event {place}, {code} of {user}, who was {before:?}: {events:?}"),
        };
        match after {
            Some(role) => roles.insert(user.clone(), role),
            None => roles.remove(user),
        };
    }
    roles
}

/// A JSON string's text. Panics if the value is not a string.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_string()
}

/// A number, or 0 if the field was left out.
pub fn number(value: &Value) -> u64 {
    if value.is_null() { 0 } else { value.as_u64().unwrap_or_else(|| panic!("not a number: {value}")) }
}

impl Socket {
    /// Joins a group's channel or a direct channel, visibly and persistently. Returns its id, or the answer of a
    /// refusal.
    pub fn try_join(&mut self, kind: u8, target: &str) -> Result<String, Value> {
        let answer = self.request(json!({"channel_join": {"target": target, "type": kind}}));
        answer["channel"]["id"].as_str().map(str::to_string).ok_or(answer)
    }

    /// Joins the channel of a group, and returns the channel's id. Panics with the server's answer if it refuses.
    pub fn join_group(&mut self, group: &str) -> String {
        self.try_join(3, group).unwrap_or_else(|answer| panic!("joining group {group}: {answer}"))
    }

    /// Joins the direct channel with another user, and returns the channel's id. Panics with the server's answer if it
    /// refuses.
    pub fn join_direct(&mut self, other: &Person) -> String {
        self.try_join(2, other.id()).unwrap_or_else(|answer| panic!("joining {}: {answer}", other.name()))
    }

    /// Waits until everything has arrived that was on its way from any shard. It joins rooms of all shards, and the
    /// answer of each shard comes after everything that this shard has sent before. Afterwards all of it is in
    /// `pushes`.
    pub fn catch_up(&mut self) {
        for number in 0..16 {
            let room = self.join_as(&format!("caught up {number}"), json!({"persistence": false, "hidden": true}));
            self.request(json!({"channel_leave": {"channel_id": room}}));
        }
    }

    /// Takes the messages out of the pushes, and drops the other pushes.
    pub fn take_messages(&mut self) -> Vec<Value> {
        let pushes = std::mem::take(&mut self.pushes);
        pushes.into_iter().filter_map(|mut push| push.get_mut("channel_message").map(Value::take)).collect()
    }
}

//! One request, for the model and for the server.

use serde_json::{Value, json};
use tests::harness::person::{Person, act_path, direct_channel, friend_path, group_channel, text};
use tests::harness::{DEADLINE, Format, Heard, Socket};

use crate::world::{Status, User};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The group's number in the world.
    Create {
        group: usize,
        founder: User,
        name: String,
        open: bool,
        seats: usize,
    },
    Edit {
        group: usize,
        actor: User,
        name: String,
        open: bool,
    },
    Delete {
        group: usize,
        actor: User,
    },
    Join {
        group: usize,
        actor: User,
    },
    Leave {
        group: usize,
        actor: User,
    },
    Manage {
        group: usize,
        actor: User,
        act: Managing,
        users: Vec<User>,
    },
    Relate {
        actor: User,
        act: Relating,
        other: User,
    },
    /// Deletes the user's oldest notification.
    Forget {
        user: User,
    },
    SayInGroup {
        group: usize,
        user: User,
        content: String,
    },
    ComeToChat {
        user: User,
        other: User,
    },
    SayInChat {
        user: User,
        other: User,
        content: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Managing {
    Add,
    Kick,
    Ban,
    Promote,
    Demote,
}

impl Managing {
    pub const ALL: [Self; 5] = [Self::Add, Self::Kick, Self::Ban, Self::Promote, Self::Demote];

    fn name(self) -> &'static str {
        ["add", "kick", "ban", "promote", "demote"][self as usize]
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relating {
    Add,
    Delete,
    Block,
}

impl Relating {
    pub const ALL: [Self; 3] = [Self::Add, Self::Delete, Self::Block];

    fn name(self) -> &'static str {
        ["add", "delete", "block"][self as usize]
    }
}

/// The server ended before it answered.
pub struct CutOff;

/// The users with their open sockets. Sends their requests.
pub struct Asker<'a> {
    pub people: &'a [Person],
    sockets: Vec<Socket>,
}

/// Returns the server's id of a group, or an id that never existed.
pub type Id<'a> = &'a dyn Fn(usize) -> String;

impl<'a> Asker<'a> {
    pub fn new(people: &'a [Person]) -> Self {
        let open = |(place, person): (usize, &Person)| person.connect_in(Format::ALL[place % 2]);
        Self { people, sockets: people.iter().enumerate().map(open).collect() }
    }

    /// Sends the request of a step. Returns the status of the answer, and the id of a group that was created.
    pub fn ask(&mut self, step: &Step, id: Id) -> Result<(Status, Option<String>), CutOff> {
        let person = |user: &User| &self.people[*user];
        let named = |users: &[User]| users.iter().map(person).collect::<Vec<_>>();
        let none = Value::Null;
        match step {
            Step::Create { founder, name, open, seats, .. } => {
                let fields = json!({"name": name, "open": open, "max_count": seats});
                let answer = person(founder).try_ask("POST", "/v2/group", &fields).map_err(|_| CutOff)?;
                let made = (answer.status == 200).then(|| text(&answer.json()["id"]));
                Ok((answer.status, made))
            }
            Step::Edit { group, actor, name, open } => {
                let fields = json!({"name": name, "open": open});
                request(person(actor), "PUT", &format!("/v2/group/{}", id(*group)), &fields)
            }
            Step::Delete { group, actor } => {
                request(person(actor), "DELETE", &format!("/v2/group/{}", id(*group)), &none)
            }
            Step::Join { group, actor } => request(person(actor), "POST", &act_path("join", &id(*group), &[]), &none),
            Step::Leave { group, actor } => request(person(actor), "POST", &act_path("leave", &id(*group), &[]), &none),
            Step::Manage { group, actor, act, users } => {
                request(person(actor), "POST", &act_path(act.name(), &id(*group), &named(users)), &none)
            }
            Step::Relate { actor, act, other } => {
                let (method, path) = friend_path(act.name(), person(other));
                request(person(actor), method, &path, &none)
            }
            Step::Forget { user } => {
                let oldest = person(user).try_ask("GET", "/v2/notification?limit=1", &none).map_err(|_| CutOff)?.json();
                let Some(oldest) = oldest["notifications"][0]["id"].as_str() else { return Ok((200, None)) };
                request(person(user), "DELETE", &format!("/v2/notification?ids={oldest}"), &none)
            }
            Step::SayInGroup { group, user, content } => {
                let group = id(*group);
                let join = json!({"channel_join": {"target": group, "type": 3}});
                self.say(*user, Some(join), &group_channel(&group), content)
            }
            Step::ComeToChat { user, other } => {
                let join = json!({"channel_join": {"target": self.people[*other].id(), "type": 2}});
                let answer = self.over_socket(*user, join)?;
                Ok((if answer["channel"].is_object() { 200 } else { 400 }, None))
            }
            Step::SayInChat { user, other, content } => {
                let channel = direct_channel(&self.people[*user], &self.people[*other]);
                self.say(*user, None, &channel, content)
            }
        }
    }

    /// Joins if necessary, sends one message and leaves.
    fn say(
        &mut self,
        user: User,
        join: Option<Value>,
        channel: &str,
        content: &str,
    ) -> Result<(Status, Option<String>), CutOff> {
        if let Some(join) = join {
            let answer = self.over_socket(user, join)?;
            if !answer["channel"].is_object() {
                assert_eq!(answer["error"]["code"], 3, "{answer}");
                return Ok((400, None));
            }
        }
        let said =
            self.over_socket(user, json!({"channel_message_send": {"channel_id": channel, "content": content}}))?;
        assert!(said["channel_message_ack"].is_object(), "{said}");
        self.over_socket(user, json!({"channel_leave": {"channel_id": channel}}))?;
        Ok((200, None))
    }

    fn over_socket(&mut self, user: User, mut request: Value) -> Result<Value, CutOff> {
        let socket = &mut self.sockets[user];
        request["cid"] = json!("asked");
        socket.try_send_text(&request.to_string()).map_err(|_| CutOff)?;
        loop {
            match socket.hear(DEADLINE) {
                Heard::Text(text) => {
                    let envelope: Value = serde_json::from_str(&text).expect("JSON");
                    if envelope["cid"] == "asked" {
                        return Ok(envelope);
                    }
                }
                Heard::Closed(_) => return Err(CutOff),
                Heard::Nothing => panic!("no answer to {request}"),
            }
        }
    }
}

fn request(person: &Person, method: &str, path: &str, body: &Value) -> Result<(Status, Option<String>), CutOff> {
    let answer = person.try_ask(method, path, body).map_err(|_| CutOff)?;
    Ok((answer.status, None))
}

//! A user is kicked from a group while sending messages on several sessions.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tests::harness::person::{GROUP_BAN, GROUP_KICK, GROUP_LEAVE, Person, events, group_channel, number, text};
use tests::harness::{DEADLINE, Format, Heard, Socket};

use crate::{at_once, on_every_size};

const ROUNDS: usize = 4;
const SESSIONS: usize = 3;
/// Requests that a session has in flight.
const PIPELINE: usize = 8;
/// Messages of all sessions together after which the victim is kicked.
const SAID_BEFORE: usize = 40;

/// What a session was told.
#[derive(Default)]
struct Told {
    acknowledged: Vec<String>,
    /// Messages of the channel: id, code, sender.
    heard: Vec<(String, u64, String)>,
}

/// Sends messages until the first refusal, then more until all are answered. After a refusal, no message is accepted.
fn talk(socket: &mut Socket, channel: &str, said: &AtomicUsize) -> Told {
    let mut told = Told::default();
    let (mut sent, mut open, mut refused) = (0, 0, 0);
    while refused < 2 * PIPELINE {
        while open < PIPELINE {
            socket.send(&json!({
                "cid": sent.to_string(),
                "channel_message_send": {"channel_id": channel, "content": json!({"n": sent}).to_string()},
            }));
            (sent, open) = (sent + 1, open + 1);
        }
        let envelope = socket.receive();
        if let Some(message) = envelope.get("channel_message") {
            told.hear(message);
        } else if let Some(ack) = envelope.get("channel_message_ack") {
            assert_eq!(refused, 0, "nothing is accepted any more: {envelope}");
            told.acknowledged.push(text(&ack["message_id"]));
            said.fetch_add(1, Ordering::Relaxed);
            open -= 1;
        } else if envelope["error"].is_object() {
            assert_eq!(envelope["error"]["code"], 3, "{envelope}");
            (refused, open) = (refused + 1, open - 1);
        } else {
            assert!(envelope["channel_presence_event"].is_object(), "{envelope}");
        }
    }
    while open > 0 {
        let envelope = socket.receive();
        assert_eq!(envelope["error"]["code"], 3, "{envelope}");
        open -= 1;
    }
    told
}

impl Told {
    fn hear(&mut self, message: &Value) {
        self.heard.push((text(&message["message_id"]), number(&message["code"]), text(&message["sender_id"])));
    }

    fn hear_rest(&mut self, socket: &mut Socket) {
        socket.catch_up();
        for message in socket.take_messages() {
            self.hear(&message);
        }
    }
}

/// The group's history from a place on, in the same form as the received messages.
fn kept(reader: &Person, channel: &str) -> Vec<(String, u64, String)> {
    let mut told = Told::default();
    reader.history(channel).iter().for_each(|message| told.hear(message));
    told.heard
}

fn thrown_out_while_talking(act: &str, code: u64) {
    on_every_size(|server| {
        let [admin, victim, witness] = server.people(["admin", "victim", "witness"]);
        for round in 0..ROUNDS {
            let group = admin.create_group(json!({"name": format!("{act} {round}"), "open": true}));
            for person in [&victim, &witness] {
                person.acts("join", &group, &[]);
            }
            let channel = group_channel(&group);
            let mut listener = witness.connect();
            listener.join_group(&group);
            let joins = kept(&admin, &channel).len();
            let mut sockets: Vec<Socket> =
                (0..SESSIONS).map(|number| victim.connect_in(Format::ALL[number % 2])).collect();
            for socket in &mut sockets {
                socket.join_group(&group);
            }
            // The sessions that joined earlier have received the later joins. These are dropped, so that all sessions
            // must receive the same messages.
            for socket in &mut sockets {
                socket.catch_up();
                socket.pushes.clear();
            }
            let said = AtomicUsize::new(0);
            let mut acts: Vec<Box<dyn FnOnce() -> Told + Send>> = Vec::new();
            for socket in &mut sockets {
                let (said, channel) = (&said, &channel);
                acts.push(Box::new(move || talk(socket, channel, said)));
            }
            acts.push(Box::new(|| {
                while said.load(Ordering::Relaxed) < SAID_BEFORE {
                    std::thread::yield_now();
                }
                let (who, whom) = if act == "leave" { (&victim, vec![]) } else { (&admin, vec![&victim]) };
                who.acts(act, &group, &whom);
                Told::default()
            }));
            let mut told = at_once(acts);
            told.pop();
            for (told, socket) in told.iter_mut().zip(&mut sockets) {
                told.hear_rest(socket);
            }

            let history = kept(&admin, &channel).split_off(joins);
            let end = history.iter().position(|(_, found, _)| *found == code).expect("it is in history");
            assert_eq!(history[end].2, victim.id());
            assert_eq!(history.len(), end + 1, "round {round}: nothing of the victim's comes behind it");
            for (session, told) in told.iter().enumerate() {
                assert_eq!(told.heard, history, "round {round}: session {session} heard all up to it, and no more");
            }
            let acknowledged: usize = told.iter().map(|told| told.acknowledged.len()).sum();
            assert!(acknowledged >= SAID_BEFORE);
            for id in told.iter().flat_map(|told| &told.acknowledged) {
                assert!(
                    history.iter().any(|(kept, ..)| kept == id),
                    "round {round}: {id} was acknowledged and is lost"
                );
            }
            assert_eq!(acknowledged, end, "round {round}: each kept message was acknowledged, for nobody hung up");
            let expected = if act == "ban" { Some(4) } else { None };
            assert_eq!(victim.groups().get(&group).copied(), expected);
            assert!(sockets[0].try_join(3, &group).is_err(), "there is no way back in");
            let mut told = Told::default();
            told.hear_rest(&mut listener);
            assert_eq!(told.heard, history, "round {round}: the others heard the same");
        }
    });
}

#[test]
fn kicked_while_talking() {
    thrown_out_while_talking("kick", GROUP_KICK);
}

#[test]
fn banned_while_talking() {
    thrown_out_while_talking("ban", GROUP_BAN);
}

#[test]
fn leaving_on_one_session_while_talking_on_others() {
    thrown_out_while_talking("leave", GROUP_LEAVE);
}

/// A user joins a group and is kicked again and again, while every session of the user joins the group's chat.
#[test]
fn coming_back_while_being_kicked() {
    on_every_size(|server| {
        let [admin, victim] = server.people(["admin", "victim"]);
        let group = admin.create_group(json!({"name": "revolving door", "open": true}));
        let channel = group_channel(&group);
        let mut acts: Vec<Box<dyn FnOnce() -> Vec<String> + Send>> = Vec::new();
        acts.push(Box::new(|| {
            for _ in 0..25 {
                victim.acts("join", &group, &[]);
                admin.acts("kick", &group, &[&victim]);
            }
            Vec::new()
        }));
        for number in 0..SESSIONS {
            let (victim, group) = (&victim, &group);
            acts.push(Box::new(move || {
                let mut socket = victim.connect_in(Format::ALL[number % 2]);
                let mut acknowledged = Vec::new();
                for _ in 0..60 {
                    let Ok(channel) = socket.try_join(3, group) else { continue };
                    let answer = socket.say(&channel, "{}");
                    match answer.get("channel_message_ack") {
                        Some(ack) => acknowledged.push(text(&ack["message_id"])),
                        None => assert_eq!(answer["error"]["code"], 3, "{answer}"),
                    }
                }
                acknowledged
            }));
        }
        let acknowledged: Vec<String> = at_once(acts).into_iter().flatten().collect();
        // Every message was sent by a member: after a join or add and before the next leave or kick.
        let history = admin.history(&channel);
        let mut inside = false;
        for message in &history {
            match number(&message["code"]) {
                0 => assert!(inside, "{message}"),
                3 => inside = true,
                6 => inside = false,
                other => panic!("{other}"),
            }
        }
        assert_eq!(events(&history).len(), 50);
        for id in &acknowledged {
            assert!(history.iter().any(|message| message["message_id"] == *id), "{id} was acknowledged and is lost");
        }
        println!("{} said in passing", acknowledged.len());
        assert_eq!(admin.roster(&group), [(admin.id().to_string(), 0)]);
        // No session of the victim is left in the channel: only the admin receives the admin's messages.
        let mut socket = admin.connect();
        let answer = socket.request(json!({"channel_join": {"target": group, "type": 3}}));
        assert!(answer["channel"]["presences"].is_null(), "{answer}");
        assert!(matches!(socket.hear(DEADLINE), Heard::Text(_)), "her own join");
    });
}

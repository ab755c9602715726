//! A room becomes a crowd and a room again, over real sockets: what joiners are told, what events members receive, and
//! what the presence pages show. A client that merges all of it by session never keeps a member that has left.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::{Format, Heard, Launch, Server, Socket, data_dir};

const SHARD_COUNTS: [u16; 2] = [1, 4];
/// Visible members up to which the presence is exact.
const ROOM: usize = 10;
/// The number of members at which a crowd becomes a room again.
const ROOM_AGAIN: usize = 9;

fn on_every_size(test: impl Fn(&Server)) {
    for shards in SHARD_COUNTS {
        println!("{shards} shards");
        let data = data_dir();
        let launch = Launch::on(data.path()).shards(shards).flag("--session-ttl", "1h");
        test(&launch.flag("--room-members-max", ROOM).start());
    }
}

fn sessions(presences: &Value) -> BTreeSet<String> {
    let session = |presence: &Value| presence["session_id"].as_str().expect("a session").to_owned();
    presences.as_array().into_iter().flatten().map(session).collect()
}

/// A member with the state that a standard client keeps: a list of presences, merged by session, and the last count
/// that it was told.
struct Member {
    socket: Socket,
    session: String,
    seen: BTreeSet<String>,
    count: Option<u64>,
    events: usize,
}

impl Member {
    fn join(server: &Server, name: &str) -> (Self, Value) {
        let mut socket = server.connect(name);
        let answer = socket.request(json!({"channel_join": {"target": "crowd", "type": 1}}));
        let channel = answer["channel"].clone();
        assert!(channel.is_object(), "{answer}");
        let session = channel["self"]["session_id"].as_str().expect("a session").to_owned();
        let seen = sessions(&channel["presences"]);
        (Self { socket, session, seen, count: channel["presence_count"].as_u64(), events: 0 }, channel)
    }

    fn hear(&mut self, push: &Value) {
        let event = &push["channel_presence_event"];
        assert!(event.is_object(), "{push}");
        let (joins, leaves) = (sessions(&event["joins"]), sessions(&event["leaves"]));
        assert!(joins.is_disjoint(&leaves), "{push}");
        for gone in &leaves {
            assert!(self.seen.remove(gone), "who leaves had been announced: {push}");
        }
        self.seen.extend(joins);
        self.count = event["presence_count"].as_u64();
        self.events += 1;
    }

    /// Reads events until `wanted` accepts the state.
    fn hear_until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        for push in std::mem::take(&mut self.socket.pushes) {
            self.hear(&push);
        }
        while !wanted(self) {
            match self.socket.hear(Duration::from_secs(20)) {
                Heard::Text(text) => self.hear(&serde_json::from_str(&text).expect("JSON")),
                other => panic!("waiting for {what}, with {:?} of {:?}: {other:?}", self.count, self.seen.len()),
            }
        }
    }
}

fn all(members: &[Member]) -> BTreeSet<String> {
    members.iter().map(|member| member.session.clone()).collect()
}

/// All members on the pages with this limit, in the order shown, and the counts that the pages give.
fn page_through(server: &Server, token: &str, limit: usize) -> (Vec<String>, BTreeSet<u64>) {
    let (mut seen, mut counts, mut cursor) = (Vec::new(), BTreeSet::new(), String::new());
    loop {
        let path = format!("/v2/channel/2...crowd/presence?limit={limit}&cursor={cursor}");
        let answer = server.http().get(&path, token);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let page = answer.json();
        let presences = page["presences"].as_array().cloned().unwrap_or_default();
        assert!(presences.len() <= limit);
        assert_eq!(page.get("cursor").is_some(), presences.len() == limit, "{page}");
        seen.extend(presences.iter().map(|presence| presence["session_id"].as_str().expect("a session").to_owned()));
        counts.insert(page["presence_count"].as_u64().unwrap_or(0));
        match page["cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return (seen, counts),
        }
    }
}

fn check_pages(server: &Server, token: &str, members: &[Member]) {
    let expected: Vec<String> = all(members).into_iter().collect();
    for limit in (1..=expected.len() + 1).chain([1000]) {
        let (seen, counts) = page_through(server, token, limit);
        assert_eq!(seen, expected, "limit {limit}: everybody once, in the order of sessions");
        assert_eq!(counts, BTreeSet::from([expected.len() as u64]), "limit {limit}");
    }
}

#[test]
fn both_crossings() {
    on_every_size(|server| {
        let token = server.sign_in("stranger").token;
        let mut members: Vec<Member> = Vec::new();
        // A room: every member knows every other member.
        for number in 0..ROOM {
            let (member, channel) = Member::join(server, &format!("member-{number}"));
            assert!(channel.get("presence_count").is_none(), "{channel}");
            members.push(member);
        }
        let everybody = all(&members);
        for member in &mut members {
            member.hear_until("everybody", |member| member.seen == everybody);
            assert_eq!(member.count, None);
        }
        check_pages(server, &token, &members);

        // A crowd: the count is exact once the room is quiet. Of the members that joined later, not all have to be
        // known.
        for number in ROOM..3 * ROOM {
            let (member, channel) = Member::join(server, &format!("member-{number}"));
            if number > ROOM + 1 {
                assert!(channel["presence_count"].as_u64().is_some_and(|count| count > ROOM as u64), "{channel}");
            }
            members.push(member);
        }
        let everybody = all(&members);
        for member in &mut members {
            member.hear_until("the count of the crowd", |member| member.count == Some(3 * ROOM as u64));
            assert!(member.seen.is_subset(&everybody));
            assert!(member.seen.len() <= ROOM + 1, "as many are known as a room may hold: {}", member.seen.len());
        }
        check_pages(server, &token, &members);
        let (late, channel) = Member::join(server, "late");
        assert!(sessions(&channel["presences"]).is_subset(&everybody));
        assert!(channel["presence_count"].as_u64().is_some_and(|count| count >= 3 * ROOM as u64), "{channel}");
        members.push(late);

        // A room again: every member is told of all members, and no member keeps one that has left.
        let gone = members.split_off(ROOM_AGAIN);
        for (number, mut member) in gone.into_iter().enumerate() {
            if number % 2 == 0 {
                member.socket.request(json!({"channel_leave": {"channel_id": "2...crowd"}}));
            } else {
                drop(member);
            }
        }
        let everybody = all(&members);
        for member in &mut members {
            member.hear_until("the room", |member| member.count.is_none() && member.seen == everybody);
        }
        check_pages(server, &token, &members);

        // From then on the presence is exact.
        let (newcomer, channel) = Member::join(server, "newcomer");
        assert!(channel.get("presence_count").is_none(), "{channel}");
        assert_eq!(sessions(&channel["presences"]), everybody);
        members.push(newcomer);
        let everybody = all(&members);
        for member in &mut members {
            member.hear_until("the newcomer", |member| member.seen == everybody);
            assert_eq!(member.count, None);
        }
    });
}

/// However many members join, a member gets about one event a second.
#[test]
fn a_crowd_is_told_of_in_few_events() {
    const COMERS: usize = 200;
    on_every_size(|server| {
        let (mut first, _) = Member::join(server, "first");
        let begun = std::time::Instant::now();
        let others: Vec<Member> =
            (0..COMERS).map(|number| Member::join(server, &format!("comer-{number}")).0).collect();
        first.hear_until("all of them", |member| member.count == Some(COMERS as u64 + 1));
        // One event for each join up to the crowd, then one a second, and one for the change to a crowd.
        let events_max = ROOM + begun.elapsed().as_secs() as usize + 2;
        assert!(first.events <= events_max, "{} events, at most {events_max} expected", first.events);
        assert!(first.seen.len() <= ROOM + 1);
        let (mut hidden, hears) = (server.connect("hidden"), others.len());
        let answer = hidden.request(json!({"channel_join": {"target": "crowd", "type": 1, "hidden": true}}));
        assert_eq!(answer["channel"]["presence_count"], hears as u64 + 1, "the hidden are not counted: {answer}");
    });
}

/// A session that opens with `presence_count=false`, as the strictest readers of Nakama's schema need it.
#[test]
fn a_session_that_wants_no_counts_is_told_none() {
    on_every_size(|server| {
        let uncounted = |name: &str, format: Format| {
            let token = server.sign_in(name).token;
            let path = format!("/ws?token={token}&format={}&presence_count=false", format.name());
            let mut socket = Socket::try_connect(server.address(), &path, &[]).expect("the server opens a session");
            let answer = socket.request(json!({"channel_join": {"target": "crowd", "type": 1}}));
            assert!(answer["channel"].is_object() && !answer.to_string().contains("presence_count"), "{answer}");
            socket
        };
        let (mut first, _) = Member::join(server, "first");
        let mut sockets: Vec<Socket> =
            Format::ALL.map(|format| uncounted(&format!("early-{}", format.name()), format)).into();
        let others: Vec<Member> =
            (0..2 * ROOM).map(|number| Member::join(server, &format!("member-{number}")).0).collect();
        sockets.extend(Format::ALL.map(|format| uncounted(&format!("late-{}", format.name()), format)));
        let all = 1 + others.len() + sockets.len();
        first.hear_until("all of them", |member| member.count == Some(all as u64));
        // Everything that the others were told before is in front of this message.
        first.socket.say("2...crowd", r#"{"are":"all here"}"#);
        for (number, socket) in sockets.iter_mut().enumerate() {
            let mut joins = BTreeSet::new();
            for push in std::mem::take(&mut socket.pushes).into_iter().chain(std::iter::from_fn(|| {
                let push = socket.receive();
                push.get("channel_message").is_none().then_some(push)
            })) {
                assert!(!push.to_string().contains("presence_count"), "{push}");
                joins.extend(sessions(&push["channel_presence_event"]["joins"]));
            }
            let is_early = number < Format::ALL.len();
            assert!(!is_early || joins.len() >= ROOM / 2, "presences are told as to others: {}", joins.len());
        }
    });
}

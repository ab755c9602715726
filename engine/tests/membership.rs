//! What a group's channel asks of the store: who may come in, once; what is written, as it is; and nothing about who writes.
//! And what waits behind a change of its members.

use engine::admission::{OnLag, Session};
use engine::command::{Command, Join};
use engine::frames::Format;
use engine::group::{GroupAct, GroupChange, GroupOutcome};
use engine::home::Appearance;
use engine::id::{ChannelId, ConnectionId, Epoch, GroupId, SessionId, ShardId, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::parcel::{Enquiry, Finding};
use engine::persist::{StoreReceipt, StoreRequest, Ticket};
use engine::shard::{Effects, Input, Rules, Shard};
use engine::subscribers::{Gone, Outlet};
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);
const GROUP: GroupId = GroupId(Uuid::from_u128(7));
const MEMBER: ConnectionId = ConnectionId { slot: 0, generation: 1 };

/// All that one connection was written.
#[derive(Default)]
struct Heard(Vec<u8>);

impl Outlet for Heard {
    fn write(&mut self, _: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        self.0.extend(pieces.concat());
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }
}

impl Heard {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

struct World {
    shard: Shard,
    heard: Heard,
    findings: Vec<(u64, Finding)>,
}

impl World {
    fn new() -> Self {
        let shard = Shard::new(ShardId(0), 1, Epoch(1), Rules::default(), 7);
        let mut world = Self { shard, heard: Heard::default(), findings: Vec::new() };
        let session = Session {
            user: UserId(Uuid::from_u128(1)),
            session: SessionId(Uuid::from_u128(2)),
            username: "ada".into(),
            format: Format::Json,
            on_lag: OnLag::Close,
        };
        world.shard.step(Input::Opened { connection: MEMBER, session, appearance: Appearance::Unseen }, NOW);
        world
    }

    fn ask(&mut self, cid: &str, command: Command) -> Vec<(Ticket, StoreRequest)> {
        self.shard.step(Input::Request { connection: MEMBER, cid: cid.to_owned(), command }, NOW);
        self.turn()
    }

    fn send(&mut self, cid: &str) -> Vec<(Ticket, StoreRequest)> {
        let channel_id = ChannelId::group(GROUP).to_string();
        self.ask(cid, Command::Send { channel_id, content: "{}".into() })
    }

    fn answer(&mut self, ticket: Ticket, receipt: StoreReceipt) -> Vec<(Ticket, StoreRequest)> {
        self.shard.step(Input::Receipt { ticket, outcome: Ok(receipt) }, NOW);
        self.turn()
    }

    fn turn(&mut self) -> Vec<(Ticket, StoreRequest)> {
        let mut effects = Effects::default();
        self.shard.finish_turn(NOW, &mut effects);
        self.shard.flush(&mut self.heard);
        self.shard.pass(NOW, &mut self.heard);
        self.findings.append(&mut effects.findings);
        effects.store
    }

    /// The member comes in.
    fn join(&mut self) {
        let join = Join { target: GROUP.to_string(), kind: 3, persistence: true, hidden: false };
        let (head, request) = only(self.ask("join", Command::Join(join)));
        assert!(matches!(request, StoreRequest::Head { .. }));
        let (admission, request) = only(self.answer(head, StoreReceipt::Head(None)));
        assert!(matches!(request, StoreRequest::Admit(_)));
        assert!(!self.heard.text().contains("\"channel\""), "nobody is in before the store has said so");
        assert!(self.answer(admission, StoreReceipt::Admitted(None)).is_empty());
        assert!(self.heard.text().contains("\"cid\":\"join\",\"channel\""));
    }
}

fn only<T>(mut list: Vec<T>) -> T {
    assert_eq!(list.len(), 1);
    list.remove(0)
}

#[test]
fn who_sends_is_not_looked_up() {
    let mut world = World::new();
    world.join();
    for number in 0..100 {
        let (ticket, request) = only(world.send(&number.to_string()));
        assert!(matches!(request, StoreRequest::Insert(_)), "{request:?}");
        assert!(world.answer(ticket, StoreReceipt::Inserted).is_empty());
    }
    assert_eq!(world.heard.text().matches("channel_message_ack").count(), 100);
}

#[test]
fn what_is_asked_behind_a_kick_is_looked_at_when_it_is_decided() {
    let mut world = World::new();
    world.join();
    let (before, _) = only(world.send("before"));
    let kicked = UserId(Uuid::from_u128(1));
    let change = GroupChange { group: GROUP, actor: UserId(Uuid::from_u128(9)), act: GroupAct::Kick(vec![kicked]) };
    let enquiry = Enquiry::ChangeGroup(change);
    world.shard.step(Input::Enquiry { number: 5, channel: ChannelId::group(GROUP), enquiry }, NOW);
    let (kick, request) = only(world.turn());
    let StoreRequest::ChangeGroup { places, time, .. } = request else { panic!("{request:?}") };
    assert!(world.send("behind").is_empty(), "it waits, and the store does not hear of it");

    // The store has decided the kick first, but the message stands before it.
    let message = Message {
        channel: ChannelId::group(GROUP),
        id: places[0].id,
        sequence: places[0].sequence,
        code: MessageCode::GroupKick,
        sender: kicked,
        username: "ada".into(),
        content: "{}".into(),
        create_time: time,
        update_time: time,
        persistent: true,
    };
    let outcome = GroupOutcome { messages: vec![message], removed: vec![kicked], ..GroupOutcome::default() };
    assert!(world.answer(kick, StoreReceipt::GroupChanged(Ok(outcome))).is_empty());
    assert!(world.findings.is_empty() && !world.heard.text().contains("\"code\":6"));
    assert!(world.answer(before, StoreReceipt::Inserted).is_empty());

    assert_eq!(world.findings, [(5, Finding::GroupChanged(Ok(())))]);
    let heard = world.heard.text();
    let place = |what: &str| heard.find(what).unwrap_or_else(|| panic!("{what} is not in {heard}"));
    assert!(place("\"cid\":\"before\",\"channel_message_ack\"") > place("\"code\":0"));
    assert!(place("\"code\":6") > place("\"code\":0"));
    assert!(
        place("\"cid\":\"behind\",\"error\"") > place("\"code\":6"),
        "who was kicked is told so, and sends no more"
    );
    assert!(world.send("after").is_empty());
}

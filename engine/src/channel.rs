//! A channel at its owner: who is in it, who may write, and what comes next.
//!
//! Everything is judged here at once and in one order; what must be kept is shown only when the store has it. Contents are
//! opaque. The channel speaks by `Announcements`, which the shard sends on at the end of the turn.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::announcements::Announcements;
use crate::command::{Event, Rejection, Reply};
use crate::id::{ChannelId, Epoch, Sequence, SessionId, ShardId, Timestamp, UserId};
use crate::limits::CHANNEL_PENDING_MAX;
use crate::members::{Address, Member, Members};
use crate::message::{Message, MessageCode, Presence};
use crate::message_id::MessageIds;
use crate::parcel::{Ask, Batch, Finding, Version, Wish};
use crate::pending::{Pending, PendingPlace};
use crate::persist::{StoreFailure, StoreReceipt, StoreRequest, UpdateMessage};
use crate::presence::{Comings, PresenceList, PresenceNews, Return};
use crate::recent::Recent;

/// What the world lends a channel for one step.
pub struct Moment {
    pub now: Timestamp,
    pub random: u32,
}

/// What a channel wants of the store.
pub enum Wanted {
    /// Its own newest place.
    Head,
    /// Its newest messages, for this version.
    Newest(Version),
    /// A decision on an entry of its queue.
    Decision(PendingPlace, StoreRequest),
}

/// What a channel does to the world in one step.
pub type Wants = Vec<Wanted>;

/// A channel.
pub struct Channel {
    id: ChannelId,
    members: Members,
    comings: Comings,
    recent: Recent,
    /// Visible members beyond which this is a crowd.
    room_max: usize,
    place: Place,
    pending: Pending<Work, Result<StoreReceipt, StoreFailure>>,
    /// Shards that cannot bring round as fast as we announce: while there are any, messages wait.
    held_by: Vec<ShardId>,
    pub announcements: Announcements,
}

/// Whether the channel knows where its history ends; without that it cannot give out ids.
enum Place {
    Unknown,
    /// The store has been asked; messages wait.
    Asked(VecDeque<(ShardId, Ask)>),
    Known {
        ids: MessageIds,
        next: Sequence,
        newest: Timestamp,
    },
}

/// Accepted work, in the order in which it will be shown.
struct Work {
    asker: Address,
    number: u32,
    act: Act,
}

enum Act {
    Send(Message),
    /// A change to a stored message.
    Change,
    /// A change to a message that was never stored, as it will be announced if nobody else's stored message has its id.
    Live(Message),
}

impl Channel {
    pub fn new(id: ChannelId, room_max: usize) -> Self {
        Self {
            id,
            members: Members::default(),
            comings: Comings::default(),
            recent: Recent::default(),
            room_max,
            place: Place::Unknown,
            pending: Pending::default(),
            held_by: Vec::new(),
            announcements: Announcements::default(),
        }
    }

    /// Whether nothing would be lost by forgetting this channel.
    pub fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty() && !matches!(self.place, Place::Asked(_))
    }

    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Does what a connection asks, or accepts it to be done in order.
    pub fn ask(&mut self, home: ShardId, ask: Ask, moment: &Moment, wants: &mut Wants) {
        let Ask { connection, number, wish } = ask;
        let asker = Address { home, connection };
        match wish {
            Wish::Join { presence, hidden, format } => {
                self.want_head(wants);
                self.join(Member { address: asker, presence, hidden, format, known: false }, number, moment.now);
            }
            Wish::Leave => self.leave(asker, Some(number), moment.now),
            Wish::Depart => self.leave(asker, None, moment.now),
            Wish::Send { .. } | Wish::Update { .. } | Wish::Remove { .. } => {
                if self.members.get(asker).is_none() {
                    let rejection = Rejection::bad_input("not a member of this channel: join it first");
                    return self.announcements.answer(asker, number, Reply::Refused(rejection));
                }
                self.message(home, Ask { connection, number, wish }, moment, wants);
            }
        }
    }

    fn join(&mut self, mut member: Member, number: u32, now: Timestamp) {
        let asker = member.address;
        let (channel, me) = (self.id.clone(), member.presence.clone());
        if let Some(known) = self.members.get(asker) {
            let own = (!known.hidden).then(|| known.presence.clone());
            let PresenceList { presences, count } = self.comings.list(&self.members);
            let others = presences.iter().filter(|presence| presence.session != me.session).cloned();
            let reply = Reply::Joined { channel, presences: others.chain(own).collect(), count, me };
            return self.announcements.answer(asker, number, reply);
        }
        let returns = self.comings.returns(&member);
        if returns == Return::TellFirst {
            self.announce_presence(now);
        }
        let PresenceList { mut presences, count } = self.comings.list(&self.members);
        if presences.iter().any(|presence| presence.session == me.session) {
            presences = presences.iter().filter(|presence| presence.session != me.session).cloned().collect();
        }
        self.announcements.joined(&self.members, asker, number, Reply::Joined { channel, presences, count, me });
        if returns == Return::NeverLeft {
            member.known = true;
        } else if !member.hidden {
            self.comings.arrive(asker);
        }
        self.members.insert(member);
    }

    fn leave(&mut self, asker: Address, number: Option<u32>, now: Timestamp) {
        if self.members.get(asker).is_some() {
            self.announcements.seal(&self.members);
            let member = self.members.remove(asker).expect("it was just seen");
            if !self.members.homes().any(|home| home == asker.home) {
                self.release_hold(asker.home, now);
            }
            self.comings.depart(member);
        }
        if let Some(number) = number {
            self.announcements.left(asker, number);
        }
    }

    fn announce_presence(&mut self, now: Timestamp) {
        if let Some(PresenceNews { joins, leaves, count }) = self.comings.tell(&mut self.members, self.room_max, now) {
            let event = Event::Presence { channel: self.id.clone(), joins, leaves, count };
            self.announcements.announce(&event, &self.members);
        }
    }

    /// A member sends, updates or removes.
    fn message(&mut self, home: ShardId, ask: Ask, moment: &Moment, wants: &mut Wants) {
        self.want_head(wants);
        if let Place::Asked(waiting) = &mut self.place {
            if waiting.len() < CHANNEL_PENDING_MAX {
                waiting.push_back((home, ask));
            } else {
                self.refuse(Address { home, connection: ask.connection }, ask.number, busy());
            }
            return;
        }
        let asker = Address { home, connection: ask.connection };
        let Some(member) = self.members.get(asker) else {
            let rejection = Rejection::bad_input("not a member of this channel: join it first");
            return self.refuse(asker, ask.number, rejection);
        };
        let author = Author {
            user: member.presence.user,
            username: member.presence.username.clone(),
            persistence: member.presence.persistence,
        };
        match self.accept(author, ask.wish, moment) {
            Err(rejection) => self.refuse(asker, ask.number, rejection),
            Ok(Accepted { act, bytes, request }) => {
                let place = self.pending.push(Work { asker, number: ask.number, act }, bytes);
                match request {
                    Some(request) => wants.push(Wanted::Decision(place, request)),
                    None => self.decided(place, Ok(StoreReceipt::Inserted), moment.now),
                }
            }
        }
    }

    /// Gives accepted work its place in the channel, and says what the store must do for it.
    fn accept(&mut self, author: Author, wish: Wish, moment: &Moment) -> Result<Accepted, Rejection> {
        let Place::Known { ids, next, newest } = &mut self.place else { unreachable!("the caller has looked") };
        let (id, code, content) = match wish {
            Wish::Send { content } => {
                let id = ids.next(moment.now, moment.random).map_err(|_| busy())?;
                (id, MessageCode::Chat, content)
            }
            Wish::Update { id, content } => (id, MessageCode::Update, content),
            Wish::Remove { id } => (id, MessageCode::Remove, "{}".into()),
            _ => unreachable!("only messages are accepted"),
        };
        if !self.pending.has_room(content.len()) {
            return Err(busy());
        }
        // Times never fall, so that the order of times is the order of ids, whatever the clock does.
        *newest = moment.now.max(*newest);
        let message = Message {
            channel: self.id.clone(),
            id,
            sequence: *next,
            code,
            sender: author.user,
            username: author.username,
            content,
            create_time: *newest,
            update_time: *newest,
            persistent: author.persistence,
        };
        if code == MessageCode::Chat {
            next.0 += 1;
        }
        Ok(Accepted::of(message))
    }

    fn want_head(&mut self, wants: &mut Wants) {
        if matches!(self.place, Place::Unknown) {
            self.place = Place::Asked(VecDeque::new());
            wants.push(Wanted::Head);
        }
    }

    /// The store has said where the history ends.
    pub fn head(&mut self, receipt: Result<StoreReceipt, StoreFailure>, moment: &Moment, wants: &mut Wants) {
        let Place::Asked(waiting) = std::mem::replace(&mut self.place, Place::Unknown) else {
            unreachable!("the head is asked for once at a time")
        };
        match receipt {
            Ok(StoreReceipt::Head(head)) => {
                self.place = Place::Known {
                    ids: MessageIds::after(head.map(|head| head.id)),
                    next: Sequence(head.map_or(0, |head| head.sequence.0) + 1),
                    newest: Timestamp(0),
                };
                for (home, ask) in waiting {
                    self.message(home, ask, moment, wants);
                }
            }
            _ => {
                for (home, ask) in waiting {
                    self.refuse(Address { home, connection: ask.connection }, ask.number, not_stored());
                }
            }
        }
    }

    /// The newest messages, if they are in memory; if not, they will be soon, as `unused`.
    pub fn newest(&mut self, limit: usize, unused: Version, wants: &mut Wants) -> Finding {
        match self.recent.newest(limit) {
            Some((messages, version)) => Finding::Newest { messages, version },
            None => {
                if self.recent.begin(unused) {
                    wants.push(Wanted::Newest(unused));
                }
                Finding::AskTheStore
            }
        }
    }

    /// The store has read the newest messages.
    pub fn read(&mut self, version: Version, receipt: Result<StoreReceipt, StoreFailure>) {
        let newest = match receipt {
            Ok(StoreReceipt::Newest(messages)) => Some(messages),
            _ => None,
        };
        self.recent.loaded(version, newest);
    }

    /// The store has decided an entry: let go all whose turn has come.
    pub fn decided(&mut self, place: PendingPlace, decision: Result<StoreReceipt, StoreFailure>, now: Timestamp) {
        self.pending.decide(place, decision);
        self.let_go(now);
    }

    fn let_go(&mut self, now: Timestamp) {
        while self.held_by.is_empty()
            && let Some((work, decision)) = self.pending.release()
        {
            self.release(work, decision, now);
        }
    }

    /// A shard has more of this channel's log to bring round than it should: publishers wait from here on.
    pub fn hold(&mut self, shard: ShardId) {
        if !self.held_by.contains(&shard) && self.members.homes().any(|home| home == shard) {
            self.held_by.push(shard);
        }
    }

    /// The shard has caught up, or has no members left.
    pub fn release_hold(&mut self, shard: ShardId, now: Timestamp) {
        self.held_by.retain(|held| *held != shard);
        self.let_go(now);
    }

    fn release(&mut self, work: Work, decision: Result<StoreReceipt, StoreFailure>, now: Timestamp) {
        let Work { asker, number, act } = work;
        let shown = match (act, decision) {
            (_, Err(_)) => Err(not_stored()),
            (Act::Send(message), Ok(_)) => Ok(message),
            (Act::Change, Ok(StoreReceipt::Updated(message))) => Ok(Message { code: MessageCode::Update, ..message }),
            (Act::Change, Ok(StoreReceipt::Removed(message))) => {
                Ok(Message { code: MessageCode::Remove, content: "{}".into(), ..message })
            }
            (Act::Live(message), Ok(StoreReceipt::Sender(sender)))
                if sender.is_none_or(|sender| sender == message.sender) =>
            {
                Ok(message)
            }
            _ => Err(Rejection::bad_input("no message of yours with this id in this channel")),
        };
        match shown {
            Err(rejection) => self.refuse(asker, number, rejection),
            Ok(message) => {
                if message.code == MessageCode::Chat {
                    self.announcements.last = message.sequence;
                }
                // Nobody in a room hears somebody of whom they have not heard.
                if self.members.get(asker).is_some_and(|member| !member.known && !member.hidden) {
                    self.announce_presence(now);
                }
                self.recent.show(&message);
                let code = message.code;
                let event = Event::Message(message);
                self.announcements.announce(&event, &self.members);
                let Event::Message(message) = event else { unreachable!("it was made one line above") };
                self.announcements.answer(asker, number, Reply::Acknowledged { message, code });
            }
        }
    }

    fn refuse(&mut self, asker: Address, number: u32, rejection: Rejection) {
        self.announcements.answer(asker, number, Reply::Refused(rejection));
    }

    /// When this channel will have something to tell although nothing happens.
    pub fn due(&self) -> Option<Timestamp> {
        self.comings.due(&self.members)
    }

    /// What the turn's announcements come to, for each shard that is concerned.
    pub fn batches(&mut self, epoch: Epoch, now: Timestamp) -> Vec<(ShardId, Batch)> {
        self.announce_presence(now);
        self.announcements.batches(&self.id, epoch, &self.members)
    }

    /// The visible members behind a session, in order of their sessions, and how many there are in all.
    pub fn presence_page(&self, after: Option<SessionId>, limit: usize) -> (Vec<Presence>, usize) {
        let members = self.members.visible_after(after).take(limit);
        (members.map(|member| member.presence.clone()).collect(), self.members.visible_count())
    }
}

/// Work that has its place, and what the store must do before it is shown.
struct Accepted {
    act: Act,
    bytes: usize,
    request: Option<StoreRequest>,
}

impl Accepted {
    fn of(message: Message) -> Self {
        let (channel, id, sender) = (message.channel.clone(), message.id, message.sender);
        let bytes = message.content.len();
        let (act, request) = match (message.code, message.persistent) {
            (MessageCode::Chat, true) => (Act::Send(message.clone()), Some(StoreRequest::Insert(message))),
            (MessageCode::Chat, false) => (Act::Send(message), None),
            (_, false) => (Act::Live(message), Some(StoreRequest::Sender { channel, id })),
            (MessageCode::Remove, true) => (Act::Change, Some(StoreRequest::Remove { channel, id, sender })),
            (_, true) => {
                let Message { username, content, update_time, .. } = message;
                let update = UpdateMessage { channel, id, sender, username, content, update_time };
                (Act::Change, Some(StoreRequest::Update(update)))
            }
        };
        Self { act, bytes, request }
    }
}

/// Who writes.
struct Author {
    user: UserId,
    username: Arc<str>,
    persistence: bool,
}

fn busy() -> Rejection {
    Rejection::unavailable("this channel has too many messages under way: nothing was stored, try again")
}

fn not_stored() -> Rejection {
    Rejection::unavailable("the message could not be stored: try again")
}

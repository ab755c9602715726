//! The one thread that writes: it gathers a group of writes, commits the group, and answers each of its writes.
//!
//! A shard's reads go through the same queue as its writes. They run only after the group in which they arrived is
//! committed, so they see every write that was sent before them. They may also see later writes, which the same shard
//! sent.

use std::collections::HashSet;
use std::sync::Arc;

use engine::id::{ChannelId, UserId};
use engine::message::Message;
use engine::persist::{StoreQuestion, StoreReceipt, StoreRequest};
use engine::social::friend::FriendState;
use engine::social::group::Role;

use super::askers::{Asker, GroupAskers, ShardAsker};
use super::ends::StoreQueueServer;
use super::reads::asker_of;
use super::waiting::QuerySender;
use super::write_bytes::bytes_of;
use super::writes::{ClientWrite, WriteTaker};
use super::{GROUP_BYTES_MAX, GROUP_WRITES_MAX, Line, Watch};
use crate::change::may_chat;
use crate::{Failure, Lanes, PageStart, Store, Submission, Write, Written};

/// Parts of a channel's history that are read for its newest messages, at most.
const NEWEST_PARTS_MAX: usize = 4;

pub(super) struct Committer {
    store: Arc<dyn Store>,
    line: Arc<Line>,
    bell: flume::Receiver<()>,
    shards: Arc<Vec<StoreQueueServer>>,
    clients: WriteTaker,
    queries: QuerySender,
    /// The queue from which the next write is taken: a shard's number, or, after the last shard, the clients.
    turn: usize,
}

/// Requests that are carried out together.
#[derive(Default)]
struct Group {
    writes: Vec<Write>,
    askers: GroupAskers,
    bytes: usize,
}

impl Group {
    fn is_full(&self) -> bool {
        self.requests() >= GROUP_WRITES_MAX || self.bytes >= GROUP_BYTES_MAX
    }

    fn is_empty(&self) -> bool {
        self.requests() == 0
    }

    fn requests(&self) -> usize {
        self.writes.len() + self.askers.questions.len()
    }

    fn add(&mut self, write: Write, asker: Asker) {
        self.bytes += bytes_of(&write);
        self.writes.push(write);
        self.askers.writers.push(asker);
    }
}

impl Committer {
    /// Gathers what its parts bring: the bell, the queues of the shards in their order, and the clients' writes.
    /// Nothing runs yet.
    pub fn new(
        store: Arc<dyn Store>,
        line: Arc<Line>,
        bell: flume::Receiver<()>,
        shards: Arc<Vec<StoreQueueServer>>,
        clients: WriteTaker,
        queries: QuerySender,
    ) -> Self {
        Self { store, line, bell, shards, clients, queries, turn: 0 }
    }

    /// Serves until the line is closed and everything that was taken is answered.
    pub fn run(mut self) {
        let _watch = Watch(self.line.clone());
        loop {
            // This fails when no sender is left, so nothing more can come.
            let rung = self.bell.recv().is_ok();
            // Read this before emptying the queues: a request sent after the line was closed has been refused.
            let last = !rung || self.line.is_closing();
            loop {
                let group = self.gather();
                if group.is_empty() {
                    break;
                }
                self.serve(group);
            }
            if last {
                if let Some(lanes) = self.store.lanes() {
                    lanes.drain();
                }
                return;
            }
        }
    }

    /// Takes waiting requests, one from each queue in turn, until all queues are empty or the group is full. Never
    /// blocks.
    fn gather(&mut self) -> Group {
        let queues = self.shards.len() + 1;
        let mut group = Group::default();
        let mut empty_in_a_row = 0;
        while empty_in_a_row < queues && !group.is_full() {
            let found = match self.shards.get(self.turn) {
                Some(shard) => take_from_shard(shard, &mut group),
                None => take_from_clients(&self.clients, &mut group),
            };
            empty_in_a_row = if found { 0 } else { empty_in_a_row + 1 };
            self.turn = (self.turn + 1) % queues;
        }
        debug_assert!(group.requests() <= GROUP_WRITES_MAX, "a group is bounded");
        group
    }

    fn serve(&self, group: Group) {
        if let Some(lanes) = self.store.lanes() {
            return self.hand_over(lanes, group);
        }
        debug_assert_eq!(group.writes.len(), group.askers.writers.len(), "each write has an asker");
        let Group { writes, askers, .. } = group;
        let askers = if writes.is_empty() { Some(askers) } else { self.commit(&writes, askers) };
        for (asker, question) in askers.into_iter().flat_map(|askers| askers.questions) {
            self.pass_on(asker, question);
        }
    }

    /// Commits and answers the writes. Returns the askers whose questions are left, if no other thread has answered them meanwhile.
    fn commit(&self, writes: &[Write], askers: GroupAskers) -> Option<GroupAskers> {
        let (written, askers) = match self.line.check() {
            Ok(()) => self.line.commit.run(askers, || self.store.commit(writes)),
            Err(failure) => (Err(failure), Some(askers)),
        };
        let Some(mut askers) = askers else {
            if let Err(failure) = written {
                self.line.note(&failure);
            }
            return None;
        };
        self.answer_writes(std::mem::take(&mut askers.writers), written);
        Some(askers)
    }

    /// Hands a group to a store that answers each write when it is decided.
    fn hand_over(&self, lanes: &dyn Lanes, group: Group) {
        debug_assert_eq!(group.writes.len(), group.askers.writers.len(), "each write has an asker");
        let writes = group.writes.into_iter().zip(group.askers.writers).map(|(write, asker)| {
            let line = self.line.clone();
            Submission::Write(write, Box::new(move |written| asker.answer(&line, written)))
        });
        let questions = group.askers.questions.into_iter().map(|(asker, question)| {
            let line = self.line.clone();
            let answer = move |found: Result<_, Failure>| {
                if let Err(failure) = &found {
                    line.note(failure);
                }
                asker.answer(found);
            };
            Submission::Question(question, Box::new(answer))
        });
        let submissions = writes.chain(questions);
        match self.line.check() {
            Ok(()) => lanes.take(submissions.collect()),
            Err(failure) => submissions.for_each(|submission| submission.fail(failure.clone())),
        }
    }

    fn answer_writes(&self, askers: Vec<Asker>, written: Result<Vec<Result<Written, Failure>>, Failure>) {
        match written {
            Ok(written) => {
                assert_eq!(written.len(), askers.len(), "the store answers each write once");
                for (asker, written) in askers.into_iter().zip(written) {
                    asker.answer(&self.line, written);
                }
            }
            Err(failure) => {
                self.line.note(&failure);
                for asker in askers {
                    asker.answer(&self.line, Err(failure.clone()));
                }
            }
        }
    }

    /// Lets a reader answer a shard's question.
    fn pass_on(&self, asker: ShardAsker, question: StoreQuestion) {
        let answer = move |found| asker.answer(found);
        self.queries.ask_for_shard(asker_of(&question), move |store| look_up(store, &question), answer);
    }
}

fn take_from_shard(shard: &StoreQueueServer, group: &mut Group) -> bool {
    let Ok((ticket, request)) = shard.requests.try_recv() else {
        return false;
    };
    let asker = ShardAsker { receipts: shard.receipts.clone(), ticket };
    match request {
        StoreRequest::Write(write) => group.add(Write::Request(write), Asker::Shard(asker)),
        StoreRequest::Question(question) => group.askers.questions.push((asker, question)),
    }
    true
}

fn take_from_clients(clients: &WriteTaker, group: &mut Group) -> bool {
    let Some(ClientWrite { write, answer }) = clients.take() else {
        return false;
    };
    group.add(write, Asker::Client(answer));
    true
}

/// Answers a shard's question. Fails as the store does.
pub fn look_up(store: &dyn Store, question: &StoreQuestion) -> Result<StoreReceipt, Failure> {
    let admitted = |may| if may { StoreReceipt::Admitted(None) } else { StoreReceipt::NotAdmitted };
    match question {
        StoreQuestion::Head { channel } => store.head(channel).map(StoreReceipt::Head),
        StoreQuestion::Newest { channel, limit } => newest(store, channel, *limit).map(StoreReceipt::Newest),
        StoreQuestion::MayJoinGroup { group, user } => {
            Ok(admitted(store.group_role(*group, *user)?.is_some_and(Role::is_member)))
        }
        StoreQuestion::MayJoinDirect { user, other } => may_join_direct(store, *user, *other).map(admitted),
        StoreQuestion::Users { follower, ids, usernames } => {
            followable(store, *follower, ids, usernames).map(StoreReceipt::Users)
        }
    }
}

/// The newest messages of a channel: exactly as many as asked for, or all. Fails if too many removed rows are in the
/// way; the store then knows more of them, and the next attempt comes further.
fn newest(store: &dyn Store, channel: &ChannelId, limit: usize) -> Result<Vec<Message>, Failure> {
    let (mut messages, mut from) = (Vec::new(), PageStart::Newest);
    for _ in 0..NEWEST_PARTS_MAX {
        let part = store.messages_part(channel, from, limit - messages.len())?;
        messages.extend(part.items);
        match part.stopped {
            Some(stopped) => from = from.behind(stopped),
            None => return Ok(messages),
        }
    }
    Err(Failure::Passing(format!("too many removed messages of {channel} are in the way")))
}

fn may_join_direct(store: &dyn Store, user: UserId, other: UserId) -> Result<bool, Failure> {
    let exists = |id| store.has_account(id);
    Ok(may_chat(user, other, exists, || store.sides(user, other))?.is_some())
}

/// Those of these users that exist and do not block the follower, each once.
fn followable(
    store: &dyn Store,
    follower: UserId,
    ids: &[UserId],
    usernames: &[String],
) -> Result<Vec<UserId>, Failure> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for &id in ids {
        if seen.insert(id) && store.has_account(id)? {
            found.push(id);
        }
    }
    for username in usernames {
        found.extend(store.user_by_username(username)?.filter(|&id| seen.insert(id)));
    }
    let mut followable = Vec::with_capacity(found.len());
    for id in found {
        if store.sides(follower, id)?.others != Some(FriendState::Blocked) {
            followable.push(id);
        }
    }
    Ok(followable)
}

//! What a shard counts of its own work: plain numbers that belong to its thread, copied as a whole when the runtime or
//! the gateway asks.
//!
//! There are no atomics, no locks and no clock here: times come as arguments, and counting is an addition at a place
//! where work is done anyway. Everything has a fixed size and does not grow with users, channels or connections.
//! Durations are in microseconds unless a name says otherwise. The gateway decides how the numbers are shown.

use std::time::Duration;

use crate::budget::Work;
use crate::command::{Command, RateLimit, Rejection, RejectionCode};
use crate::id::{ShardId, Timestamp};
use crate::process_rates::{PROCESS_RATES, ProcessRate};

/// The number of a histogram's buckets: these reach to about a minute of microseconds, and the last one is for all
/// greater values.
pub const BUCKETS: usize = 28;

/// How often values of each size occurred. Bucket `i` counts the values that are at most 2^i and fit no smaller bucket.
/// The last bucket counts all the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    pub buckets: [u64; BUCKETS],
    pub sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl Histogram {
    /// Counts one value in the bucket of the next power of two, or in the last bucket if it is larger than all bounds.
    pub fn record(&mut self, value: u64) {
        self.buckets[Self::bucket(value)] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Records the time between two timestamps. If the clock went back, the time counts as zero.
    pub fn record_between(&mut self, from: Timestamp, to: Timestamp) {
        self.record(u64::try_from(to.0.saturating_sub(from.0) / 1000).unwrap_or(0));
    }

    /// The bucket that counts this value.
    pub fn bucket(value: u64) -> usize {
        let bucket = u64::BITS - value.saturating_sub(1).leading_zeros();
        (bucket as usize).min(BUCKETS - 1)
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The greatest value that a bucket counts; `None` for the last bucket, which has no limit.
    pub fn bound(bucket: usize) -> Option<u64> {
        (bucket < BUCKETS - 1).then(|| 1 << bucket)
    }
}

/// Kinds of requests, in the order of `HomeCounters::requests`.
pub const REQUEST_KINDS: [&str; 13] = [
    "join",
    "leave",
    "send",
    "update",
    "remove",
    "status_follow",
    "status_unfollow",
    "status_update",
    "ping",
    "pong",
    "rpc",
    "unsupported",
    "malformed",
];

/// The kind of requests that were no valid command.
pub const MALFORMED: usize = REQUEST_KINDS.len() - 1;

/// The place of a command's kind among `REQUEST_KINDS`.
pub fn kind_of(command: &Command) -> usize {
    match command {
        Command::Join(_) => 0,
        Command::Leave { .. } => 1,
        Command::Send { .. } => 2,
        Command::Update { .. } => 3,
        Command::Remove { .. } => 4,
        Command::StatusFollow { .. } => 5,
        Command::StatusUnfollow { .. } => 6,
        Command::StatusUpdate { .. } => 7,
        Command::Ping => 8,
        Command::Pong => 9,
        Command::Rpc => 10,
        Command::Unsupported(_) => 11,
    }
}

/// Kinds of refusals, by their code on the wire, in the order of `HomeCounters::refused`.
pub const REFUSAL_KINDS: [&str; 5] =
    ["runtime_exception", "unrecognized_payload", "missing_payload", "bad_input", "function_not_found"];

/// The place of a refusal's kind among `REFUSAL_KINDS`.
pub fn refusal_of(rejection: &Rejection) -> usize {
    match rejection.code {
        RejectionCode::RuntimeException => 0,
        RejectionCode::UnrecognizedPayload => 1,
        RejectionCode::MissingPayload => 2,
        RejectionCode::BadInput => 3,
        RejectionCode::RuntimeFunctionNotFound => 4,
    }
}

/// What bounds the requests of sessions in time, in the order of `HomeCounters::too_fast`.
pub const RATE_LIMITS: [&str; 5] = [
    RateLimit::SendsPerSecond.name(),
    RateLimit::WorkPerSession.name(),
    RateLimit::WorkPerUser.name(),
    RateLimit::WorkPerAddress.name(),
    ProcessRate::Joins.name(),
];

/// Stages of a connection, in the order of `SocketCounters::stages`.
pub const STAGES: [&str; 6] = ["opening", "session", "closing", "hanging_up", "refusing", "http"];

/// The place of open sessions among `STAGES`.
const SESSION_STAGE: usize = 1;

/// Why sessions end, in the order of `SessionEnd`.
pub const SESSION_ENDS: [&str; 11] = [
    "gone",
    "client",
    "silent",
    "slow",
    "misunderstood",
    "expired",
    "deleted",
    "drained",
    "stopped",
    "lost",
    "operator",
];

/// Why a session ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SessionEnd {
    /// The connection is gone, and no close frame has come.
    #[default]
    Gone,
    /// The client has sent a close frame.
    Client,
    /// The client has shown no sign of life.
    Silent,
    /// The client reads too slowly.
    Slow,
    /// The client has broken the rules of frames or envelopes.
    Misunderstood,
    /// The token that opened the session has ended.
    Expired,
    /// The account is deleted.
    Deleted,
    /// The server drains.
    Drained,
    /// The server stops at once.
    Stopped,
    /// Messages are missing that cannot be told again.
    Lost,
    /// An operator has closed it.
    Operator,
}

/// Why openings of WebSockets are refused, in the order of `SocketCounters::openings_refused`.
pub const OPENING_REFUSAL_KINDS: [&str; 18] = [
    "malformed",
    "head_too_large",
    "body",
    "parameter",
    "no_opening",
    "token_missing",
    "token_invalid",
    "token_expired",
    "token_logged_out",
    "handshake",
    "sessions_of_user",
    "proxy_header",
    "over_budget",
    "draining",
    "not_admitted",
    "unavailable",
    "origin",
    ProcessRate::Openings.name(),
];

/// How pages in browsers are refused that may try again, in the order of `SocketCounters::pages_refused`: by a close frame,
/// which they see, or by a status.
pub const PAGE_REFUSALS: [&str; 2] = ["closed", "status"];

/// Why sign-ins are refused, in the order of `SocketCounters::sign_ins_refused`.
pub const SIGN_IN_REFUSALS: [&str; 13] = [
    "server_key",
    "malformed",
    "no_account",
    "wrong_password",
    "provider_token",
    "banned",
    "closed",
    "taken",
    "origin",
    "over_budget",
    ProcessRate::SignIns.name(),
    ProcessRate::Accounts.name(),
    "unavailable",
];

/// What HTTP requests ask for, in the order of `SocketCounters::http_latency`.
pub const HTTP_ROUTES: [&str; 13] = [
    "health",
    "authenticate",
    "session",
    "account",
    "user",
    "group",
    "friend",
    "notification",
    "history",
    "presence",
    "event",
    "storage",
    "other",
];

/// Classes of HTTP answers, in the order of `SocketCounters::http_answers`.
pub const ANSWER_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The codes with which calls of gRPC end, in the order of `SocketCounters::grpc_calls` and of their numbers.
pub const GRPC_CODES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

/// Why HTTP requests are refused before their work, in the order of `SocketCounters::http_refused`.
pub const COSTLY_KINDS: [&str; 8] = [
    "body_too_large",
    "bodies_full",
    "passwords_full",
    "over_budget",
    "answers_full",
    ProcessRate::SignIns.name(),
    ProcessRate::Accounts.name(),
    "origin",
];

/// Why connections are closed before their HTTP answer is read, in the order of `SocketCounters::http_answers_cut`.
pub const ANSWER_CUTS: [&str; 2] = ["full", "slow"];

/// Writes to the sockets of sessions, and the bytes that they took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    pub writes: u64,
    pub bytes: u64,
}

impl Written {
    /// Counts a write that took so many bytes.
    pub fn add(&mut self, bytes: usize) {
        self.writes += 1;
        self.bytes += bytes as u64;
    }

    /// What was written since there was so little.
    pub fn since(self, before: Self) -> Self {
        Self { writes: self.writes - before.writes, bytes: self.bytes - before.bytes }
    }
}

/// Connections, as the gateway sees them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SocketCounters {
    pub accepted: u64,
    /// Connections that were refused because there was no room.
    pub refused: u64,
    /// The number of connections that there is room for.
    pub capacity: u64,
    /// Connections in each stage now.
    pub stages: [u64; STAGES.len()],
    /// TLS handshakes that failed.
    pub tls_refused: u64,
    /// Steps of TLS handshakes that were left to a later turn.
    pub tls_put_off: u64,
    /// Sessions whose TLS the kernel has taken over.
    pub tls_in_kernel: u64,
    /// WebSocket openings that were refused, by the reason.
    pub openings_refused: [u64; OPENING_REFUSAL_KINDS.len()],
    /// Reads that found data, and the bytes that they read.
    pub reads: u64,
    pub read_bytes: u64,
    /// What was written to the sockets of sessions.
    pub written: Written,
    /// Requests that were answered, by the class of the answer.
    pub http_answers: [u64; ANSWER_CLASSES.len()],
    /// Calls of gRPC that were answered, by the code of their status.
    pub grpc_calls: [u64; GRPC_CODES.len()],
    /// Requests that were refused before their work, by the reason.
    pub http_refused: [u64; COSTLY_KINDS.len()],
    /// Connections that were closed before their HTTP answer was read, by the reason.
    pub http_answers_cut: [u64; ANSWER_CUTS.len()],
    /// Bytes that request bodies hold now, while they arrive.
    pub body_bytes: u64,
    /// Bytes that HTTP answers hold now, until the kernel has taken them.
    pub answer_bytes: u64,
    /// Users signed in over HTTP.
    pub sign_ins: u64,
    /// Sign-ins that were refused, by the reason.
    pub sign_ins_refused: [u64; SIGN_IN_REFUSALS.len()],
    /// Accounts that sign-ins have made.
    pub accounts_made: u64,
    /// Openings of pages in browsers that were refused and may be tried again, by how they were refused.
    pub pages_refused: [u64; PAGE_REFUSALS.len()],
    /// The time from a whole HTTP request to its answer, by what it asks for.
    pub http_latency: [Histogram; HTTP_ROUTES.len()],
}

impl SocketCounters {
    /// WebSocket sessions now that are not being closed.
    pub fn sessions(&self) -> u64 {
        self.stages[SESSION_STAGE]
    }
}

/// A shard as the home of connections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HomeCounters {
    pub sessions_opened: u64,
    /// Sessions that have ended, by the reason.
    pub ended: [u64; SESSION_ENDS.len()],
    /// Sessions that a drain has closed.
    pub drained: u64,
    pub requests: [u64; REQUEST_KINDS.len()],
    pub refused: [u64; REFUSAL_KINDS.len()],
    /// Those of the refused requests that came too fast, by what they exceeded.
    pub too_fast: [u64; RATE_LIMITS.len()],
    /// Writes of private frames, together with the log that had to come before them.
    pub private_writes: u64,
    /// Clients that were closed with code 1013 because they were too far behind.
    pub slow_readers: u64,
    /// Connections that were cut off, in the middle of a frame if need be, because their unread answers held too much.
    pub cut_off: u64,
    /// Notifications that were not pushed because too many waited. They are stored.
    pub notices_untold: u64,
    /// Clients that were moved to the newest message instead, and told of the gap.
    pub gaps: u64,
    /// How often a batch of a channel was found to be missing.
    pub batch_gaps: u64,
    /// Parcels to nodes to which none goes now: their shards ask what they have missed when one goes again.
    pub unreached: u64,
    /// Messages, updates and removals that were in missing batches and could not be told again: each once, however many
    /// members should have been told.
    pub lost: u64,
}

/// The passes through a shard's audiences.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FanoutCounters {
    /// Messages written to the system, counted once for each member.
    pub deliveries: u64,
    /// Bytes of channels' logs written to the system: messages and presence events.
    pub delivery_bytes: u64,
    /// Writes of the pass.
    pub pass_writes: u64,
    /// The time from the beginning of a rotation to its last write.
    pub passes: Histogram,
    /// The time from the owner's acceptance of the oldest message to the last write of the rotation that delivered it.
    pub latency: Histogram,
}

/// A shard as the owner of channels.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnerCounters {
    /// Messages shown: sent, updated or removed.
    pub published: u64,
    /// The time from a request to the store until its receipt is taken in.
    pub store: Histogram,
    pub store_failures: u64,
}

/// The most that a single turn has done. Each number may be of another turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TurnMost {
    /// Writes to the sockets of sessions, and the bytes that they took.
    pub written: Written,
    /// Work of the requests that were read, and of late writes, in microseconds.
    pub work: u64,
}

impl TurnMost {
    /// The greater of each number.
    pub fn or(self, other: Self) -> Self {
        let writes = self.written.writes.max(other.written.writes);
        let bytes = self.written.bytes.max(other.written.bytes);
        Self { written: Written { writes, bytes }, work: self.work.max(other.work) }
    }
}

/// A shard's loop.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TurnCounters {
    pub turns: Histogram,
    /// The longest turn since the last report.
    pub longest: u64,
    /// The longest time since the last report in which the shard had to turn and did not, because other tasks ran.
    pub longest_pause: u64,
    /// The most that a single turn has done since the last report.
    pub most: TurnMost,
    pub turning_nanos: u64,
    /// Time in the runtime while there was more to do: rings, timers, HTTP.
    pub looking_nanos: u64,
    /// Time in the runtime with nothing to do, including the tasks of HTTP.
    pub waiting_nanos: u64,
    pub parcels_sent: u64,
    pub parcels_received: u64,
}

impl TurnCounters {
    /// Counts a turn that has ended.
    pub fn turned(&mut self, took: Duration) {
        let micros = took.as_micros() as u64;
        self.turns.record(micros);
        self.longest = self.longest.max(micros);
        self.turning_nanos += took.as_nanos() as u64;
    }

    /// Takes in what a turn has done.
    pub fn did(&mut self, written: Written, work: Work) {
        self.most = self.most.or(TurnMost { written, work: work.as_micros() });
    }

    /// Counts time in the runtime while there was more to do.
    pub fn looked(&mut self, took: Duration) {
        self.looking_nanos += took.as_nanos() as u64;
        self.paused(took);
    }

    /// Takes in for how long something waited that should have had a turn at once.
    pub fn paused(&mut self, waited: Duration) {
        self.longest_pause = self.longest_pause.max(waited.as_micros() as u64);
    }
}

/// The current levels, at the time of the report.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Levels {
    /// Channels that this shard owns, and memberships in them.
    pub channels: u64,
    pub members: u64,
    /// Connections that are read later because their session or user has asked for too much.
    pub resting: u64,
    /// Subscribers in this shard's audiences.
    pub subscriptions: u64,
    /// Subscribers whose socket is full, and how many bytes the slowest of them is behind.
    pub parked: u64,
    pub lag_bytes: u64,
    /// The memory that the logs of all channels hold.
    pub log_bytes: u64,
    /// The memory that answers and news hold while they wait for full sockets.
    pub unread_bytes: u64,
    /// Requests the store has not answered.
    pub store_requests: u64,
    /// Parcels that found their ring full.
    pub parcels_waiting: u64,
}

/// All that a shard has counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub shard: ShardId,
    pub home: HomeCounters,
    pub fanout: FanoutCounters,
    pub owner: OwnerCounters,
    pub turn: TurnCounters,
    pub sockets: SocketCounters,
    pub levels: Levels,
    /// What the rates of the process have refused, in the order of `PROCESS_RATES`.
    pub beyond_rates: [u64; PROCESS_RATES.len()],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_smallest_bucket_that_holds_it() {
        let check = |value: u64, bucket: usize| {
            let mut histogram = Histogram::default();
            histogram.record(value);
            assert_eq!(histogram.buckets.iter().position(|count| *count == 1), Some(bucket), "{value}");
            assert_eq!((histogram.sum, histogram.count()), (value, 1));
            assert!(Histogram::bound(bucket).is_none_or(|bound| value <= bound), "{value}");
            assert!(bucket == 0 || Histogram::bound(bucket - 1).is_some_and(|bound| value > bound), "{value}");
        };
        for (value, bucket) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1000, 10), (1024, 10), (1025, 11)] {
            check(value, bucket);
        }
        let last = BUCKETS - 1;
        for (value, bucket) in [(1 << (last - 1), last - 1), ((1 << (last - 1)) + 1, last), (u64::MAX, last)] {
            check(value, bucket);
        }
    }

    #[test]
    fn the_most_of_each_number_is_kept() {
        let mut counters = TurnCounters::default();
        counters.did(Written { writes: 3, bytes: 10 }, Work::micros(7));
        counters.did(Written { writes: 2, bytes: 900 }, Work::micros(5));
        assert_eq!(counters.most, TurnMost { written: Written { writes: 3, bytes: 900 }, work: 7 });
    }

    #[test]
    fn the_longest_pause_is_kept() {
        let mut counters = TurnCounters::default();
        counters.looked(Duration::from_micros(40));
        counters.paused(Duration::from_millis(95));
        counters.looked(Duration::from_micros(50));
        assert_eq!((counters.longest_pause, counters.looking_nanos), (95_000, 90_000));
    }

    #[test]
    fn sums_do_not_overflow_and_clocks_may_go_back() {
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        histogram.record(u64::MAX);
        assert_eq!((histogram.sum, histogram.count()), (u64::MAX, 2));
        let mut histogram = Histogram::default();
        histogram.record_between(Timestamp(5_000_000), Timestamp(1_000_000));
        histogram.record_between(Timestamp(1_000_000), Timestamp(5_000_999));
        assert_eq!((histogram.buckets[0], histogram.buckets[12], histogram.sum), (1, 1, 4000));
    }
}

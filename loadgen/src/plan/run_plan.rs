//! The complete plan of a run: the server, the rooms, and the rooms' users. Pure data, the same for every worker.
//!
//! Users are numbered through all rooms, and a room's users are consecutive. The p-th user of a room is its publisher
//! p, as long as the schedule has so many publishers. A user is in one room.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::plan::actions::ActionShares;
use crate::plan::lives::{Act, Conduct, ReadingMode};
use crate::plan::schedule::Schedule;
use crate::plan::target::Target;
use crate::wire::Entrance;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// This number tells the run's messages from those of other runs in the same room.
    pub run: u32,
    /// All random numbers are drawn from this.
    pub seed: u64,
    pub target: Target,
    /// The rooms, in the order of their users.
    pub rooms: Vec<RoomPlan>,
    /// The order to demand in every room.
    pub order: OrderDemand,
    /// Threads that a worker gives to its listening users; `None` means one for each of its cores.
    pub threads: Option<u32>,
    /// How members come and go. If it is `None`, all members stay from the first message to the last.
    pub conduct: Option<Conduct>,
    /// How many users may be signing in or connecting at once, in all workers together.
    pub in_flight: u32,
    /// Whether members that only listen read without looking at the bytes, to measure what reading alone costs.
    pub reads_only: bool,
}

/// How much order is demanded: one order of all messages for all members, or only each publisher's own order (all that
/// stock Nakama promises).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OrderDemand {
    Room,
    Publisher,
}

/// One room of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoomPlan {
    pub users: Range<u32>,
    pub entrance: Entrance,
    pub schedule: Schedule,
    pub payload_bytes: usize,
    /// What publishers do besides sending new messages.
    pub actions: ActionShares,
}

impl Plan {
    pub fn users(&self) -> u32 {
        self.rooms.last().map_or(0, |room| room.users.end)
    }

    /// Whether the rooms' whole histories are checked at the end: in runs whose members come and go, if the messages
    /// are kept.
    pub fn reads_whole_history(&self) -> bool {
        let kept = self.rooms.iter().all(|room| room.entrance.persistence);
        self.conduct.is_some() && kept && self.target.dialect.has_sessions()
    }

    /// The time over which the server is expected to drain; `None` if no drain is expected.
    pub fn drain_secs(&self) -> Option<f64> {
        self.conduct.as_ref()?.drain_secs
    }

    /// The name of a user's account.
    pub fn account(&self, user: u32) -> String {
        format!("{}{user:08}", self.target.account_prefix)
    }

    /// How many users are connected before the first message.
    pub fn early_users(&self) -> u32 {
        if self.conduct.is_some() { self.publishers() as u32 } else { self.users() }
    }

    /// The number of a user's room.
    pub fn room_of(&self, user: u32) -> usize {
        self.rooms.partition_point(|room| room.users.end <= user)
    }

    pub fn publishes(&self, user: u32) -> bool {
        self.rooms.get(self.room_of(user)).is_some_and(|room| room.publisher(user).is_some())
    }

    pub fn publishers(&self) -> u64 {
        self.rooms.iter().map(|room| u64::from(room.schedule.publishers())).sum()
    }

    pub fn messages(&self) -> u64 {
        self.rooms.iter().map(|room| u64::from(room.schedule.messages())).sum()
    }

    /// The beginning of the measured time and the end of all sending, as offsets from the start; the same in all rooms.
    pub fn measured_ns(&self) -> Range<u64> {
        self.rooms.first().map_or(0..0, |room| room.schedule.measured_ns())
    }

    /// Whether members receive presence events in any room.
    pub fn shows_presences(&self) -> bool {
        self.rooms.iter().any(|room| !room.entrance.hidden)
    }
}

impl RoomPlan {
    pub fn members(&self) -> u32 {
        self.users.end - self.users.start
    }

    /// How the user reads. Publishers always read promptly.
    pub fn reading_mode(&self, conduct: &Conduct, seed: u64, user: u32) -> ReadingMode {
        if self.publisher(user).is_some() { ReadingMode::Prompt } else { conduct.reading_mode(seed, user) }
    }

    /// What the user does and when, as offsets from the start. Empty for publishers: they join before the start and
    /// stay.
    pub fn life(&self, conduct: &Conduct, seed: u64, user: u32) -> Vec<Act> {
        if self.publisher(user).is_some() {
            return Vec::new();
        }
        let publishers = self.schedule.publishers();
        debug_assert!(self.users.contains(&user), "user {user} is a member");
        conduct.life(seed, user, user - self.users.start - publishers, self.members() - publishers)
    }

    /// The user's number among the room's publishers, if it is one.
    pub fn publisher(&self, user: u32) -> Option<u32> {
        debug_assert!(self.schedule.publishers() <= self.members(), "publishers are members");
        user.checked_sub(self.users.start).filter(|publisher| *publisher < self.schedule.publishers())
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::target::SignInKind;

    /// Rooms of these sizes, each with this many publishers.
    pub fn plan(sizes: &[(u32, u32)]) -> Plan {
        let second = Duration::from_secs(1);
        let mut first = 0;
        let room = |&(members, publishers): &(u32, u32)| {
            let users = first..first + members;
            first = users.end;
            let entrance = Entrance { room: format!("room-{}", users.start), hidden: false, persistence: true };
            let schedule = Schedule::steady(12.0, publishers, Duration::ZERO, second).expect("a valid schedule");
            RoomPlan { users, entrance, schedule, payload_bytes: 100, actions: ActionShares::default() }
        };
        let target = Target {
            server: ([127, 0, 0, 1], 1).into(),
            dialect: crate::wire::Dialect::Json,
            server_key: String::new(),
            sign_in: SignInKind::Custom,
            account_prefix: String::new(),
            read_buffer_bytes: 1024,
        };
        let rooms = sizes.iter().map(room).collect();
        let order = OrderDemand::Room;
        Plan { run: 1, seed: 1, target, rooms, order, threads: Some(1), conduct: None, in_flight: 1, reads_only: false }
    }

    #[test]
    fn users_find_their_rooms_and_publishers_are_a_rooms_first() {
        let plan = plan(&[(3, 1), (1, 1), (5, 2)]);
        assert_eq!((plan.users(), plan.publishers(), plan.messages()), (9, 4, 36));
        let expected = [(0, true), (0, false), (0, false), (1, true), (2, true), (2, true), (2, false), (2, false)];
        for (user, (room, publishes)) in (0..).zip(expected) {
            assert_eq!((plan.room_of(user), plan.publishes(user)), (room, publishes), "user {user}");
        }
        assert_eq!(plan.rooms[2].publisher(5), Some(1));
        assert_eq!(plan.rooms[2].publisher(3), None);
        assert!(!plan.publishes(9) && !plan.publishes(u32::MAX));
    }
}

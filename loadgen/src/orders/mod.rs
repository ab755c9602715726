//! What coordinator and workers send to each other: one JSON object a line. Orders go to the workers, words to the
//! coordinator.
//!
//! Orders come in the sequence of the variants. Each stage is answered by one word; progress comes in between.

pub mod history_reads;
pub mod idle_users;

use std::collections::HashMap;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::checks::check::{Answers, Sightings};
use crate::checks::figures::Figures;
use crate::costs::progress::Progress;
use crate::costs::series::Second;
use crate::orders::history_reads::{Fetched, Reading};
use crate::orders::idle_users::{Held, Holding};
use crate::plan::run_plan::Plan;
use crate::plan::sources::Sources;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Sign all users in. Answered by `Word::SignedIn`.
    SignIn(Assignment),
    /// The same for users that will be idle. Answered by `Word::SignedIn`.
    Hold(Holding),
    /// The same for users that read history. Answered by `Word::SignedIn`.
    Read(Reading),
    /// Connect and join. Answered by `Word::Joined`.
    Join,
    /// Publish to the schedule, with offset 0 at this time of the run's clock. Not answered.
    Begin { start_ns: u64 },
    /// Stop waiting, and report the outcome of each publish. Answered by `Word::Answers`, or by the last word in runs
    /// without publishers.
    Stop,
    /// Count the figures. `answers` are those of all publishers; `clock_margin_ns` is how far the times of other
    /// workers may disagree with the worker's own. Answered by `Word::Figures`; then the worker ends.
    Tally { answers: HashMap<u32, Answers>, clock_margin_ns: u64 },
}

/// One worker's part of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    pub plan: Plan,
    /// The worker's users. Users are numbered through all workers and rooms.
    pub users: Range<u32>,
    /// How many users may sign in or connect at once.
    pub in_flight: u32,
    /// The addresses from which the users connect, if one address has too few ports for all users of the run.
    pub sources: Option<Sources>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    Progress(Progress),
    /// What one thread, or the process itself, reports about one second.
    Second(Box<Second>),
    SignedIn,
    Joined,
    Answers(Publishes),
    Figures(Box<Figures>),
    /// The results of idle users; then the worker ends.
    Held(Box<Held>),
    /// The results of readers of history; then the worker ends.
    Fetched(Box<Fetched>),
    /// The worker cannot continue.
    Failed {
        what: String,
    },
    /// How the worker's process ended; the machine it was on sends this in its place.
    Ended {
        status: String,
    },
}

impl Word {
    /// The same word of two threads as one.
    pub fn and(self, other: Word) -> Word {
        let same_kind = std::mem::discriminant(&self) == std::mem::discriminant(&other);
        assert!(same_kind, "all threads answer one order");
        match (self, other) {
            (Word::Answers(mut sum), Word::Answers(other)) => {
                sum.add(other);
                Word::Answers(sum)
            }
            (Word::Figures(mut sum), Word::Figures(other)) => {
                sum.add(*other);
                Word::Figures(sum)
            }
            (Word::Held(mut sum), Word::Held(other)) => {
                sum.add(*other);
                Word::Held(sum)
            }
            (Word::Fetched(mut sum), Word::Fetched(other)) => {
                sum.add(*other);
                Word::Fetched(sum)
            }
            (word, _) => word,
        }
    }

    /// Whether this is a worker's last word.
    pub fn is_last(&self) -> bool {
        matches!(self, Word::Figures(_) | Word::Held(_) | Word::Fetched(_))
    }
}

/// The answers that publishers received, by room number.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Publishes(pub HashMap<u32, PublishAnswers>);

impl Publishes {
    pub fn add(&mut self, other: Publishes) {
        for (room, answers) in other.0 {
            self.0.entry(room).or_default().add(answers);
        }
    }

    /// The answers alone, without the ids.
    pub fn answers(&self) -> HashMap<u32, Answers> {
        self.0.iter().map(|(room, publishes)| (*room, publishes.answers.clone())).collect()
    }
}

/// The answers that the publishers of one room received, and the ids in the acknowledgements.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct PublishAnswers {
    pub answers: Answers,
    pub acknowledged: Identities,
}

impl PublishAnswers {
    /// Adds the answers of other publishers.
    pub fn add(&mut self, other: PublishAnswers) {
        let twice = other.answers.refused.keys().any(|publisher| self.answers.refused.contains_key(publisher));
        assert!(!twice, "a publisher is on one thread");
        self.answers.refused.extend(other.answers.refused);
        self.answers.unanswered.extend(other.answers.unanswered);
        self.answers.acceptances.0.extend(other.answers.acceptances.0);
        self.acknowledged.0.extend(other.acknowledged.0);
    }
}

/// Message indices with the fingerprints of their ids: twelve bytes each, in base64 between processes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Identities(pub Vec<(u32, u64)>);

impl Serialize for Identities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> =
            self.0.iter().flat_map(|(index, id)| index.to_le_bytes().into_iter().chain(id.to_le_bytes())).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Identities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = decoded(deserializer)?;
        let (entries, rest) = bytes.as_chunks::<12>();
        if !rest.is_empty() {
            return Err(serde::de::Error::custom("identities are twelve bytes each"));
        }
        let entry = |[a, b, c, d, id @ ..]: &[u8; 12]| (u32::from_le_bytes([*a, *b, *c, *d]), u64::from_le_bytes(*id));
        Ok(Self(entries.iter().map(entry).collect()))
    }
}

/// The form in which [`Sightings`] are sent.
#[derive(Serialize, Deserialize)]
struct SightingsText {
    members: u32,
    order: Indices,
    ids: Identities,
}

struct Indices(Vec<u32>);

impl Serialize for Indices {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|index| index.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Indices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = decoded(deserializer)?;
        let (indices, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(serde::de::Error::custom("indices are four bytes each"));
        }
        Ok(Self(indices.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()))
    }
}

fn decoded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

impl Serialize for Sightings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = SightingsText {
            members: self.members,
            order: Indices(self.order.clone()),
            ids: Identities(self.ids.clone()),
        };
        text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sightings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SightingsText::deserialize(deserializer)?;
        Ok(Self { members: text.members, order: text.order.0, ids: text.ids.0 })
    }
}

#[cfg(test)]
mod tests;

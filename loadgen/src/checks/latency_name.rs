//! The latencies that runs measure, by name. Reports show these names, and `--fail-if` takes them. A latency without a
//! name here cannot be in a report.

use std::fmt;

use clap::ValueEnum;

/// A kind of latency. `ValueEnum` lists all variants, so that no list has to be kept beside this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LatencyName {
    /// From a message's intended time until a member received it; also shown second by second.
    Delivery,
    /// From a message's intended time until its publisher received the acknowledgement.
    Ack,
    /// From a message's intended time until all members had received it.
    LastMember,
    /// From the intended time of a read to its page, during a live event.
    History,
    /// From the first packet to the open WebSocket.
    Connect,
    /// From the join request to its answer.
    Join,
    /// The pages of `loadgen history`.
    NewestPage,
    DeepOldestFirst,
    DeepNewestFirst,
    DeepBack,
}

impl LatencyName {
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Ack => "ack",
            Self::LastMember => "last member",
            Self::History => "history",
            Self::Connect => "connect",
            Self::Join => "join",
            Self::NewestPage => "newest page",
            Self::DeepOldestFirst => "deep oldest first",
            Self::DeepNewestFirst => "deep newest first",
            Self::DeepBack => "deep back",
        }
    }
}

impl fmt::Display for LatencyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_has_a_name_of_its_own_in_words_and_in_the_json() {
        let names: std::collections::HashSet<String> = LatencyName::all().iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), LatencyName::all().len());
        let keys: std::collections::HashSet<String> = names.iter().map(|name| name.replace(' ', "_")).collect();
        assert_eq!(keys.len(), names.len());
        let plain = |name: &String| name.chars().all(|c| c.is_ascii_lowercase() || c == ' ') && name.trim() == name;
        assert!(names.iter().all(plain), "--fail-if reads them in lower case: {names:?}");
    }
}

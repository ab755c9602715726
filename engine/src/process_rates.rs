//! What the whole process lets in in a second, over all its users: openings of sessions, sign-ins, new accounts and joins.
//! `gate.rs` counts.

use std::num::NonZeroU32;

/// What a rate counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessRate {
    /// Openings of sessions.
    Openings,
    /// Sign-ins over HTTP, good or not.
    SignIns,
    /// Accounts that sign-ins make.
    Accounts,
    /// Joins of channels in which the session is not.
    Joins,
}

/// All of them, in the order in which they are counted.
pub const PROCESS_RATES: [ProcessRate; 4] =
    [ProcessRate::Openings, ProcessRate::SignIns, ProcessRate::Accounts, ProcessRate::Joins];

impl ProcessRate {
    /// The name on the wire and in the numbers for operators.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Openings => "openings_per_second",
            Self::SignIns => "sign_ins_per_second",
            Self::Accounts => "accounts_per_second",
            Self::Joins => "joins_per_second",
        }
    }

    /// The text of a refusal, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Openings => "too many clients connect to this server at once, try again later",
            Self::SignIns => "too many clients sign in to this server at once, try again later",
            Self::Accounts => "too many accounts are made on this server at once, try again later",
            Self::Joins => "too many clients join channels of this server at once, try again later",
        }
    }
}

/// The rates of the whole process. `None`: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProcessRates {
    pub openings: Option<NonZeroU32>,
    pub sign_ins: Option<NonZeroU32>,
    pub accounts: Option<NonZeroU32>,
    pub joins: Option<NonZeroU32>,
}

impl ProcessRates {
    /// One of the rates, in things a second.
    pub fn of(&self, rate: ProcessRate) -> Option<NonZeroU32> {
        match rate {
            ProcessRate::Openings => self.openings,
            ProcessRate::SignIns => self.sign_ins,
            ProcessRate::Accounts => self.accounts,
            ProcessRate::Joins => self.joins,
        }
    }
}

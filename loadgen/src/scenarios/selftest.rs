//! `loadgen selftest`: shows that the checker finds faults.
//!
//! The same run goes through the proxy once for each kind of fault that a server might have, and once without a fault.
//! Each kind comes twice: at all members, and at one member alone while the others receive everything right. The second
//! is the harder case, because most members only compare their bytes with what another member received. A fault counts
//! as found when the run fails. It counts as named right when the report shows it under its own name, as often as the
//! proxy committed it, and shows nothing else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets};
use thiserror::Error;

use crate::checks::figures::Figures;
use crate::clients::sign_in::{FrontDoor, SignInError};
use crate::options::{RunOptions, SelftestOptions};
use crate::plan::run_plan::Plan;
use crate::report;
use crate::scenarios::find_listener::{NoServer, find_listener};
use crate::scenarios::proxy::{DELAY, Fault, Proxy, Victims};
use crate::scenarios::room_results::RoomOutcome;
use crate::scenarios::scenario::{self, RunError};
use crate::watch;

/// A delivery that takes longer is late here. This is far above what a healthy server needs for so few users, and far
/// below the proxy's delay.
const LATEST: Duration = Duration::from_millis(1500);
/// Longer than the proxy's delay, so that a late message is not counted as missing.
const SETTLE: Duration = Duration::from_secs(5);
const _: () = assert!(LATEST.as_millis() * 2 <= DELAY.as_millis() && DELAY.as_millis() < SETTLE.as_millis());

#[derive(Debug, Error)]
pub enum SelftestError {
    #[error(transparent)]
    NoServer(#[from] NoServer),
    #[error("no user can sign in at {0}: {1}")]
    SignIn(SocketAddr, SignInError),
    #[error("the proxy: {0}")]
    Proxy(#[from] io::Error),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs all kinds of faults and shows the results. Returns whether every kind was found and named right.
pub async fn run(options: &SelftestOptions) -> Result<bool, SelftestError> {
    find_server(&options.run.plan).await?;
    let mut trials = Vec::new();
    for fault in Fault::ALL {
        for victims in [Victims::All, Victims::One] {
            if fault == Fault::None && victims == Victims::One {
                continue;
            }
            let name = [fault.name(), victims.name()].concat();
            watch::note(&format!("{name}: {}{}", fault.described(), victims.described()));
            trials.push(trial(options, fault, victims).await?);
        }
    }
    report::show(&table(&trials));
    let wrong: Vec<String> = trials.iter().filter_map(Trial::wrong).collect();
    if wrong.is_empty() {
        report::show(&"PASSED: every kind of fault was found and named right, and an honest run has none.");
    } else {
        report::show(&format_args!("FAILED: {}.", wrong.join("; ")));
    }
    Ok(wrong.is_empty())
}

/// Checks before the proxy is started that the server is there and lets a user sign in. Through the proxy, users would
/// see the proxy's connections instead of the server's errors.
async fn find_server(plan: &Plan) -> Result<(), SelftestError> {
    let target = &plan.target;
    let server = target.server;
    find_listener(server).await?;
    if !target.dialect.has_sessions() {
        return Ok(());
    }
    let door = FrontDoor::new(server, target.sign_in, &target.server_key);
    let signed_in = door.sign_in(&plan.account(0)).await;
    signed_in.map(drop).map_err(|error| SelftestError::SignIn(server, error))
}

async fn trial(options: &SelftestOptions, fault: Fault, victims: Victims) -> Result<Trial, SelftestError> {
    let RunOptions { mut plan, .. } = options.run.clone();
    let one_in = match victims {
        Victims::All => options.one_in,
        // A delay also delays everything after it.
        Victims::One if fault == Fault::Delay => (plan.messages() / 2).max(1),
        // One member receives far fewer messages than all, but should have about as many faults.
        Victims::One => (options.one_in / u64::from(plan.users())).max(2),
    };
    let proxy = Proxy::start(Arc::new(plan.clone()), fault, victims, one_in)?;
    plan.target.server = proxy.addr;
    for room in &mut plan.rooms {
        // Each trial has its own room, so that no trial reads the messages of another one.
        room.entrance.room.push_str(fault.ending());
        room.entrance.room.push_str(if victims == Victims::One { "o" } else { "" });
    }
    let run = RunOptions { plan, settle_secs: SETTLE.as_secs_f64(), ..options.run.clone() };
    let outcome = scenario::run(&run).await;
    let committed = proxy.finish()?;
    Ok(Trial { fault, victims, committed, found: Found::in_outcome(&outcome?) })
}

/// The fault of one run, and what the run's report shows.
struct Trial {
    fault: Fault,
    victims: Victims,
    committed: u64,
    found: Found,
}

/// The counts of faults, by their names in the report.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Found {
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    corrupt: u64,
    /// Whether the slowest delivery came later than `LATEST`.
    late: bool,
    /// Anything else that fails a run.
    other: u64,
}

impl Found {
    fn in_outcome(outcome: &RoomOutcome) -> Self {
        let Figures { tally, .. } = outcome.figures;
        let figures = &outcome.figures;
        let unanswered: usize = outcome.answers.values().flat_map(|room| room.unanswered.values()).map(Vec::len).sum();
        Self {
            missing: tally.missing,
            duplicates: figures.duplicates + outcome.disagreement.shared_ids,
            out_of_order: figures.out_of_order + tally.out_of_order + outcome.disagreement.out_of_order,
            corrupt: figures.corrupt + outcome.disagreement.other_ids,
            late: u128::from(figures.delivery.percentiles().max_us) > LATEST.as_micros(),
            other: figures.stray_answers + figures.disconnected + tally.refused_but_delivered + unanswered as u64,
        }
    }
}

impl Trial {
    /// What the report must show if it names this fault right, and nothing else.
    fn expected(&self) -> Found {
        let Self { committed, found, .. } = *self;
        let none = Found::default();
        match self.fault {
            Fault::None => none,
            Fault::Drop => Found { missing: committed, ..none },
            Fault::Duplicate => Found { duplicates: committed, ..none },
            // One late message may show that several others were early: these count too.
            Fault::Reorder => Found { out_of_order: found.out_of_order.max(committed), ..none },
            // A changed message counts as not delivered.
            Fault::Corrupt => Found { corrupt: committed, missing: committed, ..none },
            Fault::Delay => Found { late: true, ..none },
        }
    }

    /// What is wrong with the checker, if anything is.
    fn wrong(&self) -> Option<String> {
        let name = self.name();
        if self.fault != Fault::None && self.committed == 0 {
            return Some(format!("{name}: the proxy had no occasion; lower --one-in or raise --secs"));
        }
        let on_time = Found { late: self.expected().late, ..self.found };
        (self.found != self.expected()).then(|| match self.fault {
            _ if on_time == self.expected() => {
                format!("{name}: the machine was too slow for this test, repeat it while nothing else runs")
            }
            Fault::None => "an honest run was not without fault".to_owned(),
            _ if self.found == Found::default() => format!("{name} was not found"),
            _ => format!("{name} was found, but counted wrong or under another name"),
        })
    }

    fn name(&self) -> String {
        [self.fault.name(), self.victims.name()].concat()
    }

    fn verdict(&self) -> &'static str {
        match (self.wrong(), self.fault) {
            (Some(_), _) => "WRONG",
            (None, Fault::None) => "no fault, and none found",
            (None, _) => "found and named right",
        }
    }
}

fn table(trials: &[Trial]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let late = format!("later than {:.1} s", LATEST.as_secs_f64());
    let header = ["fault", "committed", "missing", "duplicates", "out of order", "corrupt", &late, "other faults", ""];
    table.set_header(header.map(Cell::new));
    for trial in trials {
        let Found { missing, duplicates, out_of_order, corrupt, late, other } = trial.found;
        let counts = [trial.committed, missing, duplicates, out_of_order, corrupt].map(|count| count.to_string());
        let rest = [if late { "yes" } else { "no" }.to_owned(), other.to_string()];
        let numbers = counts.into_iter().chain(rest);
        let mut row = vec![Cell::new(trial.name())];
        row.extend(numbers.map(|number| Cell::new(number).set_alignment(CellAlignment::Right)));
        row.push(Cell::new(trial.verdict()));
        table.add_row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_of_a_fault_is_found_in_an_outcome() {
        let check = |change: fn(&mut RoomOutcome), expected: Found| {
            let mut outcome = crate::scenarios::room_results::tests::outcome(Figures::default());
            change(&mut outcome);
            assert_eq!(Found::in_outcome(&outcome), expected);
        };
        let none = Found::default();
        check(|_| {}, none);
        check(|outcome| outcome.figures.tally.missing = 2, Found { missing: 2, ..none });
        check(|outcome| outcome.figures.duplicates = 2, Found { duplicates: 2, ..none });
        check(|outcome| outcome.disagreement.shared_ids = 2, Found { duplicates: 2, ..none });
        check(|outcome| outcome.figures.out_of_order = 2, Found { out_of_order: 2, ..none });
        check(|outcome| outcome.figures.tally.out_of_order = 2, Found { out_of_order: 2, ..none });
        check(|outcome| outcome.disagreement.out_of_order = 2, Found { out_of_order: 2, ..none });
        check(|outcome| outcome.figures.corrupt = 2, Found { corrupt: 2, ..none });
        check(|outcome| outcome.disagreement.other_ids = 2, Found { corrupt: 2, ..none });
        check(|outcome| outcome.figures.stray_answers = 2, Found { other: 2, ..none });
        check(|outcome| outcome.figures.disconnected = 2, Found { other: 2, ..none });
        check(|outcome| outcome.figures.tally.refused_but_delivered = 2, Found { other: 2, ..none });
        let unanswered = |outcome: &mut RoomOutcome| {
            outcome.answers.entry(0).or_default().unanswered.insert(0, vec![1, 2]);
        };
        check(unanswered, Found { other: 2, ..none });
        check(|outcome| outcome.figures.delivery.record_ns(LATEST.as_nanos() as u64 / 2), none);
        let late = |outcome: &mut RoomOutcome| outcome.figures.delivery.record_ns(LATEST.as_nanos() as u64 * 2);
        check(late, Found { late: true, ..none });
    }

    #[test]
    fn only_what_is_counted_right_and_under_its_own_name_passes() {
        let none = Found::default();
        let check = |fault, committed, found, expected: bool| {
            let trial = Trial { fault, victims: Victims::One, committed, found };
            assert_eq!(trial.wrong().is_none(), expected, "{fault:?}, {committed}, {found:?}");
        };
        check(Fault::None, 0, none, true);
        check(Fault::None, 0, Found { late: true, ..none }, false);
        check(Fault::None, 0, Found { other: 1, ..none }, false);
        check(Fault::Drop, 3, Found { missing: 3, ..none }, true);
        check(Fault::Drop, 3, Found { missing: 2, ..none }, false);
        check(Fault::Drop, 3, Found { missing: 3, out_of_order: 1, ..none }, false);
        check(Fault::Drop, 3, none, false);
        check(Fault::Drop, 0, none, false);
        check(Fault::Duplicate, 2, Found { duplicates: 2, ..none }, true);
        check(Fault::Duplicate, 2, Found { out_of_order: 2, ..none }, false);
        check(Fault::Reorder, 2, Found { out_of_order: 2, ..none }, true);
        check(Fault::Reorder, 2, Found { out_of_order: 5, ..none }, true);
        check(Fault::Reorder, 2, Found { out_of_order: 1, ..none }, false);
        check(Fault::Corrupt, 2, Found { corrupt: 2, missing: 2, ..none }, true);
        check(Fault::Corrupt, 2, Found { missing: 2, ..none }, false);
        check(Fault::Delay, 2, Found { late: true, ..none }, true);
        check(Fault::Delay, 2, none, false);
    }
}

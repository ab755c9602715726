//! Whether the generator itself was too slow for the latencies that it measured. Then the latencies are the generator's
//! own and are not shown.
//!
//! Two delays of the generator would wrongly count against the server: a message that was sent late, and a frame that
//! had arrived but was not read yet. The first is measured for every message, the second by stamps (`lag.rs`). Each
//! latency is judged by the delays on its route.

use crate::checks::figures::ThreadFigures;
use crate::checks::latency::Latency;
use crate::checks::latency_name::LatencyName;
use crate::team::comparison;
use crate::team::machine::MachineFigures;

use super::{Section, Value};
use crate::base::words;

/// The generator's own delay may be this part of a latency ...
const PART_MAX: f64 = 0.25;
/// ... or this long, whichever is more: timers and schedulers are no better on a quiet machine.
const DELAY_US_MIN: u64 = 2_000;
/// A thread that computes for more than this part of the time cannot react promptly.
const BUSY_MAX: f64 = 0.95;

/// The generator's measurements of itself.
#[derive(Clone, Default, Debug)]
pub struct Generator {
    /// How late messages were sent; in a run without messages, how late its requests were.
    pub lateness: Latency,
    /// How late history was read in a run that has both reads and messages.
    pub reads_lateness: Latency,
    pub lag: Latency,
    /// Only of the threads that had publishers.
    pub publishers_lag: Latency,
    pub threads: Vec<ThreadFigures>,
    /// The other machines of the run, and how exactly their clocks are known.
    pub machines: Vec<MachineFigures>,
}

/// What a latency spans, and so which of the generator's own delays may be part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// From a publisher's intended time to members, which may be on any thread of any machine.
    ToMembers,
    /// From a publisher's intended time to the answer that the publisher receives.
    BackToPublisher,
    /// From the intended time of a request, whose lateness was measured, to its answer.
    Timed,
    /// From a request to its answer.
    Asked,
}

/// One kind of latency that was measured.
#[derive(Clone, Debug)]
pub struct Timing {
    pub name: LatencyName,
    pub latency: Latency,
    /// Why the figures are the generator's own, if they are.
    pub generator_bound: Option<String>,
}

impl Timing {
    pub fn judged(name: LatencyName, route: Route, latency: &Latency, generator: &Generator) -> Self {
        let generator_bound = generator.spoils(route, latency.percentiles().p99_us);
        Self { name, latency: latency.clone(), generator_bound }
    }
}

impl Generator {
    pub fn busiest(&self) -> f64 {
        busiest(&self.threads, |_| true)
    }

    /// How far the times of a publisher and of a member may disagree, if they are on the two machines whose clocks are
    /// known worst.
    fn clock_margin_us(&self) -> u64 {
        let uncertainties_ns = self.machines.iter().map(|machine| machine.clock.uncertainty_ns).collect();
        comparison::margin_ns(uncertainties_ns).div_ceil(1_000)
    }

    /// The largest share of the time in which a thread was ready but had no core; `None` where the kernel does not
    /// count it.
    pub fn waiting_most(&self) -> Option<f64> {
        self.threads.iter().filter_map(|thread| thread.waiting).reduce(f64::max)
    }

    pub fn section(&self) -> Section {
        let waiting = self.waiting_most().map_or_else(|| Value::Text("not counted here".to_owned()), Value::Share);
        Section::new("generator")
            .count("threads", self.threads.len() as u64)
            .row("busiest thread", Value::Share(self.busiest()))
            .row("ready without a core, at most", waiting)
    }

    /// Why a latency with this route and this p99 does not describe the server.
    fn spoils(&self, route: Route, p99_us: u64) -> Option<String> {
        // A thread that only listens cannot delay a publisher's answer.
        let (lag, busiest) = match route {
            Route::BackToPublisher => (&self.publishers_lag, busiest(&self.threads, |thread| thread.publishes)),
            Route::ToMembers | Route::Timed | Route::Asked => (&self.lag, self.busiest()),
        };
        if busiest > BUSY_MAX {
            return Some(format!("a thread of the generator computed {:.0} % of the time", busiest * 100.0));
        }
        let allowed_us = DELAY_US_MIN.max((p99_us as f64 * PART_MAX) as u64);
        let clocks_us = self.clock_margin_us();
        // A latency that begins and ends on one machine uses one clock.
        if route == Route::ToMembers && clocks_us > allowed_us {
            let clocks = words::duration(clocks_us as f64);
            return Some(format!(
                "the machines' clocks may differ by {clocks}, more than a quarter of the p99 that was seen"
            ));
        }
        let lateness = match route {
            Route::ToMembers | Route::BackToPublisher => Some((&self.lateness, "messages were handed over late")),
            Route::Timed if self.reads_lateness.is_empty() => Some((&self.lateness, "requests were sent late")),
            Route::Timed => Some((&self.reads_lateness, "requests were sent late")),
            Route::Asked => None,
        };
        let lag = (lag, "frames waited for the generator itself to read them");
        [lag].into_iter().chain(lateness).find_map(|(delay, what)| {
            let delay_us = delay.percentiles().p99_us;
            (delay_us > allowed_us).then(|| {
                let delay = words::duration(delay_us as f64);
                format!("{what}, by {delay} at p99, more than a quarter of the p99 that was seen")
            })
        })
    }
}

fn busiest(threads: &[ThreadFigures], counts: impl Fn(&ThreadFigures) -> bool) -> f64 {
    threads.iter().filter(|thread| counts(thread)).map(|thread| thread.busy).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::team::comparison::Bearing;

    fn constant(us: u64) -> Latency {
        let mut latency = Latency::default();
        (0..100).for_each(|_| latency.record_ns(us * 1_000));
        latency
    }

    fn thread(busy: f64, publishes: bool) -> ThreadFigures {
        ThreadFigures { busy, waiting: None, publishes }
    }

    #[test]
    fn a_latency_is_judged_by_what_lay_on_its_route() {
        let check = |change: fn(&mut Generator), expected: &[Route]| {
            let mut generator = Generator::default();
            change(&mut generator);
            let all = [Route::ToMembers, Route::BackToPublisher, Route::Timed, Route::Asked];
            let spoils = |route: &Route| {
                Timing::judged(LatencyName::Ack, *route, &constant(4_000), &generator).generator_bound.is_some()
            };
            assert_eq!(all.into_iter().filter(spoils).collect::<Vec<_>>(), expected, "{generator:?}");
        };
        check(|_| {}, &[]);
        // A thread with listeners only, and a thread that has publishers too.
        let listeners = &[Route::ToMembers, Route::Timed, Route::Asked];
        let everybody = &[Route::ToMembers, Route::BackToPublisher, Route::Timed, Route::Asked];
        check(|own| own.lag = constant(3_000), listeners);
        check(|own| (own.lag, own.publishers_lag) = (constant(3_000), constant(3_000)), everybody);
        check(|own| own.threads = vec![thread(0.99, false), thread(0.5, true)], listeners);
        check(|own| own.threads = vec![thread(0.5, false), thread(0.99, true)], everybody);
        check(|own| own.lateness = constant(3_000), &[Route::ToMembers, Route::BackToPublisher, Route::Timed]);
        // Reads of history beside messages have a lateness of their own.
        check(|own| own.reads_lateness = constant(3_000), &[Route::Timed]);
        let late_messages = |own: &mut Generator| (own.lateness, own.reads_lateness) = (constant(3_000), constant(0));
        check(late_messages, &[Route::ToMembers, Route::BackToPublisher]);
        // All users are on one machine, so all times are on its clock.
        check(|own| own.machines = vec![machine(3_000)], &[]);
        check(|own| own.machines = vec![machine(1_500), machine(1_000)], &[Route::ToMembers]);
    }

    fn machine(uncertainty_us: u64) -> MachineFigures {
        let clock = Bearing { offset_ns: 0, uncertainty_ns: uncertainty_us * 1_000, drift_ppm: 0.0 };
        MachineFigures { address: ([192, 0, 2, 1], 7400).into(), workers: 1, clock }
    }

    #[test]
    fn a_delay_of_our_own_spoils_what_it_is_a_large_part_of() {
        let check = |lag_us, lateness_us, busy, p99_us, expected: Option<&str>| {
            let generator = Generator {
                lateness: constant(lateness_us),
                lag: constant(lag_us),
                threads: vec![thread(0.1, false), thread(busy, false)],
                ..Generator::default()
            };
            let found =
                Timing::judged(LatencyName::Delivery, Route::ToMembers, &constant(p99_us), &generator).generator_bound;
            assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
            assert!(found.is_none_or(|found| found.contains(expected.unwrap_or_default())));
        };
        check(0, 0, 0.5, 1_000, None);
        // Two milliseconds are always allowed, and so is a quarter of the p99.
        check(1_990, 1_990, 0.94, 10, None);
        check(2_100, 0, 0.5, 4_000, Some("waited"));
        check(2_100, 0, 0.5, 9_000, None);
        check(0, 30_000, 0.5, 100_000, Some("late"));
        check(0, 24_000, 0.5, 100_000, None);
        check(0, 0, 0.96, 1_000_000, Some("96 %"));
    }

    #[test]
    fn clocks_that_differ_spoil_what_they_are_a_large_part_of() {
        let check = |uncertainty_us: [u64; 3], p99_us, spoilt| {
            let generator = Generator { machines: uncertainty_us.map(machine).to_vec(), ..Generator::default() };
            let found =
                Timing::judged(LatencyName::Delivery, Route::ToMembers, &constant(p99_us), &generator).generator_bound;
            assert_eq!(found.is_some_and(|why| why.contains("clocks")), spoilt, "{uncertainty_us:?} of {p99_us}");
        };
        check([1_500, 10, 500], 4_000, false);
        check([1_500, 10, 501], 4_000, true);
        check([15_000, 10_000, 1], 100_000, false);
        check([15_000, 11_000, 1], 100_000, true);
    }

    #[test]
    fn the_busiest_thread_counts() {
        let threads = [(0.2, None), (0.7, Some(0.1)), (0.4, Some(0.3))];
        let threads = threads.map(|(busy, waiting)| ThreadFigures { busy, waiting, publishes: false }).to_vec();
        let generator = Generator { threads, ..Generator::default() };
        assert_eq!((generator.busiest(), generator.waiting_most()), (0.7, Some(0.3)));
        assert_eq!(Generator::default().waiting_most(), None);
    }
}

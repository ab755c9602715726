//! The progress display during a run: bars on a terminal, a plain line now and then elsewhere. It is written to
//! standard error, so that standard output holds only the report.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::words;
use crate::costs::progress::Progress;
use crate::costs::series::Series;

pub use crate::base::notes::note;

/// How often a plain line is written.
pub const LINE_EVERY: Duration = Duration::from_secs(2);
const BAR: &str = "{prefix:>11} {bar:40.cyan/blue} {pos}/{len} {elapsed_precise}";

/// One stage of a run: a name, and how far it is.
pub struct Stage {
    name: &'static str,
    total: u64,
    done: fn(&Progress) -> u64,
    shows_traffic: bool,
}

impl Stage {
    pub fn signing_in(users: u32) -> Self {
        Self { name: "signing in", total: users.into(), done: |progress| progress.signed_in, shows_traffic: false }
    }

    pub fn joining(users: u32) -> Self {
        Self { name: "joining", total: users.into(), done: |progress| progress.joined, shows_traffic: false }
    }

    pub fn reading(reads: u64) -> Self {
        let done = |progress: &Progress| progress.accepted + progress.refused;
        Self { name: "reading", total: reads, done, shows_traffic: false }
    }

    pub fn connecting(users: u32) -> Self {
        Self { name: "connecting", total: users.into(), done: |progress| progress.joined, shows_traffic: false }
    }

    pub fn holding(users: u32) -> Self {
        let there = |progress: &Progress| progress.joined.saturating_sub(progress.disconnected);
        Self { name: "holding", total: users.into(), done: there, shows_traffic: false }
    }

    pub fn publishing(messages: u64) -> Self {
        Self { name: "publishing", total: messages, done: |progress| progress.sent, shows_traffic: true }
    }
}

/// The display of one stage; it ends when it is dropped.
pub struct Watch {
    stage: Stage,
    view: View,
}

enum View {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Watch {
    pub fn new(stage: Stage) -> Self {
        let view = if std::io::stderr().is_terminal() {
            let template = if stage.shows_traffic { format!("{BAR}\n{{msg}}") } else { BAR.to_owned() };
            let style = ProgressStyle::with_template(&template).expect("a constant template");
            View::Bar(ProgressBar::new(stage.total).with_style(style).with_prefix(stage.name))
        } else {
            View::Lines { last: Instant::now() }
        };
        Self { stage, view }
    }

    pub fn show(&mut self, progress: &Progress, series: &Series) {
        let done = (self.stage.done)(progress);
        let traffic =
            |between| if self.stage.shows_traffic { traffic(progress, series).join(between) } else { String::new() };
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(traffic("\n"));
            }
            View::Lines { last } if last.elapsed() >= LINE_EVERY => {
                let (name, total, traffic) = (self.stage.name, self.stage.total, traffic(", "));
                eprintln!("{name}: {done}/{total}{}{traffic}", if traffic.is_empty() { "" } else { ", " });
                *last = Instant::now();
            }
            View::Lines { .. } => {}
        }
    }
}

/// The rates and latencies of the last seconds, all faults so far, and the generator's own delays. Each text fits a
/// narrow terminal.
fn traffic(progress: &Progress, series: &Series) -> [String; 3] {
    let (recent, count) = series.recent();
    let rate = |sum: u64| words::grouped(words::ratio(sum as f64, count as f64).round() as u64);
    let time = |us: u64| words::duration(us as f64);
    let latency = |quantile| match recent.delivery.is_empty() {
        true => "none".to_owned(),
        false => time(recent.delivery.at_quantile_us(quantile)),
    };
    [
        format!(
            "{} present, {} messages/s, {} deliveries/s, p50 {}, p99 {}",
            words::grouped(progress.present()),
            rate(recent.progress.sent),
            rate(recent.progress.delivered),
            latency(0.5),
            latency(0.99),
        ),
        format!(
            "{} unanswered, {} refused, {} faults, {} lost",
            words::grouped(progress.sent.saturating_sub(progress.accepted + progress.refused)),
            words::grouped(progress.refused),
            words::grouped(progress.faults),
            words::grouped(progress.disconnected),
        ),
        format!("ourselves {} late, {} lag", time(recent.lateness_max_us), time(recent.lag_max_us)),
    ]
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let View::Bar(bar) = &self.view {
            // The bar stays on the screen in its last state.
            bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::series::Second;

    #[test]
    fn a_line_says_how_the_last_seconds_were() {
        let mut series = Series::default();
        for at in 0..4 {
            let mut second = Second::new(at);
            (second.progress.sent, second.progress.delivered, second.lag_max_us) = (10, 2_000, 1_500);
            (0..2_000).for_each(|_| second.delivery.record_ns(5_000_000));
            series.add(second);
        }
        let progress =
            Progress { joined: 1_200, disconnected: 1, sent: 40, accepted: 38, refused: 1, ..Progress::default() };
        let expected = [
            "1,199 present, 10 messages/s, 2,000 deliveries/s, p50 5.02 ms, p99 5.02 ms",
            "1 unanswered, 1 refused, 0 faults, 1 lost",
            "ourselves 0 µs late, 1.50 ms lag",
        ];
        assert_eq!(traffic(&progress, &series), expected);
        let [early, ..] = traffic(&progress, &Series::default());
        assert!(early.ends_with("0 deliveries/s, p50 none, p99 none"), "before the first second is over: {early}");
    }
}

//! What a watcher sees while a run goes on: bars on a terminal, a plain line now and then anywhere else. On standard error,
//! so that standard output holds the report alone.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::orders::Progress;

/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(2);

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

    pub fn publishing(messages: u64) -> Self {
        Self { name: "publishing", total: messages, done: |progress| progress.sent, shows_traffic: true }
    }
}

/// The view of one stage; it ends when it is dropped.
pub struct Watch {
    stage: Stage,
    view: View,
    /// Deliveries at the last look, for the rate.
    before: (Instant, u64),
    rate: f64,
}

enum View {
    Bar(ProgressBar),
    Lines { last: Instant },
}

/// A remark between the stages.
pub fn note(text: &str) {
    eprintln!("{text}");
}

impl Watch {
    pub fn new(stage: Stage) -> Self {
        let view = if std::io::stderr().is_terminal() {
            let template = "{prefix:>11} {bar:40.cyan/blue} {pos}/{len} {elapsed_precise} {msg}";
            let style = ProgressStyle::with_template(template).expect("a constant template");
            View::Bar(ProgressBar::new(stage.total).with_style(style).with_prefix(stage.name))
        } else {
            View::Lines { last: Instant::now() }
        };
        Self { stage, view, before: (Instant::now(), 0), rate: 0.0 }
    }

    pub fn show(&mut self, progress: &Progress) {
        self.measure(progress);
        let done = (self.stage.done)(progress);
        let message = if self.stage.shows_traffic { self.traffic(progress) } else { String::new() };
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(message);
            }
            View::Lines { last } if last.elapsed() >= LINE_EVERY => {
                eprintln!("{}: {done}/{} {message}", self.stage.name, self.stage.total);
                *last = Instant::now();
            }
            View::Lines { .. } => {}
        }
    }

    fn measure(&mut self, progress: &Progress) {
        let (at, delivered) = self.before;
        let elapsed = at.elapsed();
        if elapsed >= Duration::from_millis(500) {
            self.rate = progress.delivered.saturating_sub(delivered) as f64 / elapsed.as_secs_f64();
            self.before = (Instant::now(), progress.delivered);
        }
    }

    fn traffic(&self, progress: &Progress) -> String {
        format!(
            "{} delivered, {:.0}/s, {} unanswered, {} refused, {} faults, {} disconnected",
            progress.delivered,
            self.rate,
            progress.sent.saturating_sub(progress.accepted + progress.refused),
            progress.refused,
            progress.faults,
            progress.disconnected,
        )
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let View::Bar(bar) = &self.view {
            // The bar stays on the screen as it was last.
            bar.abandon();
        }
    }
}

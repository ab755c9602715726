//! The embedded store alone, filled with messages of one channel and of a million channels. Then the server on the
//! filled store, killed again and again. What does a message cost, how long does a commit take, and when does a
//! restarted server answer?

mod author;
mod fill;
mod filled;
mod kills;
mod sync_probe;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::failure::Failure;
use crate::goals::{self, Bound, Goal, ratio};
use crate::report::{self, Conditions};
use crate::setting::{Disk, Setting};
use fill::Span;
use kills::Round;

#[derive(Args, Debug)]
pub struct Options {
    /// Which channels the messages are for.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Layout::Library, Layout::Hot, Layout::Spread])]
    layout: Vec<Layout>,
    /// Millions of messages in each layout; a line of the table each.
    #[arg(long, default_value_t = 4)]
    millions: u32,
    /// Channels of the spread layout. Two users write in each, and channels are chosen at random.
    #[arg(long, default_value_t = 1_000_000)]
    channels: u32,
    /// Bytes of a message's content.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// Kills of a server that works on the last layout's store, which must not be `library`; half of them under load,
    /// half as soon as it has answered.
    #[arg(long, default_value_t = 0)]
    kills: usize,
    #[command(flatten)]
    disk: Disk,
    #[command(flatten)]
    setting: Setting,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Layout {
    /// One channel.
    Hot,
    /// Many small channels.
    Spread,
    /// The messages of many small channels, written to the library below the store, with its own options, one row each.
    Library,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    if options.millions == 0 || options.channels == 0 {
        return Err(Failure::Options("--millions and --channels must be above zero".into()));
    }
    if options.kills > 0 && options.layout.last() == Some(&Layout::Library) {
        return Err(Failure::Options("--kills need a store as the last --layout".into()));
    }
    let data_in = options.disk.directory()?;
    let (mut spans, mut rounds) = (Vec::new(), Vec::new());
    for (number, &layout) in options.layout.iter().enumerate() {
        let directory = tempfile::TempDir::new_in(&data_in)?;
        let data = directory.path().join("data");
        // The directory in which a server with this `--data` has its store.
        spans.extend(fill::fill(options, layout, &data.join("store"))?);
        if number + 1 == options.layout.len() && options.kills > 0 {
            rounds = kills::run(options, &data)?;
        }
    }
    print(options, &spans, &rounds)
}

fn print(options: &Options, spans: &[Span], rounds: &[Round]) -> Result<(), Failure> {
    println!("{}", Conditions::here());
    println!(
        "Messages of {} bytes, {} a commit; spread: {} channels at random. A line is what one more million cost.\n",
        options.payload,
        fill::GROUP,
        options.channels
    );
    let header = "layout, million | CPU µs a message | bytes written a message | commit p50 ms | p99 ms | longest | \
                   longest bare sync ms | most first-level runs | MiB on disk";
    println!("{}", report::table(header, spans.iter().map(Span::cells)));
    kills::print(rounds);
    let goals = goals(spans);
    goals::print(&goals);
    Ok(options.setting.keep(&serde_json::json!({ "spans": spans, "rounds": rounds, "goals": goals }))?)
}

fn goals(spans: &[Span]) -> Vec<Goal> {
    let of = |layout| spans.iter().filter(move |span| span.layout == layout);
    let most = |layout, figure: fn(&Span) -> f64| of(layout).map(figure).reduce(f64::max);
    let cpu = |layout| {
        let spans = of(layout);
        let (sum, count) = spans.fold((0.0, 0), |(sum, count), span| (sum + span.cpu_us, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    };
    let waits = [Layout::Hot, Layout::Spread].map(|layout| {
        let commit = most(layout, |span| span.commit_longest_ms);
        ratio(commit, most(layout, |span| span.sync_longest_ms))
    });
    let spread = cpu(Layout::Spread);
    vec![
        Goal::new("CPU a message, mean, spread ÷ hot", ratio(spread, cpu(Layout::Hot)), Bound::AtMost(1.5)),
        Goal::new("CPU a message, mean, spread ÷ the library alone", ratio(spread, cpu(Layout::Library)), {
            Bound::AtMost(1.5)
        }),
        Goal::new("longest commit ÷ longest bare sync, hot", waits[0], Bound::AtMost(10.0)),
        Goal::new("longest commit ÷ longest bare sync, spread", waits[1], Bound::AtMost(10.0)),
    ]
}

//! Fills a store, one commit after the other, and reports the cost of each million messages.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::author::LayoutAuthor;
use super::filled::Filled;
use super::sync_probe::SyncProbe;
use super::{Layout, Options};
use crate::cpu;
use crate::failure::Failure;
use crate::received::empty_histogram;
use crate::report;

const MILLION: u32 = 1_000_000;
/// Messages in one commit.
pub const GROUP: usize = 1024;
/// The cost of a million messages.
#[derive(Debug, Serialize)]
pub struct Span {
    pub layout: Layout,
    pub million: u32,
    /// CPU time of this process, without the time to create the messages.
    pub cpu_us: f64,
    pub bytes_written: f64,
    pub commit_p50_ms: f64,
    pub commit_p99_ms: f64,
    pub commit_longest_ms: f64,
    pub sync_longest_ms: f64,
    pub runs_most: usize,
    pub disk_mib: f64,
    pub seconds: f64,
}

impl Span {
    /// Its row of the table.
    pub fn cells(&self) -> Vec<String> {
        let figures = [
            self.cpu_us,
            self.bytes_written,
            self.commit_p50_ms,
            self.commit_p99_ms,
            self.commit_longest_ms,
            self.sync_longest_ms,
            self.runs_most as f64,
            self.disk_mib,
        ];
        report::row(format!("{:?}, {}", self.layout, self.million), figures.map(Some))
    }
}

/// Values that are read at both ends of a stretch.
struct Reading {
    cpu: Duration,
    bytes: u64,
    time: Instant,
}

impl Reading {
    fn now() -> Result<Reading, Failure> {
        let pid = std::process::id();
        let (user, system) = cpu::user_and_system_time(pid)?;
        Ok(Reading { cpu: user + system, bytes: cpu::bytes_written(pid)?, time: Instant::now() })
    }
}

pub fn fill(options: &Options, layout: Layout, data: &Path) -> Result<Vec<Span>, Failure> {
    let store = Filled::open(layout, data)?;
    let probe = SyncProbe::start(data.parent().unwrap_or(data))?;
    let mut author = LayoutAuthor::new(layout, options.channels, options.payload);
    let mut spans = Vec::new();
    for million in 1..=options.millions {
        let start = Reading::now()?;
        let (mut left, mut writing, mut runs_most) = (MILLION as usize, Duration::ZERO, 0);
        let mut commit_us = empty_histogram();
        probe.take_longest();
        while left > 0 {
            let began = cpu::thread_time()?;
            let writes: Vec<_> = (0..left.min(GROUP)).map(|_| author.write()).collect();
            writing += cpu::thread_time()?.saturating_sub(began);
            left -= writes.len();
            let before = Instant::now();
            store.commit(&writes)?;
            commit_us.saturating_record(before.elapsed().as_micros() as u64);
            runs_most = runs_most.max(store.first_level_runs());
        }
        let end = Reading::now()?;
        assert_eq!(commit_us.len(), (MILLION as usize).div_ceil(GROUP) as u64, "each commit is timed");
        let a_message = |sum: f64| sum / f64::from(MILLION);
        let quantile_ms = |quantile| commit_us.value_at_quantile(quantile) as f64 / 1e3;
        let span = Span {
            layout,
            million,
            cpu_us: a_message((end.cpu - start.cpu).saturating_sub(writing).as_secs_f64() * 1e6),
            bytes_written: a_message((end.bytes - start.bytes) as f64),
            commit_p50_ms: quantile_ms(0.5),
            commit_p99_ms: quantile_ms(0.99),
            commit_longest_ms: quantile_ms(1.0),
            sync_longest_ms: probe.take_longest().as_secs_f64() * 1e3,
            runs_most,
            disk_mib: disk_mib(data)?,
            seconds: end.time.duration_since(start.time).as_secs_f64(),
        };
        eprintln!("{} · {:.1} s", span.cells().join(" · "), span.seconds);
        spans.push(span);
    }
    probe.stop()?;
    store.close()?;
    Ok(spans)
}

/// Disk space that the files of a directory occupy. Files that are removed meanwhile do not count.
fn disk_mib(directory: &Path) -> Result<f64, Failure> {
    use std::os::unix::fs::MetadataExt;
    let (mut blocks, mut left) = (0, vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory)? {
            let Ok(entry) = entry else { continue };
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => left.push(entry.path()),
                Ok(metadata) => blocks += metadata.blocks(),
                Err(_) => {}
            }
        }
    }
    Ok(blocks as f64 * 512.0 / f64::from(1 << 20))
}

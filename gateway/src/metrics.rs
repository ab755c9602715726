//! What the shards have counted, as text in a format that Prometheus reads. docs/operations.md explains each number.
//!
//! Numbers are sums over all shards, except for those that only make sense for one core. The only labels are `shard`,
//! `kind`, `route` and the hash of the configuration, so the page does not grow with users or channels. A shard that did not answer keeps its last numbers,
//! because counters must not go back.

mod plain;
mod process;

use std::fmt;

use engine::counters::{
    ANSWER_CLASSES, ANSWER_CUTS, BUCKETS, COSTLY_KINDS, GRPC_CODES, HTTP_ROUTES, Histogram, OPENING_REFUSAL_KINDS,
    PAGE_REFUSALS, RATE_LIMITS, REFUSAL_KINDS, REQUEST_KINDS, Report, SESSION_ENDS, SIGN_IN_REFUSALS, STAGES,
};
use engine::process_rates::{PROCESS_RATES, ProcessRate, ProcessRates};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use storage::DiskRoom;

use crate::version;

pub use self::process::ProcessState;

/// A number of one report.
type One = fn(&Report) -> u64;

/// Numbers of one report, one for each kind.
type Several = fn(&Report) -> Vec<u64>;

/// A histogram of one report.
type Lengths = fn(&Report) -> &Histogram;

const COUNTERS: &[(&str, &str, One)] = &[
    ("connections_accepted", "Connections accepted", |r| r.sockets.accepted),
    ("connections_refused", "Connections refused because no more fit", |r| r.sockets.refused),
    ("tls_handshakes_failed", "TLS handshakes that failed", |r| r.sockets.tls_refused),
    ("tls_steps_put_off", "Steps of TLS handshakes left to a later turn", |r| r.sockets.tls_put_off),
    ("tls_sessions_in_kernel", "Sessions whose TLS the kernel has taken over", |r| r.sockets.tls_in_kernel),
    ("sessions_opened", "WebSocket sessions opened", |r| r.home.sessions_opened),
    ("drain_sessions_closed", "Sessions that a drain has closed", |r| r.home.drained),
    ("sign_ins", "Users signed in over HTTP", |r| r.sockets.sign_ins),
    ("accounts_made", "Accounts that sign-ins have made", |r| r.sockets.accounts_made),
    ("socket_reads", "Reads of sockets that found something", |r| r.sockets.reads),
    ("socket_read_bytes", "Bytes read from sockets", |r| r.sockets.read_bytes),
    ("messages_published", "Messages shown to channels: sent, updated or removed", |r| r.owner.published),
    ("deliveries", "Messages handed to the kernel, each once for each member", |r| r.fanout.deliveries),
    ("delivery_bytes", "Bytes of channels' logs handed to the kernel", |r| r.fanout.delivery_bytes),
    ("notifications_untold", "Notifications not pushed because too many waited", |r| r.home.notices_untold),
    ("gaps", "Readers that were moved to the newest message", |r| r.home.gaps),
    ("batch_gaps", "Missing batches of channels that a shard noticed", |r| r.home.batch_gaps),
    ("messages_lost", "Messages in missing batches that could not be told again", |r| r.home.lost),
    ("parcels_sent", "Parcels sent to other shards", |r| r.turn.parcels_sent),
    ("parcels_received", "Parcels received from other shards", |r| r.turn.parcels_received),
];

const COUNTERS_BY_KIND: &[(&str, &str, &[&str], Several)] = &[
    ("http_requests", "HTTP requests answered, by the answer's class", &ANSWER_CLASSES, |r| {
        r.sockets.http_answers.to_vec()
    }),
    ("grpc_calls", "gRPC calls answered, by the code of their status", &GRPC_CODES, |r| r.sockets.grpc_calls.to_vec()),
    ("http_requests_refused", "HTTP requests refused before their work, by the reason", &COSTLY_KINDS, |r| {
        r.sockets.http_refused.to_vec()
    }),
    ("http_answers_cut", "Connections closed before their HTTP answer was read, by the reason", &ANSWER_CUTS, |r| {
        r.sockets.http_answers_cut.to_vec()
    }),
    ("openings_refused", "WebSocket openings refused, by the reason", &OPENING_REFUSAL_KINDS, |r| {
        r.sockets.openings_refused.to_vec()
    }),
    ("pages_refused", "Openings of pages that may come back, by how they were refused", &PAGE_REFUSALS, |r| {
        r.sockets.pages_refused.to_vec()
    }),
    ("sign_ins_refused", "Sign-ins refused, by the reason", &SIGN_IN_REFUSALS, |r| r.sockets.sign_ins_refused.to_vec()),
    ("sessions_ended", "WebSocket sessions that have ended, by the reason", &SESSION_ENDS, |r| r.home.ended.to_vec()),
    ("requests", "Requests of WebSocket sessions", &REQUEST_KINDS, |r| r.home.requests.to_vec()),
    ("requests_refused", "Requests answered with an error, by its code", &REFUSAL_KINDS, |r| r.home.refused.to_vec()),
    ("requests_too_fast", "Requests refused because they came too fast, by the limit", &RATE_LIMITS, |r| {
        r.home.too_fast.to_vec()
    }),
    ("socket_writes", "Writes to the sockets of sessions", &["pass", "private"], |r| {
        vec![r.fanout.pass_writes, r.home.private_writes]
    }),
    ("slow_readers_closed", "Readers closed for being too slow, by close code", &["1013", "none"], |r| {
        vec![r.home.slow_readers, r.home.cut_off]
    }),
];

const GAUGES: &[(&str, &str, One)] = &[
    ("connections_max", "Connections that fit", |r| r.sockets.capacity),
    ("body_bytes", "Bytes held of request bodies that are arriving", |r| r.sockets.body_bytes),
    ("answer_bytes", "Bytes held of HTTP answers that are not yet read", |r| r.sockets.answer_bytes),
    ("channels", "Channels in memory at their owners", |r| r.levels.channels),
    ("members", "Memberships of connections in channels", |r| r.levels.members),
    ("subscriptions", "Places in the audiences that passes go through", |r| r.levels.subscriptions),
    ("readers_parked", "Places whose connection takes no more for now", |r| r.levels.parked),
    ("unread_bytes", "Bytes of answers and news that full sockets of sessions do not take", |r| r.levels.unread_bytes),
    ("sockets_resting", "Sockets read later because too much was asked over them", |r| r.levels.resting),
    ("store_queue", "Requests that the store has not answered", |r| r.levels.store_requests),
    ("parcels_waiting", "Parcels that found their ring full", |r| r.levels.parcels_waiting),
];

const HISTOGRAMS: &[(&str, &str, Lengths)] = &[
    ("pass", "From a pass's beginning to its last write", |r| &r.fanout.passes),
    ("fanout_latency", "From a message's acceptance to the last write of its pass", |r| &r.fanout.latency),
    ("turn", "One turn of a shard's loop", |r| &r.turn.turns),
];

/// Why admin calls are refused for their token, in the order of `Overview::admin_refused`.
pub(crate) const TOKEN_REFUSALS: [&str; 2] = ["token_missing", "token_wrong"];

/// The smallest buckets of HTTP's latencies are shown as one, up to 128 µs, so that the page stays short.
const ROUTE_BUCKETS_MERGED: usize = 7;

const CORE_KINDS: [&str; 3] = ["turning", "looking", "waiting"];

const MICROS_PER_SECOND: f64 = 1e6;
const NANOS_PER_SECOND: f64 = 1e9;

/// The newest report of each shard, and which of them are fresh.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    newest: Vec<Option<Box<Report>>>,
    up: Vec<bool>,
    pub store: StoreState,
    /// The hash of the configuration in force.
    pub config_sha256: String,
    /// When the certificate of the listeners with TLS expires, in seconds since 1970.
    pub certificate_expires: Option<i64>,
    /// The rates of the process in force.
    pub process_rates: ProcessRates,
    /// Log lines that were left out because their place in the code had written enough.
    pub log_lines_left_out: u64,
    /// What the kernel says of this process.
    pub process: Option<ProcessState>,
    pub drain: DrainLevels,
    /// Admin calls that were refused for their token, by the reason.
    pub admin_refused: [u64; TOKEN_REFUSALS.len()],
    /// Whether the newest reports were shown.
    were_shown: bool,
}

/// How far the drain is when an operator asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DrainLevels {
    pub is_draining: bool,
    /// Open sessions, if it has begun.
    pub sessions_left: usize,
}

/// A format of the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageFormat {
    /// OpenMetrics 1.0, for clients that ask for it, as Prometheus does.
    OpenMetrics,
    /// The older format 0.0.4, which more programs read.
    Plain,
}

impl PageFormat {
    /// The format for a request with this `Accept` header (RFC 9110, section 12.5.1). A client gets OpenMetrics if it
    /// names it.
    pub fn accepted(accept: &str) -> Self {
        let named = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            // A weight of 0 refuses it.
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map(str::parse::<f32>);
            is_named && !matches!(weight, Some(Ok(weight)) if weight <= 0.0)
        });
        if named { Self::OpenMetrics } else { Self::Plain }
    }

    /// The content type of the page.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The state of the store when an operator asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreState {
    /// Whether it takes requests.
    pub ready: bool,
    /// Free space on the disk, for a store on this machine's disk.
    pub disk: Option<DiskRoom>,
    /// Rows that it has looked at since its start.
    pub rows_read: u64,
    /// Damaged blocks that it has met since its start.
    pub damaged_blocks: usize,
    /// Requests of HTTP and gRPC that it could not carry out.
    pub client_failures: u64,
    /// How long the writes of HTTP and gRPC took, and those of the server itself.
    pub client_writes: Histogram,
}

impl Overview {
    /// Takes the shards' reports, one for each shard; `None` for a shard that did not answer.
    pub fn take_in(&mut self, reports: Vec<Option<Box<Report>>>) {
        self.up = reports.iter().map(Option::is_some).collect();
        debug_assert!(self.newest.is_empty() || self.newest.len() == reports.len(), "the shards stay the same");
        self.newest.resize_with(reports.len(), || None);
        for (newest, report) in self.newest.iter_mut().zip(reports) {
            let Some(mut report) = report else { continue };
            // A shard forgets its largest turns when it has reported it, and not every report is shown.
            if let Some(before) = newest.as_ref().filter(|_| !self.were_shown) {
                report.turn.longest = report.turn.longest.max(before.turn.longest);
                report.turn.most = report.turn.most.or(before.turn.most);
            }
            *newest = Some(report);
        }
        self.were_shown = false;
    }

    /// Takes in that the numbers were read.
    pub fn shown(&mut self) {
        self.were_shown = true;
    }

    /// How many shards answered in time.
    pub fn shards_up(&self) -> usize {
        self.up.iter().filter(|up| **up).count()
    }

    /// The page as text.
    pub fn text(&self, format: PageFormat) -> Result<String, fmt::Error> {
        let mut page = String::new();
        let mut registry = Registry::with_prefix("stentor");
        registry.register_collector(Box::new(self.clone()));
        text::encode_registry(&mut page, &registry)?;
        if let Some(process) = self.process {
            let mut registry = Registry::default();
            registry.register_collector(Box::new(process));
            text::encode_registry(&mut page, &registry)?;
        }
        text::encode_eof(&mut page)?;
        Ok(match format {
            PageFormat::OpenMetrics => page,
            PageFormat::Plain => plain::text(&page),
        })
    }

    fn reports(&self) -> impl Iterator<Item = &Report> {
        self.newest.iter().flatten().map(|report| &**report)
    }

    /// The sum of a number over all shards.
    pub fn sum(&self, one: impl Fn(&Report) -> u64) -> u64 {
        self.reports().map(one).sum()
    }
}

impl Collector for Overview {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let page = &mut Page(&mut encoder);
        for (name, help, one) in COUNTERS {
            page.single(name, help, MetricType::Counter, self.sum(one))?;
        }
        for (name, help, kinds, several) in COUNTERS_BY_KIND {
            page.number(name, help, MetricType::Counter, &self.by_kind(kinds, *several))?;
        }
        // The words behind it, in a build for development, are no part of a name.
        let commit = version::COMMIT.split(' ').next().unwrap_or_default();
        let build = [([("version", env!("CARGO_PKG_VERSION")), ("commit", commit)], 1)];
        page.number("build_info", "Always 1; the labels say which build this is", MetricType::Gauge, &build)?;
        let connections = self.by_kind(&STAGES, |report| report.sockets.stages.to_vec());
        page.number("connections", "Connections now, by their stage", MetricType::Gauge, &connections)?;
        for (name, help, one) in GAUGES {
            page.single(name, help, MetricType::Gauge, self.sum(one))?;
        }
        let StoreState { ready, disk, rows_read, damaged_blocks, client_failures, ref client_writes } = self.store;
        page.single("store_ready", "Whether the store takes requests", MetricType::Gauge, u64::from(ready))?;
        let help = "Requests that the store could not carry out";
        let failures = self.sum(|report| report.owner.store_failures) + client_failures;
        page.single("store_failures", help, MetricType::Counter, failures)?;
        let help = "From a write, or a shard's question, to the store until its answer";
        let parts = self.reports().map(|report| &report.owner.store).chain([client_writes]);
        page.histogram("store_latency", help, parts)?;
        if let Some(DiskRoom { free, reserve, used }) = disk {
            page.single("disk_free_bytes", "Room on the store's disk", MetricType::Gauge, free)?;
            let help = "Room that must stay free there: with less, writes are refused";
            page.single("disk_reserve_bytes", help, MetricType::Gauge, reserve)?;
            page.single("store_bytes", "What the store takes on its disk", MetricType::Gauge, used)?;
        }
        let help = "Rows that the embedded store has looked at, removed ones included";
        page.single("store_rows_read", help, MetricType::Counter, rows_read)?;
        let help = "Damaged blocks that the embedded store has met";
        page.single("store_damaged_blocks", help, MetricType::Gauge, damaged_blocks as u64)?;
        if let Some(expires) = self.certificate_expires {
            let help = "When the certificate of the TLS listeners expires, since 1970";
            page.single_seconds("tls_certificate_expires", help, MetricType::Gauge, expires as f64)?;
        }
        let DrainLevels { is_draining, sessions_left } = self.drain;
        page.single("draining", "Whether the server is about to stop", MetricType::Gauge, u64::from(is_draining))?;
        let help = "Sessions that are open during a drain";
        page.single("drain_sessions_left", help, MetricType::Gauge, sessions_left as u64)?;
        let refused: Vec<_> =
            TOKEN_REFUSALS.iter().zip(self.admin_refused).map(|(kind, n)| ([("kind", *kind)], n)).collect();
        let help = "Admin calls refused for their token, by the reason";
        page.number("admin_calls_refused", help, MetricType::Counter, &refused)?;
        let help = "Log lines left out, because lines like them were written moments before";
        page.single("log_lines_left_out", help, MetricType::Counter, self.log_lines_left_out)?;
        let configuration = [("sha256", self.config_sha256.as_str())];
        page.info("config", "The configuration in force", &configuration)?;
        let lag = self.reports().map(|report| report.levels.lag_bytes).max().unwrap_or(0);
        page.single("reader_lag_bytes", "What the slowest reader is owed", MetricType::Gauge, lag)?;
        let logs = self.reports().map(|report| report.levels.log_bytes).sum();
        page.single(
            "log_bytes",
            "Memory of the channels' logs, which hold what readers are owed",
            MetricType::Gauge,
            logs,
        )?;
        for (name, help, histogram) in HISTOGRAMS {
            page.histogram(name, help, self.reports().map(histogram))?;
        }
        self.encode_admission(page)?;
        self.encode_routes(page)?;
        self.encode_cores(page)
    }
}

impl Overview {
    fn by_kind<'a>(
        &self,
        kinds: &[&'a str],
        several: impl Fn(&Report) -> Vec<u64>,
    ) -> Vec<([(&'a str, &'a str); 1], u64)> {
        let counts: Vec<Vec<u64>> = self.reports().map(several).collect();
        let sum = |place: usize| counts.iter().map(|counts| counts[place]).sum();
        kinds.iter().enumerate().map(|(place, kind)| ([("kind", *kind)], sum(place))).collect()
    }

    /// What the rates of the process let in, and what they have refused.
    fn encode_admission(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let kinds = PROCESS_RATES.map(ProcessRate::name);
        let refused = self.by_kind(&kinds, |report| report.beyond_rates.to_vec());
        page.number(
            "admission_refused",
            "Refused by a rate of the process, by the rate",
            MetricType::Counter,
            &refused,
        )?;
        let rates = PROCESS_RATES.map(|rate| {
            ([("kind", rate.name())], u64::from(self.process_rates.of(rate).map_or(0, std::num::NonZeroU32::get)))
        });
        let help = "The rates of the process in force, in a second; 0: no limit";
        page.number("admission_rate", help, MetricType::Gauge, &rates)
    }

    /// How long HTTP takes, by what is asked for. Most answers take longer than the smallest buckets hold.
    fn encode_routes(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let help = "From a whole HTTP request to its answer, by what it asks for";
        let mut metric = page.0.encode_descriptor("http_latency", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (place, route) in HTTP_ROUTES.iter().enumerate() {
            let (sum, buckets) = summed(self.reports().map(|report| &report.sockets.http_latency[place]));
            let count = buckets.iter().map(|(_, count)| count).sum();
            let (small, large) = buckets.split_at(ROUTE_BUCKETS_MERGED);
            let merged: u64 = small.iter().map(|(_, count)| count).sum();
            let mut shown = large.to_vec();
            if let Some((_, count)) = shown.first_mut() {
                *count += merged;
            }
            metric.encode_family(&[("route", *route)])?.encode_histogram::<NoLabelSet>(sum, count, &shown, None)?;
        }
        Ok(())
    }

    /// The numbers that are given for each shard separately.
    fn encode_cores(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let shard = |number: usize| [("shard", number.to_string())];
        let up: Vec<_> = self.up.iter().enumerate().map(|(number, up)| (shard(number), u64::from(*up))).collect();
        page.number("shard_up", "Whether the shard answered in time", MetricType::Gauge, &up)?;
        let (mut longest, mut pauses) = (Vec::new(), Vec::new());
        let (mut writes, mut bytes, mut work) = (Vec::new(), Vec::new(), Vec::new());
        let mut seconds = Vec::new();
        for (number, report) in self.newest.iter().enumerate() {
            let Some(report) = report else { continue };
            let turn = &report.turn;
            longest.push((shard(number), turn.longest as f64 / MICROS_PER_SECOND));
            pauses.push((shard(number), turn.longest_pause as f64 / MICROS_PER_SECOND));
            writes.push((shard(number), turn.most.written.writes));
            bytes.push((shard(number), turn.most.written.bytes));
            work.push((shard(number), turn.most.work as f64 / MICROS_PER_SECOND));
            let nanos = [turn.turning_nanos, turn.looking_nanos, turn.waiting_nanos];
            for (kind, nanos) in CORE_KINDS.iter().zip(nanos) {
                let labels = [("shard", number.to_string()), ("kind", (*kind).to_owned())];
                seconds.push((labels, nanos as f64 / NANOS_PER_SECOND));
            }
        }
        page.seconds("longest_turn", "The longest turn since last asked", MetricType::Gauge, &longest)?;
        let help = "The longest time since last asked in which a due turn did not begin";
        page.seconds("longest_pause", help, MetricType::Gauge, &pauses)?;
        page.number(
            "turn_writes_max",
            "The most writes to sessions in a turn since last asked",
            MetricType::Gauge,
            &writes,
        )?;
        page.number("turn_bytes_max", "The most bytes written in a turn since last asked", MetricType::Gauge, &bytes)?;
        let help = "The most work of requests, by their prices, in a turn since last asked";
        page.seconds("turn_work_max", help, MetricType::Gauge, &work)?;
        page.seconds("core", "What a shard's core spent its time on", MetricType::Counter, &seconds)
    }
}

/// Under the names that Prometheus' own client libraries use, so that dashboards which are made for any process show this
/// one.
impl Collector for ProcessState {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let page = &mut Page(&mut encoder);
        page.single_seconds("process_cpu", "CPU time of the process", MetricType::Counter, self.cpu_seconds)?;
        let help = "When the process was started, since 1970";
        page.single_seconds("process_start_time", help, MetricType::Gauge, self.start_seconds)?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory of the process", self.resident_bytes),
            ("process_virtual_memory_bytes", "Addresses that the process uses", self.virtual_bytes),
            ("process_open_fds", "Open descriptors", self.open_descriptors),
            ("process_max_fds", "The limit on open descriptors", self.descriptors_max),
            ("process_threads", "Threads of the process", self.threads),
        ] {
            page.single(name, help, MetricType::Gauge, value)?;
        }
        Ok(())
    }
}

/// The page that metrics are written to.
struct Page<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Page<'_, '_> {
    fn single(&mut self, name: &str, help: &str, of: MetricType, value: u64) -> fmt::Result {
        encode(self.0.encode_descriptor(name, help, None, of)?, of, value)
    }

    fn single_seconds(&mut self, name: &str, help: &str, of: MetricType, value: f64) -> fmt::Result {
        encode(self.0.encode_descriptor(name, help, Some(&Unit::Seconds), of)?, of, value)
    }

    fn number<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        of: MetricType,
        values: &[(L, u64)],
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, of)?;
        values.iter().try_for_each(|(labels, value)| encode(metric.encode_family(labels)?, of, *value))
    }

    /// The name is without the `_info` that is appended to it.
    fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    fn seconds<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        of: MetricType,
        values: &[(L, f64)],
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), of)?;
        values.iter().try_for_each(|(labels, value)| encode(metric.encode_family(labels)?, of, *value))
    }

    fn histogram<'r>(&mut self, name: &str, help: &str, parts: impl Iterator<Item = &'r Histogram>) -> fmt::Result {
        let (sum, buckets) = summed(parts);
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut metric = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// The sum of several histograms, in seconds: the sum of their values, and their buckets by the upper bound.
fn summed<'r>(parts: impl Iterator<Item = &'r Histogram>) -> (f64, Vec<(f64, u64)>) {
    let mut buckets: Vec<(f64, u64)> = (0..BUCKETS)
        .map(|bucket| (Histogram::bound(bucket).map_or(f64::INFINITY, |bound| bound as f64 / MICROS_PER_SECOND), 0))
        .collect();
    let mut sum = 0.0;
    for part in parts {
        sum += part.sum as f64 / MICROS_PER_SECOND;
        buckets.iter_mut().zip(part.buckets).for_each(|((_, total), count)| *total += count);
    }
    (sum, buckets)
}

fn encode(
    mut metric: MetricEncoder<'_>,
    of: MetricType,
    value: impl EncodeCounterValue + EncodeGaugeValue,
) -> fmt::Result {
    match of {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, _, f64>(&value, None),
        _ => metric.encode_gauge(&value),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn every_metric_is_explained_to_operators() {
        let explained = include_str!("../../docs/operations.md");
        let store = StoreState { ready: true, disk: Some(DiskRoom::default()), ..StoreState::default() };
        let process = Some(ProcessState::default());
        let overview = Overview { store, process, certificate_expires: Some(0), ..Overview::default() };
        let page = overview.text(PageFormat::OpenMetrics).expect("memory takes every write");
        let names: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert!(names.len() > 30, "{names:?}");
        for name in &names {
            assert!(explained.contains(&format!("| `{name}")), "{name} is not in docs/operations.md");
        }
        // And the other way round: what documents name is there.
        for (document, text) in documents() {
            let words = text.match_indices("stentor_").map(|(at, _)| {
                let is_of_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
                text[at..].split(|letter| !is_of_name(letter)).next().unwrap_or_default()
            });
            for word in words {
                let is_sample = |suffix: &&str| word.strip_suffix(suffix).is_some_and(|name| names.contains(&name));
                let is_known = ["", "_total", "_bucket", "_count", "_sum", "_info"].iter().any(is_sample);
                assert!(is_known, "{}: there is no metric {word}", document.display());
            }
        }
    }

    /// The documents for people, with their texts.
    fn documents() -> Vec<(PathBuf, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate");
        let folders = [root.to_path_buf(), root.join("docs"), root.join("docs/decisions")];
        let paths = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder"));
        let paths = paths.map(|entry| entry.expect("an entry").path());
        let documents = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        documents.map(|path| (path.clone(), std::fs::read_to_string(&path).expect("text"))).collect()
    }

    #[test]
    fn clients_that_name_open_metrics_get_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, expected) in [
            (prometheus, PageFormat::OpenMetrics),
            ("text/html, Application/OpenMetrics-Text ; version=0.0.1", PageFormat::OpenMetrics),
            ("application/openmetrics-text;q=0, text/plain", PageFormat::Plain),
            ("text/plain;version=0.0.4", PageFormat::Plain),
            ("*/*", PageFormat::Plain),
            ("", PageFormat::Plain),
        ] {
            assert_eq!(PageFormat::accepted(accept), expected, "{accept}");
        }
    }
}

//! A curve as a page: charts of what grows with the number of members, on logarithmic axes, and the terminal's table as
//! several tables.

use crate::base::words;
use crate::report::{self, Chart, Grid, Line, Scale, Sheet};

use super::{BOUND_NOTE, Costs, Curve, Measured, PROMISE, Point};

/// Shown in a table's cell for a figure of the server when its process was not watched.
const NOT_WATCHED: &str = "not watched";
const NONE: &str = "none";
const ASSUMPTIONS: &str = "\
It takes costs for a connection and for a delivery to be what they were, and work to spread evenly over cores and machines. \
The first is what the tables above show or refute; the second leaves out what machines would have to say to each other.";

impl Curve {
    pub fn page(&self) -> Result<String, String> {
        let settings = serde_json::to_value(&self.settings).map_err(|error| error.to_string())?;
        let settings = report::set_only(settings);
        let sheet = Sheet {
            title: "loadgen curve",
            heading: self.heading(),
            promise: PROMISE,
            faults: self.faults(),
            charts: vec![self.last_member(), self.deliveries(), self.cpu()],
            grids: self.grids(),
            environment: &self.environment,
            settings,
        };
        sheet.page()
    }

    fn heading(&self) -> String {
        let settings = &self.settings;
        format!(
            "Rooms of {} sizes on {}, each quietly at {} messages/s and then at rising rates, {} s each; a rate is sustained \
             while the p99 of the time to the last member stays below {}",
            self.points.len(),
            settings.target.server,
            words::number(settings.quiet_rate),
            words::number(settings.secs.as_secs_f64()),
            words::duration(settings.limit.as_secs_f64() * 1e6),
        )
    }

    fn faults(&self) -> Vec<String> {
        let in_quiet = self.points.iter().filter(|point| !point.quiet.is_faultless()).map(|point| {
            format!("the quiet room of {}: {}", words::grouped(point.users.into()), point.quiet.complaint())
        });
        in_quiet.chain(self.failure.clone()).collect()
    }

    fn last_member(&self) -> Chart {
        let quiet = |name, of: fn(&Measured) -> u64| self.line(name, |point| Some(of(&point.quiet) as f64));
        let lines =
            vec![quiet("p50", |quiet| quiet.last_member.p50_us), quiet("p99", |quiet| quiet.last_member.p99_us)];
        let bound = if self.points.iter().any(|point| point.quiet.generator_bound.is_some()) {
            "; some of it is the generator's own, see the table"
        } else {
            ""
        };
        let caption = format!("How long a message on its own takes until the last member has it, over members{bound}");
        over_members("Time to the last member", caption, Scale::Duration, lines)
    }

    fn deliveries(&self) -> Chart {
        let line = self.line("deliveries/s", |point| Some(point.best.as_ref()?.deliveries_per_second));
        let caption = "The most that was sustained, over members".to_owned();
        over_members("Deliveries a second", caption, Scale::Count, vec![line])
    }

    fn cpu(&self) -> Chart {
        let lines = vec![
            self.line("quiet", |point| Some(point.quiet.costs?.cpu_us_per_delivery)),
            self.line("sustained", |point| Some(point.best.as_ref()?.costs?.cpu_us_per_delivery)),
        ];
        let caption = "Microseconds of the server's CPU, over members".to_owned();
        over_members("CPU per delivery", caption, Scale::Number, lines)
    }

    /// One point for each size that has the figure. Zero has no place on a logarithmic axis.
    fn line(&self, name: &'static str, of: impl Fn(&Point) -> Option<f64>) -> Line {
        let points = self.points.iter().filter_map(|point| Some((f64::from(point.users), of(point)?)));
        Line { name, points: points.filter(|(_, figure)| *figure > 0.0).collect() }
    }

    fn grids(&self) -> Vec<Grid> {
        let grid = |title: &str, header: &[&'static str], cells: fn(&Point) -> Vec<String>, notes: Vec<String>| Grid {
            title: title.to_owned(),
            header: [&["members"], header].concat(),
            rows: self.points.iter().map(|point| (words::grouped(point.users.into()), cells(point))).collect(),
            notes,
        };
        let bound = self.is_generator_bound().then(|| BOUND_NOTE.to_owned());
        let complaints = self.points.iter().flat_map(Point::complaints).map(|complaint| complaint + ".").collect();
        let mut grids = vec![
            grid(
                "Time to the last member",
                &["quiet, p50", "quiet, p99", "sustained, p99"],
                times,
                bound.into_iter().collect(),
            ),
            grid("Sustained", &["messages a second", "deliveries a second", "server cores busy"], rates, complaints),
            grid("CPU per delivery", &["quiet", "sustained"], cpu, Vec::new()),
            grid("Memory of each", &["server", "kernel", "generator"], memory, Vec::new()),
        ];
        grids.extend(self.projection.as_ref().map(|projection| Grid {
            title: format!("Projected: {}", projection.title()),
            header: Vec::new(),
            rows: projection.rows().into_iter().map(|(name, value)| (name, vec![value])).collect(),
            notes: vec![projection.note(), ASSUMPTIONS.to_owned()],
        }));
        grids
    }
}

fn over_members(title: &'static str, caption: String, y: Scale, lines: Vec<Line>) -> Chart {
    let lines = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
    Chart { title, caption, x: Scale::Count, y, lines, marks: Vec::new(), stretch: None, measured: None }
}

fn of_best(point: &Point, cell: impl Fn(&Measured) -> String) -> String {
    point.best.as_ref().map_or_else(|| NONE.to_owned(), cell)
}

fn cost(measured: &Measured, cell: impl Fn(&Costs) -> String) -> String {
    measured.costs.as_ref().map_or_else(|| NOT_WATCHED.to_owned(), cell)
}

fn times(point: &Point) -> Vec<String> {
    let Point { quiet, .. } = point;
    let sustained = of_best(point, |best| best.time(best.last_member.p99_us));
    vec![quiet.time(quiet.last_member.p50_us), quiet.time(quiet.last_member.p99_us), sustained]
}

fn rates(point: &Point) -> Vec<String> {
    let cores = |best: &Measured| cost(best, |costs| words::number(costs.cores_busy));
    vec![
        of_best(point, |best| words::number(best.rate)),
        of_best(point, |best| words::number(best.deliveries_per_second)),
        of_best(point, cores),
    ]
}

fn cpu(point: &Point) -> Vec<String> {
    let of = |measured: &Measured| cost(measured, |costs| words::duration(costs.cpu_us_per_delivery));
    vec![of(&point.quiet), of_best(point, of)]
}

fn memory(point: &Point) -> Vec<String> {
    let of = |bytes: fn(&Costs) -> f64| cost(&point.quiet, |costs| words::bytes(bytes(costs)));
    vec![
        of(|costs| costs.resident_bytes_per_connection),
        of(|costs| costs.kernel_bytes_per_connection),
        words::bytes(point.quiet.generator_bytes_per_user),
    ]
}

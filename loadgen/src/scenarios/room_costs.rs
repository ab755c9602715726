//! The costs of a run for the server, the network and the generator, as sections.

use crate::checks::figures::Figures;
use crate::costs::meter::Costs;
use crate::costs::server::CpuTime;
use crate::options::RunOptions;

use crate::base::words::ratio;
use crate::report::{Course, Section, Value};

/// The sections for which there are figures. The server's CPU and memory are shown only if its process was watched.
pub fn sections(options: &RunOptions, costs: &Costs, figures: &Figures, course: &Course) -> Vec<Section> {
    let server = server(options, costs, figures.delivered_in_window);
    let mut sections: Vec<Section> = server.into_iter().collect();
    sections.extend(network(costs, figures));
    sections.push(generator(options, figures, course));
    sections
}

fn server(options: &RunOptions, costs: &Costs, delivered: u64) -> Option<Section> {
    let [begin, end] = costs.process(|costs| &costs.begin, |costs| &costs.end)?;
    let [signed_in, joined] = costs.process(|costs| &costs.signed_in, |costs| &costs.joined)?;
    let settled = costs.settled.process?;
    let CpuTime { user_secs, system_secs } = end.cpu.minus(begin.cpu);
    let per_delivery = |secs: f64| Value::Microseconds(ratio(secs * 1e6, delivered as f64));
    let users = f64::from(options.plan.users());
    let grown = |before: u64, after: u64| Value::Bytes((after as f64 - before as f64) / users);
    let section = Section::new("server")
        .row("CPU, user", Value::Seconds(user_secs))
        .row("CPU, system", Value::Seconds(system_secs))
        .row("cores busy", Value::Number(ratio(user_secs + system_secs, options.secs)))
        .row("CPU per delivery", per_delivery(user_secs + system_secs))
        .row("CPU per delivery, user", per_delivery(user_secs))
        .row("CPU per delivery, system", per_delivery(system_secs))
        .row("resident, signed in", Value::Bytes(signed_in.resident_bytes as f64))
        .row("resident, joined", Value::Bytes(joined.resident_bytes as f64))
        .row("resident, at the end", Value::Bytes(settled.resident_bytes as f64))
        .row("resident per connection", grown(signed_in.resident_bytes, joined.resident_bytes))
        // If both ends of a connection are on this machine, both are counted here.
        .row("kernel objects per connection, both ends", grown(signed_in.kernel.slab_bytes, joined.kernel.slab_bytes))
        .row(
            "socket buffers per connection, joined",
            grown(signed_in.kernel.socket_buffer_bytes, joined.kernel.socket_buffer_bytes),
        )
        .row(
            "socket buffers per connection, at the end",
            grown(signed_in.kernel.socket_buffer_bytes, settled.kernel.socket_buffer_bytes),
        );
    Some(section)
}

fn network(costs: &Costs, figures: &Figures) -> Option<Section> {
    let delivered = figures.delivered_in_window as f64;
    let mut section = Section::new("network")
        .count("frames heard", figures.heard.frames)
        .row("weight of frames heard", Value::Bytes(figures.heard.bytes as f64))
        .row("weight of frames per delivery", Value::Bytes(ratio(figures.heard.bytes as f64, delivered)));
    if let Some(counted) = costs.counted() {
        let writes = counted.pass_writes + counted.private_writes;
        section = section
            .count("socket writes", writes as u64)
            .row("socket writes per delivery", Value::Number(ratio(writes, counted.deliveries)));
    }
    if let Some(segments) = costs.segments() {
        section = section
            .count("TCP segments with data, both ways", segments)
            .row("TCP segments per delivery", Value::Number(ratio(segments as f64, delivered)));
    }
    if let Some(factor) = costs.batch_factor(figures.delivered_in_window) {
        let source = if costs.counted().is_some() { "counted by the server" } else { "estimated from TCP segments" };
        section =
            section.row("batch factor", Value::Number(factor)).row("batch factor is", Value::Text(source.to_owned()));
    }
    if let Some([begin, end]) = costs.process(|costs| &costs.begin, |costs| &costs.end) {
        let sent = (end.kernel.sent_bytes - begin.kernel.sent_bytes) as f64;
        section = section
            .row("on the wire, all that this machine sent", Value::Bytes(sent))
            .row("on the wire per delivery", Value::Bytes(ratio(sent, delivered)));
    }
    Some(section)
}

fn generator(options: &RunOptions, figures: &Figures, course: &Course) -> Section {
    let (cpu_secs, resident_bytes) = course.generator();
    let delivered = figures.delivered_in_window as f64;
    Section::new("generator costs")
        .row("CPU", Value::Seconds(cpu_secs))
        .row("cores busy", Value::Number(ratio(cpu_secs, options.secs)))
        .row("CPU per delivery", Value::Microseconds(ratio(cpu_secs * 1e6, delivered)))
        .row("resident, at most", Value::Bytes(resident_bytes as f64))
        .row("resident per user", Value::Bytes(resident_bytes as f64 / f64::from(options.plan.users())))
}

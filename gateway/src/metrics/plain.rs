//! The older text format of Prometheus (version 0.0.4), made from OpenMetrics text.
//!
//! They differ in little: the older one has no units and no end mark, and samples have the name of their metric, so the
//! suffix `_total` of a counter is a part of it. What is an info there is a gauge here.

/// The page in the older format. `page` is OpenMetrics text with counters, gauges, histograms and infos.
pub fn text(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    let mut help = None;
    for line in page.lines() {
        if let Some(of) = line.strip_prefix("# HELP ") {
            help = Some(of);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|of| of.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            if let Some((_, text)) = help.take().and_then(|of| of.split_once(' ')) {
                put(&mut out, &["# HELP ", name, suffix, " ", text]);
            }
            put(&mut out, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with('#') {
            put(&mut out, &[line]);
        }
    }
    out
}

fn put(out: &mut String, parts: &[&str]) {
    out.extend(parts.iter().copied());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_get_their_suffix_and_units_go() {
        let page = "# HELP x_seconds Time.\n# TYPE x_seconds counter\n# UNIT x_seconds seconds\nx_seconds_total 1.5\n\
                    # HELP y Level.\n# TYPE y gauge\ny{kind=\"a b\"} 2\n\
                    # HELP z What.\n# TYPE z info\nz_info{is=\"a\"} 1\n# EOF\n";
        let plain = "# HELP x_seconds_total Time.\n# TYPE x_seconds_total counter\nx_seconds_total 1.5\n\
                     # HELP y Level.\n# TYPE y gauge\ny{kind=\"a b\"} 2\n\
                     # HELP z_info What.\n# TYPE z_info gauge\nz_info{is=\"a\"} 1\n";
        assert_eq!(text(page), plain);
    }
}

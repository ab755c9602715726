//! The metrics that a server shows on its admin address, read like Prometheus reads them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use crate::http;

/// All numbers of one read, by their names with labels as they appear on the page.
pub struct Metrics(HashMap<String, f64>);

impl Metrics {
    pub fn read(admin: SocketAddr) -> io::Result<Metrics> {
        http::ask(admin, "GET /metrics", "", "").map(|page| Metrics::of_page(&page))
    }

    fn of_page(page: &str) -> Metrics {
        let number = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Metrics(page.lines().filter(|line| !line.starts_with('#')).filter_map(number).collect())
    }

    /// The number of a metric, by its name with all its labels.
    pub fn one(&self, name: &str) -> io::Result<u64> {
        let found = self.0.get(name).map(|&value| value as u64);
        found.ok_or_else(|| io::Error::other(format!("{name} is missing in the server's metrics")))
    }

    /// The sum of a metric over all labels.
    pub fn sum(&self, name: &str) -> io::Result<f64> {
        Ok(self.all(name)?.iter().sum())
    }

    /// The greatest number of a metric over all labels.
    pub fn most(&self, name: &str) -> io::Result<f64> {
        Ok(self.all(name)?.into_iter().fold(f64::MIN, f64::max))
    }

    /// The numbers of a metric with all labels, at least one.
    fn all(&self, name: &str) -> io::Result<Vec<f64>> {
        let with_labels = |key: &&String| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
        let found: Vec<f64> = self.0.keys().filter(with_labels).map(|key| self.0[key]).collect();
        if found.is_empty() {
            return Err(io::Error::other(format!("{name} is missing in the server's metrics")));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_name_and_label() {
        let page = "# HELP stentor_gaps Readers.\n# TYPE stentor_gaps counter\nstentor_gaps_total 3\n\
                    stentor_connections{kind=\"session\"} 5000\nstentor_connections{kind=\"http\"} 2\n\
                    stentor_connections_accepted_total 7\n# EOF\n";
        let metrics = Metrics::of_page(page);
        assert_eq!(metrics.one("stentor_gaps_total").unwrap(), 3);
        assert_eq!(metrics.one("stentor_connections{kind=\"session\"}").unwrap(), 5000);
        assert_eq!(metrics.sum("stentor_connections").unwrap(), 5002.0);
        assert_eq!(metrics.most("stentor_connections").unwrap(), 5000.0);
        assert!(metrics.one("stentor_gaps").is_err() && metrics.sum("stentor_nothing").is_err());
    }
}

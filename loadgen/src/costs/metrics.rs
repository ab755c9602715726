//! The server's own counters, if the server has a metrics page that we know: Stentor's.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use thiserror::Error;

const TIMEOUT: Duration = Duration::from_secs(10);
/// A page has some tens of KB.
const PAGE_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Error)]
pub enum MetricsError {
    #[error("--metrics {uri}: {what}")]
    Unreachable { uri: Uri, what: String },
    #[error("--metrics {uri}: there is no {name}; only Stentor's page is understood")]
    Unknown { uri: Uri, name: &'static str },
}

/// A server's metrics page.
pub struct Metrics {
    client: Client<HttpConnector, Empty<Bytes>>,
    uri: Uri,
}

/// Running totals of the server.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Counters {
    /// Messages that were given to the kernel, each counted once for each member.
    pub deliveries: f64,
    /// Bytes of channels' frames that were given to the kernel.
    pub delivery_bytes: f64,
    /// Writes to sockets: those that carry events to members, and those for one session alone.
    pub pass_writes: f64,
    pub private_writes: f64,
}

impl Metrics {
    pub fn new(uri: Uri) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), uri }
    }

    pub async fn read(&self) -> Result<Counters, MetricsError> {
        let page = tokio::time::timeout(TIMEOUT, self.page());
        let page = page.await.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
        let page = page.map_err(|what| MetricsError::Unreachable { uri: self.uri.clone(), what })?;
        counters(&page).map_err(|name| MetricsError::Unknown { uri: self.uri.clone(), name })
    }

    async fn page(&self) -> Result<String, String> {
        let answer = self.client.get(self.uri.clone()).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(format!("it answers with status {status}"));
        }
        let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| error.to_string())?.to_bytes();
        String::from_utf8(bytes.into()).map_err(|_| "the page is no text".to_owned())
    }
}

/// The counters of a page, or the name of the first counter that is missing.
fn counters(page: &str) -> Result<Counters, &'static str> {
    Ok(Counters {
        deliveries: counter(page, "stentor_deliveries_total", "").ok_or("stentor_deliveries")?,
        delivery_bytes: counter(page, "stentor_delivery_bytes_total", "").ok_or("stentor_delivery_bytes")?,
        pass_writes: counter(page, "stentor_socket_writes_total", "kind=\"pass\"").ok_or("stentor_socket_writes")?,
        private_writes: counter(page, "stentor_socket_writes_total", "kind=\"private\"")
            .ok_or("stentor_socket_writes")?,
    })
}

/// The sum of the lines of this counter whose labels contain this text.
fn counter(page: &str, name: &str, label: &str) -> Option<f64> {
    let mut values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_it = labels.is_empty() || labels.starts_with('{');
        (is_it && labels.contains(label)).then(|| value.parse::<f64>().ok())?
    });
    let first = values.next()?;
    Some(first + values.sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# TYPE stentor_deliveries counter
stentor_deliveries_total 272800
stentor_delivery_bytes_total 154603936
stentor_socket_writes_total{kind=\"pass\"} 275597
stentor_socket_writes_total{kind=\"private\"} 9880
stentor_shard_up{shard=\"0\"} 1
# EOF
";

    #[test]
    fn reads_the_counters_it_knows() {
        let expected = Counters {
            deliveries: 272_800.0,
            delivery_bytes: 154_603_936.0,
            pass_writes: 275_597.0,
            private_writes: 9_880.0,
        };
        assert_eq!(counters(PAGE), Ok(expected));
        let by_shard = PAGE.replace(
            "stentor_deliveries_total 272800",
            "stentor_deliveries_total{shard=\"0\"} 3\nstentor_deliveries_total{shard=\"1\"} 4",
        );
        assert_eq!(counters(&by_shard).map(|found| found.deliveries), Ok(7.0));
    }

    #[test]
    fn a_page_without_them_says_which_is_missing() {
        for (gone, named) in [
            ("stentor_deliveries_total", "stentor_deliveries"),
            ("stentor_delivery_bytes_total", "stentor_delivery_bytes"),
            ("kind=\"private\"", "stentor_socket_writes"),
        ] {
            assert_eq!(counters(&PAGE.replace(gone, "x")), Err(named), "{gone}");
        }
        assert_eq!(counters(""), Err("stentor_deliveries"));
    }
}

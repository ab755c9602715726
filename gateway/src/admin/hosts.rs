//! Which names operators may call the admin address by, in `Host`.
//!
//! A page in a browser can have its own name resolve to a loopback address, and then read what the server answers there
//! as if it came from the page's own host (DNS rebinding). The browser still sends the page's name in `Host`. An IP
//! address and `localhost` cannot be rebound, so they are always accepted.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::Request;
use hyper::header::HOST;

use crate::target::is_host;

/// The names that are accepted besides IP addresses and `localhost`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hosts {
    /// Every name: the address is no loopback address, and the operator has named no host.
    Any,
    /// These names, in lower case.
    Named(Vec<String>),
}

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostRefusal {
    /// HTTP/1.1 needs one `Host` with the name of a host.
    Malformed,
    /// This name is not accepted.
    Foreign(String),
}

impl Hosts {
    /// The names for a listener at this address. `names` are those that the operator gives.
    pub fn of(address: SocketAddr, names: &[String]) -> Self {
        if names.is_empty() && !address.ip().to_canonical().is_loopback() {
            return Self::Any;
        }
        Self::Named(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request may be answered. HTTP/1.0 needs no `Host`: no browser speaks it, and some scrapers do.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), HostRefusal> {
        let mut values = request.headers().get_all(HOST).iter();
        let named = match (values.next(), values.next()) {
            (Some(host), None) if is_host(host.as_bytes()) => host.to_str().map_err(|_| HostRefusal::Malformed)?,
            (None, None) if request.version() == hyper::Version::HTTP_10 => "localhost",
            _ => return Err(HostRefusal::Malformed),
        };
        // Clients without a proxy write no host into the request line. If there is one, it counts too.
        let written = request.uri().authority().map_or("localhost", |authority| authority.as_str());
        [named, written]
            .into_iter()
            .find(|host| !self.accepts(host))
            .map_or(Ok(()), |host| Err(HostRefusal::Foreign(host.to_owned())))
    }

    /// Whether this host, perhaps with a port, is accepted.
    fn accepts(&self, host: &str) -> bool {
        let Self::Named(names) = self else { return true };
        if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let name = host.split(':').next().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || names.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use hyper::Version;

    use super::*;

    fn loopback(names: &[&str]) -> Hosts {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Hosts::of("127.0.0.1:7351".parse().unwrap(), &names)
    }

    fn check(hosts: &Hosts, headers: &[&str], expected: Result<(), HostRefusal>) {
        let builder =
            headers.iter().fold(Request::builder().uri("/metrics"), |request, host| request.header(HOST, *host));
        assert_eq!(hosts.check(&builder.body(()).unwrap()), expected, "{headers:?}");
    }

    #[test]
    fn names_that_cannot_be_rebound_and_those_that_are_given() {
        let hosts = loopback(&["Metrics.Example.org"]);
        for good in [
            "127.0.0.1",
            "127.0.0.1:7351",
            "192.168.1.5:80",
            "[::1]:7351",
            "[::1]",
            "localhost",
            "LocalHost:7351",
            "localhost.",
            "metrics.example.org",
            "METRICS.example.org.:9",
        ] {
            check(&hosts, &[good], Ok(()));
        }
        for foreign in [
            "evil.example",
            "evil.example:7351",
            "metrics.example.org.evil.example",
            "localhost.evil.example",
            "127.0.0.1.x",
        ] {
            check(&hosts, &[foreign], Err(HostRefusal::Foreign(foreign.to_owned())));
        }
        for malformed in [&[][..], &[""], &["a b"], &["localhost", "localhost"], &["[::1"]] {
            check(&hosts, malformed, Err(HostRefusal::Malformed));
        }
    }

    #[test]
    fn only_a_loopback_address_or_a_list_bounds_the_names() {
        let named = |names: &[String]| Hosts::of("0.0.0.0:7351".parse().unwrap(), names);
        check(&named(&[]), &["evil.example"], Ok(()));
        check(
            &named(&["a.example".to_owned()]),
            &["evil.example"],
            Err(HostRefusal::Foreign("evil.example".to_owned())),
        );
        for address in ["[::1]:1", "127.9.9.9:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(Hosts::of(address.parse().unwrap(), &[]), Hosts::Named(Vec::new()), "{address}");
        }
    }

    #[test]
    fn older_http_needs_no_host_and_a_whole_address_counts() {
        let hosts = loopback(&[]);
        let older = Request::builder().version(Version::HTTP_10).uri("/metrics");
        assert_eq!(hosts.check(&older.body(()).unwrap()), Ok(()));
        let older = Request::builder().version(Version::HTTP_10).uri("/metrics").header(HOST, "evil.example");
        assert!(hosts.check(&older.body(()).unwrap()).is_err());
        let whole = Request::builder().uri("http://evil.example/metrics").header(HOST, "localhost");
        assert!(hosts.check(&whole.body(()).unwrap()).is_err());
    }
}

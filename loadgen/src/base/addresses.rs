//! What is wrong with an address on the command line, in words.

use std::net::Ipv6Addr;

/// What to write instead of an address without a port; `None` if the address has one. `usual` is the port to propose.
pub fn missing_port(address: &str, usual: u16) -> Option<String> {
    let host = address.strip_suffix(':').unwrap_or(address);
    let bare_v6 = address.parse::<Ipv6Addr>().is_ok();
    let has_port =
        !bare_v6 && address.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'));
    let shown = if bare_v6 { format!("[{address}]") } else { host.to_owned() };
    (!has_port).then(|| format!("the port is missing: write {shown}:{usual}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_completed() {
        for (address, proposed) in [
            ("127.0.0.1", "127.0.0.1:7350"),
            ("127.0.0.1:", "127.0.0.1:7350"),
            ("localhost", "localhost:7350"),
            ("::1", "[::1]:7350"),
            ("2001:db8::7", "[2001:db8::7]:7350"),
            ("[::1]", "[::1]:7350"),
        ] {
            let said = missing_port(address, 7350).expect("no port");
            assert!(said.ends_with(&format!("write {proposed}")), "{address}: {said}");
        }
        for address in ["127.0.0.1:1", "localhost:80", "[::1]:7350", "127.0.0.1:x", "nowhere:"] {
            let has_none = address.ends_with(':');
            assert_eq!(missing_port(address, 7350).is_some(), has_none, "{address}");
        }
    }
}

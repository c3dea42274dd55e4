//! Who has the addresses of the service.

use super::super::finding::{Area, Finding};

/// Who has the address that the service would listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Free,
    /// A living service of ours.
    Ours,
    /// Someone who was not asked, because the service there speaks TLS.
    Unasked,
    Others,
    NotAllowed,
    /// The address is none of this machine's.
    NotHere,
}

pub(crate) fn ports(ports: &[(&'static str, String, Port)]) -> Vec<Finding> {
    let area = Area::Ports;
    let mut found = Vec::new();
    for (name, address, port) in ports {
        let said = || vec![("name", (*name).to_owned()), ("address", address.clone())];
        match port {
            Port::Others => found.push(Finding::warning(area, "port_taken", said())),
            Port::NotAllowed => found.push(Finding::warning(area, "port_not_allowed", said())),
            Port::NotHere => found.push(Finding::warning(area, "port_not_here", said())),
            Port::Free | Port::Ours | Port::Unasked => {}
        }
    }
    if found.is_empty() {
        let lives = ports.iter().any(|(_, _, port)| *port == Port::Ours);
        found.push(Finding::good(area, if lives { "service_lives" } else { "ports_free" }, vec![]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::codes;
    use super::*;

    #[test]
    fn ports_are_free_ours_or_a_matter_to_tell() {
        let check = |port, expected: &str| {
            assert_eq!(codes(&ports(&[("GHL_AUTH_LISTEN", "x".into(), port)])), [expected]);
        };
        check(Port::Free, "ports_free");
        check(Port::Unasked, "ports_free");
        check(Port::Ours, "service_lives");
        check(Port::Others, "port_taken");
        check(Port::NotAllowed, "port_not_allowed");
        check(Port::NotHere, "port_not_here");
    }
}

//! The line `confine` of a new configuration (BND-2), and what a person should know about this machine.

use crate::adapters::confine::{Probe, engine};
use crate::adapters::net;
use crate::model::confine::{Network, Policy};

/// The line, and why nothing would start here, if so. Queries the engines; makes no request.
pub fn line() -> (String, Option<String>) {
    let Ok(scratch) = tempfile::tempdir() else { return (OPEN.to_owned(), None) };
    let Ok(probe) = Probe::here(scratch.path().to_owned()) else { return (OPEN.to_owned(), None) };
    let note = engine(&Policy::default(), &probe).err().map(|no| {
        format!(
            "agents can't be confined on this machine: {}. To fix this: {}. Until then nothing starts",
            no.why, no.way_out
        )
    });
    let apart = engine(&Policy { network: Network::Internet, ..Policy::default() }, &probe).is_ok();
    let network = network(apart, passes_on());
    (format!("{network}{}", if probe.root { ROOT } else { "" }), note)
}

/// Whether the confinement's own proxy can reach the network as this account does: directly, or through a proxy that
/// speaks plain HTTP.
fn passes_on() -> bool {
    net::proxy_of_runs().is_none_or(|(url, _)| url.starts_with("http://"))
}

/// `apart`: a run can get a network namespace. `passes`: traffic out of it can reach the network.
const fn network(apart: bool, passes: bool) -> &'static str {
    if apart && passes { INTERNET } else { OPEN }
}

const INTERNET: &str = "confine: {network: internet}           # agents and CI reach global addresses by HTTPS, but no port of this machine; docs/security.md";
const OPEN: &str = "confine: {network: open}               # agents and CI reach everything that this account reaches; docs/security.md";
const ROOT: &str =
    "\n# area_dir: /var/lib/orch-area           # the checkouts of runs, where their accounts must reach it (landlock)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_kept_apart_where_that_works() {
        assert_eq!(network(true, true), INTERNET);
        for open in [network(true, false), network(false, false), network(false, true)] {
            assert_eq!(open, OPEN);
        }
    }
}

//! The line `confine` of a new configuration (BND-2), and what a person should know of this machine.

use crate::adapters::confine::{Probe, engine};
use crate::model::confine::{Network, Policy};

/// The line, and why nothing would start here, if so. Asks the engines; makes no request.
pub fn line() -> (String, Option<String>) {
    let Ok(scratch) = tempfile::tempdir() else { return (OPEN.to_owned(), None) };
    let Ok(probe) = Probe::here(scratch.path().to_owned()) else { return (OPEN.to_owned(), None) };
    let note = engine(&Policy::default(), &probe).err().map(|no| {
        format!(
            "nothing holds agents on this machine: {}. To fix it: {}. Until then nothing starts",
            no.why, no.way_out
        )
    });
    let apart = engine(&Policy { network: Network::Internet, ..Policy::default() }, &probe).is_ok();
    let behind = PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let network = network(apart, behind);
    (format!("{network}{}", if probe.root { ROOT } else { "" }), note)
}

/// `apart`: a run can be given a network namespace. `behind`: this account reaches the network through a proxy, which
/// the confinement's own does not pass requests on to.
const fn network(apart: bool, behind: bool) -> &'static str {
    match (apart, behind) {
        (true, false) => INTERNET,
        (false, _) | (true, true) => OPEN,
    }
}

const PROXIES: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const INTERNET: &str = "confine: {network: internet}           # agents and CI reach global addresses by HTTPS, no port of this machine; docs/security.md";
const OPEN: &str = "confine: {network: open}               # a choice: agents and CI reach all that this account reaches; docs/security.md";
const ROOT: &str =
    "\n# area_dir: /var/lib/orch-area           # the checkouts of runs, where their accounts must reach it (landlock)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_kept_apart_where_that_works() {
        assert_eq!(network(true, false), INTERNET);
        for open in [network(true, true), network(false, false), network(false, true)] {
            assert_eq!(open, OPEN);
        }
    }
}

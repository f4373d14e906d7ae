//! What confines agents and the branch's code (BND-2): the engine, what it leaves open, and missing commands.

use super::Chart;
use crate::adapters::accounts;
use crate::config::{Config, process_env};
use crate::engine::confine::{Answer, answers};
use crate::engine::mirrors;
use crate::model::confine::{Held, Mode, Network};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const AREA: &str = "machine";
const NAME: &str = "confinement";

/// Where clouds serve a machine its metadata, including credentials.
const METADATA: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254)), 80);
const TIMEOUT: Duration = Duration::from_millis(300);

pub fn all(config: &Config, chart: &mut Chart) {
    let mut groups: Vec<(Vec<String>, Answer)> = Vec::new();
    for answer in answers(config) {
        let of = answer.agent.map_or_else(|| answer.project.clone(), |a| format!("{} {a}", answer.project));
        match groups.iter_mut().find(|(_, t)| t.policy == answer.policy && t.engine == answer.engine) {
            Some((whose, _)) => whose.push(of),
            None => groups.push((vec![of], answer)),
        }
    }
    let one = groups.len() == 1;
    for (whose, answer) in &groups {
        // All are the same, so no names are needed.
        let of = if one { String::new() } else { format!(" ({})", whose.join(", ")) };
        engine(answer, &of, chart);
    }
    // Where nothing confines them, that is already reported.
    let held = |a: &Answer| a.engine.as_ref().is_ok_and(|e| e.held() != Held::Unconfined);
    if groups.iter().any(|(_, a)| a.policy.network == Network::Open && held(a)) {
        metadata(chart);
    }
    landed_code(config, chart);
    for mirror in mirrors::of_operator().iter().filter(|m| !m.taken.left_out.is_empty()) {
        let (file, keys) = (mirror.from.display(), mirror.taken.left_out.join(", "));
        chart.warn(
            AREA,
            "mirrors",
            format!("{file}: {keys} contains user information, and is not passed to runs"),
            "use a mirror without a password there, or allow the public one in confine.network",
        );
    }
    for (at, what) in config.absent(&process_env().remove("PATH").unwrap_or_default()) {
        // Programs of runtimes have their own check.
        if !at.starts_with("runtimes.") {
            chart.fail("tools", &at, format!("{what} is not there"), "install it, or correct the command");
        }
    }
}

fn engine(answer: &Answer, of: &str, chart: &mut Chart) {
    let open = answer.policy.network == Network::Open;
    let network = if open { ", network open" } else { "" };
    match &answer.engine {
        Err(none) => {
            chart.fail(AREA, NAME, format!("nothing of a branch starts{of}: {}", none.why), &none.way_out);
            return;
        }
        Ok(engine) => match engine.held() {
            Held::Unconfined => {
                let how = if answer.policy.mode == Mode::Off { "mode: off" } else { "mode: auto, and no engine works" };
                chart.warn(
                    AREA,
                    NAME,
                    format!("unconfined{of} ({how}): agents and the branch's code have all rights of this account"),
                    "set confine.mode to required, with bubblewrap installed (docs/security.md)",
                );
                return;
            }
            Held::Landlock => {
                let others = accounts::other_logins();
                let and = if others.is_empty() {
                    String::new()
                } else {
                    format!("; others can log in here: {}", others.join(", "))
                };
                chart.warn(
                    AREA,
                    NAME,
                    format!(
                        "landlock{of}{network}: modes, times and attributes of this account's files can be changed{and}"
                    ),
                    "install bubblewrap, which prevents that",
                );
            }
            held @ (Held::Bubblewrap | Held::Command) => {
                chart.ok(AREA, NAME, format!("{}{of}{network}", held.as_str()));
            }
        },
    }
    if open {
        chart.warn(
            AREA,
            NAME,
            format!(
                "network open{of}: runs reach everything that this account reaches, including this machine's ports"
            ),
            "set confine.network to internet or hosts where bubblewrap works",
        );
    }
}

/// Commands of the operator that run code from a tree because no confined build is configured (BND-3).
fn landed_code(config: &Config, chart: &mut Chart) {
    let user = accounts::name(rustix::process::geteuid().as_raw());
    for p in &config.projects {
        let (deploys, takes) = (p.deploy.command.is_some(), p.staging.deploy.is_some());
        for (key, code, build, runs) in [
            ("deploy", "the landed code", "deploy.build", deploys && p.deploy.build.is_none()),
            ("staging.deploy", "the branch's code", "staging.build", takes && p.staging.build.is_none()),
        ] {
            if runs {
                let message = format!("{key} runs {code} as {user}");
                chart.warn(
                    &p.key,
                    "deploy",
                    message,
                    format!("set {build}: it builds confined, and the command gets only its output"),
                );
            }
        }
    }
}

fn metadata(chart: &mut Chart) {
    if TcpStream::connect_timeout(&METADATA, TIMEOUT).is_ok() {
        chart.fail(
            AREA,
            NAME,
            "network open, and 169.254.169.254 answers here: a run can request this machine's own credentials",
            "set confine.network to internet or hosts, or close that address to this machine's accounts",
        );
    }
}

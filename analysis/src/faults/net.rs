//! Faults of the network as faults of the calls that meet them.

use super::document::{Said, in_seconds};
use super::tree::Node;

/// Calls that receive.
pub(super) const RECEIVES: &str = "read,readv,recvfrom,recvmsg,recvmmsg";
const SENDS: &str = "write,writev,sendto,sendmsg,sendmmsg,sendfile";
const ANSWERS: &str = "connect,read,readv,recvfrom,recvmsg,recvmmsg";
const REQUESTS: &str = "connect,write,writev,sendto,sendmsg,sendmmsg,sendfile";
const TRANSFERS: &str = "read,readv,recvfrom,recvmsg,recvmmsg,write,writev,sendto,sendmsg,sendmmsg,sendfile";
const ALL: &str =
    "connect,read,readv,recvfrom,recvmsg,recvmmsg,write,writev,sendto,sendmsg,sendmmsg,sendfile";
/// Where questions for names go (RFC 1035).
pub(super) const DNS_SERVER: &str = ":53";

/// An effect of a fault of the network.
#[derive(Debug)]
pub(super) enum Effect {
    /// These calls, and what happens to them.
    Calls(&'static str, Said),
    /// A replay cannot do what stands at this key, and why.
    Not(&'static str, &'static str),
}

/// Why a replay has no packets.
const NO_PACKETS: &str = "a replay makes calls, not packets: the kernel's TCP would repair this, and what is left of it \
                          are delays; say delay and jitter";

/// The effects that a map `net` asks for.
pub(super) fn effects(net: &Node) -> Vec<Effect> {
    let is_on = |key: &str| net.said(key) == Some("true");
    let mut effects = Vec::new();
    let mut calls = |calls, said: &[(&'static str, &str)]| {
        let said = said.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        effects.push(Effect::Calls(calls, said));
    };
    if is_on("refuse") {
        calls("connect", &[("error", "ECONNREFUSED")]);
    }
    if is_on("blackhole") {
        calls(ANSWERS, &[("error", "ETIMEDOUT")]);
    }
    if is_on("partition") {
        let set = match net.said("direction") {
            Some("to") => REQUESTS,
            Some("from") => ANSWERS,
            _ => ALL,
        };
        calls(set, &[("error", "ETIMEDOUT")]);
    }
    if let Some(reset) = net.said("reset").filter(|reset| *reset != "false") {
        let set = match net.said("direction") {
            Some("to") => SENDS,
            Some("both") => TRANSFERS,
            _ => RECEIVES,
        };
        match reset {
            "true" => calls(set, &[("error", "ECONNRESET")]),
            bytes => calls(set, &[("error", "ECONNRESET"), ("from_byte", bytes)]),
        }
    }
    if let Some(delay) = net.said("delay") {
        let set = match net.said("direction") {
            Some("to") => REQUESTS,
            Some("both") => ALL,
            _ => ANSWERS,
        };
        let delay = in_seconds(delay);
        match net.said("jitter").map(in_seconds) {
            Some(jitter) => calls(set, &[("delay_exit", &delay), ("jitter", &jitter)]),
            None => calls(set, &[("delay_exit", &delay)]),
        }
    }
    if let Some(delay) = net.said("slow_close") {
        calls("close,shutdown", &[("delay_enter", &in_seconds(delay))]);
    }
    if let Some(bytes) = net.said("limit_data") {
        calls(RECEIVES, &[("retval", "0"), ("from_byte", bytes)]);
    }
    for (key, why) in [
        (
            "rate",
            "a replay cannot make a connection narrow yet: its bytes go over the loopback of the sandbox; say delay",
        ),
        ("loss", NO_PACKETS),
        ("duplicate", NO_PACKETS),
        ("corrupt", NO_PACKETS),
        ("reorder", NO_PACKETS),
    ] {
        if net.get(key).is_some() {
            effects.push(Effect::Not(key, why));
        }
    }
    effects
}

/// What happens to receives of answers; or why a replay cannot do it.
pub(super) fn answers(dns: &Node) -> Result<Said, &'static str> {
    if dns.said("name").is_some_and(|name| name != "*") {
        return Err(
            "a replay chooses answers by their server and by who asks, not by the name that is asked for; \
                    leave name out",
        );
    }
    match dns.said("answer") {
        // A resolver that reads when nothing is there waits on, and asks again.
        Some("drop") => Ok(vec![("error", "EAGAIN".to_owned())]),
        // A resolver gives up on a server that refuses as on one that fails.
        Some("servfail") => Ok(vec![("error", "ECONNREFUSED".to_owned())]),
        _ => Err(
            "to the kernel an answer is bytes, and a replay makes them up: no program reads which address they say, \
                  or that there is none; servfail and drop are failures of calls",
        ),
    }
}

//! toxiproxy: proxies and their toxics.

use super::fields::{Field, not, to};
use super::{Import, percent};
use crate::faults::tree::Node;

const IN_FRONT: &str = "a replay needs no proxy in front of the peer";

/// Fields of a proxy.
pub(super) const PROXY: &[Field] = &[
    to("name", "`id`"),
    to("upstream", "`net.peer`"),
    not("listen", IN_FRONT),
    to("enabled", "false: `net.refuse`"),
    to("toxics.**", "see a toxic"),
    not("Logger.**", IN_FRONT),
];

/// Fields of a toxic, with the attributes of all types.
pub(super) const TOXIC: &[Field] = &[
    to("name", "`id`, after that of the proxy"),
    to(
        "type",
        "says which fault it is: latency, bandwidth, slow_close, timeout, reset_peer, limit_data, slicer, down",
    ),
    to("stream", "`net.direction`: upstream is to the peer, downstream from it"),
    to("toxicity", "`when.prob`: a share of the calls, not of the connections"),
    to("attributes.latency", "`net.delay`, ms"),
    to("attributes.jitter", "`net.jitter`, ms"),
    to("attributes.rate", "`net.rate`, kB a second"),
    to("attributes.delay", "`net.slow_close`, ms, of slow_close; that of a slicer is told"),
    to(
        "attributes.timeout",
        "`net.blackhole` of timeout, `net.reset` of reset_peer; a time other than 0 is told",
    ),
    to("attributes.bytes", "`net.limit_data`"),
    not("attributes.average_size", "a replay transfers as much at once as was recorded (slicer)"),
    not("attributes.size_variation", "a replay transfers as much at once as was recorded (slicer)"),
];

/// Reads proxies: a list, a map of names, or the answer of the server.
pub(super) fn import(document: &Node, import: &mut Import) {
    let document = document.get("proxies").unwrap_or(document);
    let list = if document.entries().is_empty() || document.get("upstream").is_some() {
        document.items().iter().map(|node| (node.said("name").unwrap_or("proxy").to_owned(), node)).collect()
    } else {
        document.entries().iter().map(|entry| (entry.key.clone(), &entry.node)).collect::<Vec<_>>()
    };
    for (name, proxy) in list {
        import.account(proxy, &name, &[PROXY]);
        let Some(upstream) = proxy.said("upstream") else {
            import.lacks(proxy.at, name, "it has no upstream: it is no proxy");
            continue;
        };
        if proxy.said("enabled") == Some("false") {
            import.add(&name, Node::map([("net", peer(upstream, &[("refuse", Node::bare(true))]))]));
        }
        for one in proxy.get("toxics").map(Node::items).unwrap_or_default() {
            toxic(import, &name, upstream, one);
        }
    }
}

fn peer(upstream: &str, said: &[(&str, Node)]) -> Node {
    let said = said.iter().map(|(key, node)| (*key, node.clone()));
    Node::map([("peer", Node::text(upstream))].into_iter().chain(said))
}

/// Reads a toxic of a proxy to a peer.
pub(super) fn toxic(import: &mut Import, proxy: &str, upstream: &str, toxic: &Node) {
    let name = toxic.said("name").unwrap_or("toxic");
    let id = format!("{proxy}-{name}");
    import.account(toxic, &id, &[TOXIC]);
    let kind = toxic.said("type").unwrap_or_default();
    let attribute = |key: &str| toxic.said(&format!("attributes.{key}"));
    let ms = |key: &str| Node::text(format!("{}ms", attribute(key).unwrap_or("0")));
    let mut said = match kind {
        "latency" => {
            let mut said = vec![("delay", ms("latency"))];
            said.extend(
                attribute("jitter").filter(|jitter| *jitter != "0").map(|_| ("jitter", ms("jitter"))),
            );
            said
        }
        "bandwidth" => vec![("rate", Node::text(format!("{}kbps", attribute("rate").unwrap_or("0"))))],
        "slow_close" => vec![("slow_close", ms("delay"))],
        "limit_data" => vec![("limit_data", Node::bare(attribute("bytes").unwrap_or("0")))],
        "down" => vec![("refuse", Node::bare(true))],
        "timeout" => vec![("blackhole", Node::bare(true))],
        "reset_peer" => vec![("reset", Node::bare(true))],
        _ => {
            let why = "no fault of a plan is as this type";
            import.lacks(toxic.at, format!("{id}.type: {kind}"), why);
            return;
        }
    };
    if matches!(kind, "timeout" | "reset_peer") && attribute("timeout").is_some_and(|timeout| timeout != "0")
    {
        import.lacks(
            toxic.at,
            format!("{id}.attributes.timeout"),
            "the fault is there from the first call on",
        );
    }
    match toxic.said("stream") {
        Some("upstream") if matches!(kind, "latency" | "reset_peer") => {
            said.push(("direction", Node::text("to")));
        }
        Some("upstream") if kind != "down" => {
            import.lacks(toxic.at, format!("{id}.stream"), "this fault is one of what comes from the peer");
        }
        _ => {}
    }
    let mut fault = Node::map([("net", peer(upstream, &said))]);
    if let Some(toxicity) = toxic.said("toxicity").and_then(|toxicity| toxicity.parse::<f64>().ok())
        && let Some(prob) = percent(&format!("{}", toxicity * 100.0))
    {
        fault.put("when.prob", Node::bare(prob));
    }
    import.add(&id, fault);
}

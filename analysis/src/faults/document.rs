//! Plan files: `ctrace.faults/v1`, read into a [`Plan`].

use super::asks::{Ask, Levels, Other};
use super::keys::{DO, MATCH, VERSION, WHEN};
use super::matching::Peer;
use super::plan::{Phase, Plan, Rule};
use super::schema::{Form, Scalar, Table};
use super::tree::Node;
use super::yaml::{self, DocumentError};
use super::{moments, net, parse, schema};
use crate::Pattern;

/// Most faults of a plan.
const MAX_FAULTS: usize = 1_000;
/// Decides what is left to chance when nobody says a seed.
const SEED: u64 = 1;

/// What an expression says: keys and values, in their order.
pub(super) type Said = Vec<(&'static str, String)>;

impl Plan {
    /// Reads a plan file.
    ///
    /// # Errors
    /// The first mistake: its line and column, and what was probably meant.
    pub fn of_document(text: &str) -> Result<Self, DocumentError> {
        let node = one_document(text)?;
        of_node(text, &node)
    }

    /// The plan as a document: every rule in one line, as it is resolved, and whatever else was asked for.
    pub fn document(&self) -> Node {
        let mut document = Node::map([("version", Node::text(VERSION))]);
        if let Some(name) = &self.name {
            document.set("name", Node::text(name));
        }
        document.set("seed", Node::bare(self.seed));
        let rules = self.rules.iter().map(|rule| {
            let id = rule.id.iter().map(|id| ("id", Node::text(id)));
            Node::map(id.chain([("inject", Node::text(&rule.text))]))
        });
        let others = self.others.iter().map(|other| other.fault.clone());
        document.set("faults", Node::list(rules.chain(others).collect()));
        for (key, conditions) in [("steady", &self.steady), ("abort", &self.abort)] {
            if !conditions.is_empty() {
                document.set(key, Node::list(conditions.iter().map(Node::text).collect()));
            }
        }
        document
    }
}

/// The tree of a plan file that is as plans are.
pub(super) fn one_document(text: &str) -> Result<Node, DocumentError> {
    let mut documents = yaml::documents(text)?;
    let at = super::Mark { line: 1, column: 1 };
    if let Some(second) = documents.get(1) {
        return Err(DocumentError::new(
            text,
            second.at,
            "a file has one plan: a second document begins here".to_owned(),
        ));
    }
    let Some(node) = documents.pop().filter(|node| !node.is_null()) else {
        let what = format!("the file is empty; a plan begins with version: {VERSION}");
        return Err(DocumentError::new(text, at, what));
    };
    schema::check(text, &node)?;
    Ok(node)
}

fn of_node(text: &str, node: &Node) -> Result<Plan, DocumentError> {
    let strings = |key: &str| {
        let items = node.get(key).map(Node::items).unwrap_or_default();
        items.iter().filter_map(Node::scalar).map(str::to_owned).collect()
    };
    let mut plan = Plan {
        seed: node.said("seed").and_then(|seed| seed.parse().ok()).unwrap_or(SEED),
        name: node.said("name").map(str::to_owned),
        steady: strings("steady"),
        abort: strings("abort"),
        ..Plan::default()
    };
    let hosts = node.get("hosts").cloned().unwrap_or_default();
    for host in hosts.entries() {
        let address = host.node.scalar().unwrap_or_default();
        if let Ok(Peer::Name { .. }) = Peer::parse(address) {
            let what = format!("{address} is a name again; write an address");
            return Err(DocumentError::new(text, host.node.at, what));
        }
    }
    let faults = node.get("faults").map(Node::items).unwrap_or_default();
    if let Some(extra) = faults.get(MAX_FAULTS) {
        let what = format!("a plan has at most {MAX_FAULTS} faults");
        return Err(DocumentError::new(text, extra.at, what));
    }
    let reader = Reader { text, hosts: &hosts, window: node.said("window") };
    for (at, fault) in faults.iter().enumerate() {
        let is_named = |other: &&Node| other.said("id").is_some() && other.said("id") == fault.said("id");
        let is_line = |fault: &Node| fault.get("inject").is_some();
        if let Some(same) =
            faults[..at].iter().find(is_named).filter(|same| !(is_line(same) && is_line(fault)))
        {
            let what = format!("a fault of this id is in line {} already", same.at.line);
            return Err(DocumentError::new(text, fault.get("id").map_or(fault.at, |id| id.at), what));
        }
        reader.fault(fault, &mut plan)?;
    }
    Ok(if node.said("fail") == Some("after") { plan.failing(Phase::After) } else { plan })
}

struct Reader<'a> {
    text: &'a str,
    hosts: &'a Node,
    /// The one for all faults.
    window: Option<&'a str>,
}

impl Reader<'_> {
    fn fail<T>(&self, node: &Node, what: String) -> Result<T, DocumentError> {
        Err(DocumentError::new(self.text, node.at, what))
    }

    fn fault(&self, fault: &Node, plan: &mut Plan) -> Result<(), DocumentError> {
        let id = fault.said("id").map(str::to_owned);
        if let Some(line) = fault.get("inject") {
            let mut rule = self.rule(line, line.scalar().unwrap_or_default(), id)?;
            if let Some(window) = self.window.filter(|_| !rule.when.has_times()) {
                rule = self.rule(line, &format!("{}:window={window}", rule.text), rule.id)?;
            }
            plan.rules.push(rule);
        } else if let Some(act) = fault.get("do") {
            let matching = fault.get("match").cloned().unwrap_or_default();
            let Some(calls) = matching.said("syscall") else {
                return self.fail(fault, "do needs calls: match: {syscall: …}".to_owned());
            };
            let said = [self.acts(act)?, self.said(&matching, &MATCH), self.choice(fault)].concat();
            plan.rules.push(self.of_parts(fault, calls, &said, id)?);
        } else if let Some(net) = fault.get("net") {
            let effects = net::effects(net);
            if effects.is_empty() {
                return self.fail(net, "net does nothing: say refuse, reset, blackhole, partition, delay, slow_close, limit_data, …".to_owned());
            }
            for effect in effects {
                match effect {
                    net::Effect::Calls(calls, mut said) => {
                        said.extend(self.said(net, &MATCH));
                        said.extend(self.choice(fault));
                        plan.rules.push(self.of_parts(fault, calls, &said, id.clone())?);
                    }
                    net::Effect::Not(key, why) => {
                        let keys = ["peer", "role", key].into_iter();
                        let part = Node::map(keys.filter_map(|key| Some((key, net.get(key)?.clone()))));
                        plan.others.push(Other::new(fault, "net", part, Ask::Network(key.to_owned()), why));
                    }
                }
            }
        } else if let Some(dns) = fault.get("dns") {
            match net::answers(dns) {
                Ok(mut said) => {
                    let server = dns.said("server").unwrap_or(net::DNS_SERVER);
                    said.push(("peer", self.address(server)));
                    said.extend(self.said(dns, &MATCH));
                    said.extend(self.choice(fault));
                    plan.rules.push(self.of_parts(fault, net::RECEIVES, &said, id)?);
                }
                Err(why) => {
                    let answer = dns.get("answer").map(Node::json).unwrap_or_default();
                    plan.others.push(Other::new(fault, "dns", dns.clone(), Ask::Answer(answer), why));
                }
            }
        } else if let Some(pressure) = fault.get("pressure") {
            if plan.pressure.is_some() {
                return self.fail(pressure, "a plan has one pressure; put its levels together".to_owned());
            }
            let levels = Levels::of(pressure, self.window);
            plan.others.push(Other::pressure(fault, pressure, &levels));
            plan.pressure = Some(levels);
        } else if let Some(process) = fault.get("process") {
            match Other::process(fault, process) {
                // The first call of its role from then on is where it dies.
                Other { ask: Ask::Process { role, act, at_ns, .. }, .. }
                    if matches!(act.as_str(), "kill" | "oom") =>
                {
                    let from = format!("{at_ns}ns..");
                    let said = vec![
                        ("signal", "SIGKILL".to_owned()),
                        ("role", role),
                        ("window", from),
                        ("max", "1".to_owned()),
                    ];
                    plan.rules.push(self.of_parts(fault, "all", &said, id)?);
                }
                other => plan.others.push(other),
            }
        } else if let Some(time) = fault.get("time") {
            plan.others.push(Other::clock(fault, time));
        }
        Ok(())
    }

    /// The values of the keys that expressions have, too.
    fn said(&self, node: &Node, table: &Table) -> Said {
        let mut said = Said::new();
        for key in table.keys {
            let (Form::Scalar(Scalar::Said(name)) | Form::OneOrList(Form::Scalar(Scalar::Said(name)))) =
                &key.form
            else {
                continue;
            };
            for value in node.get(key.name).map(Node::items).unwrap_or_default() {
                let text = value.scalar().unwrap_or_default();
                match *name {
                    "calls" => {}
                    "peer" => said.push((name, self.address(text))),
                    "during" => said.push((name, text.trim_start_matches("finding:").to_owned())),
                    _ => said.push((name, text.to_owned())),
                }
            }
        }
        said
    }

    fn acts(&self, act: &Node) -> Result<Said, DocumentError> {
        let mut said = self.said(act, &DO);
        let mut jitters: Vec<&str> = Vec::new();
        for key in ["delay_enter", "delay_exit"] {
            let Some(delay) = act.get(key) else { continue };
            let latency = delay.scalar().or_else(|| delay.said("latency")).unwrap_or_default();
            said.push((key, in_seconds(latency)));
            jitters.extend(delay.said("jitter"));
            if jitters.first() != jitters.last() {
                return self.fail(
                    delay,
                    "the delays of one fault have one jitter; make two faults of them".to_owned(),
                );
            }
        }
        said.extend(jitters.first().map(|jitter| ("jitter", in_seconds(jitter))));
        Ok(said)
    }

    fn choice(&self, fault: &Node) -> Said {
        let when = fault.get("when").cloned().unwrap_or_default();
        let mut said = self.said(&when, &WHEN);
        if let Some(burst) = when.get("burst") {
            let times = ["active", "dormant", "delay"].into_iter().filter_map(|key| burst.said(key));
            said.push(("burst", times.collect::<Vec<_>>().join("/")));
        }
        if let Some(window) = self.window
            && !said.iter().any(|(key, _)| matches!(*key, "window" | "burst" | "during"))
        {
            said.push(("window", window.to_owned()));
        }
        said.extend(fault.said("max").map(|max| ("max", max.to_owned())));
        said
    }

    /// A peer, with the address that the plan says of its host.
    fn address(&self, peer: &str) -> String {
        let (host, port) = peer.rsplit_once(':').map_or((peer, None), |(host, port)| (host, Some(port)));
        let Some(address) = self.hosts.get(host).and_then(Node::scalar) else { return peer.to_owned() };
        match port.filter(|_| address.parse::<std::net::IpAddr>().is_ok()) {
            Some(port) if address.contains(':') => format!("[{address}]:{port}"),
            Some(port) => format!("{address}:{port}"),
            None => address.to_owned(),
        }
    }

    fn of_parts(
        &self,
        fault: &Node,
        calls: &str,
        said: &Said,
        id: Option<String>,
    ) -> Result<Rule, DocumentError> {
        let mut line = calls.to_owned();
        for (key, value) in said {
            line.extend([":", key, "=", value]);
        }
        let rule = self.rule(fault, &line, id)?;
        // A path may look as if it went on with a key.
        let meant = |name: &str| said.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        let is_meant = rule.matching.path == meant("path").map(Pattern::new)
            && rule.matching.role == meant("role").map(Pattern::whole);
        if !is_meant {
            return self.fail(
                fault,
                "a path or role that has a colon before a word and \"=\" cannot be said; use ? for the colon"
                    .to_owned(),
            );
        }
        Ok(rule)
    }

    fn rule(&self, at: &Node, text: &str, id: Option<String>) -> Result<Rule, DocumentError> {
        match parse::rule(text) {
            Ok(rule) => Ok(Rule { id, ..rule }),
            Err(error) => self.fail(at, error.what),
        }
    }
}

/// A time as expressions take it: they know no minutes and no hours.
pub(super) fn in_seconds(text: &str) -> String {
    match moments::time(text) {
        Ok(ns) if text.ends_with(['h', 'm']) => format!("{}ms", ns / 1_000_000),
        _ => text.to_owned(),
    }
}

//! Plans as other tools have them; what those cannot say is told.

use super::document::one_document;
use super::import::Format;
use super::import::METHODS;
use super::matching::Peer;
use super::plan::Plan;
use super::tree::Node;
use super::yaml::DocumentError;
use super::{moments, schema};

/// A plan in another format.
#[derive(Debug, Default)]
pub struct Export {
    /// The text.
    pub text: String,
    /// What is not in it, and why.
    pub left_out: Vec<(String, String)>,
}

impl Export {
    /// Writes a plan file for another tool.
    ///
    /// # Errors
    /// The file is no plan.
    pub fn of(text: &str, format: Format) -> Result<Self, DocumentError> {
        let plan = Plan::of_document(text)?;
        let document = one_document(text)?;
        let mut export = Self::default();
        match format {
            Format::Strace => export.strace(&plan),
            Format::ChaosToolkit => export.toolkit(&plan),
            Format::ChaosMesh => export.chaos_mesh(&document),
            Format::Toxiproxy => export.toxiproxy(&document),
        }
        if format != Format::ChaosToolkit {
            for (key, conditions) in [("steady", &plan.steady), ("abort", &plan.abort)] {
                for condition in conditions {
                    export.lacks(format!("{key}: {condition}"), "it knows no conditions of this language");
                }
            }
        }
        Ok(export)
    }

    fn lacks(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.left_out.push((what.into(), why.into()));
    }

    /// The options, one a line.
    fn strace(&mut self, plan: &Plan) {
        for rule in &plan.rules {
            let (m, w) = (&rule.matching, &rule.when);
            let jitter =
                [rule.act.delay_enter, rule.act.delay_exit].into_iter().flatten().any(|d| d.jitter_ns > 0);
            let foreign = [
                ("role", m.role.is_some()),
                ("peer", m.peer.is_some()),
                ("path", m.path.is_some()),
                ("arg", !m.args.is_empty()),
                ("errno_was", m.errno_was.is_some()),
                ("from_byte", m.from_byte.is_some()),
                ("prob", w.prob.is_some()),
                ("max", w.max.is_some()),
                ("rate", w.rate.is_some()),
                ("burst", w.burst.is_some()),
                ("window", w.window.is_some()),
                ("during", w.during.is_some()),
                ("jitter", jitter),
                ("short", rule.act.short.is_some()),
                ("phase", rule.act.phase == super::Phase::After),
            ];
            let keys: Vec<&str> =
                foreign.iter().filter(|(_, is_said)| *is_said).map(|(key, _)| *key).collect();
            if keys.is_empty() {
                let bare =
                    rule.text.strip_prefix("inject=").unwrap_or(&rule.text).replace(":phase=before", "");
                let option = bare
                    .strip_prefix("fault=")
                    .map_or_else(|| format!("--inject={bare}"), |bare| format!("--fault={bare}"));
                self.text.push_str(&option);
                self.text.push('\n');
            } else {
                self.lacks(&rule.text, format!("strace has no {}", keys.join(", ")));
            }
        }
        for other in &plan.others {
            self.lacks(other.text(), "strace has faults of calls alone");
        }
    }

    /// An experiment whose one action is a replay with the faults.
    fn toolkit(&mut self, plan: &Plan) {
        let mut arguments = vec![Node::text("replay"), Node::text("${recording}")];
        let mut option = |option: &str, value: &str| {
            arguments.extend([Node::text(option), Node::text(value)]);
        };
        plan.rules.iter().for_each(|rule| option("--inject", &rule.text));
        plan.abort.iter().for_each(|condition| option("--abort-on", condition));
        option("--seed", &plan.seed.to_string());
        for other in &plan.others {
            self.lacks(other.text(), "ctrace replay has no option for it");
        }
        for condition in &plan.steady {
            self.lacks(format!("steady: {condition}"), "a replay does not judge it yet");
        }
        let name = plan.name.as_deref().unwrap_or("faults");
        let recording = Node::map([("type", Node::text("env")), ("key", Node::text("CTRACE_RECORDING"))]);
        let provider = Node::map([
            ("type", Node::text("process")),
            ("path", Node::text("ctrace")),
            ("arguments", Node::list(arguments)),
        ]);
        let action =
            Node::map([("type", Node::text("action")), ("name", Node::text(name)), ("provider", provider)]);
        let experiment = Node::map([
            ("version", Node::text("1.0.0")),
            ("title", Node::text(name)),
            ("description", Node::text("Faults on top of the replay of a recording")),
            ("configuration", Node::map([("recording", recording)])),
            ("method", Node::list(vec![action])),
            ("rollbacks", Node::list(Vec::new())),
        ]);
        self.text = experiment.pretty_json();
    }

    /// What of a fault's choice cannot be said besides the keys given.
    fn choice(&mut self, id: &str, fault: &Node, known: &[&str]) {
        for entry in fault.get("when").map(Node::entries).unwrap_or_default() {
            if !known.contains(&entry.key.as_str()) {
                self.lacks(format!("{id}: when.{}", entry.key), "it cannot be said there");
            }
        }
        if fault.get("max").is_some() {
            self.lacks(format!("{id}: max"), "it cannot be said there");
        }
    }

    fn toxiproxy(&mut self, document: &Node) {
        let mut proxies: Vec<Node> = Vec::new();
        for (id, fault) in faults(document) {
            let Some(net) = fault.get("net") else {
                self.lacks(id, "toxiproxy has faults of the network alone");
                continue;
            };
            let Some(peer) = net.said("peer").filter(|peer| has_port(peer)) else {
                self.lacks(id, "a proxy is in front of one address or name with a port");
                continue;
            };
            self.choice(&id, fault, &["prob"]);
            let ms = |text: &str| Node::bare(moments::time(text).unwrap_or(0) / 1_000_000);
            let stream = if net.said("direction") == Some("to") { "upstream" } else { "downstream" };
            let mut toxics: Vec<(&str, Vec<(&str, Node)>)> = Vec::new();
            let mut enabled = true;
            for entry in net.entries() {
                let text = entry.node.scalar().unwrap_or_default();
                match (entry.key.as_str(), text) {
                    ("peer" | "direction" | "jitter", _) | (_, "false") => {}
                    ("refuse", _) => enabled = false,
                    ("delay", _) => {
                        let jitter = ms(net.said("jitter").unwrap_or("0s"));
                        toxics.push(("latency", vec![("latency", ms(text)), ("jitter", jitter)]));
                    }
                    ("blackhole", _) => toxics.push(("timeout", vec![("timeout", Node::bare(0))])),
                    ("reset", "true") => toxics.push(("reset_peer", vec![("timeout", Node::bare(0))])),
                    ("slow_close", _) => toxics.push(("slow_close", vec![("delay", ms(text))])),
                    ("limit_data", _) => {
                        let bytes = moments::bytes(text).unwrap_or(0);
                        toxics.push(("limit_data", vec![("bytes", Node::bare(bytes))]));
                    }
                    ("rate", _) => match schema::bytes_per_second(text) {
                        Some(rate) => toxics
                            .push(("bandwidth", vec![("rate", Node::bare((rate / 1000.0).max(1.0) as u64))])),
                        None => self.lacks(format!("{id}: net.rate"), "it is no bandwidth"),
                    },
                    (key, _) => self.lacks(format!("{id}: net.{key}"), "no toxic does that"),
                }
            }
            let toxicity = fault.said("when.prob").unwrap_or("1").to_owned();
            let toxics = toxics.into_iter().map(|(kind, attributes)| {
                Node::map([
                    ("name", Node::text(format!("{kind}_{stream}"))),
                    ("type", Node::text(kind)),
                    ("stream", Node::text(stream)),
                    ("toxicity", Node::bare(&toxicity)),
                    ("attributes", Node::map(attributes)),
                ])
            });
            proxies.push(Node::map([
                ("name", Node::text(&id)),
                ("listen", Node::text("127.0.0.1:0")),
                ("upstream", Node::text(peer)),
                ("enabled", Node::bare(enabled)),
                ("toxics", Node::list(toxics.collect())),
            ]));
        }
        self.text = Node::list(proxies).pretty_json();
    }

    fn chaos_mesh(&mut self, document: &Node) {
        for (id, fault) in faults(document) {
            let mut specs = Vec::new();
            let role =
                ["match", "net", "dns", "time"].iter().find_map(|kind| fault.said(&format!("{kind}.role")));
            if let Some(net) = fault.get("net") {
                self.choice(&id, fault, &["window"]);
                self.network(&id, net, &mut specs);
            } else if fault.get("do").is_some() {
                self.choice(&id, fault, &["window", "prob"]);
                self.file(&id, fault, &mut specs);
            } else if let Some(pressure) = fault.get("pressure") {
                self.stress(&id, pressure, &mut specs);
            } else if let Some(time) = fault.get("time") {
                let mut spec =
                    Node::map([("timeOffset", Node::text(time.said("offset").unwrap_or_default()))]);
                let clocks =
                    time.get("clocks").map(Node::items).unwrap_or_default().iter().filter_map(Node::scalar);
                let clocks: Vec<Node> = clocks.map(|clock| Node::text(format!("CLOCK_{clock}"))).collect();
                if !clocks.is_empty() {
                    spec.set("clockIds", Node::list(clocks));
                }
                specs.push(("TimeChaos", spec));
            } else if let Some(dns) = fault.get("dns").filter(|dns| dns.said("answer") == Some("servfail")) {
                self.choice(&id, fault, &["window"]);
                let pattern = Node::text(dns.said("name").unwrap_or("*"));
                specs.push((
                    "DNSChaos",
                    Node::map([("action", Node::text("error")), ("patterns", Node::list(vec![pattern]))]),
                ));
            } else {
                self.lacks(&id, "Chaos Mesh has no fault of this kind");
            }
            for (at, (kind, mut spec)) in specs.into_iter().enumerate() {
                spec.set("mode", Node::text("all"));
                if let Some(role) = role {
                    spec.put("selector.labelSelectors", Node::map([("app", Node::text(role))]));
                } else {
                    spec.put("selector.namespaces", Node::list(vec![Node::text("default")]));
                }
                if let Some(window) = fault.said("when.window").or_else(|| document.said("window")) {
                    match window.split_once("..") {
                        Some(("" | "0s", to)) if !to.is_empty() => spec.set("duration", Node::text(to)),
                        _ => self.lacks(format!("{id}: when.window"), "a duration is one from the beginning"),
                    }
                }
                let name = if at == 0 { id.clone() } else { format!("{id}-{}", at + 1) };
                let resource = Node::map([
                    ("apiVersion", Node::text("chaos-mesh.org/v1alpha1")),
                    ("kind", Node::text(kind)),
                    ("metadata", Node::map([("name", Node::text(name))])),
                    ("spec", spec),
                ]);
                if !self.text.is_empty() {
                    self.text.push_str("---\n");
                }
                self.text.push_str(&resource.yaml());
            }
        }
    }

    fn network(&mut self, id: &str, net: &Node, specs: &mut Vec<(&'static str, Node)>) {
        let peer = net.said("peer").unwrap_or("any");
        let target = match Peer::parse(peer) {
            Ok(Peer::Address { ip: None, port: None }) => None,
            Ok(Peer::Address { ip: Some(_), .. } | Peer::Name { .. }) => Some(peer),
            _ => {
                self.lacks(id, format!("NetworkChaos has addresses and names of hosts, and not {peer}"));
                return;
            }
        };
        let number = |text: &str| Node::text(text.trim_end_matches('%'));
        for entry in net.entries() {
            let text = entry.node.scalar().unwrap_or_default();
            let (action, said) = match entry.key.as_str() {
                "peer" | "role" | "direction" | "jitter" => continue,
                "partition" if text == "true" => ("partition", Node::default()),
                "delay" => {
                    let mut delay = Node::map([("latency", Node::text(text))]);
                    if let Some(jitter) = net.said("jitter") {
                        delay.set("jitter", Node::text(jitter));
                    }
                    ("delay", delay)
                }
                key @ ("loss" | "duplicate" | "corrupt") => {
                    let action = ["loss", "duplicate", "corrupt"].into_iter().find(|known| *known == key);
                    (action.unwrap_or("loss"), Node::map([(key, number(text))]))
                }
                "rate" => ("rate", Node::map([("rate", Node::text(text))])),
                _ if text == "false" => continue,
                key => {
                    self.lacks(format!("{id}: net.{key}"), "NetworkChaos has no such action");
                    continue;
                }
            };
            let mut spec = Node::map([("action", Node::text(action))]);
            if !said.is_null() {
                spec.set(action, said);
            }
            let direction =
                net.said("direction").unwrap_or(if action == "partition" { "both" } else { "from" });
            spec.set("direction", Node::text(direction));
            if let Some(target) = target {
                spec.set("externalTargets", Node::list(vec![Node::text(target)]));
            }
            specs.push(("NetworkChaos", spec));
        }
    }

    fn file(&mut self, id: &str, fault: &Node, specs: &mut Vec<(&'static str, Node)>) {
        let calls: Vec<&str> = fault
            .said("match.syscall")
            .unwrap_or_default()
            .split(',')
            .map(|call| call.trim_start_matches('?'))
            .collect();
        let is_here = |method: &&(&str, &str)| {
            !method.1.is_empty() && method.1.split(',').any(|call| calls.contains(&call))
        };
        let methods: Vec<Node> = METHODS.iter().filter(is_here).map(|(name, _)| Node::text(*name)).collect();
        let Some(path) = fault.said("match.path").filter(|_| !methods.is_empty()) else {
            self.lacks(id, "IOChaos has faults of calls about files with a path alone");
            return;
        };
        for key in ["peer", "arg", "errno_was"] {
            if fault.path(&format!("match.{key}")).is_some() {
                self.lacks(format!("{id}: match.{key}"), "IOChaos cannot choose by it");
            }
        }
        let root: Vec<&str> = path.split('/').take_while(|part| !part.contains(['*', '?'])).take(3).collect();
        let root = if root.len() > 1 { root.join("/") } else { "/".to_owned() };
        for entry in fault.get("do").map(Node::entries).unwrap_or_default() {
            let mut spec = match (entry.key.as_str(), entry.node.scalar()) {
                ("error", Some(error)) => {
                    let number = ctrace_format::errno::number(&error.to_uppercase())
                        .map_or_else(|| error.to_owned(), |n| n.to_string());
                    Node::map([("action", Node::text("fault")), ("errno", Node::bare(number))])
                }
                ("delay_enter" | "delay_exit", Some(delay)) => {
                    Node::map([("action", Node::text("latency")), ("delay", Node::text(delay))])
                }
                (key, _) => {
                    self.lacks(format!("{id}: do.{key}"), "IOChaos has errors and times that do not vary");
                    continue;
                }
            };
            spec.set("volumePath", Node::text(&root));
            spec.set("path", Node::text(path));
            spec.set("methods", Node::list(methods.clone()));
            if let Some(prob) = fault.said("when.prob").and_then(|prob| prob.parse::<f64>().ok()) {
                spec.set("percent", Node::bare((prob * 100.0).round() as u64));
            }
            specs.push(("IOChaos", spec));
        }
    }

    fn stress(&mut self, id: &str, pressure: &Node, specs: &mut Vec<(&'static str, Node)>) {
        let mut stressors = Node::map::<String>([]);
        pressure.leaves("", &mut |path, node| {
            let text = node.scalar().unwrap_or_default();
            match path {
                "cpu.load" => {
                    let load = moments::share(text).unwrap_or(0.0);
                    stressors.put("cpu.workers", Node::bare(1));
                    stressors.put("cpu.load", Node::bare((load * 100.0).round() as u64));
                }
                "memory.target" if !text.contains("of limit") => {
                    stressors.put("memory.workers", Node::bare(1));
                    stressors.put("memory.size", Node::text(text.trim_end_matches(" of node")));
                }
                path => self.lacks(
                    format!("{id}: pressure.{path}"),
                    "StressChaos has a load of the CPUs and memory in bytes or of the node",
                ),
            }
        });
        if !stressors.entries().is_empty() {
            specs.push(("StressChaos", Node::map([("stressors", stressors)])));
        }
    }
}

fn has_port(peer: &str) -> bool {
    match Peer::parse(peer) {
        Ok(Peer::Address { ip, port }) => ip.is_some() && port.is_some(),
        Ok(Peer::Name { port, .. }) => port.is_some(),
        _ => false,
    }
}

/// The faults and their names.
fn faults(document: &Node) -> impl Iterator<Item = (String, &Node)> {
    let faults = document.get("faults").map(Node::items).unwrap_or_default();
    (1..)
        .zip(faults)
        .map(|(at, fault)| (fault.said("id").map_or_else(|| format!("fault-{at}"), str::to_owned), fault))
}

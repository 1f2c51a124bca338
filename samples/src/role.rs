//! The command line of the shop: which role this process plays.

use crate::http::Backend;
use crate::shop::Incident;
use crate::shop::cart::Cart;
use crate::shop::checkout::Checkout;
use crate::shop::frontend::Frontend;
use crate::shop::loadgen::Loadgen;
use crate::shop::payment::Payment;
use crate::shop::server::{Server, complain};
use crate::shop::supervisor::{Config, Supervisor};
use crate::system;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: shop up [--dir DIR] [--base-port N] [--customers N] [--orders-per-second F] [--slow-ms N]
               [--duration SECONDS] [--incident NAME[@SECONDS]]…
       shop frontend --listen ADDR --cart ADDR --checkout ADDR
       shop cart --listen ADDR
       shop checkout --listen ADDR --payment ADDR --log FILE
       shop payment --listen ADDR
       shop loadgen --target ADDR [--customers N] [--orders-per-second F]

`shop up` says on one line of JSON what runs where, then obeys lines on its standard input:
`INCIDENT on`, `INCIDENT off`, `stop`; the end of the input stops it too.
Incidents: payment-refuses, payment-slow, disk-full, fd-leak.";

/// What a process of the shop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// All roles under a supervisor.
    Up,
    /// The page customers see.
    Frontend,
    /// What they want.
    Cart,
    /// Charges and stores orders.
    Checkout,
    /// Says yes.
    Payment,
    /// The customers.
    Loadgen,
}

impl FromStr for Role {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Ok(match s {
            "up" => Self::Up,
            "frontend" => Self::Frontend,
            "cart" => Self::Cart,
            "checkout" => Self::Checkout,
            "payment" => Self::Payment,
            "loadgen" => Self::Loadgen,
            _ => return Err(format!("the shop has no role {s:?}")),
        })
    }
}

/// Plays the role that `args` name. `prefix` is the word, if any, that makes this executable behave as the shop
/// (children are started with it); the `shop` command itself passes its own name and needs none.
pub fn run(prefix: &str, args: impl Iterator<Item = OsString>) -> ExitCode {
    let prefix = if prefix == "shop" { Vec::new() } else { vec![prefix.into()] };
    match play(prefix, &args.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem::Usage(what)) => {
            complain("shop", &what, &format_args!("\n{USAGE}"));
            ExitCode::from(2)
        }
        Err(Problem::Io(error)) => {
            complain("shop", "failed", &error);
            ExitCode::FAILURE
        }
    }
}

enum Problem {
    Usage(String),
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// `--name value` pairs; only `--incident` may come more than once.
struct Flags(HashMap<String, Vec<String>>);

impl Flags {
    fn parse(words: &[OsString]) -> Result<Self, Problem> {
        let mut flags: HashMap<String, Vec<String>> = HashMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word.to_str().and_then(|w| w.strip_prefix("--"));
            let (Some(name), Some(value)) = (name, words.next()) else {
                return Err(Problem::Usage(format!("{} wants to be --NAME VALUE", word.display())));
            };
            flags.entry(name.to_owned()).or_default().push(value.to_string_lossy().into_owned());
        }
        Ok(Self(flags))
    }

    fn take<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let Some(values) = self.0.remove(name) else { return Ok(None) };
        match values.as_slice() {
            [value] => {
                value.parse().map(Some).map_err(|_| Problem::Usage(format!("--{name} cannot be {value:?}")))
            }
            _ => Err(Problem::Usage(format!("--{name} is given more than once"))),
        }
    }

    fn need<T: FromStr>(&mut self, name: &str) -> Result<T, Problem> {
        self.take(name)?.ok_or_else(|| Problem::Usage(format!("--{name} is missing")))
    }

    fn end(self) -> Result<(), Problem> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Problem::Usage(format!("--{name} means nothing here"))),
        }
    }
}

fn play(prefix: Vec<OsString>, args: &[OsString]) -> Result<(), Problem> {
    let Some(first) = args.first() else { return Err(Problem::Usage("which role?".to_owned())) };
    let role = first.to_string_lossy().parse().map_err(Problem::Usage)?;
    let flags = Flags::parse(&args[1..])?;
    system::set_name(&first.to_string_lossy());
    if role != Role::Up {
        system::die_with_parent();
    }
    match role {
        Role::Up => up(prefix, flags),
        Role::Frontend => frontend(flags),
        Role::Cart => cart(flags),
        Role::Checkout => checkout(flags),
        Role::Payment => payment(flags),
        Role::Loadgen => loadgen(flags),
    }
}

/// One line to whoever started the role.
fn tell(line: &dyn std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Obeys lines on the standard input until it ends.
fn obey(name: &str, mut switch: impl FnMut(&str, &str) -> io::Result<bool>) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (word, value) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        if word == "stop" {
            return Ok(());
        }
        match switch(word, value) {
            Ok(true) => {}
            Ok(false) => complain(name, "unknown order", &line),
            Err(error) => complain(name, &line, &error),
        }
    }
    Ok(())
}

/// How long requests that are being answered may take when a role stops.
const FINISH: Duration = Duration::from_secs(2);

fn serve(
    server: &Server,
    name: &str,
    switch: impl FnMut(&str, &str) -> io::Result<bool>,
) -> Result<(), Problem> {
    tell(&format_args!("listening {}", server.addr()))?;
    obey(name, switch)?;
    server.finish(FINISH);
    Ok(())
}

fn frontend(mut flags: Flags) -> Result<(), Problem> {
    let listen: SocketAddr = flags.need("listen")?;
    let backend = |addr| Backend::new(addr, Duration::from_secs(4), 2, Duration::from_millis(20));
    let frontend =
        Frontend { cart: backend(flags.need("cart")?), checkout: backend(flags.need("checkout")?) };
    flags.end()?;
    let server = Server::start("frontend", listen, move |request| frontend.answer(request))?;
    serve(&server, "frontend", |_, _| Ok(false))
}

fn cart(mut flags: Flags) -> Result<(), Problem> {
    let listen: SocketAddr = flags.need("listen")?;
    flags.end()?;
    let cart = Cart::default();
    let server = Server::start("cart", listen, move |request| cart.answer(request))?;
    serve(&server, "cart", |_, _| Ok(false))
}

fn checkout(mut flags: Flags) -> Result<(), Problem> {
    let listen: SocketAddr = flags.need("listen")?;
    let payment = Backend::new(flags.need("payment")?, Duration::from_secs(2), 3, Duration::from_millis(10));
    let log: PathBuf = flags.need("log")?;
    flags.end()?;
    let checkout = Arc::new(Checkout::new(payment, &log)?);
    let handler = Arc::clone(&checkout);
    let server = Server::start("checkout", listen, move |request| handler.answer(request))?;
    serve(&server, "checkout", |word, value| {
        match word {
            "leak" => checkout.leak(value == "on")?,
            "limit-log" => checkout.limit_log(value == "on")?,
            _ => return Ok(false),
        }
        Ok(true)
    })
}

fn payment(mut flags: Flags) -> Result<(), Problem> {
    let listen: SocketAddr = flags.need("listen")?;
    flags.end()?;
    let payment = Arc::new(Payment::default());
    let handler = Arc::clone(&payment);
    let server = Server::start("payment", listen, move |request| handler.answer(request))?;
    serve(&server, "payment", |word, value| {
        match word {
            "refuse" if value == "on" => server.close(),
            "refuse" => server.open()?,
            "delay" => match value.parse() {
                Ok(ms) => payment.delay_ms.store(ms, Ordering::Relaxed),
                Err(_) => return Ok(false),
            },
            _ => return Ok(false),
        }
        Ok(true)
    })
}

fn loadgen(mut flags: Flags) -> Result<(), Problem> {
    let target: SocketAddr = flags.need("target")?;
    let customers = flags.take("customers")?.unwrap_or(4);
    let rate = flags.take("orders-per-second")?.unwrap_or(20.0);
    flags.end()?;
    check_load(customers, rate)?;
    let load = Loadgen::start(target, customers, rate)?;
    tell(&"running")?;
    obey("loadgen", |_, _| Ok(false))?;
    let (requests, failed) = load.finish();
    tell(&format_args!("{requests} requests, {failed} failed"))?;
    Ok(())
}

fn check_load(customers: u32, rate: f64) -> Result<(), Problem> {
    if customers == 0 || !rate.is_finite() || rate <= 0.0 {
        return Err(Problem::Usage("--customers and --orders-per-second must be more than 0".to_owned()));
    }
    Ok(())
}

/// `NAME` or `NAME@SECONDS`.
fn scheduled(text: &str) -> Result<(Duration, Incident), Problem> {
    let (name, at) = text.split_once('@').unwrap_or((text, "0"));
    let at = at.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    let at =
        at.ok_or_else(|| Problem::Usage(format!("--incident {text}: the time is no number of seconds")))?;
    Ok((at, name.parse().map_err(Problem::Usage)?))
}

fn up(prefix: Vec<OsString>, mut flags: Flags) -> Result<(), Problem> {
    let mut schedule: Vec<_> = flags
        .0
        .remove("incident")
        .unwrap_or_default()
        .iter()
        .map(|i| scheduled(i))
        .collect::<Result<_, _>>()?;
    schedule.sort_by_key(|(at, _)| *at);
    let dir = match flags.take("dir")? {
        Some(dir) => dir,
        None => std::env::temp_dir().join(format!("shop-{}", std::process::id())),
    };
    let config = Config {
        prefix,
        dir,
        base_port: flags.take("base-port")?.unwrap_or(0),
        customers: flags.take("customers")?.unwrap_or(4),
        orders_per_s: flags.take("orders-per-second")?.unwrap_or(20.0),
        slow_ms: flags.take("slow-ms")?.unwrap_or(300),
    };
    let duration = flags.take::<f64>("duration")?.and_then(|s| Duration::try_from_secs_f64(s).ok());
    flags.end()?;
    check_load(config.customers, config.orders_per_s)?;

    let mut shop = Supervisor::start(config)?;
    let began = Instant::now();
    tell(&shop.describe())?;
    let (orders, inbox) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if orders.send(line).is_err() {
                return;
            }
        }
    });
    let mut schedule = schedule.into_iter().peekable();
    loop {
        let due = schedule.peek().map(|(at, _)| *at).into_iter().chain(duration).min();
        let wait = due.map_or(Duration::from_secs(3600), |at| at.saturating_sub(began.elapsed()));
        let line = match inbox.recv_timeout(wait) {
            Ok(line) => line,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                if let Some((at, incident)) = schedule.next_if(|(at, _)| *at <= began.elapsed()) {
                    shop.switch(incident, true)?;
                    tell(&serde_json::json!({"incident": incident.to_string(), "at_s": at.as_secs_f64()}))?;
                } else if duration.is_some_and(|d| d <= began.elapsed()) {
                    break;
                }
                continue;
            }
        };
        let (word, state) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        if word == "stop" {
            break;
        }
        let done = match (word.parse(), state) {
            (Ok(incident), "on" | "off") => shop.switch(incident, state == "on").map_err(|e| e.to_string()),
            (Ok(_), _) => Err("an incident is switched `on` or `off`".to_owned()),
            (Err(what), _) => Err(what),
        };
        match done {
            Ok(()) => tell(&serde_json::json!({"incident": word, "state": state}))?,
            Err(error) => tell(&serde_json::json!({"error": error}))?,
        }
    }
    let reports: serde_json::Map<_, _> =
        shop.stop()?.into_iter().filter(|(_, r)| !r.is_empty()).map(|(n, r)| (n, r.into())).collect();
    tell(&serde_json::json!({"stopped": true, "reports": reports}))?;
    Ok(())
}

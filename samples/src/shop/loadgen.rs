//! Load generator: customers who browse, fill a cart and buy, each at a steady pace.

use crate::http::Backend;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Totals {
    stop: AtomicBool,
    requests: AtomicU64,
    failed: AtomicU64,
}

/// Running customers.
pub(crate) struct Loadgen {
    totals: Arc<Totals>,
    customers: Vec<JoinHandle<()>>,
}

impl Loadgen {
    /// Starts `customers` customers who together place `orders_per_s` orders a second.
    pub(crate) fn start(frontend: SocketAddr, customers: u32, orders_per_s: f64) -> io::Result<Self> {
        let totals = Arc::new(Totals::default());
        let interval = Duration::from_secs_f64(f64::from(customers) / orders_per_s);
        let customers = (0..customers)
            .map(|n| {
                let totals = Arc::clone(&totals);
                let first = interval.mul_f64(f64::from(n) / f64::from(customers));
                thread::Builder::new()
                    .name(format!("customer-{n}"))
                    .spawn(move || customer(&totals, frontend, n, first, interval))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { totals, customers })
    }

    /// Sends the customers home; how many requests they made, and how many of these failed.
    pub(crate) fn finish(self) -> (u64, u64) {
        self.totals.stop.store(true, Ordering::Relaxed);
        for customer in self.customers {
            // A customer that panicked has said so already.
            let _ = customer.join();
        }
        (self.totals.requests.load(Ordering::Relaxed), self.totals.failed.load(Ordering::Relaxed))
    }
}

fn customer(totals: &Totals, frontend: SocketAddr, n: u32, first: Duration, interval: Duration) {
    let shop = Backend::new(frontend, Duration::from_secs(5), 2, Duration::from_millis(50));
    let mut next = Instant::now() + first;
    let mut visit = 0_u32;
    while !totals.stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now < next {
            thread::sleep((next - now).min(Duration::from_millis(50)));
            continue;
        }
        visit += 1;
        let user = format!("customer-{n}");
        let item = format!("item-{}", (n * 7 + visit * 3) % 6);
        let steps = [
            ("GET", "/".to_owned(), String::new()),
            ("POST", format!("/cart/{user}"), item),
            ("POST", format!("/checkout/{user}"), String::new()),
        ];
        for (method, path, body) in steps {
            totals.requests.fetch_add(1, Ordering::Relaxed);
            if !shop.call(method, &path, body.as_bytes()).is_ok_and(|r| r.is_success()) {
                totals.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Absolute deadlines: a slow answer does not lower the rate, but a backlog is not made up for either.
        next = (next + interval).max(Instant::now());
    }
}

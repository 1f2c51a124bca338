//! Payment: says yes to every charge, after some work; late, or not at all, when told so.

use crate::http::{Request, Response};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Payment {
    /// Extra time before an answer, ms.
    pub(crate) delay_ms: AtomicU64,
    charges: AtomicU64,
}

impl Payment {
    pub(crate) fn answer(&self, request: &Request) -> Response {
        if request.path != "/charge" {
            return Response::text(404, "no such page");
        }
        let delay = self.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            std::thread::sleep(Duration::from_millis(delay));
        }
        // Stands for the signature a payment provider computes: some 100 µs of CPU.
        let mut token = 0_u64;
        for round in 0..20_000_u64 {
            let mut hasher = DefaultHasher::new();
            (token, round, &request.body).hash(&mut hasher);
            token = hasher.finish();
        }
        let charge = self.charges.fetch_add(1, Ordering::Relaxed) + 1;
        Response::text(200, format!("charge {charge} approved {token:016x}"))
    }
}

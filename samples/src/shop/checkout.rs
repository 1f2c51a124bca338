//! Checkout: charges an order and writes it to the order log, durably, before it says so.

use super::server::complain;
use crate::http::{Backend, Request, Response};
use crate::system;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub(crate) struct Checkout {
    payment: Backend,
    path: PathBuf,
    log: Mutex<File>,
    orders: AtomicU64,
    leaking: AtomicBool,
}

/// Descriptors a leaking checkout may have: few enough that the leak shows soon.
const LEAK_LIMIT: u64 = 48;

impl Checkout {
    pub(crate) fn new(payment: Backend, path: &Path) -> io::Result<Self> {
        system::ignore_sigxfsz();
        let log = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            payment,
            path: path.to_owned(),
            log: Mutex::new(log),
            orders: AtomicU64::new(0),
            leaking: AtomicBool::new(false),
        })
    }

    pub(crate) fn answer(&self, request: &Request) -> Response {
        if request.method != "POST" || request.path != "/orders" {
            return Response::text(404, "no such page");
        }
        let order = self.orders.fetch_add(1, Ordering::Relaxed) + 1;
        if self.leaking.load(Ordering::Relaxed) {
            match File::open(&self.path) {
                Ok(file) => drop(file.into_raw_fd()),
                Err(error) => complain("checkout", "reading the order log", &error),
            }
        }
        let charge = match self.payment.call("POST", "/charge", &request.body) {
            Ok(answer) if answer.is_success() => String::from_utf8_lossy(&answer.body).into_owned(),
            Ok(answer) => return Response::text(502, format!("payment answered {}", answer.status)),
            Err(error) => {
                complain("checkout", &format!("order {order}: payment at {}", self.payment.addr()), &error);
                return Response::text(503, format!("payment is not available: {error}"));
            }
        };
        let line = format!("{order}\t{charge}\t{}\n", String::from_utf8_lossy(&request.body));
        match self.append(line.as_bytes()) {
            Ok(()) => Response::text(200, format!("order {order} accepted")),
            Err(error) => {
                complain("checkout", &format!("order {order}: {}", self.path.display()), &error);
                Response::text(507, format!("the order could not be stored: {error}"))
            }
        }
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.write_all(line)?;
        log.sync_all()
    }

    pub(crate) fn leak(&self, on: bool) -> io::Result<()> {
        if on {
            system::lower_limit(libc::RLIMIT_NOFILE, LEAK_LIMIT)?;
        }
        self.leaking.store(on, Ordering::Relaxed);
        Ok(())
    }

    /// Forbids, or allows, the order log to grow.
    pub(crate) fn limit_log(&self, on: bool) -> io::Result<()> {
        let size = if on { std::fs::metadata(&self.path)?.len() } else { u64::MAX };
        system::lower_limit(libc::RLIMIT_FSIZE, size)
    }
}

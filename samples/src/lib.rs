//! The shop: a small boutique whose parts are separate programs that speak HTTP/1.1 over TCP on loopback.
//!
//! ```text
//! loadgen → frontend → cart
//!                    → checkout → payment
//!                        └ orders.log (fsync per order)
//! ```
//!
//! The incidents are real ones: payment closes its listener, payment answers late, the disk of the order log is
//! full, checkout leaks descriptors until the kernel says `EMFILE`. Nothing here knows about tracing; this crate is
//! what `ctrace demo` and the end-to-end tests record.

pub mod http;
mod role;
pub mod shop;
mod system;

pub use role::{Role, run};

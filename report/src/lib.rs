//! How a trace, and what it means, reads: [`text`] (events, findings, figures as lines), [`verdict`] (a comparison as
//! lines, `JUnit`, Markdown), JSON ([`Document`]), and a timeline for Perfetto ([`perfetto`]).
//!
//! Pure: values in, words out. Nothing here prints, asks the clock or the system; where a line is for a person, the caller
//! says whether it has colours ([`Paint`]), and in which zone times are ([`text::when::Zone`]). It builds on any system: a
//! trace of Linux is read anywhere.
//!
//! Names that programs read (JSON, filters) are those of `ctrace-format` and `ctrace-analysis` (`Class::name()`,
//! `Kind::name()`, …): one place for all.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod escape;
pub mod html;
pub mod incident;
mod json;
mod markdown;
mod paint;
pub mod perfetto;
pub mod tar;
pub mod text;
pub mod verdict;

pub use json::{Document, Shape};
pub use paint::{Paint, Style, shown};

//! Names in expressions: of calls, errors, signals, peers, paths and resources.

use super::super::about::About;
use super::super::measure::Calls;
use super::words::SIGNALS;
use super::{Parsed, Parser};
use crate::near::similar;
use ctrace_format::{Abi, Metric, errno, syscalls};

impl Parser<'_> {
    /// A path or an address; in quotes, or up to the parenthesis.
    pub(super) fn about(&mut self) -> Parsed<About> {
        self.space();
        let at = self.at;
        let rest = self.rest();
        let quoted = rest.strip_prefix('"').and_then(|quoted| quoted.split_once('"'));
        let text = if let Some((text, _)) = quoted {
            self.at += text.len() + 2;
            text
        } else {
            let len = rest.find(')').unwrap_or(rest.len());
            self.at += len;
            rest[..len].trim_end()
        };
        About::parse(text).map_err(|what| self.error(at, what))
    }

    pub(super) fn calls(&mut self) -> Parsed<Calls> {
        if self.eat("*") {
            return Ok(Calls(Vec::new()));
        }
        self.space();
        let at = self.at;
        let name = self.word();
        let abis = [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64, Abi::Arm];
        let calls: Vec<_> = abis.iter().filter_map(|abi| syscalls::number(*abi, name)).collect();
        if calls.is_empty() {
            let names =
                (0..1024).filter_map(|nr| syscalls::name(ctrace_format::Sysno { abi: Abi::X86_64, nr }));
            let what = if name.is_empty() {
                "expected the name of a system call, or * for all".to_owned()
            } else {
                format!("no system call is called {name:?}{}", similar(name, names))
            };
            return Err(self.error(at, what));
        }
        Ok(Calls(calls))
    }

    pub(super) fn errno(&mut self, calls: &Calls) -> Parsed<u32> {
        self.space();
        let at = self.at;
        let name = self.word();
        if matches!(name, "EINPROGRESS" | "EALREADY" | "EISCONN") && calls.has_connect() {
            return Err(self.error(
                at,
                format!(
                    "{name} is not how an attempt to connect ends: name its outcome, such as ECONNREFUSED"
                ),
            ));
        }
        let number = errno::number(name).or_else(|| name.parse().ok().filter(|n| errno::name(*n).is_some()));
        number.ok_or_else(|| {
            let names = (1..600).filter_map(errno::name);
            let what = if name.is_empty() {
                "expected the name of an error, such as ECONNREFUSED".to_owned()
            } else {
                format!("no error is called {name:?}{}", similar(name, names))
            };
            self.error(at, what)
        })
    }

    pub(super) fn signal(&mut self) -> Parsed<u32> {
        self.space();
        let at = self.at;
        let word = self.word();
        let name = word.strip_prefix("SIG").unwrap_or(word);
        let named = SIGNALS.iter().position(|s| *s == name).map(|at| at as u32 + 1);
        named.or_else(|| word.parse().ok().filter(|n| (1..=64).contains(n))).ok_or_else(|| {
            let what = if word.is_empty() {
                "expected the name of a signal, such as SIGSEGV, or its number".to_owned()
            } else {
                let hint = similar(name, SIGNALS.iter().copied());
                format!("no signal is called {word:?}{hint}")
            };
            self.error(at, what)
        })
    }

    pub(super) fn pressure(&mut self) -> Parsed<Metric> {
        self.space();
        let at = self.at;
        let resource = self.word();
        let full = self.eat(",") && {
            let at = self.at;
            match self.word() {
                "full" => true,
                "some" => false,
                _ => return Err(self.error(at, "expected `some` or `full`".into())),
            }
        };
        Ok(match (resource, full) {
            ("cpu", false) => Metric::PsiCpuSomeUs,
            ("memory", false) => Metric::PsiMemorySomeUs,
            ("memory", true) => Metric::PsiMemoryFullUs,
            ("io", false) => Metric::PsiIoSomeUs,
            ("io", true) => Metric::PsiIoFullUs,
            // PSI has `full` for the CPU of a cgroup only: some task of a machine always has a CPU.
            ("cpu", true) => Metric::PsiCpuFullUs,
            _ => return Err(self.error(at, "expected cpu, memory or io".into())),
        })
    }
}

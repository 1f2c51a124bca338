//! The account of a trace: worked out from its events, or as its recorder kept it.

use crate::exit::{Exit, Failure};
use anyhow::Context;
use ctrace_analysis::{Account, account};
use ctrace_format::Trace;
use std::path::Path;

/// Works out what the trace of this file tells.
pub(crate) fn anew(path: &Path, trace: &Trace) -> Result<Account, Failure> {
    account(trace)
        .with_context(|| format!("understanding {}", path.display()))
        .map_err(|e| Failure::new(Exit::BadTrace, e))
}

/// The account that the recorder kept with a trace; `None`: there is none that this version can use.
pub(crate) fn kept(trace: &Trace) -> Option<Account> {
    let kept = trace.account().filter(|kept| kept.version == Account::VERSION)?;
    serde_json::from_str(&kept.json).ok()
}

/// The account that was kept, or a new one.
pub(crate) fn of(path: &Path, trace: &Trace) -> Result<Account, Failure> {
    kept(trace).map_or_else(|| anew(path, trace), Ok)
}

/// An account as a trace keeps it.
pub(crate) fn to_keep(account: &Account) -> Option<ctrace_format::Account> {
    let json = serde_json::to_string(account).ok()?;
    Some(ctrace_format::Account { version: Account::VERSION, json })
}

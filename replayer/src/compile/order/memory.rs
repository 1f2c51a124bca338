//! Memory that threads have in common: used after it was made, taken away after it was used.

use super::super::calls::Sc;
use super::super::emit::{EdgeKind, Needs};
use super::super::model::{Cx, Model};
use super::super::world::{Mark, ProcIx, TaskIx};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Calls that are kept of one process.
const KEPT: usize = 64;
const KIND: EdgeKind = EdgeKind::Mapping;

/// Addresses that a call was about.
#[derive(Debug, Clone, Copy)]
struct Part {
    from: u64,
    to: u64,
    mark: Mark,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    parts: FxHashMap<ProcIx, VecDeque<Part>>,
}

impl Memory {
    pub(super) fn needs(&self, model: &Model<'_>, cx: &Cx<'_>, needs: &mut Needs) {
        let Some((from, to)) = addresses(cx).filter(|_| model.world.has_shared_files(cx.proc)) else {
            return;
        };
        let mut met: Vec<TaskIx> = vec![cx.task];
        for part in self.parts.get(&cx.proc).into_iter().flatten().rev() {
            if part.from < to && from < part.to && !met.contains(&part.mark.task) {
                met.push(part.mark.task);
                needs.recorded(KIND, [&part.mark]);
            }
        }
    }

    pub(super) fn remember(&mut self, model: &Model<'_>, cx: &Cx<'_>, mark: Mark) {
        let Some((from, to)) = addresses(cx).filter(|_| model.world.has_shared_files(cx.proc)) else {
            return;
        };
        let parts = self.parts.entry(cx.proc).or_default();
        if parts.len() >= KEPT {
            parts.pop_front();
        }
        parts.push_back(Part { from, to, mark });
    }
}

/// The addresses that a call gives, changes or takes away.
fn addresses(cx: &Cx<'_>) -> Option<(u64, u64)> {
    let [first, second, ..] = cx.call.args;
    let from = match cx.known.sc {
        Sc::Mmap if cx.call.ret >= 0 || cx.call.ret < -4095 => cx.call.ret as u64,
        Sc::Munmap | Sc::Mprotect | Sc::Madvise | Sc::Mremap if cx.call.ret != -22 => first,
        _ => return None,
    };
    Some((from, from.checked_add(second)?))
}

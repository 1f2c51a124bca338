//! Runs in which nothing happened but that threads hung.

use super::both::Both;
use crate::model::Model;

/// The number of threads that were in a call at the end, if they are the same ones in both runs. Which call it was does not
/// count: a replay hangs in another where it lacks the cause.
pub(super) fn alike(models: Both<&Model>) -> Option<usize> {
    let roles = models.map(|model| {
        let mut roles: Vec<String> =
            model.hung.iter().filter_map(|h| Some(model.threads.get(h.thread)?.role.clone())).collect();
        roles.sort_unstable();
        roles
    });
    (!roles.recorded.is_empty() && roles.is_same()).then_some(roles.recorded.len())
}

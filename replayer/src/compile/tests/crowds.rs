//! Clients that come by the thousand.

use super::*;
use std::collections::BTreeSet;

/// So many are there at a time.
const TOGETHER: u16 = 16;
/// Many more than there are lanes for one client each.
const CLIENTS: u16 = 1_000;

/// A server that closes each connection after it has answered; `TOGETHER` clients come, one as soon as another has left.
fn crowd() -> Mem {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let listener = t.add_object(tcp(1, None));
    t.call(a, "socket", [2, 1, 6, 0, 0, 0], 3).object = Some(listener);
    t.call(a, "bind", [3, 0, 16, 0, 0, 0], 0).details.push(Detail::Addr { arg: 1, addr: at(80) });
    t.call(a, "listen", [3, 512, 0, 0, 0, 0], 0).object = Some(listener);
    let mut streams = BTreeMap::new();
    for client in 0..CLIENTS + TOGETHER {
        if client < CLIENTS {
            let (port, cookie) = (1_000 + client, 100 + u64::from(client));
            let kind = ConnectionKind::State { old: TcpState::SynRecv, new: TcpState::Established, error: 0 };
            let (t_ns, cookie, local, peer) = (t.now, SockCookie(cookie), at(80), at(port));
            t.now += 100;
            t.events.push(Event::Connection(Connection { t_ns, cookie, task: None, local, peer, kind }));
            let stream = t.add_object(tcp(cookie.0, Some(port)));
            let fd = 4 + u64::from(client % TOGETHER);
            streams.insert(client, (fd, stream));
        }
        // The one that came before all that are there is served.
        if let Some(served) = client.checked_sub(TOGETHER - 1)
            && let Some((fd, stream)) = streams.remove(&served)
        {
            t.call(a, "accept4", [3, 0, 0, 0, 0, 0], fd as i64).object = Some(stream);
            t.call(a, "read", [fd, 0, 512, 0, 0, 0], 30).object = Some(stream);
            t.call(a, "write", [fd, 0, 100, 0, 0, 0], 100).object = Some(stream);
            t.call(a, "close", [fd, 0, 0, 0, 0, 0], 0).object = Some(stream);
        }
    }
    t
}

#[test]
fn a_crowd_of_clients_is_played_by_few() {
    let plan = crowd().plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let count = program.tasks.len() as u32;
    let peers = count - plan.summary.peer_tasks as u32..count;
    assert!(plan.summary.peer_tasks < 200, "{}", plan.summary.peer_tasks);
    let mut connects: Vec<(u64, u32)> = peers
        .clone()
        .flat_map(|task| steps(&plan, task).into_iter().map(move |step| (task, step)))
        .filter(|(_, step)| step.nr == named("connect"))
        .map(|(task, step)| (step.t_ns, task))
        .collect();
    connects.sort_unstable();
    assert_eq!(connects.len(), usize::from(CLIENTS));
    // The clients of the beginning had somebody for themselves.
    let few: BTreeSet<u32> = connects[300..].iter().map(|(_, task)| *task).collect();
    assert!(few.len() <= 4, "{few:?}");
    // Each goes through the recording in its order, whatever it plays.
    for task in peers {
        let times: Vec<u64> = steps(&plan, task).iter().map(|s| s.t_ns).filter(|t_ns| *t_ns > 0).collect();
        assert!(times.is_sorted(), "{task}: {times:?}");
    }
}

#[test]
fn a_descriptor_is_given_back_before_the_next_client_gets_it() {
    let plan = crowd().plan();
    assert!(plan.summary.cut.is_empty(), "{:?}", plan.summary.cut);
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let count = program.tasks.len() as u32;
    // By descriptor: the connects with it, and what its task had waited for by then.
    let mut uses: BTreeMap<u64, Vec<(u64, Wait, Vec<Wait>)>> = BTreeMap::new();
    for task in count - plan.summary.peer_tasks as u32..count {
        let mut waits = Vec::new();
        for (index, step) in steps(&plan, task).iter().enumerate() {
            waits.extend(program.waits(step).unwrap());
            if step.nr == named("connect") {
                let done = Wait::completed(task, index as u32);
                uses.entry(step.args[0]).or_default().push((step.t_ns, done, waits.clone()));
            }
        }
    }
    for (fd, mut uses) in uses {
        uses.sort_by_key(|(t_ns, ..)| *t_ns);
        for pair in uses.windows(2) {
            let ((_, before, _), (_, after, waits)) = (&pair[0], &pair[1]);
            let waited = waits.iter().any(|wait| wait.task == before.task && wait.seq >= before.seq);
            assert!(before.task == after.task || waited, "{fd}: {before:?} {after:?}");
        }
    }
}

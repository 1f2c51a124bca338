//! Healthy programs, of which nothing is to be said.

use super::*;
use crate::host::free_port;
use std::time::Instant;

/// A healthy program.
struct Healthy {
    name: &'static str,
    needs: Vec<&'static str>,
    script: &'static str,
}

fn all() -> Vec<Healthy> {
    let lines = include_str!("healthy.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.splitn(3, " | ");
            let mut part = || parts.next().unwrap_or_else(|| panic!("three parts: {line}"));
            Healthy { name: part(), needs: part().split(' ').collect(), script: part() }
        })
        .collect()
}

#[test]
fn nothing_is_said_of_healthy_programs() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let (mut judged, mut offenders) = (0, Vec::new());
    for healthy in all() {
        if !has(&healthy.needs) {
            println!("skipped: {}", healthy.name);
            continue;
        }
        let (place, began) = (Place::new(), Instant::now());
        let data = place.data();
        let mut command = ctrace();
        let trace = place.at("x.ctr");
        command.args(["record", "-q", "-o"]).arg(&trace).args(["--", "sh", "-c", healthy.script]);
        command.env("PORT", free_port().to_string()).current_dir(&data);
        let ran = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert!(trace.exists(), "{}: {stderr}", healthy.name);
        assert_eq!(ran.status.code(), Some(0), "{} is not healthy here: {stderr}", healthy.name);
        let info = run([OsStr::new("info"), OsStr::new("--json"), trace.as_os_str()]).expect(0).json();
        judged += 1;
        println!("{}: {} ms", healthy.name, began.elapsed().as_millis());
        for finding in telling(&info) {
            println!("said of {}: {}", healthy.name, finding["sentence"]);
            offenders.push((healthy.name, finding["kind"].clone(), finding["sentence"].clone()));
        }
    }
    println!("{judged} healthy programs");
    assert!(offenders.is_empty(), "{offenders:#?}");
}

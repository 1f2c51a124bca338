//! Real programs that fail, behind a shell as people start them: the program is named, not the shell.

use super::*;
use crate::host::free_port;

#[test]
fn what_real_programs_fail_for_is_said_first() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let (mut judged, mut wrong) = (0, Vec::new());
    for line in include_str!("failing.txt").lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<&str> = line.splitn(6, " | ").collect();
        let [name, kind, role, object, needs, script] = parts.as_slice() else { panic!("six parts: {line}") };
        if !has(&needs.split(' ').collect::<Vec<_>>()) {
            println!("skipped: {name}");
            continue;
        }
        let place = Place::new();
        let trace = place.at("x.ctr");
        let mut command = ctrace();
        command.args(["record", "-q", "-o"]).arg(&trace).args(["--", "sh", "-c", *script]);
        command.env("PORT", free_port().to_string()).current_dir(place.data());
        let ran = command.output().unwrap();
        assert!(trace.exists(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
        let info = run([OsStr::new("info"), OsStr::new("--json"), trace.as_os_str()]).expect(0).json();
        let first = &info["findings"][0];
        judged += 1;
        let is = |field: &str, part: &str| first[field].as_str().is_some_and(|text| text.contains(part));
        if first["kind"] != *kind || first["role"] != *role || !is("object", object) {
            wrong.push(format!("{name}: {first}"));
        }
    }
    println!("{judged} failing programs");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

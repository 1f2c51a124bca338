//! Outputs: nothing is replaced, followed or waited for that was not asked for.

use crate::host::{Guarded, Ran, Recording, can_record, ctrace, run, shared, wait_for};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A small real trace: of `true`, recorded here.
fn trace(dir: &Path) -> Option<PathBuf> {
    if !can_record() {
        return None;
    }
    let path = dir.join("small.ctr");
    run(["record", "-o", path.to_str().unwrap(), "--", "true"]).expect(0);
    Some(path)
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// Fails instead of waiting for ever.
fn within_a_while(words: &[&str]) -> Ran {
    let mut command = std::process::Command::new("timeout");
    command.args(["-s", "KILL", "60"]).arg(ctrace().get_program()).args(words).env("NO_COLOR", "1");
    Ran::from(command.output().unwrap())
}

#[test]
fn reports_follow_no_link_wait_for_no_fifo_and_replace_no_document() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = trace(dir.path()) else { return };
    let trace = trace.to_str().unwrap();
    for (option, suffix, begins) in
        [("--junit", "xml", "<?xml"), ("--markdown", "md", "<!-- ctrace diff -->")]
    {
        let at = |name: &str| dir.path().join(format!("{name}.{suffix}"));
        let diff = |name: &str, more: &[&str]| {
            let file = at(name);
            within_a_while(&[&["diff", trace, trace, option, file.to_str().unwrap()], more].concat())
        };
        std::fs::write(at("document"), "years of work").unwrap();
        symlink(at("document"), at("link")).unwrap();
        assert!(diff("link", &[]).expect(74).stderr.contains("symbolic link"));
        symlink(at("nothing"), at("dangling")).unwrap();
        diff("dangling", &["--force"]).expect(74);
        fifo(&at("fifo"));
        assert!(diff("fifo", &[]).expect(74).stderr.contains("regular file"));
        let said = diff("document", &[]).expect(0).stderr;
        assert!(said.contains(&format!("document.{suffix} exists")) && said.contains("document-2"), "{said}");
        assert_eq!(std::fs::read(at("document")).unwrap(), b"years of work");
        assert!(!at("nothing").exists());
        // Its own earlier report is replaced: a script finds the newest where it looks.
        let report = at("document-2");
        assert!(std::fs::read_to_string(&report).unwrap().starts_with(begins));
        std::fs::write(&report, format!("{}older", std::fs::read_to_string(&report).unwrap())).unwrap();
        let said = diff("document-2", &[]).expect(0).stderr;
        assert!(said.starts_with("next: ") && said.lines().count() == 1, "{said}");
        assert!(!std::fs::read_to_string(&report).unwrap().contains("older"));
        assert_eq!(std::fs::metadata(&report).unwrap().permissions().mode() & 0o777, 0o600);
        diff("document", &["--force"]).expect(0);
        assert!(std::fs::read_to_string(at("document")).unwrap().starts_with(begins));
    }
}

#[test]
fn a_recording_replaces_nothing_and_is_kept_from_nothing_by_what_others_plant() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    let Some(first) = trace(dir.path()) else { return };
    let before = std::fs::read(&first).unwrap();
    let record = |name: &str, more: &[&str]| {
        let path = dir.path().join(name);
        let words = [&["record", "--json", "-o", path.to_str().unwrap()], more, &["--", "true"]].concat();
        within_a_while(&words)
    };
    let ran = record("small.ctr", &[]).expect(0);
    assert!(ran.stderr.contains("small.ctr exists; the output is written to"), "{}", ran.stderr);
    assert!(ran.json()["file"].as_str().unwrap().ends_with("/small-2.ctr"), "{}", ran.stdout);
    assert_eq!(std::fs::read(&first).unwrap(), before);
    let ran = record("small.ctr", &["--force"]).expect(0);
    assert!(ran.json()["file"].as_str().unwrap().ends_with("/small.ctr"), "{}", ran.stdout);
    assert_ne!(std::fs::read(&first).unwrap(), before);

    let foreign = |name: &str| {
        std::os::unix::fs::lchown(dir.path().join(name), Some(65534), Some(65534)).unwrap();
    };
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("x.ctr.partial"), "").unwrap();
    foreign("x.ctr.partial");
    let held = std::fs::File::open(at("x.ctr.partial")).unwrap();
    held.lock().unwrap();
    fifo(&at("x-2.ctr"));
    foreign("x-2.ctr");
    symlink("/etc/passwd", at("x-3.ctr.partial")).unwrap();
    foreign("x-3.ctr.partial");
    std::fs::create_dir(at("x-4.ctr")).unwrap();
    foreign("x-4.ctr");
    let ran = record("x.ctr", &["--force"]).expect(0);
    assert!(ran.stderr.contains("belongs to user nobody"), "{}", ran.stderr);
    assert!(ran.json()["file"].as_str().unwrap().ends_with("/x-5.ctr"), "{}", ran.stdout);
    run(["verify".as_ref(), at("x-5.ctr").as_os_str()]).expect(0);
    // What is dumped is an output as well.
    let path = at("x.ctr");
    let words = ["record", "--json", "--ring", "60s", "-o", path.to_str().unwrap(), "--", "true"];
    let file = within_a_while(&words).expect(0).json()["dumps"][0]["file"].as_str().unwrap().to_owned();
    assert!(file.ends_with("/x-6.ctr"), "{file}");
}

#[test]
fn a_replay_replaces_only_an_earlier_one_of_the_same_trace() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = trace(dir.path()) else { return };
    let replay = |trace: &Path| {
        let ran = within_a_while(&["replay", "--json", trace.to_str().unwrap()]);
        assert!(matches!(ran.code, Some(0 | 1 | 3)), "{:?} {}", ran.code, ran.stderr);
        PathBuf::from(ran.json()["replay_trace"].as_str().unwrap())
    };
    let at = |name: &str| dir.path().join(name);
    assert_eq!(replay(&trace), at("small.replay.ctr"));
    assert_eq!(replay(&trace), at("small.replay.ctr"), "again");
    // Another trace of the same name.
    let words = ["record", "--force", "-o", trace.to_str().unwrap(), "--", "cat", "/etc/hosts"];
    run(words).expect(0);
    assert_eq!(replay(&trace), at("small.replay-2.ctr"));
    std::fs::write(at("small.replay.ctr"), "a document").unwrap();
    std::fs::remove_file(at("small.replay-2.ctr")).unwrap();
    assert_eq!(replay(&trace), at("small.replay-2.ctr"));
    assert_eq!(std::fs::read(at("small.replay.ctr")).unwrap(), b"a document");
}

#[test]
fn nothing_replaces_what_it_is_made_of() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(first) = trace(dir.path()) else { return };
    let at = |name: &str| dir.path().join(name).into_os_string().into_string().unwrap();
    std::fs::copy(&first, at("second.ctr")).unwrap();
    std::fs::hard_link(&first, at("same.ctr")).unwrap();
    symlink(&first, at("link.ctr")).unwrap();
    let before = std::fs::read(&first).unwrap();
    let names = || std::fs::read_dir(dir.path()).unwrap().count();
    let count = names();
    let [small, second, same, link] = ["small.ctr", "second.ctr", "same.ctr", "link.ctr"].map(at);
    for force in [&[][..], &["--force"]] {
        for words in [
            ["replay", &small, "-o", &small].to_vec(),
            ["replay", &link, "-o", &small].to_vec(),
            ["replay", &small, "-o", &same].to_vec(),
            ["diff", &small, &second, "--junit", &small].to_vec(),
            ["diff", &small, &second, "--markdown", &second].to_vec(),
            ["diff", &second, &second, &link, "--junit", &at("x.xml"), "--markdown", &same].to_vec(),
        ] {
            let ran = within_a_while(&[&words, force].concat()).expect(2);
            assert!(ran.stderr.contains("cannot be replaced by its own copy"), "{words:?}: {}", ran.stderr);
        }
    }
    for command in ["redact", "repair"] {
        let ran = within_a_while(&[command, &small, "-o", &same, "--force"]).expect(2);
        assert!(ran.stderr.contains("cannot be replaced by its own copy"), "{command}: {}", ran.stderr);
    }
    assert_eq!((std::fs::read(&small).unwrap(), names()), (before, count));
}

#[test]
fn a_dump_takes_the_next_name_when_anything_has_its_own() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    symlink(at("nothing"), at("x-2.ctr")).unwrap();
    // Better known now than at the first incident.
    for (output, why) in [(at("x-2.ctr"), "symbolic link"), ("/dev/null".into(), "regular file")] {
        let words = ["record", "--ring", "9s", "-o", output.to_str().unwrap(), "--", "true"];
        let ran = within_a_while(&words).expect(74);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
    let target = Guarded::spawn(std::process::Command::new("sleep").arg("60"));
    let recording = Recording::start(&["--ring", "10s", "-p", &target.0.id().to_string()], &at("x.ctr"));
    for name in ["x.ctr", "x-3.ctr"] {
        recording.process.signal(nix::sys::signal::Signal::SIGUSR1);
        wait_for(name, || at(name).exists());
    }
    std::fs::remove_file(at("x.ctr")).unwrap();
    symlink(at("nothing"), at("x.ctr")).unwrap();
    let said = recording.end();
    assert!(said.contains("x-4.ctr"), "{said}");
    for name in ["x-3.ctr", "x-4.ctr"] {
        run(["verify".as_ref(), at(name).as_os_str()]).expect(0);
    }
    assert!(!at("nothing").exists());
}

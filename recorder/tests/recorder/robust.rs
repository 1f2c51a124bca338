//! What is left when things go wrong.

use crate::support::{calls, config, start};
use ctrace_format::{Event, Filter, LossCause, State, Trace};
use ctrace_recorder::{Command, Config, Ended, Target};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::time::{Duration, Instant};

#[test]
fn a_full_disk_ends_the_recording_with_a_finished_trace_that_tells_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let options = "size=96k";
    let mounted = mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some(options));
    if let Err(error) = mounted {
        eprintln!("skipped: cannot mount a small file system: {error}");
        return;
    }
    let out = folder.path().join("t.ctr");
    let command =
        Command::new([calls().into_os_string(), "mix".into(), "2".into(), "2".into(), "60000".into()]);
    let result = start(config(Target::Command(command), &out)).map(|mut recording| {
        let ended = recording.wait(Duration::from_secs(60));
        (ended, recording.command_pid(), recording.stop("interrupted"))
    });
    if let Some((_, pid, result)) = result {
        let outcome = result.unwrap();
        let cut = outcome.file.cut.expect("there is no room for all of it");
        assert!(cut.events > 0 && cut.why.contains("No space left"), "{cut:?}");
        let trace = Trace::open(&out).unwrap();
        assert_eq!((trace.state(), trace.damage().len()), (State::Complete, 0));
        let (mut events, mut lost) = (0, 0);
        for event in trace.events(&Filter::default()) {
            match event.unwrap() {
                Event::Loss(loss) if loss.cause == LossCause::WriteFailed => {
                    // In ticks of 100 ns.
                    assert!(loss.from_ns + 100 >= cut.from_ns && loss.t_ns >= loss.from_ns, "{loss:?}");
                    lost += loss.count;
                }
                _ => events += 1,
            }
        }
        assert_eq!(lost, cut.events);
        assert!(events > 100, "{events}");
        assert!(trace.summary().unwrap().ended.starts_with("disk full"), "{:?}", trace.summary());
        if let Some(pid) = pid {
            // SAFETY: the command of this recording, which may have ended.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
    }
    umount2(folder.path(), MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn a_recording_ends_while_there_is_room_to_keep() {
    let folder = tempfile::tempdir().unwrap();
    let options = "size=12m";
    let mounted = mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some(options));
    if let Err(error) = mounted {
        eprintln!("skipped: cannot mount a small file system: {error}");
        return;
    }
    let out = folder.path().join("t.ctr");
    let command = Command::new([calls().into_os_string(), "block".into()]);
    let result =
        start(Config { keep_free: Some(2 << 20), ..config(Target::Command(command), &out) }).map(|mut r| {
            assert_eq!(r.wait(Duration::from_millis(300)), None);
            std::fs::write(folder.path().join("other"), vec![0; 4 << 20]).unwrap();
            let ended = r.wait(Duration::from_secs(20));
            let pid = r.command_pid();
            (ended, pid, r.stop("disk nearly full"))
        });
    if let Some((ended, pid, result)) = result {
        assert_eq!(ended, Some(Ended::DiskNearlyFull));
        assert_eq!(Trace::open(&result.unwrap().file.path).unwrap().state(), State::Complete);
        if let Some(pid) = pid {
            // SAFETY: the command of this recording, which nobody has waited for.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
    }
    umount2(folder.path(), MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn a_recorder_that_is_killed_leaves_a_readable_part() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.ctr");
    let program = calls().with_file_name("record");
    if !program.exists() {
        eprintln!("skipped: {} is not built", program.display());
        return;
    }
    let mut recorder = std::process::Command::new(program)
        .arg(&out)
        .arg(calls())
        .args(["paced", "400000", "20000"])
        .env("QUIET", "1")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let partial = folder.path().join("t.ctr.partial");
    let began = Instant::now();
    while std::fs::metadata(&partial).map_or(0, |m| m.len()) < 8_000
        && began.elapsed() < Duration::from_secs(20)
    {
        if recorder.try_wait().unwrap().is_some() {
            eprintln!("skipped: recording is not possible here");
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // SAFETY: a child that has not been waited for.
    unsafe { libc::kill(recorder.id() as i32, libc::SIGKILL) };
    recorder.wait().unwrap();
    let trace = Trace::open(&partial).unwrap();
    assert_eq!(trace.state(), State::Torn);
    assert!(trace.events(&Filter::default()).filter_map(Result::ok).count() > 1000);
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&partial).unwrap().permissions()) & 0o777,
        0o600
    );
}

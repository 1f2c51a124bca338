//! Incidents of limits: descriptors, tasks, disks, memory, CPU.

use super::*;

fn can_run(programs: &[&str]) -> bool {
    can_record() && Path::new(PYTHON).exists() && has(programs)
}

/// Runs an incident and its twin behind what prepares the world of each.
#[track_caller]
fn both(name: &str, bad: &[&str], well: &[&str], expected: &Expected<'_>) {
    for (mode, before) in [("bad", bad), ("well", well)] {
        let place = Place::new();
        let data = place.data();
        // `DATA` stands for the directory of the run.
        let before: Vec<String> = before.iter().map(|s| s.replace("DATA", &data)).collect();
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        let info = record(&place, &[], &program(&place, &before, "limits.py", &[name, mode, &data]));
        if mode == "bad" {
            expect_first(&info, expected);
        } else {
            expect_silence(&info);
        }
    }
}

const fn cause<'a>(
    kind: &'a str,
    object: &'a str,
    count: std::ops::RangeInclusive<u64>,
    words: &'a [&'a str],
) -> Expected<'a> {
    Expected { kind, level: "cause", role: "python3", object, count, words }
}

#[test]
fn a_limit_of_descriptors() {
    if !can_run(&["prlimit"]) {
        return;
    }
    let _host = alone();
    let expected = cause("fd-limit", "/data/table-", 80..=120, &["EMFILE", "it had 32 open, its limit"]);
    both("fd-limit", &["prlimit", "--nofile=32"], &["prlimit", "--nofile=256"], &expected);
}

#[test]
fn a_file_that_is_opened_and_not_closed() {
    if !can_run(&[]) {
        return;
    }
    let _host = alone();
    let words = ["opened 70 descriptors by openat of /etc/hostname", "closed none"];
    both("fd-leak", &[], &[], &cause("fd-leak", "/etc/hostname", 70..=70, &words));
}

#[test]
fn a_leak_up_to_the_limit_is_said_before_the_limit() {
    if !can_run(&["prlimit"]) {
        return;
    }
    let _host = alone();
    let place = Place::new();
    let before = ["prlimit", "--nofile=40"];
    let info = record(&place, &[], &program(&place, &before, "limits.py", &["fd-leak", "bad"]));
    let words = ["up to its limit of 40", "EMFILE"];
    expect_first(&info, &cause("fd-leak", "/etc/hostname", 36..=37, &words));
}

#[test]
fn a_user_who_may_have_no_further_process() {
    if !can_run(&["setpriv", "prlimit"]) {
        return;
    }
    let _host = alone();
    let user = format!("--reuid={LONELY}");
    let before = |limit| ["setpriv", &user, "--clear-groups", "prlimit", limit];
    let words = ["EAGAIN 3 times", "no further task was allowed"];
    let expected = cause("pids-limit", "", 3..=3, &words);
    both("tasks", &before("--nproc=6"), &before("--nproc=50"), &expected);
}

#[test]
fn a_group_that_may_have_no_further_task() {
    if !can_run(&[]) {
        return;
    }
    let _host = alone();
    let Some(group) = Group::new("pids") else { return };
    for (mode, limit) in [("bad", "5"), ("well", "50")] {
        group.set("pids.max", limit);
        let place = Place::new();
        let enter = group.enter();
        let before: Vec<&str> = enter.iter().map(String::as_str).collect();
        let info = record(&place, &[], &program(&place, &before, "limits.py", &["tasks", mode]));
        if mode == "bad" {
            expect_first(&info, &cause("pids-limit", "", 3..=5, &["EAGAIN", "no further task was allowed"]));
        } else {
            expect_silence(&info);
        }
    }
}

#[test]
fn a_disk_that_is_full() {
    if !can_run(&["unshare"]) {
        return;
    }
    let _host = alone();
    let mount = |size| format!("mount -t tmpfs -o size={size} small DATA && exec \"$@\"");
    let (small, large) = (mount("64k"), mount("4m"));
    let words = ["write to", "ENOSPC 24 times", "the disk was full", "before that it succeeded 16 times"];
    let expected = cause("disk-full", "/data/orders.log", 24..=24, &words);
    both(
        "disk-full",
        &["unshare", "-m", "sh", "-c", &small, "sh"],
        &["unshare", "-m", "sh", "-c", &large, "sh"],
        &expected,
    );
}

#[test]
fn a_disk_that_is_slow() {
    if !can_run(&[]) {
        return;
    }
    let _host = alone();
    let Some(group) = Group::new("blkio") else { return };
    let place = Place::new();
    let data = place.data();
    let dev = nix::sys::stat::stat(Path::new(&data)).unwrap().st_dev;
    let device = format!("{}:{}", nix::sys::stat::major(dev), nix::sys::stat::minor(dev));
    let limit = group.0.join("blkio.throttle.write_iops_device");
    if let Err(error) = std::fs::write(limit, format!("{device} 8")) {
        return println!("skipped: the device {device} cannot be throttled: {error}");
    }
    let enter = group.enter();
    let before: Vec<&str> = enter.iter().map(String::as_str).collect();
    let info = record(&place, &[], &program(&place, &before, "limits.py", &["slow-disk", "bad", &data]));
    let words = ["write to", "of the recording in it"];
    // Other writers of the disk decide whether one write takes a second, which makes the disk a cause.
    let a_second = info["findings"][0]["sentence"].as_str().is_some_and(|text| text.contains("took up to"));
    let level = if a_second { "cause" } else { "warning" };
    let expected = Expected { level, ..cause("slow-disk", "/data/wal", 3..=30, &words) };
    expect_first(&info, &expected);
    let place = Place::new();
    let data = place.data();
    expect_silence(&record(&place, &[], &program(&place, &[], "limits.py", &["slow-disk", "well", &data])));
}

#[test]
fn an_address_space_that_is_used_up() {
    if !can_run(&["prlimit"]) {
        return;
    }
    let _host = alone();
    let words = ["mmap failed with ENOMEM", "no memory"];
    both("address-space", &["prlimit", "--as=250000000"], &[], &cause("memory-limit", "", 3..=9, &words));
}

#[test]
fn a_group_that_is_at_its_memory_limit_and_one_that_is_killed_for_it() {
    if !can_run(&[]) {
        return;
    }
    let _host = alone();
    let Some(group) = Group::new("memory") else { return };
    for (name, limit, expected) in [
        (
            "memory",
            "72M",
            Expected {
                role: "",
                ..cause("memory-limit", "recorded group", 10..=MANY, &["its memory limit of 72.0 MiB"])
            },
        ),
        (
            "oom",
            "40M",
            cause(
                "oom",
                "recorded group",
                1..=1,
                &["the kernel killed python3", "had reached its limit of 40.0 MiB", "it grew from"],
            ),
        ),
    ] {
        group.set("memory.limit_in_bytes", limit);
        for mode in ["bad", "well"] {
            let place = Place::new();
            let data = place.data();
            let info = record_group(&place, &group, &program(&place, &[], "limits.py", &[name, mode, &data]));
            if mode == "bad" {
                expect_first(&info, &expected);
            } else {
                expect_silence(&info);
            }
        }
    }
}

#[test]
fn a_command_in_a_group_that_is_killed_for_memory() {
    if !can_run(&[]) {
        return;
    }
    let _host = alone();
    let Some(group) = Group::new("memory") else { return };
    group.set("memory.limit_in_bytes", "40M");
    for mode in ["bad", "well"] {
        let place = Place::new();
        let enter = group.enter();
        let before: Vec<&str> = enter.iter().map(String::as_str).collect();
        let info = record(&place, &[], &program(&place, &before, "limits.py", &["oom", mode]));
        if mode == "bad" {
            let words = ["the kernel killed python3", "for lack of memory", "it grew from"];
            expect_first(&info, &cause("oom", "", 1..=1, &words));
        } else {
            expect_silence(&info);
        }
    }
}

#[test]
fn a_quota_of_cpu_time() {
    if !can_run(&[]) {
        return;
    }
    let _host = alone();
    let Some(group) = Group::new("cpu") else { return };
    for (mode, quota) in [("bad", "20000"), ("well", "-1")] {
        group.set("cpu.cfs_quota_us", quota);
        let place = Place::new();
        let info = record_group(&place, &group, &program(&place, &[], "limits.py", &["burn", mode]));
        if mode == "bad" {
            let words = [
                "the CPU quota of the recorded group, 20.0 ms in each 100.0 ms (0.20 CPUs), held its tasks back for",
                "periods",
            ];
            let expected = Expected { role: "", ..cause("throttled", "recorded group", 10..=MANY, &words) };
            expect_first(&info, &expected);
        } else {
            expect_silence(&info);
        }
    }
}

#[test]
fn a_process_in_a_group_with_a_quota_of_cpu_time() {
    if !can_run(&[]) {
        return;
    }
    let _host = alone();
    let Some(group) = Group::new("cpu") else { return };
    // The quota is that of a group above.
    let inner = group.0.join("inner");
    std::fs::create_dir(&inner).unwrap();
    for (mode, quota) in [("bad", "20000"), ("well", "-1")] {
        group.set("cpu.cfs_quota_us", quota);
        let place = Place::new();
        let enter = enter(&inner);
        let argv: Vec<String> =
            enter.into_iter().chain(program(&place, &[], "limits.py", &["burn", "bad"])).collect();
        let process = Guarded::spawn(Command::new(&argv[0]).args(&argv[1..]).stdout(Stdio::null()));
        let trace = place.at("p.ctr");
        let recording = Recording::start(&["-p", &process.0.id().to_string()], &trace);
        std::thread::sleep(std::time::Duration::from_secs(2));
        recording.end();
        drop(process);
        let info = run([OsStr::new("info"), OsStr::new("--json"), trace.as_os_str()]).expect(0).json();
        if mode == "bad" {
            let words =
                ["the CPU quota of the cgroup of what was recorded", "20.0 ms in each 100.0 ms", "python3"];
            let object = "the cgroup of what was recorded";
            expect_first(&info, &Expected { role: "", ..cause("throttled", object, 5..=MANY, &words) });
        } else {
            expect_silence(&info);
        }
    }
    wait_for("the inner group is empty", || std::fs::remove_dir(&inner).is_ok());
}

#[test]
fn others_who_take_all_cpus() {
    if !can_run(&["nice"]) {
        return;
    }
    let _host = alone();
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let burners: Vec<Guarded> = (0..cpus * 2)
        .map(|_| Guarded::spawn(Command::new("nice").args(["-n", "-5", "sh", "-c", "while :; do :; done"])))
        .collect();
    let place = Place::new();
    let info = record(&place, &[], &program(&place, &["nice", "-n", "19"], "limits.py", &["burn", "bad"]));
    drop(burners);
    let words = ["was ready to run and waited for a CPU for", "busy", "of it with others"];
    expect_first(&info, &cause("cpu-starved", "", 1..=1, &words));
    let place = Place::new();
    expect_silence(&record(&place, &[], &program(&place, &[], "limits.py", &["burn", "well"])));
}

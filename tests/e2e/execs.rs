//! Programs that are begun in every way: the path and the arguments are those that `strace` sees, and what could not be
//! read is said to be unknown.

use crate::host::{can_record, has, run, shared};
use std::path::Path;
use std::process::Command;

/// Begins programs by fork, vfork, `system`, `popen` and `posix_spawn`, from strings that the children of a fork have not
/// touched: each lies in pages of its own.
const STARTS: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
/* Farther apart than the kernel maps around a fault. */
#define FAR(name, text) static const char name[1 << 18] = text
FAR(before, "x"); FAR(path, "/bin/true"); FAR(zeroth, "zeroth"); FAR(one, "one"); FAR(two, "two words");
FAR(script, "./script"); FAR(nowhere, "/no/such/program"); FAR(lost, "lost"); FAR(lib, "./run"); FAR(after, "x");
static void plain(void) { execl(path, zeroth, one, two, (char *)0); }
static void empty(void) { execl(path, "", one, "", (char *)0); }
static void interpreted(void) { execl(script, zeroth, one, two, (char *)0); }
static void at(void) { char *const argv[] = {(char *)zeroth, (char *)one, 0}; execveat(open(".", O_PATH), script, argv, environ, 0); }
static void missing(void) { execl(nowhere, lost, one, (char *)0); }
static void child(void (*begin)(void), pid_t (*how)(void)) {
    pid_t pid = how();
    if (!pid) { begin(); _exit(9); }
    waitpid(pid, 0, 0);
}
int main(void) {
    pid_t pid;
    char *const argv[] = {(char *)zeroth, (char *)two, 0};
    child(plain, fork); child(empty, fork); child(interpreted, fork); child(at, fork); child(missing, fork);
    child(plain, (pid_t (*)(void))vfork); child(interpreted, (pid_t (*)(void))vfork);
    system("exit 3");
    pclose(popen("true piped", "r"));
    posix_spawn(&pid, path, 0, 0, argv, environ); waitpid(pid, 0, 0);
    posix_spawn(&pid, script, 0, 0, argv, environ); waitpid(pid, 0, 0);
    return 0;
}
"#;

/// Builds it beside a script.
fn build(folder: &Path) {
    std::fs::write(folder.join("starts.c"), STARTS).unwrap();
    let built =
        Command::new("gcc").args(["-O0", "-w", "-o", "starts", "starts.c"]).current_dir(folder).output();
    let built = built.unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::write(folder.join("script"), "#!/bin/sh -e\nexit 0\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.join("script"), executable).unwrap();
}

/// `execve("path", ["word", …]` of each call that strace tells of, in no order.
fn theirs(log: &str) -> Vec<String> {
    let begun = log.lines().filter_map(|line| {
        let at = line.find("execve")?;
        let end = line.find(", 0x").or_else(|| line.find("], ["))?;
        let call = line[at..end].trim_end_matches(']').to_owned() + "]";
        // Which number a descriptor has depends on what the program inherits.
        Some(match call.strip_prefix("execveat(").and_then(|args| args.split_once(", ")) {
            Some((_, rest)) => format!("execveat({rest}"),
            None => call,
        })
    });
    let mut all: Vec<String> = begun.collect();
    all.sort();
    all
}

#[test]
fn programs_are_begun_as_strace_sees_it() {
    if !can_record() || !has(&["gcc", "strace"]) {
        return;
    }
    let _host = shared();
    let folder = tempfile::tempdir().unwrap();
    build(folder.path());
    let log = folder.path().join("strace.txt");
    let strace = Command::new("strace")
        .args(["-f", "-e", "trace=execve,execveat", "-o"])
        .arg(&log)
        .arg("./starts")
        .current_dir(folder.path())
        .status();
    assert!(strace.unwrap().success());
    let output = folder.path().join("x.ctr");
    let recorded = crate::host::ctrace()
        .args(["record", "-o"])
        .arg(&output)
        .args(["--", "./starts"])
        .current_dir(folder.path())
        .status();
    assert!(recorded.unwrap().success());
    let events = run(["events", "--json", output.to_str().unwrap()]).expect(0).json_lines();
    let calls = events.iter().filter(|e| e["name"].as_str().is_some_and(|n| n.starts_with("execve")));
    let mut ours = Vec::new();
    for call in calls {
        let args = &call["args"];
        let path = args["path"].as_str().unwrap_or_else(|| panic!("no path: {call}"));
        if call["errno"] == "ENOENT" {
            // The kernel never came to the arguments. What it touched for the path may have brought some of them.
            let unknown = call["unknown"].as_array().unwrap_or_else(|| panic!("{call}"));
            assert!(
                unknown.contains(&"argv[1]".into()) && call["flags"] == serde_json::json!(["truncated"]),
                "{call}"
            );
            let told = args["argv"].as_str().unwrap();
            assert!(["[…, …]", "[\"lost\", …]"].contains(&told), "{call}");
            ours.push("execve(\"/no/such/program\", [\"lost\", \"one\"]".to_owned());
            continue;
        }
        assert_eq!((&call["unknown"], &call["cut"], &call["flags"]), Default::default(), "{call}");
        ours.push(format!("{}({path:?}, {}", call["name"].as_str().unwrap(), args["argv"].as_str().unwrap()));
    }
    ours.sort();
    assert_eq!(ours, theirs(&std::fs::read_to_string(&log).unwrap()));
    // The beginnings of programs say the same.
    let begun: Vec<_> = events.iter().filter(|e| e["kind"] == "exec").collect();
    assert_eq!(begun.len(), ours.len() - 1);
    assert!(begun.iter().all(|e| e["path"].is_string()), "{begun:?}");
    let words = |e: &&&serde_json::Value| e["argv"] == serde_json::json!(["zeroth", "one", "two words"]);
    assert_eq!(begun.iter().filter(words).count(), 4, "{begun:?}");
    assert!(begun.iter().any(|e| e["argv"] == serde_json::json!(["", "one", ""])), "{begun:?}");
}

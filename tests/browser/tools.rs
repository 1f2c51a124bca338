//! What the tests get from npm, and where they put what they make.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The script's folder.
pub(crate) fn modules() -> PathBuf {
    root().join("report/src/html/script")
}

/// Where pages, screenshots and prints are left.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// A program by its name.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The packages of `tests/browser/npm`, installed below `target`; otherwise why they are not there.
pub(crate) fn packages() -> Result<&'static Path, String> {
    static PACKAGES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PACKAGES.get_or_init(install).as_deref().map_err(Clone::clone)
}

fn install() -> Result<PathBuf, String> {
    for program in ["node", "npm"] {
        find(program).ok_or(format!("{program} is not installed"))?;
    }
    let from = root().join("tests/browser/npm");
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm");
    std::fs::create_dir_all(&to).unwrap();
    let lock = std::fs::read(from.join("package-lock.json")).unwrap();
    let stamp = to.join("installed.json");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(to);
    }
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let ran = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
        .current_dir(&to)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let is_offline = ["ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "ETIMEDOUT", "ENETUNREACH", "ECONNRESET"];
    if !ran.status.success() && is_offline.iter().any(|code| said.contains(code)) {
        return Err("npm reaches no registry from here".to_owned());
    }
    assert!(ran.status.success(), "npm ci: {said}");
    std::fs::write(stamp, lock).unwrap();
    Ok(to)
}

/// Runs a program and gives whether it liked what it saw, and what it said.
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    let ran = command.stdin(Stdio::null()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    (ran.status.success(), said)
}

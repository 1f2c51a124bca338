//! The private root: a tmpfs with generated files, and nothing of the host but, without root, a few devices that nobody can
//! change.

use super::disk::Disk;
use super::limits::{FILE_BYTES, Limits};
use super::{SandboxError, devices, mounts};
use crate::plan::environment::{Environment, ExecutableSize, FileKind, FileSpec, PreopenedKind};
use ctrace_program::{PROGRAM_PATH, WORKER_LINE, WORKER_PATH};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// Directories over which the tmpfs may be mounted (in our mount namespace only) before it becomes the root.
const MOUNT_POINTS: [&str; 4] = ["/tmp", "/var/tmp", "/mnt", "/"];
/// Where the worker lies for programs to be started before their own exec.
pub(crate) const WORKER_DIRECTORY: &str = "/.ctrace";
/// Problems that are kept as text; all are counted.
const PROBLEMS_KEPT: usize = 50;
/// How many links in a row are followed when a program's path is a link.
const LINKS_MAX: u32 = 16;
/// Pseudo terminals, at most: the host has a few thousand for all.
const TERMINALS_MAX: u32 = 64;
/// File systems of a bounded size, at most.
const VOLUMES_MAX: usize = 16;
/// Root directories besides, at most.
const ROOTS_MAX: usize = 64;

/// Where the workers' program comes from.
#[derive(Debug)]
pub(crate) enum Supply {
    /// A carrier with a mount of the file on the host's disk.
    Mount(OwnedFd),
    /// It is copied into the private root, because of this.
    Copy(String),
}

/// Things of the environment that could not be built. They show as divergences later.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) texts: Vec<String>,
    pub(crate) count: u64,
}

impl Problems {
    pub(crate) fn add(&mut self, text: String) {
        self.count += 1;
        if self.texts.len() < PROBLEMS_KEPT {
            self.texts.push(text);
        }
    }
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// The path inside the root: absolute, without `.`, `..` or NUL. `..` at the top stays there.
fn inside(bytes: &[u8]) -> PathBuf {
    let mut out = PathBuf::from("/");
    let text: Vec<u8> = bytes.iter().copied().take_while(|&b| b != 0).collect();
    for part in path_of(&text).components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// A directory over which something can be mounted.
pub(crate) fn mount_point() -> &'static Path {
    Path::new(MOUNT_POINTS.iter().find(|base| Path::new(base).is_dir()).copied().unwrap_or("/"))
}

/// Mounts the tmpfs and makes it the root of this mount namespace, with the device nodes of `devices` if there are some.
/// The host's files are gone after that.
///
/// # Errors
/// When a mount is refused.
pub(crate) fn enter(
    environment: &Environment,
    limits: &Limits,
    own_bytes: u64,
    own_devices: Option<&OwnedFd>,
) -> Result<(), SandboxError> {
    let none: Option<&str> = None;
    let isolation = |errno: nix::Error| SandboxError::Isolation {
        what: "a private root file system",
        fix: "mounting a tmpfs in a user namespace must be allowed (an AppArmor or SELinux policy may forbid it)",
        source: errno.into(),
    };
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(isolation)?;
    // The workers lie there, too; they are not the workload's.
    let size = limits.disk.limit.saturating_add(own_bytes);
    let options = format!("mode=755,size={size},nr_inodes={}", limits.files.limit.saturating_add(4096));
    let base = mount_point();
    mount(
        Some("ctrace"),
        base,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_str()),
    )
    .map_err(isolation)?;
    // The mount hides what lay at `base`, which the working directory may still name.
    nix::unistd::chdir(base).map_err(isolation)?;
    let fail = |what: &'static str, at: &Path, error: io::Error| {
        SandboxError::build(what, at.display().to_string(), error)
    };
    for directory in ["dev", ".old"] {
        let at = base.join(directory);
        fs::create_dir(&at).map_err(|error| fail("make a directory", &at, error))?;
    }
    devices::place(base, own_devices)?;
    let wants_terminal = environment.preopened.iter().any(|p| p.kind == PreopenedKind::Terminal);
    let wants_pts = environment.files.iter().any(|f| f.path.starts_with(b"/dev/pt"));
    if wants_terminal || wants_pts {
        let at = base.join("dev/pts");
        fs::create_dir(&at).map_err(|error| fail("make a directory", &at, error))?;
        mount(
            Some("devpts"),
            &at,
            Some("devpts"),
            MsFlags::MS_NOSUID,
            Some("newinstance,ptmxmode=0666,mode=0620"),
        )
        .map_err(|errno| fail("mount pseudo terminals", &at, errno.into()))?;
        let link = base.join("dev/ptmx");
        symlink("pts/ptmx", &link).map_err(|error| fail("make a link", &link, error))?;
    }
    if environment.real_proc {
        let at = base.join("proc");
        fs::create_dir(&at).map_err(|error| fail("make a directory", &at, error))?;
        mount(
            Some("proc"),
            &at,
            Some("proc"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            none,
        )
        .map_err(|errno| SandboxError::Isolation {
            what: "a private /proc",
            fix: "the host's own /proc must be fully visible (in a container: run it with an unmasked /proc)",
            source: errno.into(),
        })?;
        hide(&at, &base.join(".old"))?;
    }
    nix::unistd::pivot_root(base, &base.join(".old")).map_err(isolation)?;
    nix::unistd::chdir("/").map_err(isolation)?;
    umount2("/.old", MntFlags::MNT_DETACH).map_err(isolation)?;
    fs::remove_dir("/.old").map_err(|error| fail("remove the old root's place", Path::new("/.old"), error))
}

/// Covers files of `/proc` that tell of the whole host, or act on it, with an empty one that nobody can write.
/// `spare` is an empty directory of the private root.
fn hide(proc: &Path, spare: &Path) -> Result<(), SandboxError> {
    const OF_THE_HOST: [&str; 10] = [
        "keys",
        "key-users",
        "kcore",
        "kmsg",
        "kallsyms",
        "timer_list",
        "sched_debug",
        "latency_stats",
        "sysrq-trigger",
        "vmallocinfo",
    ];
    let none: Option<&str> = None;
    let fail = |at: &Path, error: io::Error| {
        SandboxError::build("hide a file of /proc", at.display().to_string(), error)
    };
    let empty = spare.join("empty");
    File::create(&empty).map_err(|error| fail(&empty, error))?;
    for name in OF_THE_HOST {
        let at = proc.join(name);
        if !at.exists() {
            continue;
        }
        mount(Some(&empty), &at, none, MsFlags::MS_BIND, none).map_err(|errno| fail(&at, errno.into()))?;
        let only_read = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        let flags = only_read | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(none, &at, none, flags, none).map_err(|errno| fail(&at, errno.into()))?;
    }
    fs::remove_file(&empty).map_err(|error| fail(&empty, error))
}

/// Places the program and a worker. Returns why the program had to be copied, if it had to.
///
/// # Errors
/// When that is not possible.
pub(crate) fn supply(supply: Supply, program: &File, worker: &[u8]) -> Result<Option<String>, SandboxError> {
    let fail = |at: &Path, error: io::Error| {
        SandboxError::build("place the program", at.display().to_string(), error)
    };
    let (program_at, worker_at) = (Path::new(PROGRAM_PATH), Path::new(WORKER_PATH));
    for path in [worker_at, program_at] {
        let directory = path.parent().unwrap_or(Path::new("/"));
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail(directory, error)),
            _ => {}
        }
    }
    write_program(worker, worker_at).map_err(|error| fail(worker_at, error))?;
    let why = match supply {
        Supply::Mount(carrier) => {
            let directory = program_at.parent().unwrap_or(Path::new("/"));
            match mounts::attach(&carrier, directory) {
                Ok(()) => return Ok(None),
                Err(error) => error.to_string(),
            }
        }
        Supply::Copy(why) => why,
    };
    copy_image(program, program_at).map_err(|error| fail(program_at, error))?;
    Ok(Some(why))
}

/// Shows the program below another root directory, too: the kernel looks for the interpreter of an image from there.
fn supply_in(root: &Path, made: &mut HashSet<PathBuf>) -> io::Result<()> {
    let from = Path::new(PROGRAM_PATH).parent().unwrap_or(Path::new("/"));
    let to = root.join(from.strip_prefix("/").unwrap_or(from));
    ensure_directory(&to, made, 0)?;
    let none: Option<&str> = None;
    Ok(mount(Some(from), &to, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?)
}

/// Fills the private root.
///
/// # Errors
/// When a worker to start with cannot be placed. Other failures are collected.
pub(crate) fn populate(
    environment: &Environment,
    slow: Option<(&[u8], &Disk)>,
    limits: &Limits,
    worker: &[u8],
    names: &[Vec<u8>],
) -> Result<Problems, SandboxError> {
    let mut problems = Problems::default();
    let mut made = HashSet::new();
    let fail = |at: &Path, error: io::Error| {
        SandboxError::build("place the worker", at.display().to_string(), error)
    };

    fs::create_dir(WORKER_DIRECTORY).map_err(|error| fail(Path::new(WORKER_DIRECTORY), error))?;
    for (index, name) in names.iter().enumerate() {
        let at = Path::new(WORKER_DIRECTORY).join(index.to_string());
        fs::create_dir(&at).map_err(|error| fail(&at, error))?;
        let at = at.join(file_name(name));
        fs::hard_link(WORKER_PATH, &at).map_err(|error| fail(&at, error))?;
    }

    // Links first: other paths may lead through them. Directories get their modes last.
    let (links, others): (Vec<&FileSpec>, Vec<&FileSpec>) =
        environment.files.iter().partition(|file| matches!(file.kind, FileKind::Link { .. }));
    for file in &links {
        let at = inside(&file.path);
        if let Err(error) = make(&at, file, &mut made) {
            problems.add(format!("{}: {error}", at.display()));
        }
    }
    // Together they have no more than one of them could have.
    let mut left = limits.disk.limit;
    for volume in environment.volumes.iter().take(VOLUMES_MAX) {
        let at = inside(&volume.path);
        let bytes = volume.bytes.min(left);
        left -= bytes;
        if let Err(error) = mount_volume(&at, bytes, limits, &mut made) {
            problems.add(format!("file system of {} bytes at {}: {error}", volume.bytes, at.display()));
        }
    }
    if let Some((path, disk)) = slow {
        let at = inside(path);
        let placed = place_for_volume(&at, &mut made).and_then(|at| mounts::attach(&disk.mount, &at));
        if let Err(error) = placed {
            problems.add(format!("a disk at {}: {error}", at.display()));
        }
    }
    for file in &others {
        let at = inside(&file.path);
        if let Err(error) = make(&at, file, &mut made) {
            problems.add(format!("{}: {error}", at.display()));
        }
    }
    for path in &environment.executables {
        let at = inside(path);
        let size = environment.executable_sizes.get(path).copied();
        if let Err(error) = place(worker, size, &at, &mut made, 0) {
            problems.add(format!("program {}: {error}", at.display()));
        }
    }
    for root in environment.roots.iter().take(ROOTS_MAX) {
        let at = inside(root);
        if let Err(error) = supply_in(&at, &mut made) {
            problems.add(format!("root directory {}: {error}", at.display()));
        }
    }
    if !environment.cwd.is_empty() {
        let at = inside(&environment.cwd);
        if let Err(error) = ensure_directory(&at, &mut made, 0) {
            problems.add(format!("working directory {}: {error}", at.display()));
        }
    }
    for file in &others {
        let FileKind::Directory { entries } = file.kind else { continue };
        let at = inside(&file.path);
        if let Err(error) = fill(&at, entries) {
            problems.add(format!("{}: {error}", at.display()));
        }
        if at != Path::new("/")
            && let Err(error) = fs::set_permissions(&at, fs::Permissions::from_mode(file.mode & 0o7777))
        {
            problems.add(format!("{}: {error}", at.display()));
        }
    }
    Ok(problems)
}

/// A directory entry's name for a task's name, so that its `comm` is right from the start.
pub(crate) fn file_name(task_name: &[u8]) -> PathBuf {
    let clean: Vec<u8> = task_name.iter().copied().filter(|&b| b != b'/' && b != 0).take(64).collect();
    match clean.as_slice() {
        b"" | b"." | b".." => PathBuf::from("task"),
        name => PathBuf::from(OsStr::from_bytes(name)),
    }
}

/// Removes the directory the first images were started from: nothing of the engine is left to be seen.
pub(crate) fn remove_worker_directory() -> io::Result<()> {
    fs::remove_dir_all(WORKER_DIRECTORY)
}

fn write_program(program: &[u8], to: &Path) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o755).open(to)?;
    out.write_all(program)?;
    out.set_permissions(fs::Permissions::from_mode(0o755))
}

fn copy_image(image: &File, to: &Path) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o755).open(to)?;
    let mut offset = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = image.read_at(&mut buffer, offset)?;
        if n == 0 {
            return out.set_permissions(fs::Permissions::from_mode(0o755));
        }
        out.write_all(&buffer[..n])?;
        offset += n as u64;
    }
}

fn ensure_directory(at: &Path, made: &mut HashSet<PathBuf>, depth: u32) -> io::Result<()> {
    if at == Path::new("/") || made.contains(at) {
        return Ok(());
    }
    if depth > LINKS_MAX * 8 {
        return Err(io::Error::from_raw_os_error(libc::ELOOP));
    }
    if let Some(parent) = at.parent() {
        ensure_directory(parent, made, depth + 1)?;
    }
    match fs::DirBuilder::new().mode(0o755).create(at) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !at.is_dir() {
                match fs::read_link(at) {
                    Ok(target) => {
                        let target = at.parent().unwrap_or(Path::new("/")).join(target);
                        ensure_directory(&inside(target.as_os_str().as_bytes()), made, depth + 1)?;
                    }
                    Err(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
                }
            }
        }
        Err(error) => return Err(error),
    }
    made.insert(at.to_path_buf());
    Ok(())
}

fn make(at: &Path, file: &FileSpec, made: &mut HashSet<PathBuf>) -> io::Result<()> {
    if at == Path::new("/") {
        return Ok(());
    }
    if let Some(parent) = at.parent() {
        ensure_directory(parent, made, 0)?;
    }
    let mode = file.mode & 0o7777;
    let new_file = || {
        OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).mode(0o600).open(at)
    };
    let made_file = match &file.kind {
        FileKind::Directory { .. } => {
            return ensure_directory(at, made, 0);
        }
        FileKind::Link { target } => {
            let target: Vec<u8> = target.iter().copied().take_while(|&b| b != 0).collect();
            return symlink(path_of(&target), at);
        }
        FileKind::Fifo => {
            nix::unistd::mkfifo(at, nix::sys::stat::Mode::from_bits_truncate(mode))?;
            return Ok(());
        }
        FileKind::Socket => {
            let mode = nix::sys::stat::Mode::from_bits_truncate(mode);
            return nix::sys::stat::mknod(at, nix::sys::stat::SFlag::S_IFSOCK, mode, 0).map_err(Into::into);
        }
        FileKind::Regular { size } => {
            if *size > FILE_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("{size} bytes are more than any file of a replay has ({FILE_BYTES})"),
                ));
            }
            let out = new_file();
            if let Ok(out) = &out {
                out.set_len(*size)?;
            }
            out
        }
        FileKind::Content { bytes } => {
            let out = new_file();
            if let Ok(mut out) = out.as_ref() {
                out.write_all(bytes)?;
            }
            out
        }
        FileKind::Device { rdev } => return make_device(at, *rdev),
    };
    match made_file {
        Ok(out) => out.set_permissions(fs::Permissions::from_mode(mode)),
        // Listed twice, or one of our devices: what is there stays.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn make_device(at: &Path, rdev: u64) -> io::Result<()> {
    let node = devices::node_of(rdev);
    let own = node.map(|name| Path::new("/dev").join(name));
    if own.as_deref() == Some(at) || at.exists() {
        return Ok(());
    }
    File::create(at)?;
    let Some(own) = own else { return Ok(()) };
    let none: Option<&str> = None;
    mount(Some(&own), at, none, MsFlags::MS_BIND, none).map_err(io::Error::from)
}

/// Takes the numbers of pseudo terminals that are not among these, up to the highest of them: the kernel gives the lowest that
/// is free.
pub(crate) fn take_terminals(numbers: &[u32]) -> Vec<File> {
    let Some(&last) = numbers.iter().max().filter(|last| **last < TERMINALS_MAX) else { return Vec::new() };
    let all: Vec<File> =
        (0..=last).map_while(|_| OpenOptions::new().read(true).write(true).open("/dev/ptmx").ok()).collect();
    // The lowest first, in a file system of its own.
    (0..).zip(all).filter(|(number, _)| !numbers.contains(number)).map(|(_, file)| file).collect()
}

/// Makes further names in a directory, so that listing it gives as many bytes as so many names of the usual length do.
fn fill(at: &Path, entries: u32) -> io::Result<()> {
    // Bytes of a `linux_dirent64` (fs/readdir.c): 19, the name and a NUL, in whole words.
    let bytes = |name: &OsStr| (name.len() as u64 + 20).next_multiple_of(8);
    let mut missing = u64::from(entries) * bytes(OsStr::new("entry-000000"));
    if missing == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(at)? {
        let name = entry?.file_name();
        // What is gone before anybody looks does not count.
        if at.join(&name) != Path::new(WORKER_DIRECTORY) {
            missing = missing.saturating_sub(bytes(&name));
        }
    }
    for index in 0..missing / bytes(OsStr::new("entry-000000")) {
        File::create(at.join(format!("entry-{index:06}")))?;
    }
    Ok(())
}

/// The directory behind whatever links lead there: a file system is not put over the root, and not over what the engine needs.
fn place_for_volume(at: &Path, made: &mut HashSet<PathBuf>) -> io::Result<PathBuf> {
    ensure_directory(at, made, 0)?;
    let at = fs::canonicalize(at)?;
    if at == Path::new("/") || ["/dev", "/proc", WORKER_DIRECTORY].iter().any(|own| at.starts_with(own)) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(at)
}

/// Puts a file system of that size over a directory.
fn mount_volume(at: &Path, bytes: u64, limits: &Limits, made: &mut HashSet<PathBuf>) -> io::Result<()> {
    let at = place_for_volume(at, made)?;
    // A size of 0 would be no bound.
    let options =
        format!("mode=1777,size={},nr_inodes={}", bytes.max(4096), limits.files.limit.saturating_add(1));
    mount(Some("ctrace"), &at, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))
        .map_err(io::Error::from)
}

/// Every path has a worker of its own: what is written to one does not reach the others.
/// Its file has `size` bytes, if that is more than the worker has.
fn place(
    worker: &[u8],
    size: Option<ExecutableSize>,
    at: &Path,
    made: &mut HashSet<PathBuf>,
    depth: u32,
) -> io::Result<()> {
    if depth > LINKS_MAX {
        return Err(io::Error::from_raw_os_error(libc::ELOOP));
    }
    if let Some(parent) = at.parent() {
        ensure_directory(parent, made, 0)?;
    }
    if let Ok(target) = fs::read_link(at) {
        let target = at.parent().unwrap_or(Path::new("/")).join(target);
        return place(worker, size, &inside(target.as_os_str().as_bytes()), made, depth + 1);
    }
    match fs::remove_file(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The worker does not fit into a file of this size: the file names the worker as its interpreter. Most such files are
    // scripts, which their interpreters read again.
    let Some(ExecutableSize { bytes, by_descriptor }) = size.filter(|size| size.bytes > 0) else {
        return write_program(worker, at);
    };
    let whole = by_descriptor || bytes >= worker.len() as u64;
    let (program, least) =
        if whole { (worker, worker.len()) } else { (WORKER_LINE.as_bytes(), WORKER_LINE.trim_end().len()) };
    write_program(program, at)?;
    OpenOptions::new().write(true).open(at)?.set_len(bytes.max(least as u64).min(FILE_BYTES))
}

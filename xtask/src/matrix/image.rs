//! The initial file system of a guest: a cpio archive ("newc", Documentation/driver-api/early-userspace/buffer-format.rst).

use super::kernel::Kernel;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What the guest's root and the tests need. What a kernel has built in, or has not at all, is no error here.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtiofs",
    "overlay", // the root
    "unix_diag",
    "inet_diag",
    "tcp_diag",
    "udp_diag", // snapshots of sockets
    "veth",
    "dummy",
    "tcp_bbr",
    "sch_netem",
    "sch_tbf",
    "sch_fq", // networks of tests
    "nf_tables",
    "nft_reject_inet",
    "nft_ct",
    "nft_limit",
    "nft_counter",
    "nft_numgen", // and their rules
    "loop",
    "mq_deadline",
    "dm_mod",
    "ext4", // disks of tests
];

/// The first program of the guest.
const INIT: &str = include_str!("init.sh");
/// What it goes on with.
const ROOT: &str = include_str!("root.sh");

/// An archive under construction.
#[derive(Default)]
pub(super) struct Image {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    inode: u32,
}

impl Image {
    /// What every guest needs to come up.
    pub(super) fn boot(&mut self, kernel: &Kernel) -> Result<()> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().map(Path::new).find(|p| is_static(p));
        let Some(busybox) = busybox else {
            bail!("there is no statically linked busybox; run .ci/setup, which installs busybox-static")
        };
        self.program(busybox, "bin/busybox")?;
        self.program(busybox, "payload/busybox")?;
        self.file("init", 0o755, INIT.as_bytes());
        self.file("payload/root.sh", 0o644, ROOT.as_bytes());
        let mut order = String::new();
        for (name, bytes) in kernel.modules(MODULES)? {
            order.push_str(&name);
            order.push('\n');
            self.file(&format!("modules/{name}.ko"), 0o644, &bytes);
        }
        self.file("modules/order", 0o644, order.as_bytes());
        Ok(())
    }

    /// An executable of this machine.
    pub(super) fn program(&mut self, from: &Path, to: &str) -> Result<()> {
        let bytes = fs::read(from).with_context(|| from.display().to_string())?;
        self.file(to, 0o755, &bytes);
        Ok(())
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        let mut at = 0;
        while let Some(slash) = path[at..].find('/') {
            at += slash + 1;
            let folder = &path[..at - 1];
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, 0o040_755, &[]);
            }
        }
        self.entry(path, 0o100_000 | mode, bytes);
    }

    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        self.inode += 1;
        // ino mode uid gid nlink mtime filesize major minor rmajor rminor namesize check
        let fields = [self.inode, mode, 0, 0, 1, 0, bytes.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The archive in a file that is gone when it is dropped.
    pub(super) fn finish(mut self) -> Result<tempfile::NamedTempFile> {
        self.entry("TRAILER!!!", 0, &[]);
        let file = tempfile::NamedTempFile::new_in(super::folder())?;
        fs::write(file.path(), &self.bytes).with_context(|| file.path().display().to_string())?;
        Ok(file)
    }
}

/// Whether this is an executable without an interpreter (`PT_INTERP`, include/uapi/linux/elf.h).
fn is_static(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let half = |at: usize| bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
    let (Some(table), Some(size), Some(count)) = (word(32), half(54), half(56)) else { return false };
    (0..usize::from(count)).all(|i| word(table as usize + i * usize::from(size)) != Some(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busybox_unpacks_what_was_packed() {
        let busybox = Path::new("/bin/busybox");
        if !busybox.exists() {
            eprintln!("skipped: there is no busybox");
            return;
        }
        fs::create_dir_all(super::super::folder()).unwrap();
        let mut image = Image::default();
        image.file("a/b/c", 0o644, b"hello");
        image.file("a/b/d", 0o755, b"");
        let archive = image.finish().unwrap();
        let out = tempfile::tempdir().unwrap();
        let status = std::process::Command::new(busybox)
            .args(["cpio", "-i", "-d", "-F"])
            .arg(archive.path())
            .current_dir(out.path())
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(fs::read(out.path().join("a/b/c")).unwrap(), b"hello");
        assert!(out.path().join("a/b/d").exists());
    }

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        assert!(!is_static(&std::env::current_exe().unwrap()));
        assert!(!is_static(Path::new("/no/such/file")));
    }
}

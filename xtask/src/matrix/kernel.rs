//! A stock kernel: its package, its image, its modules.

use super::{checked, folder};
use anyhow::{Context as _, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An unpacked kernel package.
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) release: String,
    pub(super) image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// The newest cloud kernel of a version that the package sources offer; unpacked below `target/matrix`.
    pub(crate) fn fetch(version: &str) -> Result<Self> {
        let prefix = format!("linux-image-{version}.");
        let names = checked(Command::new("apt-cache").args(["pkgnames", &prefix]))?;
        let names = String::from_utf8_lossy(&names).into_owned();
        let mut packages: Vec<&str> = names.lines().filter(|n| n.ends_with("-cloud-amd64")).collect();
        packages.sort_by_key(|n| std::cmp::Reverse(numbers(n)));
        // A source lists names of packages that it no longer has: the newest that can be had counts.
        let mut why = format!("the package sources have no {prefix}*-cloud-amd64; run apt-get update");
        for package in packages {
            match Self::unpack(package) {
                Ok(kernel) => return Ok(kernel),
                Err(error) => why = format!("{package}: {error:#}"),
            }
        }
        bail!("no kernel {version}: {why}")
    }

    fn unpack(package: &str) -> Result<Self> {
        let place = folder().join(package);
        let release = package.trim_start_matches("linux-image-").to_owned();
        let kernel = Self {
            image: place.join("boot").join(format!("vmlinuz-{release}")),
            modules: place.join("lib/modules").join(&release),
            release,
        };
        if kernel.image.exists() {
            return Ok(kernel);
        }
        let fresh = tempfile::tempdir_in(parent(&place)?)?;
        checked(
            Command::new("apt-get")
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download", package])
                .current_dir(fresh.path()),
        )?;
        let file = fs::read_dir(fresh.path())?
            .filter_map(|e| e.ok().map(|e| e.path()))
            .find(|p| p.extension().is_some_and(|e| e == "deb"))
            .context("apt-get download left no package")?;
        let unpacked = fresh.path().join("unpacked");
        checked(Command::new("dpkg").arg("-x").arg(&file).arg(&unpacked))?;
        // Whole or not at all.
        fs::rename(&unpacked, &place).with_context(|| place.display().to_string())?;
        Ok(kernel)
    }

    /// The named modules and those that they need, in an order in which they can be loaded, unpacked. A name that is
    /// not there is built in, or this kernel has none: then what needs it says so.
    pub(super) fn modules(&self, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = BTreeMap::new();
        find(&self.modules, &mut files)?;
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            resolve(name, &files, &mut seen, &mut order)?;
        }
        Ok(order)
    }
}

fn resolve(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let name = name.replace('-', "_");
    if !seen.insert(name.clone()) {
        return Ok(());
    }
    let Some(path) = files.get(&name) else { return Ok(()) };
    let bytes = if path.extension().is_some_and(|e| e == "xz") {
        checked(Command::new("xz").arg("-dc").arg(path))?
    } else {
        fs::read(path).with_context(|| path.display().to_string())?
    };
    for dependency in dependencies(&bytes) {
        resolve(&dependency, files, seen, order)?;
    }
    order.push((name, bytes));
    Ok(())
}

/// The `depends=` entry of a module's `.modinfo` section, a list of NUL-terminated strings.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|w| w == KEY) else { return Vec::new() };
    let rest = &module[at + KEY.len()..];
    let end = rest.iter().position(|b| *b == 0).unwrap_or(0);
    String::from_utf8_lossy(&rest[..end]).split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect()
}

fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some(name) = path.file_name().and_then(|n| n.to_str())
            && let Some((name, _)) = name.split_once(".ko")
        {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// The numbers in a name: versions compare by them.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

fn parent(path: &Path) -> Result<&Path> {
    let parent = path.parent().context("no parent folder")?;
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    Ok(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(
            numbers("linux-image-6.12.117+deb12-cloud-amd64")
                > numbers("linux-image-6.12.99+deb12-cloud-amd64")
        );
        assert!(numbers("linux-image-6.1.0-56-cloud-amd64") > numbers("linux-image-6.1.0-9-cloud-amd64"));
    }

    #[test]
    fn modules_name_what_they_need() {
        let module = b"x\0license=GPL\0depends=fuse,virtio_ring\0name=virtiofs\0";
        assert_eq!(dependencies(module), ["fuse", "virtio_ring"]);
        assert_eq!(dependencies(b"\0depends=\0"), Vec::<String>::new());
        assert_eq!(dependencies(b"no such entry"), Vec::<String>::new());
    }
}

//! Parquet tables in a directory that has its name only when all of them are whole.

use super::{Args, Done};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use ctrace_format::{Filter, Trace};
use ctrace_parquet::{Error, TABLES, is_table};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Names that are tried when the one that was asked for is taken.
const COUNTED: u32 = 999;

/// An unfinished directory beside the name that it will have; dropped, it is gone.
pub(super) struct Directory {
    unfinished: TempDir,
    path: PathBuf,
    force: bool,
}

fn failed(action: &str, path: &Path, error: io::Error) -> Failure {
    Failure::new(Exit::Output, anyhow::Error::new(error).context(format!("{action} {}", path.display())))
}

/// The name and those after it: `x`, `x-2`, `x-3`, …
fn names(path: &Path) -> impl Iterator<Item = PathBuf> {
    let path = path.to_owned();
    let numbered = {
        let path = path.clone();
        move |n: u32| {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(format!("-{n}"));
            path.with_file_name(name)
        }
    };
    std::iter::once(path).chain((2..=COUNTED).map(numbered))
}

/// Whether nothing has the name, or an empty directory, which is a place kept free.
fn is_free(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
        Ok(found) if found.is_dir() => Ok(std::fs::read_dir(path)?.next().is_none()),
        Ok(_) => Ok(false),
    }
}

/// Whether it is a directory with nothing but tables of an export in it.
fn is_export(path: &Path) -> io::Result<bool> {
    if !std::fs::symlink_metadata(path)?.is_dir() {
        return Ok(false);
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(is_table) && entry.file_type()?.is_file();
        if !is_ours {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Directory {
    /// Makes the unfinished directory for `path`, or for another name where that is taken.
    pub(super) fn create(path: &Path, force: bool, out: &mut Output) -> Result<Self, Failure> {
        let looked = |error| failed("looking at", path, error);
        if let Ok(found) = std::fs::metadata(path)
            && !found.is_dir()
            && !found.is_file()
        {
            return Err(failed("creating", path, io::ErrorKind::NotADirectory.into())
                .fix("tables are files in a directory, not one stream: name one, -o DIR"));
        }
        let mut name = path.to_owned();
        let may_be_named = is_free(path).map_err(looked)? || force && is_export(path).map_err(looked)?;
        if !may_be_named {
            name = names(path)
                .find(|name| is_free(name).unwrap_or(false))
                .ok_or_else(|| failed("creating", path, io::ErrorKind::AlreadyExists.into()))?;
            let why = if force { " and holds other things than an export" } else { "" };
            out.warn(&format!("{} exists{why}; the output is written to {}", path.display(), name.display()));
        }
        let parent = name.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name.file_name().unwrap_or_default());
        let unfinished = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".partial")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(|error| failed("creating", &name, error))?;
        Ok(Self { unfinished, path: name, force })
    }

    /// Where it is until it has its name.
    pub(super) fn unfinished(&self) -> &Path {
        self.unfinished.path()
    }

    fn open(&self, table: &str) -> io::Result<File> {
        let path = self.unfinished.path().join(format!("{table}.parquet"));
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    /// Gives it its name.
    pub(super) fn finish(self) -> Result<PathBuf, Failure> {
        let Self { unfinished, path, force } = self;
        let renaming = |path: &Path| {
            let path = path.to_owned();
            move |error| failed("renaming the output to", &path, error)
        };
        if force && !is_free(&path).map_err(renaming(&path))? && is_export(&path).map_err(renaming(&path))? {
            // The old one goes when the new one is there.
            let aside = tempfile::Builder::new()
                .prefix(".replaced-")
                .tempdir_in(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
                .map_err(renaming(&path))?;
            std::fs::rename(&path, aside.path()).map_err(renaming(&path))?;
            std::fs::rename(unfinished.path(), &path).map_err(renaming(&path))?;
            let _ = unfinished.keep();
            return Ok(path);
        }
        // A directory takes the place of no other one but an empty one, and of no file.
        for name in names(&path) {
            match std::fs::rename(unfinished.path(), &name) {
                Ok(()) => {
                    let _ = unfinished.keep();
                    return Ok(name);
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::AlreadyExists
                            | io::ErrorKind::DirectoryNotEmpty
                            | io::ErrorKind::NotADirectory
                    ) => {}
                Err(e) => return Err(renaming(&name)(e)),
            }
        }
        Err(renaming(&path)(io::ErrorKind::AlreadyExists.into()))
    }
}

/// Writes all tables.
pub(super) fn write(
    args: &Args,
    trace: &Trace,
    filter: &Filter,
    directory: &Directory,
) -> Result<Done, Failure> {
    let findings = crate::account::of(&args.file()?, trace)?.findings;
    let open = |table: &'static str| directory.open(table);
    let written = ctrace_parquet::write(trace, &findings, filter, open, |file| file.sync_all());
    let written = written.map_err(|error| match error {
        Error::Read(error) => Failure::from(error),
        error => Failure::new(Exit::Output, error),
    })?;
    Ok(Done {
        events: written.events.iter().map(|(class, n)| (class.name(), *n)).collect(),
        counted: written.counted,
        lost: written.lost,
        unreadable: written.unreadable,
        more: vec![("rows", serde_json::json!(written.rows))],
    })
}

/// Every table and column, for a person.
pub(super) fn describe(out: &mut Output) -> io::Result<()> {
    for table in TABLES {
        out.data(&format!("{}.parquet: {}", table.name, table.about))?;
        for column in table.all() {
            let null = if column.required { "" } else { " or NULL" };
            let kind = format!("{}{null}", column.kind.name());
            out.data(&format!("  {:<18} {kind:<18} {}", column.name, column.about))?;
        }
    }
    Ok(())
}

//! The folder and the programs that the driver of the browser asks for.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where a browser may keep what it has.
pub(super) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(std::env::temp_dir)
}

/// A program by its name.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

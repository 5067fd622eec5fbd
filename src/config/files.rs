//! The files of a project: read whole at one moment, and written back, each atomically.

use super::toml_file::TomlFile;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};
use understudy_actors::config::Files;
use understudy_domain::problem::Problem;

/// The main file, and the folders of the others.
pub const MAIN: &str = "understudy.toml";
pub const FOLDERS: [&str; 3] = ["features", "models", "rules"];

/// Every file that the project is made of, in order of name.
pub fn read(dir: &Path) -> Result<Files, Problem> {
    let mut names = vec![PathBuf::from(MAIN)];
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(dir.join(folder)) else { continue };
        let mut found: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        found.retain(|p| p.extension().is_some_and(|e| e == "toml"));
        found.sort();
        names.extend(found.into_iter().filter_map(|p| Some(Path::new(folder).join(p.file_name()?))));
    }
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let text = TomlFile::read(&dir.join(&name))?.text;
        files.push((name.display().to_string(), text));
    }
    Ok(of(files))
}

pub fn of(files: Vec<(String, String)>) -> Files {
    let mut sum = Sha256::new();
    for (name, text) in &files {
        for part in [name, text] {
            sum.update((part.len() as u64).to_le_bytes());
            sum.update(part.as_bytes());
        }
    }
    let hash = sum.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    Files { hash, files }
}

/// Makes the project's files these: writes those that differ, and removes those that are not among them.
pub fn write(dir: &Path, files: &Files) -> std::io::Result<()> {
    let now = read(dir).map(|f| f.files).unwrap_or_default();
    for (name, text) in files.files.iter().filter(|f| !now.contains(f)) {
        replace(&dir.join(name), text.as_bytes())?;
    }
    for (name, _) in now.iter().filter(|(name, _)| !files.files.iter().any(|(n, _)| n == name)) {
        std::fs::remove_file(dir.join(name))?;
    }
    Ok(())
}

/// The file is as before or has all of `bytes`, durably, whatever happens meanwhile.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // No `.toml`: a copy that a crash leaves is no file of the project.
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(folder)?.sync_all()
}

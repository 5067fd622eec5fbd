//! The fault layer as the harness handles it: compiled from `layer.c`, preloaded into the program, steered by a
//! small mapped file, and at a power cut asked what was never synced.

use super::undo;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("layer.c");
/// Size of the control file, and where in it the path filter stands.
const CONTROL: usize = 512;
const FILTER: u64 = 64;

/// What the layer does to the files that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Writes, growth and new files give `ENOSPC` until cleared.
    Full,
    /// The next write gives `EIO`.
    WriteErrorOnce,
    /// The next `fsync` or `fdatasync` gives `EIO`.
    SyncErrorOnce,
    /// `open` hangs until cleared.
    OpenHangs,
    /// `open` gives `EMFILE` until cleared.
    TooManyFiles,
}

impl Fault {
    fn at(self) -> (u64, u8) {
        match self {
            Fault::Full => (0, b'F'),
            Fault::WriteErrorOnce => (1, b'1'),
            Fault::SyncErrorOnce => (2, b'1'),
            Fault::OpenHangs => (3, b'H'),
            Fault::TooManyFiles => (4, b'M'),
        }
    }
}

/// A compiled layer with its control file, for one directory.
pub struct Layer {
    library: PathBuf,
    control: File,
    control_path: PathBuf,
    target: PathBuf,
    undo: PathBuf,
    undo_wanted: bool,
}

impl Layer {
    /// Compiles the layer into `work` (outside `target`) for the files below `target`.
    pub fn build(work: &Path, target: &Path, power: bool) -> Result<Layer, String> {
        let at = |what: &Path| {
            let what = what.display().to_string();
            move |e: std::io::Error| format!("{what}: {e}")
        };
        fs::create_dir_all(work).map_err(at(work))?;
        fs::create_dir_all(target).map_err(at(target))?;
        let target = target.canonicalize().map_err(at(target))?;
        let work = work.canonicalize().map_err(at(work))?;
        let (source, library) = (work.join("layer.c"), work.join("layer.so"));
        if !library.exists() {
            fs::write(&source, SOURCE).map_err(at(&source))?;
            compile(&source, &library)?;
        }
        let control_path = work.join("control");
        fs::write(&control_path, [0u8; CONTROL]).map_err(at(&control_path))?;
        let control = OpenOptions::new().read(true).write(true).open(&control_path).map_err(at(&control_path))?;
        Ok(Layer { library, control, control_path, target, undo: work.join("undo"), undo_wanted: power })
    }

    /// The environment of the program that runs on the layer.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |p: &Path| p.display().to_string();
        let mut all = vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("FAULT_DIR".to_owned(), text(&self.target)),
            ("FAULT_CONTROL".to_owned(), text(&self.control_path)),
        ];
        if self.undo_wanted {
            all.push(("FAULT_UNDO".to_owned(), text(&self.undo)));
        }
        all
    }

    /// Turns a fault on for paths that contain `part` (empty: all below the directory).
    pub fn set(&self, fault: Fault, part: &str) -> Result<(), String> {
        let mut filter = [0u8; CONTROL - FILTER as usize];
        filter[..part.len()].copy_from_slice(part.as_bytes());
        let (at, letter) = fault.at();
        self.put(FILTER, &filter).and_then(|()| self.put(at, &[letter]))
    }

    pub fn clear(&self, fault: Fault) -> Result<(), String> {
        self.put(fault.at().0, &[0])
    }

    /// True while a fault that happens once has not happened yet, and while a lasting one is on.
    pub fn pending(&self, fault: Fault) -> bool {
        let (at, letter) = fault.at();
        let mut byte = [0];
        self.control.read_exact_at(&mut byte, at).is_ok() && byte[0] == letter
    }

    /// Syncs that the program has done.
    pub fn syncs(&self) -> u32 {
        let mut n = [0; 4];
        let _ = self.control.read_exact_at(&mut n, 8);
        u32::from_le_bytes(n)
    }

    /// Cuts the power, after the program was killed: what it wrote and never synced is taken back, all of it
    /// or (`some`) all but a random part, as a disk does. Returns what was taken back.
    pub fn cut_power(&self, some: Option<&mut super::Random>) -> Result<undo::Cut, String> {
        let cut = undo::cut(&self.undo, &self.target, some)?;
        undo::forget(&self.undo)?;
        Ok(cut)
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), String> {
        self.control.write_all_at(bytes, at).map_err(|e| format!("{}: {e}", self.control_path.display()))
    }
}

fn compile(source: &Path, library: &Path) -> Result<(), String> {
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let made = Command::new(&cc)
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([library, source])
        .args(["-ldl", "-lpthread"])
        .env_remove("LD_PRELOAD")
        .output();
    let name = cc.to_string_lossy().into_owned();
    match made {
        Err(e) => Err(format!(
            "the fault layer needs a C compiler and `{name}` does not run ({e}); install gcc or clang, or name one in CC"
        )),
        Ok(out) if !out.status.success() => {
            Err(format!("`{name}` could not compile the fault layer:\n{}", String::from_utf8_lossy(&out.stderr).trim()))
        }
        Ok(_) => Ok(()),
    }
}

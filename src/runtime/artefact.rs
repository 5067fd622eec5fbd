//! A version's directory: `manifest.json`, `model.safetensors`, `profile.json`, `golden.jsonl`.
//! Written whole or not at all; checked file by file before it is used.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::Path;
use understudy_domain::model::{ArtefactFile, Manifest};
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::value::Value;

pub const MANIFEST: &str = "manifest.json";
pub const WEIGHTS: &str = "model.safetensors";
pub const PROFILE: &str = "profile.json";
pub const GOLDEN: &str = "golden.jsonl";

/// Bounds of a weights file's header, checked before anything is allocated for it.
const MAX_HEADER_BYTES: u64 = 1 << 20;
const MAX_TENSORS: usize = 4096;
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A request with its recorded answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    pub vector: Vec<Value>,
    pub score: f64,
}

/// What a version is made of.
#[derive(Clone, Debug)]
pub struct Artefact {
    pub manifest: Manifest,
    pub weights: Vec<u8>,
    pub profile: ReferenceProfile,
    pub golden: Vec<Golden>,
}

/// Model and version names are file names: nothing else may pass.
pub fn valid_name(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() <= 63
        && chars.next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
}

impl Artefact {
    /// Writes to a temporary neighbour, syncs, renames. The manifest's file list is made here.
    pub fn write(mut self, dir: &Path) -> Result<Manifest, String> {
        let failed = |what: &str, e: &dyn std::fmt::Display| format!("cannot write {what}: {e}");
        let parent = dir.parent().ok_or("a version needs a folder")?;
        let temporary = parent.join(format!(".{}.partial", dir.file_name().unwrap_or_default().to_string_lossy()));
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir_all(&temporary).map_err(|e| failed("the model folder", &e))?;
        let golden: Vec<String> =
            self.golden.iter().map(|g| serde_json::to_string(g).unwrap_or_default() + "\n").collect();
        let profile = serde_json::to_vec_pretty(&self.profile).map_err(|e| failed(PROFILE, &e))?;
        let files = [(WEIGHTS, self.weights), (PROFILE, profile), (GOLDEN, golden.concat().into_bytes())];
        self.manifest.files = files
            .iter()
            .map(|(name, bytes)| ArtefactFile {
                name: (*name).into(),
                bytes: bytes.len() as u64,
                sha256: sha256(bytes),
            })
            .collect();
        let manifest = serde_json::to_vec_pretty(&self.manifest).map_err(|e| failed(MANIFEST, &e))?;
        for (name, bytes) in files.iter().map(|(n, b)| (*n, b.as_slice())).chain([(MANIFEST, manifest.as_slice())]) {
            let mut file = fs::File::create(temporary.join(name)).map_err(|e| failed(name, &e))?;
            file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| failed(name, &e))?;
        }
        fs::rename(&temporary, dir).map_err(|e| failed("the version", &e))?;
        fs::File::open(parent).and_then(|d| d.sync_all()).map_err(|e| failed("the model folder", &e))?;
        Ok(self.manifest)
    }

    /// Reads and checks every file; says which one is wrong and how.
    pub fn read(dir: &Path) -> Result<Artefact, String> {
        let at = |name: &str| dir.join(name);
        let text = fs::read(at(MANIFEST)).map_err(|e| format!("{}: {e}", at(MANIFEST).display()))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", at(MANIFEST).display()))?;
        if manifest.manifest_version != 1 {
            return Err(format!(
                "{}: manifest_version {} is newer than this program",
                at(MANIFEST).display(),
                manifest.manifest_version
            ));
        }
        for needed in [WEIGHTS, PROFILE, GOLDEN] {
            if !manifest.files.iter().any(|f| f.name == needed) {
                return Err(format!("{}: `files` does not list {needed}", at(MANIFEST).display()));
            }
        }
        let checked = |name: &str| -> Result<Vec<u8>, String> {
            let listed =
                manifest.files.iter().find(|f| f.name == name).ok_or_else(|| format!("{name} is not listed"))?;
            let path = at(name);
            let size = fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?.len();
            if size != listed.bytes || size > MAX_FILE_BYTES {
                return Err(format!("{}: {size} bytes, the manifest says {}", path.display(), listed.bytes));
            }
            let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let found = sha256(&bytes);
            if found != listed.sha256 {
                return Err(format!("{}: sha256 is {found}, the manifest says {}", path.display(), listed.sha256));
            }
            Ok(bytes)
        };
        let weights = checked(WEIGHTS)?;
        check_header(&weights).map_err(|e| format!("{}: {e}", at(WEIGHTS).display()))?;
        let profile =
            serde_json::from_slice(&checked(PROFILE)?).map_err(|e| format!("{}: {e}", at(PROFILE).display()))?;
        let golden = String::from_utf8(checked(GOLDEN)?)
            .map_err(|e| e.to_string())
            .and_then(|text| text.lines().map(|l| serde_json::from_str(l).map_err(|e| e.to_string())).collect())
            .map_err(|e| format!("{}: {e}", at(GOLDEN).display()))?;
        Ok(Artefact { manifest, weights, profile, golden })
    }
}

/// Limits of the safetensors header, before the parser sees it.
fn check_header(weights: &[u8]) -> Result<(), String> {
    let length = weights.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)).ok_or("too short for a header")?;
    if length > MAX_HEADER_BYTES || length + 8 > weights.len() as u64 {
        return Err(format!(
            "the header claims {length} bytes; at most {MAX_HEADER_BYTES} and the file's size are taken"
        ));
    }
    let (_, header) = safetensors::SafeTensors::read_metadata(weights).map_err(|e| e.to_string())?;
    if header.tensors().len() > MAX_TENSORS {
        return Err(format!("{} tensors; at most {MAX_TENSORS} are taken", header.tensors().len()));
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

//! A version's directory: `manifest.json`, the weights (`model.safetensors`, or a tree model in its library's own
//! format), `profile.json`, `golden.jsonl`.
//! Written whole or not at all; checked file by file before it is used.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use understudy_domain::model::{ArtefactFile, Manifest};
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::trees::import::Format;
use understudy_domain::value::Value;

pub const MANIFEST: &str = "manifest.json";
pub const WEIGHTS: &str = "model.safetensors";
pub const PROFILE: &str = "profile.json";
pub const GOLDEN: &str = "golden.jsonl";

/// `runtime` of versions that are tree ensembles.
pub const TREES: &str = "trees";
/// `runtime` of versions that are ONNX networks; for programs built with the feature `onnx`.
pub const ONNX: &str = "onnx";

/// Bounds of a weights file's header, checked before anything is allocated for it.
const MAX_HEADER_BYTES: u64 = 1 << 20;
const MAX_TENSORS: usize = 4096;
const MAX_FILE_BYTES: u64 = 1 << 30;
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// Besides the manifest; a version has three.
pub(super) const MAX_FILES: usize = 16;

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

/// The file that holds a version's weights, by its runtime and format.
pub fn weights_file(manifest: &Manifest) -> &'static str {
    let format = || serde_json::from_value::<Format>(manifest.architecture.get("format")?.clone()).ok();
    match manifest.runtime.as_str() {
        TREES => format().map_or(WEIGHTS, Format::file),
        ONNX => Format::Onnx.file(),
        _ => WEIGHTS,
    }
}

impl Artefact {
    /// Stores it whole or not at all. The manifest's file list is made here.
    pub fn write(mut self, dir: &Path) -> Result<Manifest, String> {
        let failed = |what: &str, e: &dyn std::fmt::Display| format!("cannot write {what}: {e}");
        let golden: Result<Vec<String>, _> = self.golden.iter().map(|g| Ok(serde_json::to_string(g)? + "\n")).collect();
        let golden = golden.map_err(|e: serde_json::Error| failed(GOLDEN, &e))?;
        let profile = serde_json::to_vec_pretty(&self.profile).map_err(|e| failed(PROFILE, &e))?;
        let weights = weights_file(&self.manifest);
        let files = [(weights, self.weights), (PROFILE, profile), (GOLDEN, golden.concat().into_bytes())];
        let files = files.map(|(name, bytes)| (name.to_owned(), bytes));
        self.manifest.files = files
            .iter()
            .map(|(name, bytes)| ArtefactFile { name: name.clone(), bytes: bytes.len() as u64, sha256: sha256(bytes) })
            .collect();
        store(&self.manifest, &files, dir)?;
        Ok(self.manifest)
    }

    /// Reads and checks every listed file; says which one is wrong and how.
    pub fn read(dir: &Path) -> Result<Artefact, String> {
        let manifest = read_manifest(&dir.join(MANIFEST))?;
        Self::checked(manifest, &dir.display(), |listed| read_regular(&dir.join(&listed.name), MAX_FILE_BYTES))
    }

    /// The same of files that are in memory; every one must be listed.
    pub fn from_files(files: &[(String, Vec<u8>)]) -> Result<Artefact, String> {
        let mut files: Vec<&(String, Vec<u8>)> = files.iter().collect();
        let mut take = |name: &str| {
            let at = files.iter().position(|(n, _)| n == name).ok_or_else(|| format!("{name}: is not there"))?;
            Ok::<_, String>(files.swap_remove(at).1.clone())
        };
        let manifest = parse_manifest(&take(MANIFEST)?).map_err(|e| format!("{MANIFEST}: {e}"))?;
        let artefact = Self::checked(manifest, &"the archive", |listed| take(&listed.name))?;
        match files.first() {
            None => Ok(artefact),
            Some((name, _)) => Err(format!("{name}: `files` of {MANIFEST} does not list it")),
        }
    }

    fn checked(
        manifest: Manifest,
        place: &dyn std::fmt::Display,
        mut read: impl FnMut(&ArtefactFile) -> Result<Vec<u8>, String>,
    ) -> Result<Artefact, String> {
        let at = |name: &str, e: &dyn std::fmt::Display| format!("{place}/{name}: {e}");
        let mut files = Vec::new();
        for listed in &manifest.files {
            let bytes = read(listed)?;
            if bytes.len() as u64 != listed.bytes {
                return Err(at(&listed.name, &format!("{} bytes, the manifest says {}", bytes.len(), listed.bytes)));
            }
            let found = sha256(&bytes);
            if found != listed.sha256 {
                return Err(at(&listed.name, &format!("sha256 is {found}, the manifest says {}", listed.sha256)));
            }
            files.push((listed.name.as_str(), bytes));
        }
        let mut take = |name: &str| {
            let position = files.iter().position(|(n, _)| *n == name);
            position
                .map(|i| files.swap_remove(i).1)
                .ok_or_else(|| at(MANIFEST, &format!("`files` does not list {name}")))
        };
        let name = weights_file(&manifest);
        let (weights, profile, golden) = (take(name)?, take(PROFILE)?, take(GOLDEN)?);
        if name == WEIGHTS {
            check_header(&weights).map_err(|e| at(name, &e))?;
        }
        let profile = serde_json::from_slice(&profile).map_err(|e| at(PROFILE, &e))?;
        let golden = String::from_utf8(golden)
            .map_err(|e| e.to_string())
            .and_then(|text| text.lines().map(|l| serde_json::from_str(l).map_err(|e| e.to_string())).collect())
            .map_err(|e| at(GOLDEN, &e))?;
        Ok(Artefact { manifest, weights, profile, golden })
    }
}

/// Writes a version's files to a temporary neighbour of `dir`, syncs, renames.
pub fn store(manifest: &Manifest, files: &[(String, Vec<u8>)], dir: &Path) -> Result<(), String> {
    let failed = |what: &str, e: &dyn std::fmt::Display| format!("cannot write {what}: {e}");
    let parent = dir.parent().ok_or("a version needs a folder")?;
    let temporary = parent.join(format!(".{}.partial", dir.file_name().unwrap_or_default().to_string_lossy()));
    let _ = fs::remove_dir_all(&temporary);
    fs::create_dir_all(&temporary).map_err(|e| failed("the model folder", &e))?;
    let manifest = serde_json::to_vec_pretty(manifest).map_err(|e| failed(MANIFEST, &e))?;
    let all = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).chain([(MANIFEST, manifest.as_slice())]);
    for (name, bytes) in all {
        let mut file = fs::File::create(temporary.join(name)).map_err(|e| failed(name, &e))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| failed(name, &e))?;
    }
    fs::File::open(&temporary).and_then(|d| d.sync_all()).map_err(|e| failed("the version's folder", &e))?;
    // Would replace an empty folder, and refuses any other.
    if dir.exists() {
        return Err(format!("cannot write the version: {} is there already", dir.display()));
    }
    fs::rename(&temporary, dir).map_err(|e| failed("the version", &e))?;
    fs::File::open(parent).and_then(|d| d.sync_all()).map_err(|e| failed("the model folder", &e))
}

/// Memory that a version will hold once it is loaded: weights twice (by layer for batches, side by side for single
/// rows; trees once, in less than their file takes), and its profile.
pub fn memory(manifest: &Manifest) -> u64 {
    let bytes = |name: &str| manifest.files.iter().find(|f| f.name == name).map_or(0, |f| f.bytes);
    let copies = if manifest.runtime == TREES { 1 } else { 2 };
    bytes(weights_file(manifest)).saturating_mul(copies).saturating_add(bytes(PROFILE))
}

pub(super) fn read_manifest(path: &Path) -> Result<Manifest, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    parse_manifest(&read_regular(path, MAX_MANIFEST_BYTES)?).map_err(|e| wrong(&e))
}

/// The manifest in a file's bytes; its files are named plainly, and each once.
pub fn parse_manifest(text: &[u8]) -> Result<Manifest, String> {
    let wrong = |e: &dyn std::fmt::Display| e.to_string();
    // The format's number first: another format need not have this one's fields.
    let any: serde_json::Value = serde_json::from_slice(text).map_err(|e| wrong(&e))?;
    match any.get("manifest_version").and_then(serde_json::Value::as_u64) {
        Some(1) => {}
        Some(v) => return Err(wrong(&format!("manifest_version {v} is newer than this program, which reads 1"))),
        None => return Err(wrong(&"`manifest_version` is missing; this program reads 1")),
    }
    let manifest: Manifest = serde_json::from_slice(text).map_err(|e| wrong(&e))?;
    if manifest.files.len() > MAX_FILES {
        return Err(wrong(&format!("{} files; at most {MAX_FILES} are taken", manifest.files.len())));
    }
    for (i, file) in manifest.files.iter().enumerate() {
        if !valid_name(&file.name) {
            return Err(wrong(&format!("`files` lists {:?}, which is no plain file name", file.name)));
        }
        if manifest.files[..i].iter().any(|f| f.name == file.name) {
            return Err(wrong(&format!("`files` lists {} twice", file.name)));
        }
    }
    Ok(manifest)
}

/// The bytes of a regular file (no link, no folder) of at most `limit` bytes.
pub(super) fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let seen = fs::symlink_metadata(path).map_err(|e| wrong(&e))?;
    if !seen.is_file() {
        return Err(wrong(&"is no regular file"));
    }
    if seen.len() > limit {
        return Err(wrong(&format!("{} bytes; at most {limit} are taken", seen.len())));
    }
    let mut bytes = Vec::with_capacity(seen.len() as usize);
    fs::File::open(path).and_then(|f| f.take(limit).read_to_end(&mut bytes)).map_err(|e| wrong(&e))?;
    Ok(bytes)
}

/// Limits of the safetensors header, before the parser sees it.
pub fn check_header(weights: &[u8]) -> Result<(), String> {
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

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
#[path = "artefact_tests.rs"]
mod tests;

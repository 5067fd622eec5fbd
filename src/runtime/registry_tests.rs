//! Versions from outside, and what is decided about versions: what is refused, and that a refusal changes nothing.

use super::train::tests as rows;
use super::{Registry, bundle};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use understudy_actors::ports::{ModelLoader, ModelRuntime, RegisterError, Trainer};
use understudy_domain::registry::{CHAMPION, VersionLedger};

struct Place {
    root: tempfile::TempDir,
    registry: Registry,
    /// The folder of a version that was made elsewhere.
    made: tempfile::TempDir,
}

fn accept(_: &Arc<dyn ModelRuntime>) -> Result<(), String> {
    Ok(())
}

/// Every file below a folder and its bytes.
fn content(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(dir) = folders.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(all.insert(path.display().to_string(), fs::read(&path).unwrap())),
            }
        }
    }
    all
}

impl Place {
    fn new() -> Place {
        let (root, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let elsewhere = Registry::new(made.path().to_owned());
        elsewhere.train(rows::job(200, "algorithm = \"logistic\"\nmax_epochs = 2"), &|_, _| ()).unwrap();
        let registry = Registry::new(root.path().to_owned());
        registry.train(rows::job(200, "algorithm = \"logistic\"\nmax_epochs = 1"), &|_, _| ()).unwrap();
        Place { root, registry, made }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.made.path().join("m/v1")
    }

    fn register(&self) -> Result<String, RegisterError> {
        let packed = bundle::pack(&self.folder()).map_err(RegisterError::Refused)?;
        self.registry.register(&packed, &accept).map(|m| m.version)
    }

    fn edit(&self, change: impl Fn(&mut serde_json::Value)) {
        let path = self.folder().join("manifest.json");
        let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut manifest);
        fs::write(path, manifest.to_string()).unwrap();
    }
}

#[test]
fn a_version_from_outside_gets_the_next_number_once() {
    let place = Place::new();
    assert_eq!(place.register(), Ok("v2".into()), "it was v1 where it was made");
    let loaded = place.registry.load("m", "v2").unwrap();
    assert_eq!(loaded.manifest().version, "v2");
    for file in ["model.safetensors", "profile.json", "golden.jsonl"] {
        let at = |root: &Path, version: &str| fs::read(root.join("m").join(version).join(file)).unwrap();
        assert_eq!(at(place.root.path(), "v2"), at(place.made.path(), "v1"), "{file} is stored as it came");
    }
    assert_eq!(place.register(), Err(RegisterError::Known { model: "m".into(), version: "v2".into() }));
    assert_eq!(place.registry.versions("m").unwrap(), ["v1", "v2"]);
}

#[test]
fn a_refused_version_is_refused_with_the_reason_and_changes_nothing() {
    type Change = fn(&Place);
    let table: &[(Change, &str)] = &[
        (|p| fs::remove_file(p.folder().join("golden.jsonl")).unwrap(), "golden.jsonl: is not there"),
        (|p| fs::write(p.folder().join("golden.jsonl"), "").unwrap(), "golden.jsonl: 0 bytes, the manifest says"),
        (
            |p| {
                let path = p.folder().join("model.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(path, bytes).unwrap();
            },
            "model.safetensors: sha256 is",
        ),
        (|p| fs::write(p.folder().join("more"), "x").unwrap(), "more: `files` of manifest.json does not list it"),
        (|p| fs::create_dir(p.folder().join("sub")).unwrap(), "is no regular file"),
        (|p| fs::remove_file(p.folder().join("manifest.json")).unwrap(), "no manifest.json"),
        (|p| p.edit(|m| m["runtime"] = "pickle".into()), "runtime `pickle` is not known"),
        (|p| p.edit(|m| m["manifest_version"] = 9.into()), "manifest_version 9 is newer"),
        (|p| p.edit(|m| m["files"][0]["name"] = "../x".into()), "no plain file name"),
        (|p| p.edit(|m| m["model"] = "../../etc".into()), "names are 1..63"),
        (|p| p.edit(|m| m["signature"]["features"][0]["name"] = "other".into()), "profile.json"),
        // Files as listed, an answer that is not the recorded one.
        (
            |p| p.edit(|m| m["calibration"] = serde_json::json!({"kind": "platt", "a": 0.5, "b": 0.0})),
            "golden.jsonl, request 1: answers",
        ),
    ];
    for (change, says) in table {
        let place = Place::new();
        let before = content(place.root.path());
        change(&place);
        match place.register() {
            Err(RegisterError::Refused(said)) => assert!(said.contains(says), "{says}: {said}"),
            other => panic!("{says}: {other:?}"),
        }
        assert_eq!(content(place.root.path()), before, "{says}");
    }
    // What the project cannot serve is refused last, by whoever knows the project.
    let place = Place::new();
    let before = content(place.root.path());
    let packed = bundle::pack(&place.folder()).unwrap();
    let said = place.registry.register(&packed, &|_| Err("no such feature".into()));
    assert_eq!(said.unwrap_err(), RegisterError::Refused("no such feature".into()));
    assert_eq!(content(place.root.path()), before);
}

#[test]
fn the_ledger_is_replaced_whole_and_read_back_by_another_process() {
    let place = Place::new();
    assert_eq!(place.registry.ledger("m").unwrap(), VersionLedger::default());
    let ledger = VersionLedger::default().with_alias(CHAMPION, "v1", &["v1".into()]).unwrap();
    place.registry.save_ledger("m", &ledger).unwrap();
    let again = Registry::new(place.root.path().to_owned());
    assert_eq!(again.ledger("m").unwrap(), ledger);
    // A write that was cut off is not the ledger.
    fs::write(place.root.path().join("m/registry.partial"), "{\"al").unwrap();
    assert_eq!(again.ledger("m").unwrap(), ledger);
    assert_eq!(again.versions("m").unwrap(), ["v1"]);
    fs::write(place.root.path().join("m/registry.json"), "{\"al").unwrap();
    assert!(again.ledger("m").unwrap_err().contains("registry.json"));
}

#[test]
fn the_weight_of_a_version_is_known_before_it_is_loaded() {
    let place = Place::new();
    let loaded = place.registry.load("m", "v1").unwrap();
    assert_eq!(place.registry.weigh("m", "v1").unwrap(), loaded.bytes() as u64);
    assert!(loaded.bounded() && loaded.row_time().is_some());
    assert!(place.registry.weigh("m", "v9").is_err());
}

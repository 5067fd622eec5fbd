use super::super::registry::Registry;
use super::super::train::tests as rows;
use super::*;
use serde_json::json;
use std::path::PathBuf;
use understudy_actors::ports::{ModelLoader, Trainer};

struct Place {
    root: tempfile::TempDir,
    registry: Registry,
}

impl Place {
    fn new() -> Place {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::new(root.path().to_path_buf());
        registry.train(rows::job(200, "algorithm = \"logistic\"\nmax_epochs = 1"), &|_, _| ()).unwrap();
        Place { root, registry }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join("m/v1").join(file)
    }

    fn load(&self) -> String {
        self.registry.load("m", "v1").err().unwrap_or_default()
    }

    fn edit(&self, change: impl Fn(&mut serde_json::Value)) {
        let mut manifest = serde_json::from_slice(&fs::read(self.path(MANIFEST)).unwrap()).unwrap();
        change(&mut manifest);
        fs::write(self.path(MANIFEST), manifest.to_string()).unwrap();
    }

    /// Puts other bytes in a file and lists them rightly: only what they say is wrong.
    fn forge(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).unwrap();
        self.edit(|m| {
            for f in m["files"].as_array_mut().unwrap() {
                if f["name"] == file {
                    *f = json!({ "name": file, "bytes": bytes.len(), "sha256": sha256(bytes) });
                }
            }
        });
    }
}

#[test]
fn versions_count_up_and_load_as_written() {
    let place = Place::new();
    let second = place.registry.train(rows::job(200, rows::LOGISTIC), &|_, _| ()).unwrap();
    assert_eq!(second.version, "v2");
    for other in ["v07", "v+9", "x1", ".v3.partial"] {
        fs::create_dir(place.root.path().join("m").join(other)).unwrap();
    }
    assert_eq!(place.registry.versions("m").unwrap(), ["v1", "v2"]);
    assert_eq!(place.registry.versions("other").unwrap(), Vec::<String>::new());
    let loaded = place.registry.load("m", "v2").unwrap();
    assert_eq!(loaded.manifest().files, second.files);
    assert_eq!(loaded.manifest().signature, second.signature);
    let golden = fs::read_to_string(place.path(GOLDEN)).unwrap();
    assert_eq!(golden.lines().count(), 16);
    let left = fs::read_dir(place.root.path().join("m/v1")).unwrap().count();
    assert_eq!(left, 4, "the four files and nothing else");
}

#[test]
fn a_version_is_never_written_over() {
    let place = Place::new();
    let artefact = Artefact::read(&place.root.path().join("m/v1")).unwrap();
    let said = artefact.write(&place.root.path().join("m/v1")).unwrap_err();
    assert!(said.contains("is there already"), "{said}");
    assert_eq!(place.load(), "");
}

#[test]
fn any_damage_to_any_file_is_refused_by_name() {
    for file in [WEIGHTS, PROFILE, GOLDEN, MANIFEST] {
        let place = Place::new();
        let good = fs::read(place.path(file)).unwrap();
        let mut damaged: Vec<Vec<u8>> = [0, 1, 7, good.len() / 2, good.len() - 1].map(|n| good[..n].to_vec()).into();
        if file == MANIFEST {
            damaged.pop(); // its last byte closes the object; the others are enough
        } else {
            damaged.extend([0, 8, good.len() / 2, good.len() - 1].map(|at| {
                let mut bytes = good.clone();
                bytes[at] ^= 1;
                bytes
            }));
            damaged.push([&good[..], b"x"].concat());
        }
        for bytes in damaged {
            fs::write(place.path(file), &bytes).unwrap();
            let said = place.load();
            assert!(said.contains(file), "{file}, {} of {} bytes: {said:?}", bytes.len(), good.len());
        }
        fs::write(place.path(file), &good).unwrap();
        assert_eq!(place.load(), "");
        fs::remove_file(place.path(file)).unwrap();
        assert!(place.load().contains(file), "missing {file}");
        fs::create_dir(place.path(file)).unwrap();
        assert!(place.load().contains(&format!("{file}: is no regular file")), "folder {file}");
    }
}

#[test]
fn a_flipped_bit_of_the_manifest_never_panics() {
    let place = Place::new();
    let good = fs::read(place.path(MANIFEST)).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(place.path(MANIFEST), &bytes).unwrap();
        let _ = place.registry.load("m", "v1"); // a changed name or time may still load
    }
}

#[test]
fn forged_weights_with_a_right_checksum_are_refused() {
    let header =
        |json: &str, data: usize| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat();
    let many: String =
        (0..4097).map(|i| format!("\"t{i}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}},")).collect();
    let one = |shape: &str, offsets: &str| {
        format!("{{\"member.0.layer.0.weight\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    let table = [
        (vec![0; 7], "too short"),
        (u64::MAX.to_le_bytes().to_vec(), "the header claims"),
        ([&(2u64 << 20).to_le_bytes()[..], &vec![b' '; 2 << 20]].concat(), "the header claims"),
        (header("not json", 0), WEIGHTS),
        (header(&format!("{{{}}}", many.trim_end_matches(',')), 0), "4097 tensors"),
        (header(&one("[4611686018427387904,8]", "[0,16]"), 16), WEIGHTS),
        (header(&one("[4]", "[0,99]"), 16), WEIGHTS),
        (header(&one("[4]", "[0,16]"), 16), "1 tensors"),
    ];
    let place = Place::new();
    for (bytes, expected) in table {
        place.forge(WEIGHTS, &bytes);
        let said = place.load();
        assert!(said.contains(expected), "{expected}: {said:?}");
    }
    // Right shape, a value that is no number.
    let place = Place::new();
    let mut bytes = fs::read(place.path(WEIGHTS)).unwrap();
    let n = bytes.len();
    bytes[n - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    place.forge(WEIGHTS, &bytes);
    assert!(place.load().contains("not finite"), "{}", place.load());
}

#[test]
fn manifests_that_point_elsewhere_are_refused() {
    type Change = fn(&mut serde_json::Value);
    let table: [(Change, &str); 8] = [
        (|m| m["manifest_version"] = json!(2), "manifest_version 2"),
        (|m| drop(m.as_object_mut().unwrap().remove("manifest_version")), "`manifest_version` is missing"),
        (|m| m["surprise"] = json!(1), "surprise"),
        (|m| m["files"][0]["name"] = json!("../../secret"), "no plain file name"),
        (|m| m["files"][1] = m["files"][0].clone(), "twice"),
        (|m| drop(m["files"].as_array_mut().unwrap().remove(0)), "does not list model.safetensors"),
        (|m| m["version"] = json!("v2"), "a version lives in the folder"),
        (|m| m["model"] = json!("other"), "a version lives in the folder"),
    ];
    for (change, expected) in table {
        let place = Place::new();
        place.edit(change);
        let said = place.load();
        assert!(said.contains(expected) && said.contains("m/v1"), "{expected}: {said:?}");
    }
    let place = Place::new();
    for (model, version) in [("../m", "v1"), ("m", ".."), ("", "v1"), ("M", "v1"), ("m", "v1/../v1")] {
        assert!(place.registry.load(model, version).err().unwrap().contains("names are"), "{model} {version}");
    }
}

#[test]
fn names_are_checked() {
    let long = "a".repeat(63);
    for (name, valid) in
        [("a", true), ("v1", true), ("0.a_b-c", true), (long.as_str(), true), (&format!("{long}a"), false)]
    {
        assert_eq!(valid_name(name), valid, "{name}");
    }
    for name in ["", ".", "..", ".a", "-a", "_a", "A", "a/b", "a\\b", "a b", "é", "a\0"] {
        assert!(!valid_name(name), "{name:?}");
    }
}

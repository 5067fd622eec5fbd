//! A version in transit: a tar archive of its files, side by side. Nothing but plain, regular files under plain names;
//! read from memory, never unpacked to disk before it is checked.

use super::artefact::{MANIFEST, MAX_FILES, valid_name};
use std::io::Read;
use std::path::Path;

/// The files of an archive, by name.
pub fn files(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("the archive cannot be read: {e}");
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut tar = tar::Archive::new(archive);
    for entry in tar.entries().map_err(|e| wrong(&e))? {
        let mut entry = entry.map_err(|e| wrong(&e))?;
        let path = entry.path().map_err(|e| wrong(&e))?.into_owned();
        let kind = entry.header().entry_type();
        // `tar -C DIR .` names the folder itself first, and each file with `./`.
        let plain = path.strip_prefix(".").unwrap_or(&path);
        if kind.is_dir() && plain == Path::new("") {
            continue;
        }
        let name = plain.to_str().filter(|name| valid_name(name));
        let name = name.ok_or_else(|| {
            format!("the archive holds {:?}: files stand side by side, under lower-case names", path.display())
        })?;
        if !kind.is_file() {
            return Err(format!("the archive holds {name} as a {kind:?}: only regular files are taken"));
        }
        if files.len() > MAX_FILES {
            return Err(format!("the archive holds more than {} files", MAX_FILES + 1));
        }
        if files.iter().any(|(n, _)| n == name) {
            return Err(format!("the archive holds {name} twice"));
        }
        // What a header claims is not allocated: there cannot be more than the archive itself has.
        let mut bytes = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(usize::MAX).min(archive.len()));
        entry.read_to_end(&mut bytes).map_err(|e| wrong(&e))?;
        if bytes.len() as u64 != entry.size() {
            return Err(wrong(&format!("{name} is cut off")));
        }
        files.push((name.to_owned(), bytes));
    }
    if !files.iter().any(|(name, _)| name == MANIFEST) {
        return Err(format!("the archive has no {MANIFEST}; send a tar archive of a version's folder"));
    }
    Ok(files)
}

/// The archive of a folder's regular files; what else is there is named and refused.
pub fn pack(dir: &Path) -> Result<Vec<u8>, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", dir.display());
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .and_then(|entries| entries.map(|e| Ok(e?.file_name())).collect::<std::io::Result<Vec<_>>>())
        .map_err(|e| wrong(&e))?;
    names.sort();
    let mut tar = tar::Builder::new(Vec::new());
    tar.mode(tar::HeaderMode::Deterministic);
    for name in names {
        let path = dir.join(&name);
        let plain = name.to_str().filter(|n| valid_name(n));
        let plain = plain.ok_or_else(|| format!("{}: no file of a version is named so", path.display()))?;
        if !std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_file()) {
            return Err(format!("{}: is no regular file", path.display()));
        }
        tar.append_path_with_name(&path, plain).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    tar.into_inner().map_err(|e| wrong(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, kind and content.
    type Entries<'a> = &'a [(&'a str, tar::EntryType, &'a [u8])];

    fn archive(entries: Entries<'_>) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // The builder refuses some names itself; an attacker's does not.
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn only_plain_files_under_plain_names() {
        use tar::EntryType as T;
        let good =
            archive(&[("./", T::Directory, b""), ("./manifest.json", T::Regular, b"{}"), ("a", T::Regular, b"x")]);
        assert_eq!(files(&good).unwrap(), [("manifest.json".into(), b"{}".to_vec()), ("a".into(), b"x".to_vec())]);
        let table: &[(Entries<'_>, &str)] = &[
            (&[], "no manifest.json"),
            (&[("weights", T::Regular, b"")], "no manifest.json"),
            (&[("../manifest.json", T::Regular, b"")], "side by side"),
            (&[("/etc/passwd", T::Regular, b"")], "side by side"),
            (&[("a/manifest.json", T::Regular, b"")], "side by side"),
            (&[("a/../b", T::Regular, b"")], "side by side"),
            (&[("UPPER", T::Regular, b"")], "side by side"),
            (&[("a", T::Symlink, b"")], "only regular files"),
            (&[("a", T::Link, b"")], "only regular files"),
            (&[("a", T::Directory, b"")], "only regular files"),
            (&[("a", T::Fifo, b"")], "only regular files"),
            (&[("a", T::Char, b"")], "only regular files"),
            (&[("a", T::Regular, b""), ("a", T::Regular, b"")], "twice"),
        ];
        for (entries, says) in table {
            let said = files(&archive(entries)).unwrap_err();
            assert!(said.contains(says), "{says}: {said}");
        }
        let names: Vec<String> = (0..20).map(|i| format!("f{i}")).collect();
        let many: Vec<_> = names.iter().map(|n| (n.as_str(), T::Regular, &b""[..])).collect();
        assert!(files(&archive(&many)).unwrap_err().contains("more than 17"));
    }

    #[test]
    fn damaged_archives_are_refused_and_allocate_nothing() {
        let good = archive(&[("manifest.json", tar::EntryType::Regular, &[b'x'; 700])]);
        for n in [1, 100, 511, 512, 600, 1100] {
            assert!(files(&good[..n]).is_err(), "{n} bytes");
        }
        // A header that claims far more than is there.
        let mut header = tar::Header::new_gnu();
        header.set_path("manifest.json").unwrap();
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(files(header.as_bytes()).is_err());
        for at in (0..good.len()).step_by(3) {
            let mut bytes = good.clone();
            bytes[at] ^= 0x55;
            let _ = files(&bytes); // never panics
        }
    }

    #[test]
    fn a_folder_is_packed_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("manifest.json"), "{}").unwrap();
        std::fs::write(dir.path().join("golden.jsonl"), "x").unwrap();
        let packed = files(&pack(dir.path()).unwrap()).unwrap();
        assert_eq!(packed.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["golden.jsonl", "manifest.json"]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(pack(dir.path()).unwrap_err().contains("no regular file"));
        assert!(pack(&dir.path().join("nothing")).unwrap_err().contains("nothing"));
    }
}

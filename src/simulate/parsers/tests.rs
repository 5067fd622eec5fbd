use super::corpus::{FILES, of};
use super::*;

#[test]
fn every_file_of_the_corpus_is_listed_and_every_target_has_some() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let (mut on_disk, mut bytes) = (Vec::new(), 0);
    for folder in std::fs::read_dir(&root).unwrap().map(|e| e.unwrap()) {
        for file in std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap()) {
            bytes += file.metadata().unwrap().len();
            on_disk.push((folder.file_name().into_string().unwrap(), file.file_name().into_string().unwrap()));
        }
    }
    on_disk.sort();
    let mut listed: Vec<_> = FILES.iter().map(|(t, f)| ((*t).to_owned(), (*f).to_owned())).collect();
    listed.sort();
    assert_eq!(listed, on_disk);
    assert!(bytes < 300 << 10, "the corpus has {bytes} bytes");
    assert!(names().iter().all(|t| !of(t).is_empty()));
}

#[test]
fn every_target_takes_something_and_holds_on_a_short_campaign() {
    for name in names() {
        let done = campaign(name, 1, 400).expect("a target");
        assert!(done.holds(), "{done:#?}");
        assert!(done.accepted > 0, "{name} takes none of its corpus");
    }
    assert!(campaign("nothing", 1, 1).is_none());
}

#[test]
fn a_finding_is_counted_and_replayed_by_its_seed() {
    fn picky(input: &[u8]) -> bool {
        assert!(input.first() != Some(&b'!'), "planted");
        true
    }
    let target = Target { name: "picky", parse: picky, bound: targets::Bound { per_byte: 16, free: 1 << 20 } };
    let watch = Watch::default();
    let mut done = campaign("words", 0, 0).expect("a target");
    done.one(&target, b"?", 3, &watch);
    assert!(done.holds());
    done.one(&target, b"!x", 4, &watch);
    assert_eq!((done.panics, done.holds()), (1, false));
    assert_eq!((done.findings[0].seed, done.findings[0].input.as_str()), (4, "!x"));
    let made = |seed| mutate::mutate(&mut Dice::new(seed, 9), of("predict"));
    assert_eq!(made(5), made(5));
    assert_ne!(made(5), made(6));
}

use super::*;
use proptest::prelude::*;

fn versions(n: usize) -> Vec<String> {
    (1..=n).map(|i| format!("v{i}")).collect()
}

#[test]
fn the_newest_is_champion_until_a_name_was_set() {
    let all = versions(3);
    let ledger = VersionLedger::default();
    assert_eq!(ledger.champion(&[]), None);
    assert_eq!(ledger.champion(&all).as_deref(), Some("v3"));
    // Another name writes down who is champion, so that the next version is not by being newer.
    let named = ledger.with_alias("challenger", "v1", &all).unwrap();
    assert_eq!(named.champion(&versions(9)).as_deref(), Some("v3"));
    assert_eq!(ledger.settled(&all).champion(&versions(9)).as_deref(), Some("v3"));
    assert_eq!(ledger.settled(&[]), ledger);
    // The first version of a model answers, whatever it is called.
    let first = ledger.with_alias("challenger", "v1", &versions(1)).unwrap();
    assert_eq!(first.champion(&versions(1)).as_deref(), Some("v1"));
    // A new version that is named is not itself what answered before.
    let newest = ledger.with_alias("challenger", "v3", &all).unwrap();
    assert_eq!(newest.champion(&all).as_deref(), Some("v2"));
}

#[test]
fn a_new_champion_leaves_the_one_to_return_to() {
    let all = versions(3);
    let first = VersionLedger::default().with_alias(CHAMPION, "v2", &all[..2]).unwrap();
    assert_eq!(first.aliases.get(PREVIOUS).map(String::as_str), Some("v1"), "the one that answered until then");
    let second = first.with_alias(CHAMPION, "v3", &all).unwrap();
    assert_eq!((second.champion(&all).as_deref(), &*second.aliases[PREVIOUS]), (Some("v3"), "v2"));
    let same = second.with_alias(CHAMPION, "v3", &all).unwrap();
    assert_eq!(same, second, "what is so already is no change");
    assert_eq!((first.changes, second.changes), (1, 2));
}

#[test]
fn what_is_refused() {
    let all = versions(3);
    let ledger = VersionLedger::default().with_alias(CHAMPION, "v3", &all).unwrap();
    let ledger = ledger.without_alias(PREVIOUS).unwrap().with_archived("v1", &all, &[]).unwrap();
    let refused = |r: Result<VersionLedger, LedgerRefusal>, says: &str| {
        let said = r.unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    };
    refused(ledger.with_alias("x", "v9", &all), "there are: v1, v2, v3");
    refused(ledger.with_alias("x", "v1", &all), "archived");
    refused(ledger.with_alias(PREVIOUS, "v2", &all), "cannot be an alias");
    refused(ledger.with_alias("v4", "v2", &all), "cannot be an alias");
    refused(ledger.without_alias(CHAMPION), "in use");
    refused(ledger.without_alias("nobody"), "no version is named");
    refused(ledger.with_archived("v3", &all, &[]), "it is champion");
    refused(ledger.with_archived("v2", &all, &["v2".into()]), "a route leads to it");
    refused(ledger.with_archived("v1", &all, &[]), "archived");
    refused(VersionLedger::default().with_archived("v3", &all, &[]), "it is the champion");
}

#[test]
fn alias_names() {
    for good in ["champion", "challenger", "a", "shadow-2", "v", "v1a", "x.y_z"] {
        assert!(valid_alias(good), "{good}");
    }
    let long = "a".repeat(64);
    for bad in ["", "previous", "v1", "v007", "1a", "A", "a b", "../a", ".a", "é", &long] {
        assert!(!valid_alias(bad), "{bad}");
    }
}

proptest! {
    /// Whatever is done in whatever order: there is a champion, no name leads to what is archived or unknown, and the
    /// count of changes only grows.
    #[test]
    fn a_model_never_loses_its_champion(steps in prop::collection::vec((0u8..4, 0usize..5, 1usize..6), 1..60)) {
        let aliases = ["champion", "challenger", "shadow", "previous"];
        let (mut ledger, mut count) = (VersionLedger::default(), 1);
        for (what, which, n) in steps {
            let all = versions(count);
            let version = format!("v{n}");
            let next = match what {
                0 => ledger.with_alias(aliases[which % 4], &version, &all),
                1 => ledger.without_alias(aliases[which % 4]),
                2 => ledger.with_archived(&version, &all, &[]),
                _ => {
                    let settled = ledger.settled(&all);
                    count += 1;
                    Ok(settled)
                }
            };
            if let Ok(next) = next {
                prop_assert!(next.changes >= ledger.changes);
                prop_assert!(next == ledger || next.changes > ledger.changes);
                ledger = next;
            }
            let all = versions(count);
            let champion = ledger.champion(&all).expect("somebody answers");
            prop_assert!(all.contains(&champion) && !ledger.archived.contains(&champion));
            for version in ledger.aliases.values() {
                prop_assert!(all.contains(version) && !ledger.archived.contains(version));
            }
        }
    }
}

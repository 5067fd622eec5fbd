use super::*;
use crate::config::Settings;

const NOW: Timestamp = Timestamp(1_000_000_000);

struct Set {
    _dir: tempfile::TempDir,
    security: Security,
    file: KeyFile,
}

fn set(make: impl Fn(&KeyFile)) -> Set {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::default();
    let file = KeyFile::new(dir.path().join(&settings.auth.keys_file));
    make(&file);
    let security = Security::open(dir.path(), dir.path(), &settings).unwrap();
    Set { _dir: dir, security, file }
}

fn code(result: Result<Caller, Denied>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Denied::Unauthorized { code, .. } | Denied::Forbidden { code, .. }) => code,
        Err(Denied::TooMany { .. }) => "rate_limited",
    }
}

#[test]
fn without_keys_everybody_here_may_and_no_web_page() {
    let s = set(|_| ()).security;
    assert_eq!(s.check(None, Some(Scope::Admin), None, NOW), Ok(Caller::Local));
    for ours in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST"] {
        assert_eq!(s.check_local(Some(ours), None), Ok(()), "{ours}");
        assert_eq!(s.check_local(Some(ours), Some(&format!("http://{ours}"))), Ok(()), "{ours}");
    }
    for others in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1"] {
        assert!(s.check_local(Some(others), None).is_err(), "{others}");
        assert!(s.check_local(Some("localhost"), Some(&format!("https://{others}"))).is_err(), "{others}");
    }
    assert!(s.check_local(Some("localhost"), Some("null")).is_err());
}

#[test]
fn a_key_is_good_for_its_scopes_and_models_until_it_ends() {
    let made = std::cell::RefCell::new(Vec::new());
    let s = set(|file| {
        let mut made = made.borrow_mut();
        made.push(file.create("a", &[Scope::Serve], &[], None, None, NOW).unwrap());
        made.push(file.create("b", &[Scope::Serve, Scope::Read], &["flights".into()], None, None, NOW).unwrap());
        made.push(file.create("c", &[Scope::Serve], &[], Some(Timestamp(NOW.0 + 10)), None, NOW).unwrap());
    });
    let made = made.into_inner();
    let bearer: Vec<String> = made.iter().map(|(_, token)| format!("Bearer {token}")).collect();
    let check = |key: Option<&str>, scope, model| code(s.security.check(key, scope, model, NOW));
    let (a, b, c) = (&*bearer[0], &*bearer[1], &*bearer[2]);
    let forged = format!("{}{}", &a[..a.len() - 1], if a.ends_with('0') { "1" } else { "0" });
    let unknown = format!("Bearer us_live_{}_{}", "0".repeat(12), "0".repeat(64));
    let table = [
        (None, None, None, "ok"),
        (None, Some(Scope::Serve), None, "no_key"),
        (Some("Basic x"), Some(Scope::Serve), None, "no_key"),
        (Some("Bearer x"), Some(Scope::Serve), None, "unknown_key"),
        (Some(&*unknown), Some(Scope::Serve), None, "unknown_key"),
        (Some(&*forged), Some(Scope::Serve), None, "unknown_key"),
        (Some(a), Some(Scope::Serve), Some("anything"), "ok"),
        (Some(a), Some(Scope::Admin), None, "scope_missing"),
        (Some(b), Some(Scope::Serve), Some("flights"), "ok"),
        (Some(b), Some(Scope::Serve), Some("other"), "model_not_allowed"),
        (Some(b), Some(Scope::Read), None, "model_not_allowed"),
        (Some(c), Some(Scope::Serve), None, "ok"),
    ];
    for (key, scope, model, expected) in table {
        assert_eq!(check(key, scope, model), expected, "{key:?} {scope:?} {model:?}");
    }
    assert_eq!(code(s.security.check(Some(c), Some(Scope::Serve), None, Timestamp(NOW.0 + 10))), "key_expired");
    s.file.revoke(&made[0].0.id, NOW).unwrap();
    s.security.load(s.file.read().unwrap());
    assert_eq!(check(Some(a), Some(Scope::Serve), None), "key_revoked");
    assert!(s.security.required());
    s.security.load(Vec::new());
    assert_eq!(check(None, Some(Scope::Serve), None), "no_key", "keys that disappear open nothing");
}

#[test]
fn a_key_has_a_rate_that_a_change_of_the_file_does_not_refill() {
    let token = std::cell::RefCell::new(String::new());
    let s = set(|file| *token.borrow_mut() = file.create("a", &[Scope::Serve], &[], None, Some(3), NOW).unwrap().1);
    let key = format!("Bearer {}", token.borrow());
    let ask = || code(s.security.check(Some(&key), Some(Scope::Serve), None, NOW));
    assert_eq!([ask(), ask(), ask()], ["ok"; 3]);
    assert_eq!(ask(), "rate_limited");
    s.security.load(s.file.read().unwrap());
    assert_eq!(ask(), "rate_limited");
    assert_eq!(s.security.denied(), [0, 0, 2]);
}

#[test]
fn other_machines_are_let_in_only_with_keys_and_tls() {
    let settings = |bind: &str, mode| {
        let mut s = Settings::default();
        s.server.bind = bind.parse().unwrap();
        s.tls.mode = mode;
        s
    };
    let table = [
        ("127.0.0.1", TlsMode::Off, 0, ""),
        ("::1", TlsMode::Off, 0, ""),
        ("0.0.0.0", TlsMode::Off, 0, "no API keys"),
        ("0.0.0.0", TlsMode::Off, 1, "no TLS"),
        ("::", TlsMode::Files, 0, "no API keys"),
        ("10.1.2.3", TlsMode::Files, 1, ""),
        ("10.1.2.3", TlsMode::TerminatedElsewhere, 1, ""),
    ];
    for (bind, mode, keys, expected) in table {
        let found = must_not_listen(&settings(bind, mode), keys);
        match expected {
            "" => assert_eq!(found, None, "{bind}"),
            part => assert!(found.as_deref().is_some_and(|f| f.contains(part)), "{bind}: {found:?}"),
        }
    }
}

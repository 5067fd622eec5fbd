mod differential;

use super::*;

fn fields() -> Vec<(String, ValueType)> {
    [
        ("b", ValueType::Bool),
        ("i", ValueType::Int),
        ("x", ValueType::Float),
        ("t", ValueType::Category),
        ("nil", ValueType::Float),
    ]
    .map(|(n, t)| (n.to_string(), t))
    .to_vec()
}

fn row() -> Vec<Value> {
    vec![Value::Bool(true), Value::Int(7), Value::Float(2.5), Value::text("héllo"), Value::Null]
}

fn eval(source: &str) -> Value {
    Program::compile(source, &fields(), None).unwrap_or_else(|e| panic!("{source}: {e}")).eval(&row())
}

#[test]
fn values() {
    let (t, f, n) = (Value::Bool(true), Value::Bool(false), Value::Null);
    for (source, expected) in [
        ("1 + 2 * 3", Value::Int(7)),
        ("i % 4 - 10", Value::Int(-7)),
        ("-i / 2", Value::Int(-3)),
        ("i + x", Value::Float(9.5)),
        ("i == 7.0", t.clone()),
        ("x > 2 && x < 3", t.clone()),
        ("t + '!' == 'héllo!'", t.clone()),
        ("size(t) + t.size()", Value::Int(10)),
        ("t.startsWith('hé') && t.endsWith('lo') && t.contains('l')", t.clone()),
        ("t in ['a', 'héllo']", t.clone()),
        ("i in [1, 2]", f.clone()),
        ("i in [7.0]", t.clone()),
        ("b ? i : x", Value::Float(7.0)),
        ("b ? null : 'x'", n.clone()),
        ("!b", f.clone()),
        ("int(x) + int('4')", Value::Int(6)),
        ("double('1.5') + double(i)", Value::Float(8.5)),
        ("string(i) + string(b)", Value::text("7true")),
        ("math.abs(-3)", Value::Int(3)),
        ("math.greatest(i, x, 9)", Value::Float(9.0)),
        ("math.least(3, 2)", Value::Int(2)),
        ("math.floor(x) + math.ceil(x)", Value::Float(5.0)),
        ("math.sqrt(16)", Value::Float(4.0)),
        ("math.ln(math.exp(0.0))", Value::Float(0.0)),
        ("-9223372036854775808", Value::Int(i64::MIN)),
        // Missing and undefined.
        ("nil + 1.0", n.clone()),
        ("nil == 1.0", n.clone()),
        ("nil == null", t.clone()),
        ("null != nil", f.clone()),
        ("null == null", t.clone()),
        ("nil > 1.0 && false", f.clone()),
        ("false && nil > 1.0", f.clone()),
        ("nil > 1.0 && true", n.clone()),
        ("nil > 1.0 || true", t.clone()),
        ("nil > 1.0 || false", n.clone()),
        ("nil > 1.0 ? 1 : 2", n.clone()),
        ("nil in [1.0]", n.clone()),
        ("1.0 in [nil, 1.0]", t.clone()),
        ("2.0 in [nil, 1.0]", n.clone()),
        ("math.greatest(1.0, nil)", n.clone()),
        ("1 / 0", n.clone()),
        ("1.0 / 0.0", n.clone()),
        ("1 % 0", n.clone()),
        ("9223372036854775807 + 1", n.clone()),
        ("1e308 * 10.0", n.clone()),
        ("math.sqrt(-1.0)", n.clone()),
        ("int('x')", n.clone()),
        ("int(1e30)", n.clone()),
        ("1 / 0 == 1 || i == 7", t.clone()),
    ] {
        assert_eq!(eval(source), expected, "{source}");
    }
}

#[test]
fn refusals_name_what_is_wrong() {
    for (source, message, hint) in [
        ("ii > 1", "unknown field `ii`", "did you mean `i`?"),
        ("t > 1", "operator `>` does not take text and int", "convert"),
        ("b + 1", "operator `+` does not take bool and int", "b ? 1 : 0"),
        ("b + b", "operator `+` does not take bool and bool", ""),
        ("x % 2.0", "operator `%` does not take float and float", "int(x)"),
        ("i && b", "operator `&&` does not take int and bool", "bool"),
        ("b ? 1 : 'a'", "operator `?:` does not take int and text", ""),
        ("i in ['a']", "operator `in` does not take int and text", ""),
        ("i in t", "operator `in` needs a list literal", ""),
        ("!i", "operator `!` does not take int", ""),
        ("[1, 2].all(e, e > 0)", "macros `all`", "supported"),
        ("has(a.b)", "macro `has`", ""),
        ("{'a': 1}", "map literal", ""),
        ("t.matches('a+')", "method `matches`", ""),
        ("matches(t, 'a+')", "function `matches`", ""),
        ("abs(i)", "unknown function `abs`", "math.abs"),
        ("max(i, 1)", "unknown function `max`", "math.greatest"),
        ("math.flor(x)", "unknown function `math.flor`", "math.floor"),
        ("math.abs(t)", "`math.abs` does not take text", ""),
        ("math.abs(1, 2)", "takes 1 argument, not 2", ""),
        ("[1][0]", "indexing", ""),
        ("1u", "unsigned", "without"),
        ("b'x'", "bytes", ""),
        ("1 +", "syntax error at line 1", "CEL"),
        ("", "syntax error", ""),
    ] {
        let e = Program::compile(source, &fields(), None).expect_err(source);
        assert!(e.message.contains(message), "{source}: {}", e.message);
        assert!(e.hint.contains(hint), "{source}: {}", e.hint);
    }
}

#[test]
fn the_wanted_type_is_kept() {
    let int = Program::compile("i + 1", &fields(), Some(ValueType::Float)).unwrap();
    assert_eq!(int.eval(&row()), Value::Float(8.0));
    assert_eq!(int.result(), Some(ValueType::Float));
    let e = Program::compile("i + 1", &fields(), Some(ValueType::Bool)).unwrap_err();
    assert_eq!(e.message, "the expression gives int, but bool is wanted here");
    assert!(Program::compile("null", &fields(), Some(ValueType::Bool)).is_ok());
}

#[test]
fn slots_are_sorted_and_unique() {
    let p = Program::compile("x > 1.0 && b && x < 3.0", &fields(), None).unwrap();
    assert_eq!(p.slots(), [0, 2]);
    assert_eq!(p.source(), "x > 1.0 && b && x < 3.0");
    // Short rows and wrong types read as null.
    assert_eq!(p.eval(&[]), Value::Null);
    assert_eq!(p.eval(&[Value::Bool(true), Value::Null, Value::text("a")]), Value::Null);
}

#[test]
fn hostile_input_does_not_exhaust_the_stack() {
    let sources: Vec<String> = [
        "(".repeat(4000),
        format!("{}1{}", "(".repeat(2000), ")".repeat(2000)),
        "!".repeat(4000) + "b",
        "- ".repeat(2000) + "i",
        "[".repeat(4000),
        "1+".repeat(2000) + "1",
        "b&&".repeat(1300) + "b",
        "b?b:".repeat(1000) + "b",
        format!("i{}", ".a".repeat(2000)),
        format!("t{}", ".size()".repeat(500)),
        format!("t{}", "[0]".repeat(1000)),
        "i<".repeat(2000) + "i",
        format!("b{}", " in[b]".repeat(600)),
        "(-".repeat(32) + "i" + &")".repeat(32),
        "(".repeat(64) + "i" + &")".repeat(64),
        "b?(".repeat(31) + "b" + &"):b".repeat(31),
        "math.abs(".repeat(31) + "i" + &")".repeat(31),
        "'".repeat(4000),
        "x".repeat(5000),
        format!("{}\"{}", "'\\''".repeat(3), "(".repeat(3000)),
    ]
    .into_iter()
    .collect();
    // A quarter of the stack that threads get.
    let run = move || {
        for source in sources {
            let start: String = source.chars().take(20).collect();
            match Program::compile(&source, &fields(), None) {
                Ok(p) => drop(p.eval(&row())),
                Err(e) => assert!(!e.message.is_empty(), "{start}"),
            }
        }
    };
    std::thread::Builder::new().stack_size(1 << 19).spawn(run).unwrap().join().unwrap();
}

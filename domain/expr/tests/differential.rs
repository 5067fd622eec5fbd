//! Against the interpreter of the `cel` crate: on well-typed expressions without nulls, its value is
//! our value and its error is our null.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Strategies for fully bracketed expressions of each type, up to some depth.
#[derive(Clone)]
struct Exprs {
    bool: BoxedStrategy<String>,
    int: BoxedStrategy<String>,
    float: BoxedStrategy<String>,
    text: BoxedStrategy<String>,
}

fn leaves() -> Exprs {
    Exprs {
        bool: prop_oneof![Just("b".to_string()), Just("true".into()), Just("false".into())].boxed(),
        int: prop_oneof![
            3 => Just("i".to_string()),
            3 => (0i64..5).prop_map(|i| i.to_string()),
            1 => any::<i64>().prop_map(|i| format!("({i})")),
        ]
        .boxed(),
        float: prop_oneof![Just("x".to_string()), (-40i32..40).prop_map(|x| format!("({:?})", f64::from(x) / 4.0))]
            .boxed(),
        text: prop_oneof![Just("t".to_string()), "[a-cé]{0,3}".prop_map(|t| format!("'{t}'"))].boxed(),
    }
}

fn join(a: &BoxedStrategy<String>, ops: &'static [&'static str], b: &BoxedStrategy<String>) -> BoxedStrategy<String> {
    (a.clone(), proptest::sample::select(ops), b.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")).boxed()
}

fn choose(e: &Exprs, t: &BoxedStrategy<String>) -> BoxedStrategy<String> {
    (e.bool.clone(), t.clone(), t.clone()).prop_map(|(c, a, b)| format!("({c} ? {a} : {b})")).boxed()
}

fn around(before: &'static str, a: &BoxedStrategy<String>) -> BoxedStrategy<String> {
    a.clone().prop_map(move |a| format!("{before}({a})")).boxed()
}

fn math(names: &'static [&'static str], a: &BoxedStrategy<String>) -> BoxedStrategy<String> {
    (proptest::sample::select(names), a.clone()).prop_map(|(f, a)| format!("math.{f}({a})")).boxed()
}

fn most(a: &BoxedStrategy<String>) -> BoxedStrategy<String> {
    (proptest::sample::select(&["greatest", "least"][..]), a.clone(), a.clone())
        .prop_map(|(f, a, b)| format!("math.{f}({a}, {b})"))
        .boxed()
}

fn grow(e: &Exprs) -> Exprs {
    const ORDER: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
    let list = (e.int.clone(), proptest::collection::vec(0i64..5, 0..4))
        .prop_map(|(a, list)| format!("({a} in {list:?})"))
        .boxed();
    let test = (e.text.clone(), proptest::sample::select(&["startsWith", "endsWith", "contains"][..]), e.text.clone())
        .prop_map(|(a, f, b)| format!("{a}.{f}({b})"))
        .boxed();
    let halves = e.float.clone().prop_map(|a| format!("({a} / 2.0)")).boxed();
    Exprs {
        bool: prop_oneof![
            2 => join(&e.bool, &["&&", "||"], &e.bool),
            1 => join(&e.int, ORDER, &e.int),
            1 => join(&e.float, ORDER, &e.float),
            1 => join(&e.text, ORDER, &e.text),
            1 => join(&e.bool, &["==", "!="], &e.bool),
            1 => around("!", &e.bool),
            1 => choose(e, &e.bool),
            1 => list,
            1 => test,
            1 => e.bool.clone(),
        ]
        .boxed(),
        int: prop_oneof![
            4 => join(&e.int, &["+", "-", "*", "/", "%"], &e.int),
            1 => around("-", &e.int),
            1 => around("int", &e.float),
            1 => around("size", &e.text),
            1 => math(&["abs", "sign"], &e.int),
            1 => choose(e, &e.int),
            1 => e.int.clone(),
        ]
        .boxed(),
        float: prop_oneof![
            3 => join(&e.float, &["+", "-", "*"], &e.float),
            1 => halves,
            1 => around("-", &e.float),
            1 => around("double", &e.int),
            1 => math(&["abs", "sign", "floor", "ceil", "round", "trunc"], &e.float),
            1 => most(&e.float),
            1 => choose(e, &e.float),
            1 => e.float.clone(),
        ]
        .boxed(),
        text: prop_oneof![
            2 => join(&e.text, &["+"], &e.text),
            1 => around("string", &e.int),
            1 => choose(e, &e.text),
            2 => e.text.clone(),
        ]
        .boxed(),
    }
}

fn sources() -> BoxedStrategy<String> {
    let e = (0..4).fold(leaves(), |e, _| grow(&e));
    prop_oneof![3 => e.bool, 2 => e.int, 1 => e.float, 1 => e.text].boxed()
}

fn theirs(source: &str, row: &[Value]) -> Value {
    let mut env = cel::Env::stdlib();
    cel::extensions::math(&mut env).expect("math");
    let env = Arc::new(env);
    let mut context = cel::Context::with_env(env.clone());
    for ((name, _), value) in fields().into_iter().zip(row) {
        context.add_variable_from_value(
            name,
            match value {
                Value::Bool(b) => cel::Value::Bool(*b),
                Value::Int(i) => cel::Value::Int(*i),
                Value::Float(x) => cel::Value::Float(*x),
                Value::Text(t) => cel::Value::String(Arc::new(t.to_string())),
                Value::Null => cel::Value::Null,
            },
        );
    }
    match env.compile(source).expect("well-formed").execute(&context) {
        Ok(cel::Value::Bool(b)) => Value::Bool(b),
        Ok(cel::Value::Int(i)) => Value::Int(i),
        Ok(cel::Value::Float(x)) => Value::Float(x),
        Ok(cel::Value::String(t)) => Value::text(&t),
        Ok(other) => panic!("{source} gave {other:?}"),
        Err(_) => Value::Null,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: RngSeed::Fixed(11), ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_interpreter_of_cel(
        source in sources(),
        b in any::<bool>(),
        i in prop_oneof![-9i64..9, any::<i64>()],
        x in -100i32..100,
        t in "[a-cé]{0,4}",
    ) {
        let row = vec![Value::Bool(b), Value::Int(i), Value::Float(f64::from(x) / 8.0), Value::text(&t), Value::Null];
        match Program::compile(&source, &fields(), None) {
            Ok(program) => prop_assert_eq!(program.eval(&row), theirs(&source, &row), "{}", source),
            Err(e) => prop_assert!(source.len() > MAX_SOURCE, "{}: {}", source, e),
        }
    }
}

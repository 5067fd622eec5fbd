//! The evaluator: a tree of typed nodes over a row of values. Numbers are never boxed.

use super::functions::{MathMany, MathOne, TextTest};
use crate::value::{Value, ValueType};
use std::cmp::Ordering;
use std::sync::Arc;

/// A value while evaluating; text is borrowed until it is computed.
#[derive(Clone, Debug)]
pub(super) enum V<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a Arc<str>),
    Made(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Operands have the types that the compiler checked: `Arith` and `Compare` get both sides alike.
#[derive(Debug)]
pub(super) enum Node {
    Const(Value),
    Slot(usize, ValueType),
    ToFloat(Box<Node>),
    ToInt(Box<Node>),
    ToText(Box<Node>),
    Neg(Box<Node>),
    Not(Box<Node>),
    IsNull(Box<Node>),
    Arith(Arith, Box<[Node; 2]>),
    Compare(Compare, Box<[Node; 2]>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Choose(Box<[Node; 3]>),
    In(Box<Node>, Box<[Node]>),
    Size(Box<Node>),
    Text(TextTest, Box<[Node; 2]>),
    Math(MathOne, Box<Node>),
    MathMany(MathMany, Box<[Node]>),
}

impl V<'_> {
    pub(super) fn into_value(self) -> Value {
        match self {
            V::Null => Value::Null,
            V::Bool(b) => Value::Bool(b),
            V::Int(i) => Value::Int(i),
            V::Float(f) => Value::Float(f),
            V::Text(t) => Value::Text(t.clone()),
            V::Made(t) => Value::Text(t),
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            V::Text(t) => Some(t),
            V::Made(t) => Some(t),
            _ => None,
        }
    }

    fn bool(&self) -> Option<bool> {
        match self {
            V::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// Order of two values of one type; `None` when either is null.
    pub(super) fn order(&self, other: &V<'_>) -> Option<Ordering> {
        match (self, other) {
            (V::Int(a), V::Int(b)) => Some(a.cmp(b)),
            (V::Float(a), V::Float(b)) => a.partial_cmp(b),
            (V::Bool(a), V::Bool(b)) => Some(a.cmp(b)),
            _ => Some(self.text()?.cmp(other.text()?)),
        }
    }
}

pub(super) fn float<'a>(x: f64) -> V<'a> {
    if x.is_finite() { V::Float(x) } else { V::Null }
}

fn int<'a>(x: Option<i64>) -> V<'a> {
    x.map_or(V::Null, V::Int)
}

fn bool<'a>(x: Option<bool>) -> V<'a> {
    x.map_or(V::Null, V::Bool)
}

fn slot(values: &[Value], i: usize, t: ValueType) -> V<'_> {
    match (values.get(i), t) {
        (Some(Value::Bool(b)), ValueType::Bool) => V::Bool(*b),
        (Some(Value::Int(x)), ValueType::Int) => V::Int(*x),
        (Some(Value::Int(x)), ValueType::Float) => V::Float(*x as f64),
        (Some(Value::Float(x)), ValueType::Float) => float(*x),
        (Some(Value::Text(s)), ValueType::Category) => V::Text(s),
        _ => V::Null,
    }
}

fn constant(value: &Value) -> V<'_> {
    match value {
        Value::Null => V::Null,
        Value::Bool(b) => V::Bool(*b),
        Value::Int(i) => V::Int(*i),
        Value::Float(f) => float(*f),
        Value::Text(s) => V::Text(s),
    }
}

fn arith<'a>(op: Arith, a: V<'a>, b: V<'a>) -> V<'a> {
    match (a, b) {
        (V::Int(a), V::Int(b)) => int(match op {
            Arith::Add => a.checked_add(b),
            Arith::Sub => a.checked_sub(b),
            Arith::Mul => a.checked_mul(b),
            Arith::Div => a.checked_div(b),
            Arith::Rem => a.checked_rem(b),
        }),
        (V::Float(a), V::Float(b)) => float(match op {
            Arith::Add => a + b,
            Arith::Sub => a - b,
            Arith::Mul => a * b,
            Arith::Div => a / b,
            Arith::Rem => a % b,
        }),
        (a, b) => match (a.text(), b.text()) {
            (Some(a), Some(b)) if op == Arith::Add => V::Made([a, b].concat().into()),
            _ => V::Null,
        },
    }
}

fn compare(op: Compare, order: Ordering) -> bool {
    match op {
        Compare::Eq => order.is_eq(),
        Compare::Ne => order.is_ne(),
        Compare::Lt => order.is_lt(),
        Compare::Le => order.is_le(),
        Compare::Gt => order.is_gt(),
        Compare::Ge => order.is_ge(),
    }
}

/// `stop` decides alone: false for `&&`, true for `||`; otherwise a null on either side is the result.
fn absorb<'a>(stop: bool, pair: &'a [Node; 2], values: &'a [Value]) -> V<'a> {
    let a = pair[0].eval(values).bool();
    if a == Some(stop) {
        return V::Bool(stop);
    }
    match (a, pair[1].eval(values).bool()) {
        (_, Some(b)) if b == stop => V::Bool(stop),
        (Some(_), Some(_)) => V::Bool(!stop),
        _ => V::Null,
    }
}

fn is_in<'a>(needle: &V<'_>, list: &'a [Node], values: &'a [Value]) -> V<'a> {
    if matches!(needle, V::Null) {
        return V::Null;
    }
    let mut unknown = false;
    for item in list {
        match needle.order(&item.eval(values)) {
            Some(Ordering::Equal) => return V::Bool(true),
            Some(_) => {}
            None => unknown = true,
        }
    }
    if unknown { V::Null } else { V::Bool(false) }
}

/// CEL's range rule: truncation toward zero, and only strictly inside the range of an int.
fn truncate<'a>(x: f64) -> V<'a> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if x > -LIMIT && x < LIMIT { V::Int(x as i64) } else { V::Null }
}

impl Node {
    pub(super) fn eval<'a>(&'a self, values: &'a [Value]) -> V<'a> {
        match self {
            Node::Const(v) => constant(v),
            Node::Slot(i, t) => slot(values, *i, *t),
            Node::Arith(op, pair) => arith(*op, pair[0].eval(values), pair[1].eval(values)),
            Node::Compare(op, pair) => bool(pair[0].eval(values).order(&pair[1].eval(values)).map(|o| compare(*op, o))),
            Node::And(pair) => absorb(false, pair, values),
            Node::Or(pair) => absorb(true, pair, values),
            Node::Not(a) => bool(a.eval(values).bool().map(|b| !b)),
            Node::IsNull(a) => V::Bool(matches!(a.eval(values), V::Null)),
            Node::Neg(a) => match a.eval(values) {
                V::Int(i) => int(i.checked_neg()),
                V::Float(f) => V::Float(-f),
                _ => V::Null,
            },
            Node::Choose(three) => match three[0].eval(values) {
                V::Bool(true) => three[1].eval(values),
                V::Bool(false) => three[2].eval(values),
                _ => V::Null,
            },
            Node::In(needle, list) => is_in(&needle.eval(values), list, values),
            Node::Size(a) => int(a.eval(values).text().map(|t| t.chars().count() as i64)),
            Node::Text(test, pair) => {
                let (a, b) = (pair[0].eval(values), pair[1].eval(values));
                bool(a.text().zip(b.text()).map(|(a, b)| test.apply(a, b)))
            }
            Node::ToFloat(a) => match a.eval(values) {
                V::Int(i) => V::Float(i as f64),
                V::Float(f) => V::Float(f),
                other => other.text().and_then(|t| t.trim().parse().ok()).map_or(V::Null, float),
            },
            Node::ToInt(a) => match a.eval(values) {
                V::Int(i) => V::Int(i),
                V::Float(f) => truncate(f),
                other => int(other.text().and_then(|t| t.trim().parse().ok())),
            },
            Node::ToText(a) => match a.eval(values) {
                V::Bool(b) => V::Made(Arc::from(if b { "true" } else { "false" })),
                V::Int(i) => V::Made(i.to_string().into()),
                V::Float(f) => V::Made(f.to_string().into()),
                other => other,
            },
            Node::Math(f, a) => f.apply(a.eval(values)),
            Node::MathMany(f, args) => f.apply(args, values),
        }
    }
}

//! Functions on text and the `math` name space: names as in CEL's math extension, plus `ln` and `exp`.

use super::eval::{Node, V, float};
use crate::value::Value;
use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

impl TextTest {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "startsWith" => TextTest::StartsWith,
            "endsWith" => TextTest::EndsWith,
            "contains" => TextTest::Contains,
            _ => return None,
        })
    }

    pub(super) fn apply(self, text: &str, part: &str) -> bool {
        match self {
            TextTest::StartsWith => text.starts_with(part),
            TextTest::EndsWith => text.ends_with(part),
            TextTest::Contains => text.contains(part),
        }
    }
}

/// Functions of one number. `Abs` and `Sign` keep the type of their argument; the rest give a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MathOne {
    Abs,
    Sign,
    Floor,
    Ceil,
    Round,
    Trunc,
    Sqrt,
    Ln,
    Exp,
}

/// Names after `math.`, for error messages.
pub(super) const MATH: [&str; 11] =
    ["abs", "sign", "floor", "ceil", "round", "trunc", "sqrt", "ln", "exp", "greatest", "least"];

impl MathOne {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "abs" => MathOne::Abs,
            "sign" => MathOne::Sign,
            "floor" => MathOne::Floor,
            "ceil" => MathOne::Ceil,
            "round" => MathOne::Round,
            "trunc" => MathOne::Trunc,
            "sqrt" => MathOne::Sqrt,
            "ln" => MathOne::Ln,
            "exp" => MathOne::Exp,
            _ => return None,
        })
    }

    pub(super) fn keeps_type(self) -> bool {
        matches!(self, MathOne::Abs | MathOne::Sign)
    }

    pub(super) fn apply<'a>(self, x: V<'a>) -> V<'a> {
        match (self, x) {
            (MathOne::Abs, V::Int(i)) => i.checked_abs().map_or(V::Null, V::Int),
            (MathOne::Sign, V::Int(i)) => V::Int(i.signum()),
            (f, V::Float(x)) => float(match f {
                MathOne::Abs => x.abs(),
                MathOne::Sign if x == 0.0 => 0.0,
                MathOne::Sign => x.signum(),
                MathOne::Floor => x.floor(),
                MathOne::Ceil => x.ceil(),
                MathOne::Round => x.round(),
                MathOne::Trunc => x.trunc(),
                MathOne::Sqrt => x.sqrt(),
                MathOne::Ln => x.ln(),
                MathOne::Exp => x.exp(),
            }),
            _ => V::Null,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MathMany {
    Greatest,
    Least,
}

impl MathMany {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "greatest" => MathMany::Greatest,
            "least" => MathMany::Least,
            _ => return None,
        })
    }

    /// Null as soon as one argument is.
    pub(super) fn apply<'a>(self, args: &'a [Node], values: &'a [Value]) -> V<'a> {
        let better = if self == MathMany::Greatest { Ordering::Greater } else { Ordering::Less };
        let mut best = args[0].eval(values);
        for arg in args {
            let x = arg.eval(values);
            match x.order(&best) {
                None => return V::Null,
                Some(o) if o == better => best = x,
                Some(_) => {}
            }
        }
        best
    }
}

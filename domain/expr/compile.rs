//! From CEL's syntax tree to typed nodes: names become slots, types are checked, the rest is refused.

use super::eval::{Arith, Compare, Node};
use super::functions::{MATH, MathMany, MathOne, TextTest};
use super::{ExprError, MAX_DEPTH, MAX_SOURCE};
use crate::problem::closest;
use crate::value::{Value, ValueType};
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators as op};
use std::fmt;

/// Static type of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Int,
    Float,
    Text,
}

impl Kind {
    fn of(t: ValueType) -> Kind {
        match t {
            ValueType::Bool => Kind::Bool,
            ValueType::Int => Kind::Int,
            ValueType::Float => Kind::Float,
            ValueType::Category => Kind::Text,
        }
    }

    pub(super) fn value_type(self) -> Option<ValueType> {
        Some(match self {
            Kind::Null => return None,
            Kind::Bool => ValueType::Bool,
            Kind::Int => ValueType::Int,
            Kind::Float => ValueType::Float,
            Kind::Text => ValueType::Category,
        })
    }

    fn is_number(self) -> bool {
        matches!(self, Kind::Int | Kind::Float)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::Float => "float",
            Kind::Text => "text",
        })
    }
}

pub(super) struct Compiled {
    pub(super) root: Node,
    pub(super) kind: Kind,
    pub(super) slots: Vec<usize>,
}

type Typed = (Node, Kind);

pub(super) fn compile(
    source: &str,
    fields: &[(String, ValueType)],
    want: Option<ValueType>,
) -> Result<Compiled, ExprError> {
    if source.len() > MAX_SOURCE {
        let message = format!("the expression has {} bytes; at most {MAX_SOURCE} are allowed", source.len());
        return Err(ExprError::new(message, "split it into several rules or features"));
    }
    super::limits::check(source)?;
    let tree = super::limits::parse(source)?;
    let mut compiler = Compiler { fields, slots: Vec::new() };
    let (mut root, mut kind) = compiler.node(&tree.expr, 0)?;
    if let Some(want) = want.map(Kind::of) {
        if want == Kind::Float && kind == Kind::Int {
            (root, kind) = (Node::ToFloat(Box::new(root)), Kind::Float);
        }
        if kind != want && kind != Kind::Null {
            return Err(ExprError::new(
                format!("the expression gives {kind}, but {want} is wanted here"),
                match want {
                    Kind::Bool => "compare it with something, such as `x > 0`",
                    Kind::Int => "convert it with `int(...)`",
                    Kind::Float => "convert it with `double(...)`",
                    _ => "convert it with `string(...)`",
                },
            ));
        }
    }
    let mut slots = compiler.slots;
    slots.sort_unstable();
    slots.dedup();
    Ok(Compiled { root, kind, slots })
}

fn mismatch(operator: &str, a: Kind, b: Kind, hint: &str) -> ExprError {
    ExprError::new(format!("operator `{operator}` does not take {a} and {b}"), hint)
}

fn refused(what: &str) -> ExprError {
    ExprError::new(
        format!("{what} not supported here"),
        "supported: literals, fields, + - * / %, comparisons, && || ! ?:, `in` on list literals, size, \
         startsWith, endsWith, contains, int(), double(), string(), math.*",
    )
}

/// Both sides alike: an int beside a float is promoted, null fits any type.
fn unify((a, ka): Typed, (b, kb): Typed) -> Option<(Node, Node, Kind)> {
    Some(match (ka, kb) {
        (Kind::Int, Kind::Float) => (Node::ToFloat(Box::new(a)), b, Kind::Float),
        (Kind::Float, Kind::Int) => (a, Node::ToFloat(Box::new(b)), Kind::Float),
        (Kind::Null, k) | (k, Kind::Null) => (a, b, k),
        _ if ka == kb => (a, b, ka),
        _ => return None,
    })
}

fn pair(a: Node, b: Node) -> Box<[Node; 2]> {
    Box::new([a, b])
}

struct Compiler<'f> {
    fields: &'f [(String, ValueType)],
    slots: Vec<usize>,
}

impl Compiler<'_> {
    fn node(&mut self, expr: &Expr, depth: usize) -> Result<Typed, ExprError> {
        if depth >= MAX_DEPTH {
            return Err(super::limits::too_deep());
        }
        match expr {
            Expr::Literal(l) => literal(l),
            Expr::Ident(name) => self.field(name),
            Expr::Select(s) if s.test => Err(refused("the macro `has` is")),
            Expr::Select(_) => match dotted(expr) {
                Some(name) => self.field(&name),
                None => Err(refused("selecting a member of a value is")),
            },
            Expr::Call(call) => self.call(call, depth + 1),
            Expr::Comprehension(_) => Err(refused("the macros `all`, `exists`, `exists_one`, `map`, `filter` are")),
            Expr::List(_) => Err(refused("a list outside the right side of `in` is")),
            Expr::Map(_) => Err(refused("a map literal is")),
            Expr::Struct(_) => Err(refused("a message literal is")),
            Expr::Unspecified => Err(refused("an empty expression is")),
        }
    }

    fn field(&mut self, name: &str) -> Result<Typed, ExprError> {
        let Some(i) = self.fields.iter().position(|(n, _)| n == name) else {
            let hint = match closest(name, self.fields.iter().map(|(n, _)| n.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None if self.fields.is_empty() => "there are no fields here".to_string(),
                None => {
                    let some: Vec<&str> = self.fields.iter().take(12).map(|(n, _)| n.as_str()).collect();
                    format!("fields here: {}{}", some.join(", "), if self.fields.len() > 12 { ", ..." } else { "" })
                }
            };
            return Err(ExprError::new(format!("unknown field `{name}`"), hint));
        };
        self.slots.push(i);
        Ok((Node::Slot(i, self.fields[i].1), Kind::of(self.fields[i].1)))
    }

    fn call(&mut self, call: &CallExpr, depth: usize) -> Result<Typed, ExprError> {
        let name = call.func_name.as_str();
        if let Some(target) = &call.target {
            return match &target.expr {
                Expr::Ident(space) if space == "math" => self.math(name, call, depth),
                target => self.method(name, target, call, depth),
            };
        }
        match (name, call.args.as_slice()) {
            (op::LOGICAL_AND | op::LOGICAL_OR, [a, b]) => {
                let symbol = &name[1..3];
                let ((a, ka), (b, kb)) = (self.node(&a.expr, depth)?, self.node(&b.expr, depth)?);
                if ![ka, kb].iter().all(|k| matches!(k, Kind::Bool | Kind::Null)) {
                    return Err(mismatch(symbol, ka, kb, "both sides must be bool"));
                }
                let both = pair(a, b);
                Ok((if symbol == "&&" { Node::And(both) } else { Node::Or(both) }, Kind::Bool))
            }
            (op::LOGICAL_NOT, [a]) => match self.node(&a.expr, depth)? {
                (a, Kind::Bool | Kind::Null) => Ok((Node::Not(Box::new(a)), Kind::Bool)),
                (_, k) => Err(ExprError::new(format!("operator `!` does not take {k}"), "it takes a bool")),
            },
            (op::NEGATE, [a]) => match self.node(&a.expr, depth)? {
                (a, k @ (Kind::Int | Kind::Float | Kind::Null)) => Ok((Node::Neg(Box::new(a)), k)),
                (_, k) => Err(ExprError::new(format!("operator `-` does not take {k}"), "it takes a number")),
            },
            (op::CONDITIONAL, [c, a, b]) => {
                let (c, kc) = self.node(&c.expr, depth)?;
                if !matches!(kc, Kind::Bool | Kind::Null) {
                    let message = format!("operator `?:` does not take {kc} as its condition");
                    return Err(ExprError::new(message, "the condition must be bool"));
                }
                let (a, b) = (self.node(&a.expr, depth)?, self.node(&b.expr, depth)?);
                let (ka, kb) = (a.1, b.1);
                let (a, b, k) = unify(a, b).ok_or_else(|| mismatch("?:", ka, kb, "both branches must be alike"))?;
                Ok((Node::Choose(Box::new([c, a, b])), k))
            }
            (op::IN, [a, list]) => {
                let Expr::List(list) = &list.expr else {
                    return Err(ExprError::new(
                        "operator `in` needs a list literal on its right side",
                        "such as `carrier in ['AA', 'DL']`",
                    ));
                };
                let needle = self.node(&a.expr, depth)?;
                let items: Vec<Typed> =
                    list.elements.iter().map(|e| self.node(&e.expr, depth)).collect::<Result<_, _>>()?;
                self.is_in(needle, items)
            }
            (_, [a, b]) if operator(name).is_some() => {
                let (a, b) = (self.node(&a.expr, depth)?, self.node(&b.expr, depth)?);
                binary(name, a, b)
            }
            ("int" | "double" | "string" | "size", [a]) => {
                let arg = self.node(&a.expr, depth)?;
                convert(name, arg)
            }
            ("int" | "double" | "string" | "size", args) => {
                Err(ExprError::new(format!("`{name}` takes 1 argument, not {}", args.len()), ""))
            }
            (op::INDEX | op::OPT_INDEX, _) => Err(refused("indexing `[...]` is")),
            (op::OPT_SELECT, _) => Err(refused("optional selection `.?` is")),
            _ if MATH.contains(&name) => {
                Err(ExprError::new(format!("unknown function `{name}`"), format!("did you mean `math.{name}`?")))
            }
            ("min", _) => Err(ExprError::new("unknown function `min`", "did you mean `math.least`?")),
            ("max", _) => Err(ExprError::new("unknown function `max`", "did you mean `math.greatest`?")),
            _ => Err(refused(&format!("the function `{name}` is"))),
        }
    }

    fn is_in(&self, (needle, kind): Typed, items: Vec<Typed>) -> Result<Typed, ExprError> {
        // One type for all: float as soon as any of needle and items is.
        let float = kind == Kind::Float || items.iter().any(|(_, k)| *k == Kind::Float);
        let lift = |(n, k): Typed| match k {
            Kind::Int if float => (Node::ToFloat(Box::new(n)), Kind::Float),
            _ => (n, k),
        };
        let (needle, kind) = lift((needle, kind));
        let mut nodes = Vec::with_capacity(items.len());
        for item in items {
            let (node, k) = lift(item);
            if k == Kind::Null {
                return Err(mismatch("in", kind, k, "null is in no list; ask `x == null`"));
            }
            if k != kind && kind != Kind::Null {
                return Err(mismatch("in", kind, k, "list items must be of the type of the left side"));
            }
            nodes.push(node);
        }
        Ok((Node::In(Box::new(needle), nodes.into()), Kind::Bool))
    }

    fn method(&mut self, name: &str, target: &Expr, call: &CallExpr, depth: usize) -> Result<Typed, ExprError> {
        if let Some(test) = TextTest::of(name) {
            let [arg] = call.args.as_slice() else {
                return Err(ExprError::new(format!("`{name}` takes 1 argument, not {}", call.args.len()), ""));
            };
            let ((a, ka), (b, kb)) = (self.node(target, depth)?, self.node(&arg.expr, depth)?);
            if ![ka, kb].iter().all(|k| matches!(k, Kind::Text | Kind::Null)) {
                return Err(mismatch(name, ka, kb, "both must be text"));
            }
            return Ok((Node::Text(test, pair(a, b)), Kind::Bool));
        }
        if name == "size" && call.args.is_empty() {
            let target = self.node(target, depth)?;
            return convert(name, target);
        }
        Err(refused(&format!("the method `{name}` is")))
    }

    fn math(&mut self, name: &str, call: &CallExpr, depth: usize) -> Result<Typed, ExprError> {
        let args: Vec<Typed> = call.args.iter().map(|a| self.node(&a.expr, depth)).collect::<Result<_, _>>()?;
        if let Some((_, k)) = args.iter().find(|(_, k)| !k.is_number() && *k != Kind::Null) {
            return Err(ExprError::new(format!("`math.{name}` does not take {k}"), "it takes numbers"));
        }
        let count = args.len();
        if let Some(many) = MathMany::of(name) {
            if count == 0 {
                return Err(ExprError::new(format!("`math.{name}` takes at least 1 argument"), ""));
            }
            let float = args.iter().any(|(_, k)| *k == Kind::Float);
            let args: Vec<Node> = args
                .into_iter()
                .map(|(n, k)| if float && k == Kind::Int { Node::ToFloat(Box::new(n)) } else { n })
                .collect();
            return Ok((Node::MathMany(many, args.into()), if float { Kind::Float } else { Kind::Int }));
        }
        let Some(one) = MathOne::of(name) else {
            let hint = match closest(name, MATH) {
                Some(near) => format!("did you mean `math.{near}`?"),
                None => format!("known: {}", MATH.map(|m| format!("math.{m}")).join(", ")),
            };
            return Err(ExprError::new(format!("unknown function `math.{name}`"), hint));
        };
        let mut args = args.into_iter();
        let (Some((arg, kind)), None) = (args.next(), args.next()) else {
            return Err(ExprError::new(format!("`math.{name}` takes 1 argument, not {count}"), ""));
        };
        Ok(match kind {
            Kind::Int if !one.keeps_type() => (Node::Math(one, Box::new(Node::ToFloat(Box::new(arg)))), Kind::Float),
            _ if one.keeps_type() => (Node::Math(one, Box::new(arg)), kind),
            _ => (Node::Math(one, Box::new(arg)), Kind::Float),
        })
    }
}

enum Operator {
    Arith(Arith),
    Compare(Compare),
}

fn operator(name: &str) -> Option<(Operator, &'static str)> {
    use Operator::{Arith as A, Compare as C};
    Some(match name {
        op::ADD => (A(Arith::Add), "+"),
        op::SUBSTRACT => (A(Arith::Sub), "-"),
        op::MULTIPLY => (A(Arith::Mul), "*"),
        op::DIVIDE => (A(Arith::Div), "/"),
        op::MODULO => (A(Arith::Rem), "%"),
        op::EQUALS => (C(Compare::Eq), "=="),
        op::NOT_EQUALS => (C(Compare::Ne), "!="),
        op::LESS => (C(Compare::Lt), "<"),
        op::LESS_EQUALS => (C(Compare::Le), "<="),
        op::GREATER => (C(Compare::Gt), ">"),
        op::GREATER_EQUALS => (C(Compare::Ge), ">="),
        _ => return None,
    })
}

fn binary(name: &str, a: Typed, b: Typed) -> Result<Typed, ExprError> {
    let Some((operator, symbol)) = operator(name) else {
        return Err(refused(&format!("the operator `{name}` is")));
    };
    let (ka, kb) = (a.1, b.1);
    let hint = match (ka, kb) {
        (Kind::Text, k) | (k, Kind::Text) if k.is_number() => "convert one side: double(text), int(text) or string(x)",
        (Kind::Bool, k) | (k, Kind::Bool) if k.is_number() => "a bool as a number is `b ? 1 : 0`",
        _ => "",
    };
    match operator {
        // A null literal asks for presence; any other null makes the comparison null.
        Operator::Compare(c @ (Compare::Eq | Compare::Ne)) if ka == Kind::Null || kb == Kind::Null => {
            let asked = if ka == Kind::Null && kb != Kind::Null { b.0 } else { a.0 };
            let is_null = Node::IsNull(Box::new(asked));
            Ok((if c == Compare::Eq { is_null } else { Node::Not(Box::new(is_null)) }, Kind::Bool))
        }
        Operator::Compare(c) => {
            let (a, b, _) = unify(a, b).ok_or_else(|| mismatch(symbol, ka, kb, hint))?;
            Ok((Node::Compare(c, pair(a, b)), Kind::Bool))
        }
        Operator::Arith(o) => {
            let (a, b, k) = unify(a, b).ok_or_else(|| mismatch(symbol, ka, kb, hint))?;
            let fits = match k {
                Kind::Int | Kind::Null => true,
                Kind::Float => o != Arith::Rem,
                Kind::Text => o == Arith::Add,
                Kind::Bool => false,
            };
            if !fits {
                let hint = if o == Arith::Rem { "`%` takes ints; convert with int(x)" } else { hint };
                return Err(mismatch(symbol, ka, kb, hint));
            }
            Ok((Node::Arith(o, pair(a, b)), k))
        }
    }
}

fn convert(name: &str, (arg, kind): Typed) -> Result<Typed, ExprError> {
    let arg = Box::new(arg);
    match (name, kind) {
        ("size", Kind::Text | Kind::Null) => Ok((Node::Size(arg), Kind::Int)),
        ("string", _) => Ok((Node::ToText(arg), Kind::Text)),
        ("int", Kind::Int | Kind::Float | Kind::Text | Kind::Null) => Ok((Node::ToInt(arg), Kind::Int)),
        ("double", Kind::Int | Kind::Float | Kind::Text | Kind::Null) => Ok((Node::ToFloat(arg), Kind::Float)),
        ("size", _) => Err(ExprError::new(format!("`size` does not take {kind}"), "it takes text")),
        _ => Err(ExprError::new(format!("`{name}` does not take {kind}"), "a bool as a number is `b ? 1 : 0`")),
    }
}

fn literal(literal: &LiteralValue) -> Result<Typed, ExprError> {
    Ok(match literal {
        LiteralValue::Null => (Node::Const(Value::Null), Kind::Null),
        LiteralValue::Boolean(b) => (Node::Const(Value::Bool(*b.inner())), Kind::Bool),
        LiteralValue::Int(i) => (Node::Const(Value::Int(*i.inner())), Kind::Int),
        LiteralValue::Double(d) if d.inner().is_finite() => (Node::Const(Value::Float(*d.inner())), Kind::Float),
        LiteralValue::Double(_) => return Err(ExprError::new("a literal is too large for a float", "")),
        LiteralValue::String(s) => (Node::Const(Value::text(s.inner())), Kind::Text),
        LiteralValue::UInt(u) => {
            return Err(ExprError::new(
                format!("unsigned literal `{}u` is not supported here", u.inner()),
                "write it without the `u`",
            ));
        }
        LiteralValue::Bytes(_) => return Err(refused("a bytes literal is")),
    })
}

/// `a.b.c` as one name, for fields whose name has dots.
fn dotted(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(s) if !s.test => Some(format!("{}.{}", dotted(&s.operand.expr)?, s.field)),
        _ => None,
    }
}

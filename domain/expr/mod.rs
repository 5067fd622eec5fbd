//! CEL (Common Expression Language) over scalar fields: rules, `where` predicates, computed features.
//!
//! The `cel` crate parses; here the tree is type-checked against the declared fields and turned
//! into a small evaluator that reads fields by slot. Supported: literals, fields, `+ - * / %`,
//! unary `-` and `!`, comparisons, `&& || ?:`, `in` on list literals, `size`, `startsWith`,
//! `endsWith`, `contains`, `int()`, `double()`, `string()` and `math.*` (see `functions`).
//! Everything else is refused by name when compiled.
//!
//! Departures from strict CEL, both deliberate:
//! - an int beside a double is promoted to double (strict CEL refuses `1 + 1.0`);
//! - there are no errors while evaluating: a missing operand, division by zero, overflow or a
//!   non-finite result is null. `&&` and `||` absorb a null as CEL absorbs an error, and
//!   `x == null`, `x != null` ask whether a value is there.

mod compile;
mod eval;
mod functions;
mod limits;
#[cfg(test)]
mod tests;

use crate::value::{Value, ValueType};
use std::fmt;
use std::sync::Arc;

/// Longest source, in bytes.
pub const MAX_SOURCE: usize = 4096;
/// Deepest nesting of operators, calls, conditionals and brackets.
pub const MAX_DEPTH: usize = 64;

/// A compiled expression. Cheap to clone; evaluation is pure.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

struct Inner {
    source: String,
    slots: Vec<usize>,
    result: Option<ValueType>,
    root: eval::Node,
}

/// Why an expression was refused, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    pub message: String,
    /// May be empty.
    pub hint: String,
}

impl ExprError {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        ExprError { message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, "\n  hint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for ExprError {}

impl Program {
    /// Compiles `source` over `fields`; a field's index is its slot. With `want`, an expression of
    /// another type is refused (an int is promoted where a float is wanted; null fits everywhere).
    pub fn compile(
        source: &str,
        fields: &[(String, ValueType)],
        want: Option<ValueType>,
    ) -> Result<Program, ExprError> {
        let compiled = compile::compile(source, fields, want)?;
        Ok(Program(Arc::new(Inner {
            source: source.to_string(),
            slots: compiled.slots,
            result: compiled.kind.value_type(),
            root: compiled.root,
        })))
    }

    /// The result for one row, `Value::Null` when undefined. A slot beyond the end of `values`,
    /// or whose value is not of the declared type, reads as null.
    pub fn eval(&self, values: &[Value]) -> Value {
        self.0.root.eval(values).into_value()
    }

    /// Slots that the expression reads, ascending, each once.
    pub fn slots(&self) -> &[usize] {
        &self.0.slots
    }

    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Type of the result; `None` for an expression that is always null.
    pub fn result(&self) -> Option<ValueType> {
        self.0.result
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("source", &self.0.source).field("slots", &self.0.slots).finish()
    }
}

//! Limits on the source before it is parsed, so that no input can exhaust the parser's stack.

use super::{ExprError, MAX_DEPTH};
use cel::IdedExpr;

/// Stack of the thread that parses: a bracket takes the parser through its whole ladder of rules,
/// some 64 KiB unoptimized. Reserved, not touched.
const PARSER_STACK: usize = 32 << 20;

/// Parses a source that passed `check`, on a stack of its own.
pub(super) fn parse(source: &str) -> Result<IdedExpr, ExprError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(PARSER_STACK)
            .spawn_scoped(scope, || {
                cel::parser::Parser::new().error_recovery_limit(4).parse(source).map_err(|e| syntax_error(&e))
            })
            .map_err(|e| ExprError::new(format!("no thread to parse the expression: {e}"), "raise the thread limit"))?
            .join()
            .unwrap_or_else(|_| Err(ExprError::new("the parser failed on this expression", "simplify it")))
    })
}

fn syntax_error(errors: &cel::ParseErrors) -> ExprError {
    match errors.errors.first() {
        Some(e) => ExprError::new(
            format!("syntax error at line {}, column {}: {}", e.pos.0, e.pos.1, e.msg),
            "expressions are CEL, such as `delay > 15.0 && carrier in ['AA', 'DL']`",
        ),
        None => ExprError::new("syntax error", "expressions are CEL"),
    }
}

pub(super) fn too_deep() -> ExprError {
    ExprError::new(
        format!("the expression is nested more than {MAX_DEPTH} levels deep"),
        "each operator in a row such as a + b + c + ... is a level too; split the expression",
    )
}

/// What nests inside one pair of brackets: operators in a row, and conditionals.
#[derive(Clone, Copy, Default)]
struct Level {
    operators: usize,
    conditionals: usize,
}

impl Level {
    fn depth(self) -> usize {
        self.operators + self.conditionals
    }
}

/// Refuses a source whose tree could be deeper than `MAX_DEPTH`, by counting along the open
/// brackets. `&&`, `||` and commas start a new branch, so long lists and conjunctions pass.
pub(super) fn check(source: &str) -> Result<(), ExprError> {
    let bytes = source.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(b' ');
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut outer: Vec<(Level, usize)> = Vec::new();
    let (mut level, mut below) = (Level::default(), 0);
    let mut i = 0;
    while i < bytes.len() {
        let before = if i == 0 { b' ' } else { bytes[i - 1] };
        match bytes[i] {
            quote @ (b'\'' | b'"') => {
                i += 1;
                while i < bytes.len() && bytes[i] != quote {
                    i += 1 + usize::from(bytes[i] == b'\\');
                }
            }
            b'(' | b'[' | b'{' => {
                outer.push((level, below));
                below += 1 + level.depth();
                level = Level::default();
            }
            b')' | b']' | b'}' => {
                (level, below) = outer.pop().unwrap_or_default();
                // A call or index in a row of them is a level of its own.
                level.operators += usize::from(matches!(at(i + 1), b'[' | b'('));
            }
            b',' => level = Level::default(),
            b'&' | b'|' | b':' => level.operators = 0,
            b'?' => {
                level.operators = 0;
                level.conditionals += 1;
            }
            b'.' if !at(i + 1).is_ascii_digit() => level.operators += 1,
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'!' => level.operators += 1,
            b'=' if before == b'=' => level.operators += 1,
            b'i' if at(i + 1) == b'n' && !word(before) && !word(at(i + 2)) => level.operators += 1,
            _ => {}
        }
        if below + level.depth() > MAX_DEPTH {
            return Err(too_deep());
        }
        i += 1;
    }
    Ok(())
}

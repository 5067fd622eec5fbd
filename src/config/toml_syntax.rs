//! A TOML file as tokens, before a tree of it is built: its first error of syntax, and how many tables it opens.
//!
//! The parser of trees goes on after an error, and every table that it meets costs a kilobyte; here only the tokens
//! are kept.

use toml_parser::parser::{EventReceiver, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, Expected, ParseError, Source, Span};

/// Depth at which the parser of trees stops.
const LEVELS: u32 = 80;

/// What the tokens tell.
pub struct Syntax {
    /// The first error: its message, as the parser of trees would say it, and the byte where it stands.
    pub error: Option<(String, Option<usize>)>,
    /// Tables that the tree can have: headers, dots in keys, tables in braces.
    pub tables: usize,
}

pub fn of(text: &str) -> Syntax {
    let source = Source::new(text);
    let tokens = source.lex().into_vec();
    let (mut tables, mut error) = (Tables(0), None::<ParseError>);
    let mut spaces = ValidateWhitespace::new(&mut tables, source);
    parse_document(&tokens, &mut RecursionGuard::new(&mut spaces, LEVELS), &mut error);
    Syntax { error: error.map(|e| (message(&e), e.unexpected().map(|s| s.start()))), tables: tables.0 }
}

struct Tables(usize);

impl EventReceiver for Tables {
    fn std_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.0 += 1;
    }
    fn array_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.0 += 1;
    }
    fn inline_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) -> bool {
        self.0 += 1;
        true
    }
    fn key_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.0 += 1;
    }
}

fn message(e: &ParseError) -> String {
    let Some(expected) = e.expected() else { return e.description().to_owned() };
    let words: Vec<String> = expected.iter().map(word).collect();
    let words = if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
    format!("{}, expected {words}", e.description())
}

fn word(expected: &Expected) -> String {
    match expected {
        Expected::Literal("\n") => "newline".to_owned(),
        Expected::Literal("`") => "'`'".to_owned(),
        Expected::Literal(l) if l.chars().all(|c| c.is_ascii_control()) => format!("`{}`", l.escape_debug()),
        Expected::Literal(l) => format!("`{l}`"),
        Expected::Description(d) => (*d).to_owned(),
        _ => "etc".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tables_are_counted_where_a_tree_has_them() {
        for (text, tables) in [
            ("a = 1\nb = [1.0, 2.0]\nc = \"{.}\" # {.}", 0),
            ("[a]\nb = 1", 1),
            ("[a.b]\nc.d = 1", 3),
            ("[[a]]\n[[a]]", 2),
            ("a = [{ b = 1 }, { c.d = {} }]", 4),
        ] {
            let syntax = of(text);
            assert_eq!((syntax.error, syntax.tables), (None, tables), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_error_of_syntax_is_what_the_parser_of_trees_says(
            text in r#"([a-c=.,"'\[\]{}# \n0-2\\]|\[a\]\n|b = |= \{ |"x"|\u{1}|\t){0,24}"#,
        ) {
            let tree = toml::de::DeTable::parse(&text);
            if let Some((message, at)) = of(&text).error {
                let e = tree.expect_err("an error of syntax");
                prop_assert_eq!((e.message(), e.span().map(|s| s.start)), (&*message, at));
            }
        }
    }
}

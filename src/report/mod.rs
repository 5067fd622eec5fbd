//! A report as one HTML file: no scripts, no other files, light and dark.

pub mod rollout;
mod svg;

use std::fmt::Write as _;

pub struct Report {
    pub title: String,
    pub subtitle: String,
    /// What ran, as name and value.
    pub facts: Vec<(String, String)>,
    pub tables: Vec<Table>,
    /// Labels of the points of every plot.
    pub x: Vec<String>,
    pub plots: Vec<Plot>,
}

/// The first column is text, the others are numbers.
pub struct Table {
    pub title: String,
    pub note: String,
    pub headers: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

pub struct Plot {
    pub title: String,
    /// What the vertical axis shows.
    pub unit: String,
    pub series: Vec<Series>,
}

/// One line; `None` is a gap.
pub struct Series {
    pub name: String,
    pub values: Vec<Option<f64>>,
}

/// Rows beyond it are folded away.
const OPEN_ROWS: usize = 12;

const STYLE: &str = include_str!("style.css");

pub fn render(r: &Report) -> String {
    let mut h = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{0}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{0}</h1>\n<p class=\"lead\">{1}</p>\n",
        escape(&r.title),
        escape(&r.subtitle)
    );
    h.push_str("<dl class=\"facts\">\n");
    for (k, v) in &r.facts {
        let _ = writeln!(h, "<div><dt>{}</dt><dd>{}</dd></div>", escape(k), escape(v));
    }
    h.push_str("</dl>\n");
    let mut tables = r.tables.iter();
    if let Some(t) = tables.next() {
        table(&mut h, t);
    }
    h.push_str("<div class=\"plots\">\n");
    for (i, p) in r.plots.iter().enumerate() {
        h.push_str(&svg::figure(i, p, &r.x));
    }
    h.push_str("</div>\n");
    for t in tables {
        table(&mut h, t);
    }
    h.push_str("</main>\n</body>\n</html>\n");
    h
}

/// A longer cell is a sentence: it wraps.
const SENTENCE: usize = 40;

fn table(h: &mut String, t: &Table) {
    let fold = t.rows.len() > OPEN_ROWS;
    let _ = writeln!(h, "<section>\n<h2>{}</h2>\n<p class=\"note\">{}</p>", escape(&t.title), escape(&t.note));
    if fold {
        let _ = writeln!(h, "<details>\n<summary>{} rows</summary>", t.rows.len());
    }
    h.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    for c in &t.headers {
        let _ = write!(h, "<th scope=\"col\">{}</th>", escape(c));
    }
    h.push_str("</tr></thead>\n<tbody>\n");
    for row in &t.rows {
        let inner = row.first().is_some_and(|c| c.starts_with(' '));
        h.push_str(if inner { "<tr class=\"beside\">" } else { "<tr>" });
        for (i, c) in row.iter().enumerate() {
            let text = escape(c.trim());
            let _ = match i {
                0 => write!(h, "<th scope=\"row\">{text}</th>"),
                _ if c.chars().count() > SENTENCE => write!(h, "<td class=\"words\">{text}</td>"),
                _ => write!(h, "<td>{text}</td>"),
            };
        }
        h.push_str("</tr>\n");
    }
    h.push_str("</tbody>\n</table></div>\n");
    h.push_str(if fold { "</details>\n</section>\n" } else { "</section>\n" });
}

/// Text that is safe between tags and in quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;

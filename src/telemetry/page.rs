//! docs/metrics.md, made of the inventory.

use super::inventory::{ATTRIBUTES, METRICS};

/// docs/metrics.md, whole.
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nEvery metric, as OpenTelemetry names it and as `/metrics` does. `understudy telemetry metrics --markdown` writes this page.\n\n\
         | OpenTelemetry | Prometheus | kind | unit | attributes | meaning |\n|---|---|---|---|---|---|\n",
    );
    for m in METRICS {
        let kind = format!("{:?}", m.kind).to_lowercase();
        let name = m.prometheus();
        let attributes = m.attributes.join(", ");
        page.push_str(&format!("| `{}` | `{name}` | {kind} | {} | {attributes} | {} |\n", m.name, m.unit, m.meaning));
    }
    page.push_str("\n## Attributes\n\nAll are bounded.\n\n| attribute | values |\n|---|---|\n");
    for (name, values) in ATTRIBUTES {
        page.push_str(&format!("| {name} | {values} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::super::inventory::Kind;
    use super::*;

    #[test]
    fn names_are_distinct_and_attributes_are_bounded() {
        for (i, m) in METRICS.iter().enumerate() {
            assert!(METRICS[..i].iter().all(|n| n.prometheus() != m.prometheus()), "{} stands twice", m.name);
            assert!(m.name.chars().all(|c| c.is_ascii_lowercase() || c == '.' || c == '_'), "{}", m.name);
            assert!(m.kind != Kind::Gauge || m.unit != "1", "{}: say what is counted", m.name);
            for attribute in m.attributes {
                assert!(ATTRIBUTES.iter().any(|(name, _)| name == attribute), "what bounds {attribute}?");
            }
        }
    }

    #[test]
    fn the_page_is_current() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let written = std::fs::read_to_string(file).unwrap_or_default();
        assert!(written == page(), "run `understudy telemetry metrics --markdown > docs/metrics.md`");
    }
}

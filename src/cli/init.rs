//! `init`: a new project with one example of everything.

use super::error::{CliError, Result, at_path};
use super::output;
use super::target::Context;
use std::path::Path;

/// File and content, relative to the project.
const FILES: [(&str, &str); 5] = [
    ("understudy.toml", SETTINGS),
    ("features/shop.toml", FEATURES),
    ("models/returns.toml", MODEL),
    ("rules/shop.toml", RULES),
    ("events.ndjson", EVENTS),
];

const SETTINGS: &str = r#"# Settings of the server; `understudy config show --effective` prints all of them with their defaults.
[server]
port = 8080

[storage]
dir = "data"
"#;

const FEATURES: &str = r#"# What events may carry.
[events.order_placed]
entities = ["customer"]
properties = { amount = "float", items = "int" }

[events.order_returned]
entities = ["customer"]
properties = { order = "category", returned = "bool" }

# Features of a customer, computed from events as they arrive.
[views.customer_orders]
entity = "customer"
event = "order_placed"
ttl = "30d"

[views.customer_orders.features.orders_30d]
aggregate = "count"
window = "30d"

[views.customer_orders.features.amount_mean_30d]
aggregate = "mean"
property = "amount"
window = "30d"

# Features that the request itself carries.
[context.amount]
type = "float"
check = { min = 0.0 }
"#;

const MODEL: &str = r#"# Will this order come back?
name = "returns"
features = ["orders_30d", "amount_mean_30d", "amount"]
positive_label = "returned"
negative_label = "kept"

[request]
event = "order_placed"

[outcome]
event = "order_returned"
request_property = "order"
label = "returned"
matures_after = "14d"
expires_after = "30d"

[train]
algorithm = "logistic"
"#;

const RULES: &str = r#"# Must hold for every request; what breaks a rule is said in the answer, logged and counted.
[rules.plausible_amount]
expect = "amount < 100000.0"
message = "an order this large is checked by hand"
"#;

const EVENTS: &str = r#"{"id":"o1","type":"order_placed","time":"2025-01-01T09:00:00Z","entities":{"customer":"c1"},"properties":{"amount":49.9,"items":2}}
{"id":"o2","type":"order_placed","time":"2025-01-03T12:30:00Z","entities":{"customer":"c1"},"properties":{"amount":120.0,"items":1}}
{"id":"r1","type":"order_returned","time":"2025-01-08T08:00:00Z","entities":{"customer":"c1"},"properties":{"order":"o1","returned":true}}
"#;

pub fn run(ctx: &Context, dir: &Path) -> Result {
    write(dir, |path| ctx.note(&format!("wrote {}", path.display())))?;
    if ctx.json {
        output::json(&FILES.map(|(name, _)| dir.join(name)));
    } else {
        output::line(&format!("Next: understudy serve --project {}", dir.display()));
    }
    Ok(())
}

/// Writes the files into a directory that is empty or new; tells each path.
pub fn write(dir: &Path, wrote: impl Fn(&Path)) -> Result {
    if std::fs::read_dir(dir).is_ok_and(|mut d| d.next().is_some()) {
        return Err(
            CliError::new(format!("{} is not empty; nothing was written", dir.display())).hint("name a new directory")
        );
    }
    for (name, text) in FILES {
        let path = dir.join(name);
        let folder = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).map_err(at_path(folder, "make"))?;
        std::fs::write(&path, text).map_err(at_path(&path, "write"))?;
        wrote(&path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_domain::event::Event;
    use understudy_domain::project::{FeatureFile, ModelSpec, RuleFile};

    #[test]
    fn the_example_files_are_what_the_program_reads() {
        let features: FeatureFile = toml::from_str(FEATURES).unwrap();
        let model: ModelSpec = toml::from_str(MODEL).unwrap();
        let rules: RuleFile = toml::from_str(RULES).unwrap();
        SETTINGS.parse::<toml::Table>().unwrap();
        assert!(!rules.rules.is_empty());
        let declared = |f: &String| {
            features.context.contains_key(f) || features.views.values().any(|v| v.features.contains_key(f))
        };
        assert!(model.features.iter().all(declared), "{:?}", model.features);
        for l in EVENTS.lines() {
            let e: Event = serde_json::from_str(l).unwrap();
            let spec = &features.events[&e.kind];
            for (name, value) in &e.properties {
                assert!(value.fits(spec.properties[name]), "{name}");
            }
        }
    }
}

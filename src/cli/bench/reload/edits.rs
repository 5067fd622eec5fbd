//! The changes of the project that the bench makes, right ones and wrong ones in turn.

use crate::cli::error::{Result, at_path};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Another rule and another threshold, in two files: an answer by both old and new would show it.
    RuleAndThreshold,
    AddFeature,
    RemoveFeature,
    Limits,
    /// The model declares other features: the serving version keeps its own.
    Redeclare,
    SyntaxError,
    UnknownKey,
    OutOfRange,
    /// A feature that the serving version needs is removed.
    NeededFeature,
    UnknownFeature,
}

const ORDER: [Edit; 12] = [
    Edit::RuleAndThreshold,
    Edit::SyntaxError,
    Edit::AddFeature,
    Edit::RuleAndThreshold,
    Edit::UnknownKey,
    Edit::Limits,
    Edit::RuleAndThreshold,
    Edit::OutOfRange,
    Edit::RemoveFeature,
    Edit::NeededFeature,
    Edit::Redeclare,
    Edit::UnknownFeature,
];

impl Edit {
    pub fn of(i: u32) -> Edit {
        ORDER[i as usize % ORDER.len()]
    }

    pub fn is_right(self) -> bool {
        matches!(self, Edit::RuleAndThreshold | Edit::AddFeature | Edit::RemoveFeature | Edit::Limits | Edit::Redeclare)
    }
}

const EXTRA: &str = "
[views.customer_orders.features.amount_max_7d]
aggregate = \"max\"
property = \"amount\"
window = \"7d\"
";

/// The files as they are when all is right.
pub struct Project {
    dir: PathBuf,
    features: String,
    model: String,
    rules: String,
    settings: String,
    number: u32,
    limit: u32,
    extra: bool,
    /// The model declares only two of the three features of the serving version.
    narrow: bool,
}

impl Project {
    pub fn new(dir: &Path) -> Result<Project> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).map_err(at_path(&path, "read"))
        };
        let mut project = Project {
            features: read(&only(dir, "features"))?,
            model: read(&only(dir, "models"))?,
            rules: read(&only(dir, "rules"))?,
            settings: read("understudy.toml")?,
            dir: dir.to_owned(),
            number: 0,
            limit: 1000,
            extra: false,
            narrow: false,
        };
        project.restore()?;
        Ok(project)
    }

    /// Writes the right files.
    pub fn restore(&mut self) -> Result {
        let extra = if self.extra { EXTRA } else { "" };
        self.put("features", &format!("{}{extra}", self.features))?;
        // The first line of a table is its end: keys of the model itself stand before the tables.
        let wide = "\"amount_mean_30d\", ";
        let model = self.model.replace(wide, if self.narrow { "" } else { wide });
        self.put("models", &format!("threshold = {}\n{model}", threshold(self.number)))?;
        self.put("rules", &format!("{}\n{}", self.rules, tag(self.number)))?;
        // The machine is saturated on purpose: waiting is no fault of a reload.
        let limits = format!("[limits]\nmax_wait = \"10s\"\nmax_instances = {}\n", self.limit);
        let settings = format!("{}\n{limits}", self.settings);
        self.write("understudy.toml", &settings)
    }

    pub fn apply(&mut self, edit: Edit, i: u32) -> Result {
        match edit {
            Edit::RuleAndThreshold => self.number = i + 1,
            Edit::AddFeature => self.extra = true,
            Edit::RemoveFeature => self.extra = false,
            Edit::Redeclare => self.narrow = !self.narrow,
            Edit::Limits => self.limit = 1000 + i,
            Edit::SyntaxError => return self.put("rules", "[rules.tag\nexpect = "),
            Edit::UnknownKey => return self.write("understudy.toml", "[limits]\nmax_instence = 5\n"),
            Edit::OutOfRange => return self.write("understudy.toml", "[limits]\nmax_in_flight = 0\n"),
            Edit::NeededFeature => {
                // The model declares it no more either: only the version that serves still needs it.
                let without = self.features.replace("features.orders_30d]", "features.orders_31d]");
                self.put("features", &without)?;
                return self.put("models", &self.model.replace("\"orders_30d\", ", ""));
            }
            Edit::UnknownFeature => {
                return self.put("models", &self.model.replace("\"orders_30d\"", "\"ordres_30d\""));
            }
        }
        self.restore()
    }

    fn put(&self, folder: &str, text: &str) -> Result {
        self.write(&only(&self.dir, folder), text)
    }

    /// At once or not at all: an editor that saves half a file would be another test.
    fn write(&self, name: &str, text: &str) -> Result {
        let (path, whole) = (self.dir.join(name), self.dir.join("next.tmp"));
        if std::fs::read_to_string(&path).is_ok_and(|now| now == text) {
            return Ok(());
        }
        std::fs::write(&whole, text).and_then(|()| std::fs::rename(&whole, &path)).map_err(at_path(&path, "write"))
    }
}

/// The one file of a folder of the example project.
fn only(dir: &Path, folder: &str) -> String {
    let entries = std::fs::read_dir(dir.join(folder)).into_iter().flatten().flatten();
    let name = entries.map(|e| e.file_name().to_string_lossy().into_owned()).find(|n| n.ends_with(".toml"));
    format!("{folder}/{}", name.unwrap_or_default())
}

/// Below every score, or above.
fn threshold(number: u32) -> f64 {
    if number.is_multiple_of(2) { 0.0 } else { 1.0 }
}

/// A rule that every request breaks, so that every answer says which number it was made by.
fn tag(number: u32) -> String {
    format!("[rules.tag]\nexpect = \"amount < 0.0\"\nmessage = \"number {number}\"\n")
}

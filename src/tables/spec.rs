//! The shape of `recording.toml`: which tables there are and how a row becomes events.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use understudy_domain::time::{Span, Timestamp};
use understudy_domain::value::ValueType;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingSpec {
    /// A `.tar.zst` (or `.tar`) that holds the tables, relative to the project; tables are plain files if not said.
    pub archive: Option<String>,
    #[serde(default)]
    pub tables: BTreeMap<String, TableSpec>,
    /// One template per event type; a row makes at most one event of each.
    pub events: Vec<TemplateSpec>,
    /// What `demo` does with the recording.
    pub demo: Option<DemoSpec>,
}

/// Where a demo stops to train, in stream time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoSpec {
    pub train_until: Timestamp,
    /// The same for a quick run, and where that ends.
    pub quick_train_until: Timestamp,
    pub quick_until: Timestamp,
    /// Weeks that begin from here on are what the ways of mending a model are compared by; all if not said.
    pub compare_from: Option<Timestamp>,
    /// Challengers that are rolled out meanwhile, in this order, one after another.
    #[serde(default)]
    pub rollouts: Vec<DemoRollout>,
}

/// A challenger of a demo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoRollout {
    /// What it is called when it is told of.
    pub challenger: String,
    pub model: String,
    /// Not before; a quick run brings it in as soon as the one before has ended.
    pub from: Timestamp,
    pub made: Made,
}

/// How a challenger is made from the versions that were trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Made {
    /// The champion of another model of the project, with the same inputs.
    Of { model: String },
    /// The champion, surer of itself: its logits times `factor`.
    Surer { factor: f32 },
    /// The champion behind a gate that overflows where `feature` is above this, so that the answer is no number there.
    Overflowing { feature: String, above: f64 },
    /// The champion as the mean of `copies` of itself, and the median time of an answer that it declares.
    Slow { copies: usize, declared_latency_us: u32 },
}

/// A CSV table with a header line. An empty field is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// Member of the archive, or a `.csv` or `.csv.zst` relative to the project.
    pub file: String,
    /// Types of columns that are not what they look like, such as codes made of digits.
    #[serde(default)]
    pub types: BTreeMap<String, ValueType>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateSpec {
    #[serde(rename = "type")]
    pub kind: String,
    pub table: String,
    pub id: IdSpec,
    /// When it happened.
    pub time: TimeSpec,
    /// When it was learnt; its `time` if not said.
    pub at: Option<TimeSpec>,
    /// Order among events learnt at the same instant, smallest first; then by id.
    #[serde(default)]
    pub rank: u16,
    #[serde(default)]
    pub when: WhenSpec,
    /// Entity key -> column.
    #[serde(default)]
    pub entities: BTreeMap<String, String>,
    /// Property -> column. A null column leaves the property out.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Property -> id of another event of the same row.
    #[serde(default)]
    pub references: BTreeMap<String, IdSpec>,
}

/// An id: the prefix and the row number (from 0), padded with zeros to `width` digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdSpec {
    pub prefix: String,
    pub width: usize,
}

/// An instant: the sum of integer columns and a constant, in units since 1970-01-01T00:00:00Z.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSpec {
    pub columns: Vec<String>,
    #[serde(default)]
    pub plus: i64,
    pub unit: Span,
}

/// Which rows make the event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WhenSpec {
    /// All of these columns have a value.
    pub present: Vec<String>,
    /// None of these columns has a value.
    pub absent: Vec<String>,
}

impl IdSpec {
    pub fn of_row(&self, row: u32) -> String {
        format!("{}{:0width$}", self.prefix, row, width = self.width)
    }
}

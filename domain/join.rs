//! Joins outcomes to predictions, whichever comes first.
//!
//! `now` is always event time and should not go back. The result depends on the records and their
//! `now`, not on how often `tick` is called. What it knows can be saved, with what the logs held then; the logs alone
//! rebuild it too.

mod book;

use crate::fixed_hash;
use crate::prediction::{OutcomeRecord, OutcomeStatus, OutcomeTarget, PredictionId, PredictionRecord};
use crate::project::OutcomeSpec;
use crate::time::{Span, Timestamp};
use book::{Book, Key, Saved};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long an outcome waits for its prediction.
pub const PARKED_FOR: Span = Span::days(1);

/// What the joiner needs of a prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictionRef {
    pub model: String,
    pub version: String,
    pub id: PredictionId,
    pub request_id: Option<String>,
    /// Event time of the request.
    pub time: Timestamp,
    pub score: f64,
}

impl From<&PredictionRecord> for PredictionRef {
    fn from(r: &PredictionRecord) -> Self {
        PredictionRef {
            model: r.model.clone(),
            version: r.version.clone(),
            id: r.id,
            request_id: r.request_id.clone(),
            time: r.time,
            score: r.score,
        }
    }
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Change {
    Matured {
        label: bool,
    },
    /// A later revision; `from` is `None` where the prediction had been voided.
    Amended {
        from: Option<bool>,
        to: bool,
    },
    /// There is no outcome; `was` is the label that had been joined.
    Voided {
        was: Option<bool>,
    },
}

/// A prediction whose outcome changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    pub model: Arc<str>,
    pub version: Arc<str>,
    pub id: PredictionId,
    /// Event time of the request.
    pub time: Timestamp,
    pub score: f64,
    #[serde(flatten)]
    pub change: Change,
}

/// A prediction that will have no outcome any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    pub model: Arc<str>,
    pub id: PredictionId,
    /// Event time of the request.
    pub time: Timestamp,
}

/// What became of a model's predictions and outcomes. `pending` and `parked` are what waits now;
/// the others only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinCounts {
    /// Predictions without an outcome yet.
    pub pending: u64,
    /// Outcomes without a prediction yet.
    pub parked: u64,
    pub matured: u64,
    pub amended: u64,
    pub voided: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    /// Predictions whose outcome never came.
    pub expired: u64,
    /// Outcomes whose prediction never came.
    pub orphaned: u64,
    /// Outcomes that came after their prediction had expired.
    pub late: u64,
    /// Predictions and parked outcomes dropped to stay within the bound.
    pub forgotten: u64,
}

/// What a joiner knows, in less room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedJoiner(Vec<Saved>);

/// The joiner of all models that have an outcome.
#[derive(Debug)]
pub struct Joiner {
    books: BTreeMap<String, Book>,
}

impl Joiner {
    /// `max_pending` bounds, for each model, the predictions remembered and likewise the outcomes
    /// parked. A prediction takes some 200 bytes and is remembered for twice `expires_after`: first
    /// so that duplicates and revisions are recognised, then so that late outcomes are.
    pub fn new(specs: BTreeMap<String, OutcomeSpec>, max_pending: usize) -> Self {
        let book = |(m, s): (String, OutcomeSpec)| {
            let book = Book::new(&m, s.expires_after, max_pending.max(1));
            (m, book)
        };
        Joiner { books: specs.into_iter().map(book).collect() }
    }

    /// The models and settings from now on: what is known of models that stay is kept.
    pub fn follow(&mut self, specs: BTreeMap<String, OutcomeSpec>, max_pending: usize) {
        self.books.retain(|model, _| specs.contains_key(model));
        for (model, spec) in specs {
            match self.books.get_mut(&model) {
                Some(book) => book.follow(spec.expires_after, max_pending.max(1)),
                None => {
                    let book = Book::new(&model, spec.expires_after, max_pending.max(1));
                    self.books.insert(model, book);
                }
            }
        }
    }

    /// Enough to go on from here.
    pub fn save(&self) -> SavedJoiner {
        SavedJoiner(self.books.values().map(Saved::from).collect())
    }

    /// The joiner that was saved; `follow` brings the settings of today.
    pub fn from_saved(saved: SavedJoiner) -> Self {
        let books = saved.0.into_iter().map(Book::from).map(|b| (b.model().to_owned(), b));
        Joiner { books: books.collect() }
    }

    /// Predictions that are remembered, of all models.
    pub fn remembered(&self) -> usize {
        self.books.values().map(Book::remembered).sum()
    }

    /// Whether this prediction was seen before and is not forgotten; never of a model without outcomes.
    pub fn remembers(&self, model: &str, id: PredictionId) -> bool {
        self.books.get(model).is_some_and(|b| b.remembers(id))
    }

    /// Whether outcomes of this model are joined.
    pub fn knows(&self, model: &str) -> bool {
        self.books.contains_key(model)
    }

    /// Takes note of a prediction; an outcome parked for it joins at once. A prediction seen before
    /// or of a model without outcomes changes nothing. Of several predictions with one request id
    /// the outcome joins the newest.
    pub fn on_prediction(&mut self, p: &PredictionRef, now: Timestamp) -> Option<Joined> {
        self.books.get_mut(&p.model)?.on_prediction(p, p.request_id.as_deref().map(request_hash), now)
    }

    /// Takes an outcome. The same value again is `Duplicate`; a different value is `Conflict` unless
    /// its revision is higher. An outcome of a model without outcomes is `Expired`: check `knows`.
    pub fn on_outcome(&mut self, o: &OutcomeRecord, now: Timestamp) -> (OutcomeStatus, Option<Joined>) {
        let Some(book) = self.books.get_mut(&o.model) else { return (OutcomeStatus::Expired, None) };
        let key = match &o.target {
            OutcomeTarget::PredictionId(id) => Key::Id(*id),
            OutcomeTarget::RequestId(id) => Key::Request(request_hash(id)),
        };
        book.on_outcome(key, o.label, o.revision, now)
    }

    /// Predictions that expired up to `now`, by model and then time; also gives up parked outcomes.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Expiry> {
        let mut expired = Vec::new();
        for book in self.books.values_mut() {
            book.tick(now, &mut expired);
        }
        expired
    }

    /// The counters of a model.
    pub fn counts(&self, model: &str) -> Option<&JoinCounts> {
        self.books.get(model).map(|b| &b.counts)
    }

    /// The counters of all models, by name.
    pub fn all_counts(&self) -> BTreeMap<String, JoinCounts> {
        self.books.iter().map(|(m, b)| (m.clone(), b.counts)).collect()
    }
}

fn request_hash(id: &str) -> u128 {
    fixed_hash::of_parts([id.as_bytes()])
}

#[cfg(test)]
mod tests;

//! When a model is mended, how, and whether the result may serve.
//!
//! Once a day of event time a score in [0, 1] is made of what is known (`score`), guards say whether a job may start
//! now (`guard`), a state machine runs one job at a time (`machine`), and each challenger must beat the champion on the
//! same held-out rows (`gate`). Recalibration and a full retraining are two candidates of one gate. Effects are values:
//! the caller journals what changed, then does what is asked.

mod gate;
mod guard;
mod holdout;
mod ledger;
mod machine;
mod random;
mod score;
mod spec;

pub use gate::{Check, Gate, GateKind, Judged, Verdict, judge};
pub use guard::{Guard, Situation, cool_down, guards, looping};
pub use holdout::{Split, split};
pub use ledger::{Cohort, Ledger, Matched};
pub use machine::{
    Action, Alarm, Attempt, Champion, Decision, Entry, Evaluation, Event, Evidence, Job, JobState, Known, Machine,
    Reason, evaluate,
};
pub use score::{Drift, Inputs, Reference, Score, Term, score};
pub use spec::{Candidate, Mode, Promotion, RetrainingSpec, Trigger};

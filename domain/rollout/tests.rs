use super::*;
use crate::time::{MINUTE, Span, Timestamp};

mod entities;
mod faults;
mod modes;
mod order;
mod planned;
mod runs;
mod support;

use support::*;

#[test]
fn a_good_challenger_goes_through_all_stages() {
    let mut run = Run::start(settings());
    run.warm();
    assert_eq!(run.rollout.state(), State::Stage(0));
    let states = run.until_end(&healthy());
    let expected = [State::Stage(0), State::Stage(1), State::Stage(2), State::Holding, State::Promoted];
    assert_eq!(states, expected);
    let aliases: Vec<_> = run.actions.iter().filter(|a| matches!(a, Action::SetAlias { .. })).collect();
    assert_eq!(aliases.len(), 2, "{aliases:?}");
    let shares: Vec<u32> = run.shares();
    assert_eq!(shares, [100, 1000, 5000, 10_000]);
    Rollout::replay(&run.journal).expect("the journal gives the same");
    let last = run.journal.last().and_then(|e| e.decision.clone()).expect("a decision");
    assert_eq!(last.verdict, Verdict::Promote);
    assert!(run.now - Timestamp(0) >= Span(4 * MINUTE));
}

#[test]
fn a_failing_challenger_is_rolled_back() {
    let mut run = Run::start(settings());
    run.warm();
    let states = run.until_end(&Rates { canary_bad: 0.03, ..healthy() });
    assert_eq!(states.last(), Some(&State::RolledBack));
    assert_eq!(run.shares().last(), Some(&0));
    Rollout::replay(&run.journal).expect("the journal gives the same");
}

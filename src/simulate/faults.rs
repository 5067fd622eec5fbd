//! Which faults a step meets.

use super::disk;
use super::run::World;
use std::time::Duration;
use understudy_actors::fault::{self, Action, Order, POINTS};

impl World {
    /// No fault is left.
    pub(super) fn heal(&self) {
        self.disk.heal();
        self.armed.plant(Vec::new());
        *self.models.load_errors.lock().expect("no panic while held") = 0;
        *self.models.train_errors.lock().expect("no panic while held") = 0;
    }

    pub(super) fn plant_at_start(&mut self) {
        let starts: Vec<_> = (0..POINTS.len()).filter(|i| POINTS[*i].ends_with(".started")).collect();
        let more = [fault::index("model_pool.join"), fault::index("router.apply")];
        if self.dice.percent(40) {
            let point = *self.dice.pick(&[&starts[..], &more].concat());
            let times = self.dice.between(1, 2);
            self.armed.plant(vec![Order { point, action: Action::Panic, skip: self.dice.below(2), times }]);
        }
        if self.dice.percent(20) {
            let reads = ["events.read", "predictions.read", "outcomes.read", "features.read"];
            self.disk.plant(reads[self.dice.below(4) as usize], self.dice.between(1, 3));
        }
    }

    pub(super) fn plant_at_rest(&mut self) {
        let name = *self.dice.pick(&["feature_shard.snapshot", "feature_shard.saved", "monitor.expired"]);
        if self.dice.percent(20) {
            self.armed.plant(vec![Order { point: fault::index(name), action: Action::Panic, skip: 0, times: 1 }]);
        }
        if self.dice.percent(20) {
            self.disk.plant("features.save", 1);
        }
    }

    /// Chooses the faults of a step; the time after which the process dies, if it does.
    pub(super) fn plant(&mut self) -> Option<Duration> {
        let mut orders = Vec::new();
        for _ in 0..self.dice.below(3) {
            let point = self.dice.below(POINTS.len() as u64) as usize;
            let skip = *self.dice.pick(&[0, 0, 1, 3, 8]);
            orders.push(Order { point, action: Action::Panic, skip, times: 1 });
        }
        let told: Vec<_> = orders.iter().map(|o| format!("{} after {}", POINTS[o.point], o.skip)).collect();
        self.note(format!("step {}: panics planted at {told:?}", self.step));
        self.armed.plant(orders);
        for _ in 0..self.dice.below(3) {
            let name = *self.dice.pick(disk::FAULTS);
            let times = if name.ends_with(".full") { self.dice.between(2, 6) } else { 1 };
            self.disk.plant(name, times);
        }
        if self.dice.percent(5) {
            *self.models.load_errors.lock().expect("no panic while held") = 1;
        }
        if self.dice.percent(10) {
            *self.models.train_errors.lock().expect("no panic while held") = 1;
        }
        self.dice.percent(12).then(|| Duration::from_millis(self.dice.between(2, 60)))
    }
}

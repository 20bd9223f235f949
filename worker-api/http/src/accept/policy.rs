//! Whether a worker takes part in accepting: a pure decision, made of what is open and in flight
//! here and, by the scoreboard, at the others.
//!
//! Among workers that see the same numbers, the one with the fewest connections of those that are
//! neither full nor busy never stands aside. Where all are busy all do, and the first that is free
//! again takes what waits: who is busy cannot know for how long.

/// How a worker stands to the queue of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Stance {
    /// It takes its turn.
    In = 0,
    /// It leaves new connections to the others, who are better placed, and takes one only where
    /// they do not.
    Aside = 1,
    /// It takes none: it is at its limit.
    Full = 2,
}

/// What a worker has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Connections open.
    pub(crate) connections: u64,
    /// Every thread that may call the app does so, or the app holds its event loop.
    pub(crate) busy: bool,
}

/// The rule, and the stance that it led to last.
#[derive(Debug)]
pub(crate) struct Policy {
    max_connections: u64,
    stance: Stance,
}

/// A worker steps aside when it has so many connections more than the mean, or this part of the
/// mean more, whichever is larger, and comes back at half of that.
const ABOVE: u64 = 2;
const ABOVE_PART: u64 = 8;

impl Policy {
    pub(crate) fn new(max_connections: usize) -> Self {
        Self {
            max_connections: max_connections as u64,
            stance: Stance::In,
        }
    }

    /// Decides anew, for a worker with `own` load among others that serve.
    pub(crate) fn look(&mut self, own: Load, others: impl Iterator<Item = Load>) -> Stance {
        self.stance = self.decide(own, others);
        self.stance
    }

    fn decide(&self, own: Load, others: impl Iterator<Item = Load>) -> Stance {
        if own.connections >= self.max_connections {
            return Stance::Full;
        }
        // Only those count that could take a connection instead: a busy or a full one would make
        // the others stand aside in its favour, and take none.
        let (mut workers, mut sum) = (1_u64, own.connections);
        let mut alone = true;
        for other in others.filter(|other| other.connections < self.max_connections) {
            alone = false;
            if !other.busy {
                workers += 1;
                sum = sum.saturating_add(other.connections);
            }
        }
        let is_above = workers > 1 && self.is_above(own.connections, sum, workers);
        if !alone && (own.busy || is_above) {
            Stance::Aside
        } else {
            Stance::In
        }
    }

    /// Whether `own` is well above the mean, in whole numbers: all is multiplied by `workers`.
    fn is_above(&self, own: u64, sum: u64, workers: u64) -> bool {
        let margin = (ABOVE * workers).max(sum / ABOVE_PART);
        let margin = match self.stance {
            Stance::Aside => margin.div_ceil(2),
            Stance::In | Stance::Full => margin,
        };
        own.saturating_mul(workers) >= sum.saturating_add(margin)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(connections: u64) -> Load {
        Load {
            connections,
            busy: false,
        }
    }

    fn busy(connections: u64) -> Load {
        Load {
            connections,
            busy: true,
        }
    }

    fn look(policy: &mut Policy, own: Load, others: &[Load]) -> Stance {
        policy.look(own, others.iter().copied())
    }

    fn first_look(own: Load, others: &[Load]) -> Stance {
        look(&mut Policy::new(1000), own, others)
    }

    #[test]
    fn a_worker_alone_is_in_until_it_is_full() {
        assert_eq!(first_look(load(999), &[]), Stance::In);
        assert_eq!(first_look(busy(999), &[]), Stance::In);
        assert_eq!(first_look(load(1000), &[]), Stance::Full);
    }

    #[test]
    fn a_full_worker_is_in_again_as_soon_as_one_connection_is_closed() {
        let mut policy = Policy::new(2);
        assert_eq!(look(&mut policy, load(2), &[load(0)]), Stance::Full);
        assert_eq!(look(&mut policy, load(1), &[load(1)]), Stance::In);
    }

    #[test]
    fn a_busy_worker_stands_aside_while_another_is_free() {
        assert_eq!(first_look(busy(1), &[load(5)]), Stance::Aside);
        assert_eq!(first_look(busy(1), &[load(1000)]), Stance::In);
    }

    #[test]
    fn where_all_are_busy_the_first_that_is_free_takes_what_waits() {
        assert_eq!(first_look(busy(1), &[busy(5)]), Stance::Aside);
        assert_eq!(first_look(busy(1), &[load(1000), busy(0)]), Stance::Aside);
        assert_eq!(first_look(load(9), &[busy(0), busy(0)]), Stance::In);
    }

    #[test]
    fn busy_and_full_workers_do_not_lower_the_mean_of_the_others() {
        let others = [busy(0), busy(0), load(1000), load(20)];
        assert_eq!(first_look(load(20), &others), Stance::In);
    }

    #[test]
    fn it_steps_aside_well_above_the_mean_and_comes_back_nearer_to_it() {
        let mut policy = Policy::new(1000);
        let others = [load(16), load(16), load(16)];
        for (own, stance) in [
            (18, Stance::In),
            (19, Stance::Aside),
            (18, Stance::Aside),
            (17, Stance::In),
            (18, Stance::In),
        ] {
            assert_eq!(look(&mut policy, load(own), &others), stance, "{own}");
        }
        assert_eq!(first_look(load(112), &[load(100), load(100)]), Stance::In);
        assert_eq!(
            first_look(load(130), &[load(100), load(100)]),
            Stance::Aside
        );
    }

    #[test]
    fn absurd_numbers_of_others_do_no_harm() {
        let others = [load(u64::MAX), busy(u64::MAX)];
        assert_eq!(first_look(load(7), &others), Stance::In);
        let mut policy = Policy::new(usize::MAX);
        let most = load(u64::MAX - 1);
        assert_ne!(look(&mut policy, most, &[most, most]), Stance::Full);
    }

    fn loads() -> impl Strategy<Value = Vec<(u64, bool, Stance)>> {
        let stance = prop_oneof![Just(Stance::In), Just(Stance::Aside), Just(Stance::Full)];
        proptest::collection::vec((0_u64..60, any::<bool>(), stance), 1..9)
    }

    proptest! {
        #[test]
        fn never_do_all_stand_aside_unless_all_are_busy(workers in loads(), max in 1_usize..60) {
            let load = |at: usize| Load { connections: workers[at].0, busy: workers[at].1 };
            let stances: Vec<_> = (0..workers.len())
                .map(|at| {
                    let mut policy = Policy::new(max);
                    policy.stance = workers[at].2;
                    let others = (0..workers.len()).filter(|&other| other != at).map(load);
                    policy.look(load(at), others)
                })
                .collect();
            let both = || stances.iter().zip(&workers).filter(|(it, _)| **it != Stance::Full);
            let are_open = both().count() > 0;
            let all_busy = both().count() > 1 && both().all(|(_, worker)| worker.1);
            let takes = both().any(|(stance, _)| *stance == Stance::In);
            prop_assert_eq!(takes, are_open && !all_busy, "{:?}", stances);
            for (stance, worker) in stances.iter().zip(&workers) {
                prop_assert_eq!(*stance == Stance::Full, worker.0 >= max as u64);
            }
        }

        #[test]
        fn whoever_is_in_stays_near_the_mean(turns in proptest::collection::vec(0_usize..4, 1..200)) {
            // Whose turn it is when a connection comes is the kernel's to say; here, chance's.
            let mut open = [0_u64; 4];
            let mut policies = [(); 4].map(|()| Policy::new(1000));
            for turn in turns {
                let stances: Vec<_> = (0..4)
                    .map(|at| {
                        let others = (0..4).filter(|&other| other != at).map(|other| load(open[other]));
                        policies[at].look(load(open[at]), others)
                    })
                    .collect();
                let taker = (0..4).map(|step| (turn + step) % 4).find(|&at| stances[at] == Stance::In);
                open[taker.unwrap()] += 1;
            }
            let (most, sum) = (*open.iter().max().unwrap(), open.iter().sum::<u64>());
            prop_assert!(most * 4 <= sum + (4 * ABOVE).max(sum / ABOVE_PART) + 4, "{open:?}");
        }
    }
}

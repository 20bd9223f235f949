//! Years of a pod's life in seconds: seeds of chance drive a simulated machine
//! of workers that boot slowly or never, crash, hang, lie and ignore signals,
//! under an operator who reloads, scales and shuts down at any moment and a
//! clock that jumps. After every step the [`ledger`](Ledger) checks what must
//! hold.
//!
//! `GRACEFORK_SIM_SEEDS` and `GRACEFORK_SIM_STEPS` ask for more than the test
//! run has; `GRACEFORK_SIM_REPLAY=seed` shows one seed step by step.

mod dice;
mod ledger;
mod life;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use dice::Dice;
use life::{Life, Tally};

const SEEDS: u32 = 256;
const STEPS: u32 = 3_000;

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let parsed = value.parse().ok();
    assert!(parsed.is_some(), "{name}={value} is no number");
    parsed
}

/// Live one life after the other, `steps` in all.
fn live(seed: u64, steps: u32, tally: &mut Tally, aloud: bool) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let mut left = steps;
    while left > 0 {
        let mut life = Life::new(Dice::new(dice.below(u64::MAX)), left, aloud);
        let lived = catch_unwind(AssertUnwindSafe(|| life.run(tally)));
        let step = steps - life.steps_left();
        match lived {
            Ok(Ok(())) => left = life.steps_left(),
            Ok(Err(what)) => return Err(format!("at step {step}: {what}")),
            Err(_) => return Err(format!("at step {step}: the core panicked")),
        }
    }
    Ok(())
}

#[test]
fn whatever_happens_what_must_hold_holds() {
    let steps = from_environment("GRACEFORK_SIM_STEPS").unwrap_or(STEPS);
    if let Some(seed) = from_environment("GRACEFORK_SIM_REPLAY") {
        let lived = live(seed, steps, &mut Tally::default(), true);
        assert_eq!(lived, Ok(()), "seed {seed}");
        return;
    }
    let config = Config {
        cases: from_environment("GRACEFORK_SIM_SEEDS").unwrap_or(SEEDS),
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let tally = std::cell::RefCell::new(Tally::default());
    // A smaller seed is no simpler.
    let lived = runner.run(&any::<u64>().no_shrink(), |seed| {
        live(seed, steps, &mut tally.borrow_mut(), false).map_err(|what| {
            let replay = format!(
                "GRACEFORK_SIM_REPLAY={seed} GRACEFORK_SIM_STEPS={steps} cargo test -p gracefork fleet::simulation"
            );
            TestCaseError::fail(format!("{what}\nreplay: {replay}"))
        })
    });
    if let Err(failure) = lived {
        panic!("{failure}");
    }
    tally.into_inner().check_that_much_was_seen();
}

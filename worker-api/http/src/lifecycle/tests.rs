use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const STATES: [State; 9] = [
    State::Fresh,
    State::Opening,
    State::Idle,
    State::Reading,
    State::Running,
    State::Finishing,
    State::Upgraded,
    State::Lingering,
    State::Closed,
];

const INPUTS: [Input; 13] = [
    Input::BytesCame,
    Input::HeadDispatched,
    Input::ResponseFinished,
    Input::HttpEnded,
    Input::ProtocolSwitched,
    Input::SocketReturned,
    Input::LookedNothing,
    Input::LookedBytes,
    Input::LookedBusy,
    Input::LingerOver,
    Input::DeadlineOver,
    Input::WriteTimeOver,
    Input::Forced,
];

const STAGES: [Stage; 5] = [
    Stage::Serving,
    Stage::Lameduck,
    Stage::Retiring,
    Stage::Draining,
    Stage::Forced,
];

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits::new(75 * SECOND, 10 * SECOND)
}

fn is_open(state: State) -> bool {
    !matches!(state, State::Lingering | State::Closed)
}

/// A connection after these inputs, and the moment of its last `advance`.
fn after(inputs: &[Input], stage: Stage) -> (Lifecycle, Instant) {
    let now = Instant::now();
    let mut life = Lifecycle::new(limits().into(), now);
    for &input in inputs {
        life.input(input);
    }
    life.advance(stage, now);
    (life, now)
}

fn table() -> String {
    let mut table = String::from("| |");
    STATES
        .iter()
        .for_each(|state| write!(table, " {state:?} |").unwrap());
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(STATES.len()));
    for input in INPUTS {
        write!(table, "\n| **{input:?}** |").unwrap();
        for state in STATES {
            let cell = match transition(state, input) {
                (next, Action::Nothing) if next == state => String::from("·"),
                (next, Action::Nothing) => format!("{next:?}"),
                (next, action) if next == state => format!("*{action:?}*"),
                (next, action) => format!("{next:?}, *{action:?}*"),
            };
            write!(table, " {cell} |").unwrap();
        }
    }
    table
}

#[test]
fn the_table_in_the_documentation_is_this_one() {
    let page = include_str!("../../../../docs/connection.md");
    assert!(
        page.contains(&table()),
        "docs/connection.md lacks this table:\n\n{}\n",
        table()
    );
}

#[test]
fn force_closes_from_every_state_and_aborts_what_runs() {
    for state in STATES {
        let (next, action) = transition(state, Input::Forced);
        assert_eq!(next, State::Closed);
        let expected = match state {
            State::Running | State::Upgraded => Action::Abort,
            State::Closed => Action::Nothing,
            _ => Action::Close,
        };
        assert_eq!(action, expected, "{state:?}");
    }
}

#[test]
fn nothing_but_force_the_end_of_http_or_a_deaf_peer_stops_a_running_request() {
    for input in INPUTS {
        let (next, action) = transition(State::Running, input);
        let ends = matches!(
            input,
            Input::Forced | Input::HttpEnded | Input::WriteTimeOver
        );
        let goes_on = matches!(action, Action::Nothing | Action::GiveUp);
        assert!(ends || (is_open(next) && goes_on), "{input:?}");
    }
}

#[test]
fn no_silent_connection_is_closed_before_a_look() {
    for state in [State::Fresh, State::Idle, State::Reading] {
        assert_eq!(
            transition(state, Input::DeadlineOver),
            (state, Action::Look)
        );
    }
}

#[test]
fn a_peer_that_does_not_read_is_hung_up_on() {
    let start = Instant::now();
    let minute = Duration::from_secs(60);
    let limits = Limits {
        write_timeout: Some(minute),
        ..limits()
    };
    let mut life = Lifecycle::new(limits.into(), start);
    life.input(Input::HeadDispatched);
    life.deaf(true);
    let until = |time| Next::Wait(Some(time));
    assert_eq!(life.advance(Stage::Serving, start), until(start + minute));
    // It takes something, and sends something, which is not the same.
    let later = start + minute / 2;
    life.deaf(false);
    assert_eq!(life.advance(Stage::Serving, later), Next::Wait(None));
    life.deaf(true);
    assert_eq!(life.advance(Stage::Draining, later), until(later + minute));
    life.input(Input::BytesCame);
    life.absent(Absence::Left);
    let seconds = Duration::from_secs(5);
    assert_eq!(life.advance(Stage::Serving, later), until(later + seconds));
    life.input(Input::BytesCame);
    let later = later + minute;
    assert_eq!(
        life.advance(Stage::Serving, later),
        Next::Do(Action::HangUp)
    );
    assert_eq!(life.state(), State::Closed);
}

#[test]
fn the_app_waits_no_longer_for_a_body_that_stands_still() {
    let start = Instant::now();
    let minute = Duration::from_secs(60);
    let limits = Limits {
        body_timeout: Some(minute),
        ..limits()
    };
    let mut life = Lifecycle::new(limits.into(), start);
    life.input(Input::BytesCame);
    life.input(Input::HeadDispatched);
    let later = start + 5 * minute;
    assert_eq!(life.advance(Stage::Serving, later), Next::Wait(None));
    life.absent(Absence::Still);
    let until = |time| Next::Wait(Some(time));
    assert_eq!(life.advance(Stage::Draining, later), until(later + minute));
    // It comes, slowly; that is all right.
    let later = later + minute / 2;
    life.input(Input::BytesCame);
    assert_eq!(life.advance(Stage::Serving, later), Next::Wait(None));
    life.absent(Absence::Still);
    assert_eq!(life.advance(Stage::Serving, later), until(later + minute));
    let later = later + minute;
    assert_eq!(
        life.advance(Stage::Serving, later),
        Next::Do(Action::GiveUp)
    );
    assert_eq!(life.advance(Stage::Serving, later), Next::Wait(None));
    assert_eq!(life.state(), State::Running);
    life.absent(Absence::Left);
    let seconds = Duration::from_secs(5);
    assert_eq!(life.advance(Stage::Serving, later), until(later + seconds));
}

#[test]
fn closed_is_final_and_closes_once() {
    for input in INPUTS {
        assert_eq!(
            transition(State::Closed, input),
            (State::Closed, Action::Nothing)
        );
    }
}

#[test]
fn an_idle_connection_keeps_its_keep_alive_time_until_the_worker_drains() {
    let answered = [
        Input::BytesCame,
        Input::HeadDispatched,
        Input::ResponseFinished,
    ];
    for stage in [Stage::Serving, Stage::Lameduck, Stage::Retiring] {
        let (mut life, start) = after(&answered, stage);
        assert_eq!(life.state(), State::Idle);
        assert_eq!(
            life.advance(stage, start + 74 * SECOND),
            Next::Wait(Some(start + 75 * SECOND))
        );
        assert_eq!(
            life.advance(stage, start + 75 * SECOND),
            Next::Do(Action::Look)
        );
    }
    let (mut life, start) = after(&answered, Stage::Lameduck);
    assert_eq!(life.advance(Stage::Draining, start), Next::Do(Action::Look));
}

#[test]
fn a_silent_connection_from_the_queue_gets_a_moment_in_a_drain() {
    let (mut life, start) = after(&[], Stage::Draining);
    let end = start + limits().silent_in_drain;
    assert_eq!(life.advance(Stage::Draining, start), Next::Wait(Some(end)));
    assert_eq!(life.advance(Stage::Draining, end), Next::Do(Action::Look));
}

#[test]
fn a_head_must_come_within_its_time_however_it_trickles() {
    let (mut life, start) = after(&[Input::BytesCame], Stage::Serving);
    life.input(Input::BytesCame);
    assert_eq!(
        life.advance(Stage::Serving, start + 9 * SECOND),
        Next::Wait(Some(start + 10 * SECOND))
    );
    assert_eq!(
        life.advance(Stage::Serving, start + 10 * SECOND),
        Next::Do(Action::Refuse)
    );
    assert_eq!(life.state(), State::Lingering);
}

#[test]
fn a_request_that_comes_and_goes_in_one_pass_starts_the_idle_time_again() {
    let round = [
        Input::BytesCame,
        Input::HeadDispatched,
        Input::ResponseFinished,
    ];
    let (mut life, start) = after(&round, Stage::Serving);
    round.iter().for_each(|&input| {
        life.input(input);
    });
    let later = start + 70 * SECOND;
    assert_eq!(
        life.advance(Stage::Serving, later),
        Next::Wait(Some(later + 75 * SECOND))
    );
}

#[test]
fn lingering_is_short_in_a_drain() {
    let (mut life, start) = after(&[Input::HttpEnded], Stage::Lameduck);
    assert_eq!(
        life.deadline(Stage::Lameduck),
        Some(start + limits().linger)
    );
    let end = start + limits().linger_in_drain;
    assert_eq!(life.advance(Stage::Draining, end), Next::Do(Action::Close));
}

proptest! {
    /// Whatever happens: one close at most, none of what is open is closed untold but by force or
    /// since the peer does not read, and whoever does as told sees the end.
    #[test]
    fn any_life_ends(
        steps in prop::collection::vec(
            (prop::sample::select(&INPUTS[..]), 0..20_u32, prop::sample::select(&STAGES[..])),
            0..200,
        ),
    ) {
        let mut now = Instant::now();
        let mut stage = Stage::Serving;
        let mut life = Lifecycle::new(limits().into(), now);
        let mut closes = 0;
        for (input, seconds, told) in steps {
            now += seconds * SECOND;
            stage = stage.max(told);
            let before = life.state();
            let acts = [
                life.input(input),
                match life.advance(stage, now) {
                    Next::Do(action) => action,
                    Next::Wait(_) => Action::Nothing,
                },
            ];
            closes += acts.iter().filter(|act| matches!(act, Action::Close | Action::HangUp | Action::Abort)).count();
            let forced = stage == Stage::Forced || input == Input::Forced;
            let is_deaf = input == Input::WriteTimeOver;
            if is_open(before) && !forced && !is_deaf {
                prop_assert_ne!(life.state(), State::Closed);
            }
            if stage == Stage::Forced {
                prop_assert_eq!(life.state(), State::Closed);
            }
        }
        prop_assert_eq!(closes, usize::from(life.state() == State::Closed));

        // The app has let go and nothing comes any more: in a drain the rest is a matter of time.
        life.input(Input::ResponseFinished);
        if matches!(life.state(), State::Finishing) {
            life.input(Input::HttpEnded);
        }
        life.input(Input::SocketReturned);
        let stage = stage.max(Stage::Draining);
        for _ in 0..8 {
            match life.advance(stage, now) {
                Next::Do(Action::Look) => {
                    life.input(Input::LookedNothing);
                }
                Next::Do(_) => {}
                Next::Wait(deadline) => now = deadline.unwrap_or(now),
            }
        }
        prop_assert_eq!(life.state(), State::Closed);
    }
}

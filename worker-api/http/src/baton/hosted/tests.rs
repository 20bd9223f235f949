//! When answers are written that the app gives in one turn of its loop.

use std::cell::{Cell, RefCell};

use super::super::shift::{Floor, Shift};
use super::super::tasks::Run;

/// A floor on which two calls answer in one turn, each to a task of its own.
struct Room {
    shift: Shift<(), usize>,
    /// The first call takes so long that its turn is stale then.
    is_slow: bool,
    is_stale: Cell<bool>,
    seen: RefCell<Vec<String>>,
}

impl Floor for Room {
    type Task = ();
    type Call = usize;

    fn run(&self, run: Run<()>) -> Option<()> {
        self.seen.borrow_mut().push(format!("task {}", run.key));
        Some(())
    }

    fn call(&self, call: usize) {
        self.seen.borrow_mut().push(format!("call {call}"));
        self.shift
            .with_tasks_soon(self, || self.shift.wake(self, call));
        self.is_stale.set(self.is_slow);
        self.shift.started(self);
    }

    fn settle(&self) {
        self.is_stale.set(false);
    }

    fn is_stale(&self) -> bool {
        self.is_stale.get()
    }

    fn poll_kernel(&self) {}
    fn rouse(&self) {}
    fn wake_kernel(&self) {}
    fn ring(&self) {}
}

fn turn(is_slow: bool) -> Vec<String> {
    let room = Room {
        shift: Shift::new(),
        is_slow,
        is_stale: Cell::new(false),
        seen: RefCell::default(),
    };
    for call in 0..2 {
        room.shift.spawn(&room, |_| ());
        room.shift.starts();
        room.shift.push_call(&room, call);
    }
    room.shift.turn(&room);
    // Both tasks run once, as they are new.
    room.seen.take().split_off(2)
}

#[test]
fn the_answers_of_a_turn_are_written_together() {
    assert_eq!(turn(false), ["call 0", "call 1", "task 0", "task 1"]);
}

#[test]
fn an_answer_does_not_wait_for_the_next_call_where_the_one_before_was_slow() {
    assert_eq!(turn(true), ["call 0", "task 0", "call 1", "task 1"]);
}

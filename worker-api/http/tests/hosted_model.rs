//! The baton between a loop that is not ours and the thread that stands by, in every order in which
//! they can meet, by loom: the very code of the driver on loom's primitives. A thread that waits
//! for ever is a deadlock, which loom reports.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "not all of the driver is run"
)]

#[path = "../src/baton/shift.rs"]
mod shift;
#[path = "../src/baton/tasks.rs"]
mod tasks;

/// In the place of the driver's own.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;
}

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use shift::{Floor, Shift, Wait};
use tasks::Run;

/// What a call does on the loop's thread.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// It answers.
    Answers,
    /// It has the loop answer after the turn.
    Later,
    /// It makes the other task ready, blocks the loop until that has run, and answers.
    Blocks,
}

/// A connection, which is the first task: it makes calls, one after the other, and takes their
/// answers. And one more task, which others wake.
struct World {
    shift: Shift<(), ()>,
    kind: Kind,
    rounds: usize,
    connection: Task,
    helper: Task,
    signals: Mutex<Signals>,
    changed: Condvar,
    /// Who runs tasks and asks the kernel.
    held: AtomicBool,
    calls: AtomicUsize,
    /// The thread that stands by does not hear of what is put off: it must be run without it.
    deaf: bool,
    /// An answer that the loop gives after the turn.
    later: AtomicBool,
}

#[derive(Default)]
struct Task {
    /// How often it was told something, and how often it has seen that.
    mail: Mutex<(usize, usize)>,
}

/// What a thread can wait for.
#[derive(Default)]
struct Signals {
    kernel: bool,
    bell: bool,
    roused: bool,
    heard: usize,
    over: bool,
}

const CONNECTION: usize = 0;
const HELPER: usize = 1;

/// The floor as a thread sees it.
#[derive(Clone)]
struct Here(Arc<World>);

impl Here {
    fn new(kind: Kind, rounds: usize, deaf: bool) -> Self {
        let here = Self(Arc::new(World {
            shift: Shift::new(),
            kind,
            rounds,
            connection: Task::default(),
            helper: Task::default(),
            signals: Mutex::default(),
            changed: Condvar::new(),
            held: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            deaf,
            later: AtomicBool::new(false),
        }));
        for key in [CONNECTION, HELPER] {
            here.0.shift.spawn(&here, |new| assert_eq!(new, key));
        }
        here
    }

    fn task(&self, key: usize) -> &Task {
        match key {
            CONNECTION => &self.0.connection,
            _ => &self.0.helper,
        }
    }

    /// Tells a task something, and wakes it.
    fn tell(&self, key: usize) {
        self.task(key).mail.lock().unwrap().0 += 1;
        self.0.shift.wake(self, key);
    }

    fn signal(&self, change: impl FnOnce(&mut Signals)) {
        change(&mut self.0.signals.lock().unwrap());
        self.0.changed.notify_all();
    }

    fn wait_until(&self, condition: impl Fn(&Signals) -> bool) {
        let mut signals = self.0.signals.lock().unwrap();
        while !condition(&signals) {
            signals = self.0.changed.wait(signals).unwrap();
        }
    }

    /// The exclusive right to run tasks and to ask the kernel, for as long as `doing` lasts.
    fn alone<R>(&self, doing: impl FnOnce() -> R) -> R {
        assert!(
            !self.0.held.swap(true, Ordering::Relaxed),
            "two hold the baton"
        );
        let result = doing();
        self.0.held.store(false, Ordering::Relaxed);
        result
    }

    /// The foreign loop.
    fn turn_until_over(&self) {
        loop {
            self.wait_until(|it| it.kernel || it.bell || it.over);
            if self.0.signals.lock().unwrap().over {
                return;
            }
            self.0.signals.lock().unwrap().bell = false;
            self.0.shift.turn(self);
            if self.0.later.swap(false, Ordering::Relaxed) {
                self.answer();
            }
            // While the other thread holds the baton, the loop comes back again and again.
            thread::yield_now();
        }
    }

    fn answer(&self) {
        self.0.shift.with_tasks_soon(self, || self.tell(CONNECTION));
    }

    /// One poll of the connection.
    fn serve(&self) {
        let world = &*self.0;
        let mut mail = world.connection.mail.lock().unwrap();
        // Its first poll, or an answer that it has not seen.
        let asks = if mail.0 > mail.1 {
            mail.1 += 1;
            mail.1 < world.rounds
        } else {
            mail.1 == 0 && world.calls.load(Ordering::Relaxed) == 0
        };
        let is_over = mail.1 == world.rounds;
        drop(mail);
        if asks {
            world.calls.fetch_add(1, Ordering::Relaxed);
            world.shift.starts();
            world.shift.push_call(self, ());
        } else if is_over {
            self.signal(|it| it.over = true);
        }
    }
}

impl Floor for Here {
    type Task = ();
    type Call = ();

    fn run(&self, Run { key, task }: Run<()>) -> Option<()> {
        self.alone(|| {
            if key == CONNECTION {
                self.serve();
            } else {
                let mut mail = self.0.helper.mail.lock().unwrap();
                mail.1 = mail.0;
                let seen = mail.1;
                drop(mail);
                self.signal(|it| it.heard = seen);
            }
        });
        Some(task)
    }

    fn call(&self, (): ()) {
        if self.0.kind == Kind::Blocks {
            let before = self.0.helper.mail.lock().unwrap().0;
            self.tell(HELPER);
            self.wait_until(|it| it.heard > before);
        }
        if self.0.kind == Kind::Later {
            self.0.later.store(true, Ordering::Relaxed);
        } else {
            self.answer();
        }
        self.0.shift.started(self);
    }

    fn poll_kernel(&self) {
        self.alone(|| self.0.signals.lock().unwrap().kernel = false);
    }

    fn settle(&self) {}

    fn is_stale(&self) -> bool {
        false
    }

    fn rouse(&self) {
        if !self.0.deaf {
            self.signal(|it| it.roused = true);
        }
    }

    fn wake_kernel(&self) {
        self.signal(|it| it.kernel = true);
    }

    fn ring(&self) {
        self.signal(|it| it.bell = true);
    }
}

/// Time does not pass in a model: whoever waits for some lets the others run.
struct Standing(Here);

impl Wait for Standing {
    fn for_news(&mut self, _: u64) -> bool {
        if self.0.0.deaf || !self.0.0.shift.has_ready() {
            self.0.wait_until(|it| it.kernel || it.roused || it.over);
        }
        let mut signals = self.0.0.signals.lock().unwrap();
        signals.roused = false;
        !signals.over
    }

    fn for_loop(&mut self) -> bool {
        thread::yield_now();
        !self.0.0.signals.lock().unwrap().over
    }

    fn is_due(&self) -> bool {
        self.0.0.signals.lock().unwrap().kernel
    }
}

/// Somebody else, in a thread of its own.
#[derive(Clone, Copy, PartialEq)]
enum Stranger {
    Nobody,
    /// It tells the other task something.
    Tells,
    /// Its calls are about to start, and do so.
    Starts,
    /// The same, and the thread that stands by is deaf.
    StartsUnheard,
}

fn check(kind: Kind, rounds: usize, stranger: Stranger) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound.get_or_insert(2);
    builder.check(move || {
        let here = Here::new(kind, rounds, stranger == Stranger::StartsUnheard);
        let standing = here.clone();
        let other = thread::spawn(move || {
            let mut wait = Standing(standing.clone());
            standing.0.shift.stand_by(&standing, &mut wait);
        });
        if matches!(stranger, Stranger::Starts | Stranger::StartsUnheard) {
            (0..2).for_each(|_| here.0.shift.starts());
        }
        let told = (stranger != Stranger::Nobody).then(|| {
            let here = here.clone();
            thread::spawn(move || match stranger {
                Stranger::Tells => here.tell(HELPER),
                _ => (0..2).for_each(|_| here.0.shift.started(&here)),
            })
        });
        here.turn_until_over();
        other.join().unwrap();
        if let Some(told) = told {
            told.join().unwrap();
        }
        assert_eq!(here.0.calls.load(Ordering::Relaxed), rounds, "calls");
    });
}

#[test]
fn a_call_that_answers_leaves_nobody_waiting() {
    check(Kind::Answers, 1, Stranger::Nobody);
}

#[test]
fn calls_follow_each_other_whoever_runs_their_connection() {
    check(Kind::Answers, 2, Stranger::Nobody);
}

#[test]
fn while_a_call_blocks_the_loop_other_tasks_run_and_the_loop_goes_on_afterwards() {
    check(Kind::Blocks, 1, Stranger::Nobody);
}

#[test]
fn what_a_third_thread_makes_ready_is_run() {
    check(Kind::Answers, 1, Stranger::Tells);
}

#[test]
fn what_is_put_off_for_calls_that_start_is_run_when_they_have() {
    check(Kind::Answers, 1, Stranger::Starts);
    check(Kind::Later, 1, Stranger::Starts);
    check(Kind::Later, 1, Stranger::StartsUnheard);
    check(Kind::Blocks, 1, Stranger::Starts);
}

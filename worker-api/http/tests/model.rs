//! The hand-over of the baton in every order in which threads can meet, by loom: the very code of
//! the driver on loom's primitives. A thread that waits for ever is a deadlock, which loom reports.
//!
//! The bound on preemptions keeps a run to seconds; `make model` raises it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "not all of the driver is run"
)]

#[path = "../src/baton/crew.rs"]
mod crew;
#[path = "../src/baton/handover.rs"]
mod handover;
#[path = "../src/baton/queue.rs"]
mod queue;
#[path = "../src/baton/readiness.rs"]
mod readiness;
#[path = "../src/baton/relay.rs"]
mod relay;
#[path = "../src/baton/tasks.rs"]
mod tasks;

/// In the place of the driver's own.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;

    loom::thread_local! {
        static WAITS: std::cell::Cell<u32> = std::cell::Cell::new(0);
    }

    /// Time does not pass in a model: any wait may be over at once. The first ones may be so
    /// whatever the others do; the later ones let the others run first, lest a run has no end.
    pub(super) fn wait_for<'a, T>(
        _: &Condvar,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        _: std::time::Duration,
    ) -> MutexGuard<'a, T> {
        drop(guard);
        let waits = WAITS.with(|waits| waits.replace(waits.get() + 1));
        if waits > 0 {
            loom::thread::yield_now();
        }
        mutex.lock().unwrap()
    }
}

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use queue::Done;
use readiness::{Readiness, Waiting};
use relay::{Ground, Relay, Took};
use tasks::Run;

/// What a call does.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// It returns.
    Fast,
    /// It waits, unannounced, until the other task has run.
    Waits,
    /// It announces that it waits.
    Announces,
}

/// A connection that makes one call and takes its answer, for each kind; and one more task, which
/// the calls wake.
struct World {
    relay: Relay<(), usize>,
    tasks: Vec<Task>,
    kinds: Vec<Kind>,
    alive: AtomicUsize,
    in_calls: AtomicUsize,
    permits: usize,
    /// So many calls each connection makes, one after the other.
    rounds: usize,
    /// Any call is found to last at the first look.
    impatient: bool,
    kernel: Flag,
    /// The holder of the baton: who runs tasks and asks the kernel.
    held: AtomicBool,
    /// Who has begun a call.
    callers: std::sync::Mutex<Vec<thread::ThreadId>>,
    /// The only caller is in a call, or about to be: 1.
    clock: loom::sync::atomic::AtomicU32,
    /// The other thread waits for the kernel, and looks at no clock.
    blind: AtomicBool,
    over: AtomicBool,
}

struct Task {
    /// Written before the task is woken, read when it runs.
    mail: Mutex<Mail>,
    heard: Flag,
}

#[derive(Default)]
struct Mail {
    /// How many calls a connection has asked for.
    calls: usize,
    called: bool,
    answered: bool,
    done: bool,
}

/// Set once, waited for by one.
struct Flag(Mutex<bool>, Condvar);

impl Flag {
    fn new() -> Self {
        Self(Mutex::new(false), Condvar::new())
    }

    fn set(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }

    fn wait_and_clear(&self) {
        let mut set = self.0.lock().unwrap();
        while !*set {
            set = self.1.wait(set).unwrap();
        }
        *set = false;
    }
}

/// The ground as a thread sees it.
#[derive(Clone)]
struct Here(Arc<World>);

impl World {
    fn make(permits: usize, rounds: usize, impatient: bool, kinds: &[Kind]) -> Here {
        // The last task is the one that calls wait for.
        let tasks: Vec<_> = (0..=kinds.len())
            .map(|_| Task {
                mail: Mutex::default(),
                heard: Flag::new(),
            })
            .collect();
        let here = Here(Arc::new(World {
            relay: Relay::new(permits),
            alive: AtomicUsize::new(tasks.len()),
            in_calls: AtomicUsize::new(0),
            tasks,
            kinds: kinds.to_vec(),
            permits,
            rounds,
            impatient,
            kernel: Flag::new(),
            held: AtomicBool::new(false),
            callers: std::sync::Mutex::default(),
            clock: loom::sync::atomic::AtomicU32::new(0),
            blind: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }));
        for key in 0..=kinds.len() {
            here.0.relay.spawn(&here, |new| assert_eq!(new, key));
        }
        here
    }
}

impl Here {
    fn wake(&self, key: usize) {
        self.0.relay.wake(self, key);
    }

    /// Whether this thread has begun a call.
    fn is_caller(&self) -> bool {
        let callers = self.0.callers.lock().unwrap();
        callers.contains(&thread::current().id())
    }

    /// The exclusive right to `what`, for as long as `doing` lasts.
    fn alone<R>(&self, doing: impl FnOnce() -> R) -> R {
        assert!(
            !self.0.held.swap(true, Ordering::Relaxed),
            "two hold the baton"
        );
        let result = doing();
        self.0.held.store(false, Ordering::Relaxed);
        result
    }

    /// One poll of a task; `true` when it is done.
    fn poll(&self, key: usize) -> bool {
        let helper = self.0.kinds.len();
        let mut mail = self.0.tasks[key].mail.lock().unwrap();
        assert!(!mail.done, "a task runs after its end");
        if key == helper {
            // Each call that waits has asked for one answer.
            if std::mem::take(&mut mail.called) {
                self.0.tasks[key].heard.set();
            }
            // It ends with the last connection.
            mail.done = self.0.alive.load(Ordering::Relaxed) == 1;
        } else if mail.calls == 0 || std::mem::take(&mut mail.answered) {
            mail.done = mail.calls == self.0.rounds;
            mail.calls += 1;
            if !mail.done {
                drop(mail);
                self.0.relay.push_call(self, key);
                return false;
            }
        }
        mail.done
    }
}

impl Ground for Here {
    type Task = ();
    type Call = usize;

    fn run(&self, Run { key, .. }: Run<()>) -> Option<()> {
        self.alone(|| {
            if !self.poll(key) {
                return Some(());
            }
            if self.0.alive.fetch_sub(1, Ordering::Relaxed) == 2 {
                self.wake(self.0.kinds.len());
            }
            None
        })
    }

    fn begin_call(&self) {
        let callers = &self.0.callers;
        callers.lock().unwrap().push(thread::current().id());
        self.0.clock.store(1, Ordering::Relaxed);
    }

    fn call(&self, key: usize) -> Took {
        let running = self.0.in_calls.fetch_add(1, Ordering::Relaxed);
        assert!(running < self.0.permits, "more calls than permits");
        let is_seen = !self.0.blind.load(Ordering::Relaxed);
        assert!(is_seen || self.0.permits > 1, "nobody would see it hang");
        let helper = self.0.kinds.len();
        let kind = self.0.kinds[key];
        if kind != Kind::Fast {
            self.0.tasks[helper].mail.lock().unwrap().called = true;
            self.wake(helper);
            if kind == Kind::Announces {
                self.0.relay.about_to_block();
            }
            self.0.tasks[helper].heard.wait_and_clear();
        }
        self.0.in_calls.fetch_sub(1, Ordering::Relaxed);
        self.0.tasks[key].mail.lock().unwrap().answered = true;
        self.wake(key);
        match kind {
            Kind::Fast => Took::AMoment,
            Kind::Waits => Took::Long,
            Kind::Announces => Took::Short,
        }
    }

    fn call_age(&self) -> Duration {
        if self.0.impatient {
            Duration::MAX
        } else {
            Duration::ZERO
        }
    }

    fn rest(&self) {
        if self.is_caller() {
            self.0.clock.store(0, Ordering::Relaxed);
        }
    }

    fn poll_kernel(&self, wait: bool, back: impl FnOnce()) {
        self.rest();
        self.alone(|| {
            if wait {
                let is_blind = !self.is_caller() && self.0.clock.load(Ordering::Relaxed) == 0;
                self.0.blind.store(is_blind, Ordering::Relaxed);
                self.0.kernel.wait_and_clear();
                self.0.blind.store(false, Ordering::Relaxed);
            }
            back();
        });
    }

    fn wake_kernel(&self) {
        self.0.kernel.set();
    }

    fn is_stale(&self) -> bool {
        false
    }

    fn start_thread(&self) -> bool {
        let here = self.clone();
        thread::spawn(move || here.0.relay.live(&here, false));
        true
    }

    fn over(&self) {
        assert!(!self.0.over.swap(true, Ordering::Relaxed), "it ends twice");
        let alive = self.0.alive.load(Ordering::Relaxed);
        assert_eq!(alive, 0, "work is left");
        let callers = self.0.callers.lock().unwrap();
        let is_one = callers.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(is_one || self.0.permits > 1, "calls on different threads");
    }
}

fn check(permits: usize, rounds: usize, kinds: &'static [Kind]) {
    for impatient in [false, true] {
        bounded().check(move || {
            let here = World::make(permits, rounds, impatient, kinds);
            here.start_thread();
            here.0.relay.live(&here, true);
        });
    }
}

fn bounded() -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound.get_or_insert(3);
    builder
}

#[test]
fn a_fast_call_ends_with_nobody_waiting() {
    check(1, 1, &[Kind::Fast]);
}

#[test]
fn a_long_call_is_watched_and_the_others_go_on() {
    check(1, 1, &[Kind::Waits]);
}

#[test]
fn a_call_that_announces_that_it_waits_has_the_others_go_on() {
    check(1, 1, &[Kind::Announces]);
}

#[test]
fn a_call_that_waits_for_a_permit_gets_it() {
    check(1, 1, &[Kind::Announces, Kind::Fast]);
}

#[test]
fn one_long_call_after_the_other_is_watched() {
    check(1, 2, &[Kind::Waits]);
}

#[test]
fn fast_calls_that_wait_for_a_permit_get_it() {
    check(1, 1, &[Kind::Fast, Kind::Fast]);
}

#[test]
fn two_calls_at_once_end() {
    check(2, 1, &[Kind::Fast, Kind::Fast]);
}

/// Two threads wake a task that a third one runs whenever it is queued.
#[test]
fn a_task_misses_no_wake_up_and_is_run_by_one_thread() {
    bounded().check(|| {
        let queue = Arc::new(queue::Queue::<(), ()>::new(1));
        let kernel = Arc::new(Flag::new());
        let mail = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        assert!(!queue.spawn(|_| ()));
        for _ in 0..2 {
            let (queue, kernel, mail) = (queue.clone(), kernel.clone(), mail.clone());
            thread::spawn(move || {
                mail.fetch_add(1, Ordering::Relaxed);
                if queue.wake(0) {
                    kernel.set();
                }
            });
        }
        let (mut seen, mut done) = (0, Done::Nothing);
        while seen < 2 {
            match queue.next(std::mem::take(&mut done), queue::Turn::Task) {
                queue::Next::Task(Run { key, task }) => {
                    seen = mail.load(Ordering::Relaxed);
                    done = Done::Task(key, Some(task));
                }
                queue::Next::Sleep => {
                    kernel.wait_and_clear();
                    queue.awake();
                }
                other => unreachable!("{other:?}"),
            }
        }
    });
}

/// What a reader of a descriptor is woken by.
struct Alarm(Flag);

impl Wake for Alarm {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.set();
    }
}

/// The kernel has something twice while a thread reads until it would block, and waits. A task is
/// polled for other reasons too, `again`, and then waits on.
fn read_all(again: bool) {
    let readiness = Arc::new(Readiness::new(false));
    let bytes = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
    let kernel = {
        let (readiness, bytes) = (readiness.clone(), bytes.clone());
        thread::spawn(move || {
            for _ in 0..2 {
                bytes.fetch_add(1, Ordering::Relaxed);
                readiness.event(false).into_iter().for_each(Waker::wake);
            }
        })
    };
    let alarm = std::sync::Arc::new(Alarm(Flag::new()));
    let waker = Waker::from(alarm.clone());
    let cx = Context::from_waker(&waker);
    let (mut read, mut waiting) = (0, Waiting::default());
    while read < 2 {
        let polled = match readiness.poll(&mut waiting, &cx) {
            Poll::Pending if again => readiness.poll(&mut waiting, &cx),
            polled => polled,
        };
        match polled {
            Poll::Ready(seen) => match bytes.swap(0, Ordering::Relaxed) {
                0 => readiness.would_block(seen),
                some => read += some,
            },
            Poll::Pending => alarm.0.wait_and_clear(),
        }
    }
    kernel.join().unwrap();
}

#[test]
fn whoever_waits_for_a_descriptor_misses_no_event() {
    for again in [false, true] {
        // It is small, and what may go wrong takes many steps.
        let mut builder = bounded();
        builder.preemption_bound = Some(6);
        builder.check(move || read_all(again));
    }
}

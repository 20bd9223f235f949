//! One baton for a loop that is not ours and the thread that stands by for it.
//!
//! The loop's thread takes the baton for a turn: asks the kernel, runs tasks, and puts it down again
//! before app code runs. The thread that stands by leaves a loop that turns alone. If there is
//! something to do and the loop has not turned for some time, it is blocked by the app: then the
//! other thread takes the baton for one pass, and again for each event, until the loop is back.
//! Calls of the app always wait for the loop.
//!
//! Where several calls are about to start, answers are put off until the last one has started, or
//! one of them comes a millisecond later: they are written together, which costs less than to go
//! back and forth between the app and the connections, and to wake a client for each.
//!
//! | bits of the word | mean |
//! |---|---|
//! | 0 `HELD` | somebody holds the baton |
//! | 1.. | how often the loop has put it down, or has not got it |
//!
//! It knows no kernel and no clock, so that `tests/model.rs` can run this very code in every order
//! in which threads can meet.

use std::collections::VecDeque;

use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};
use super::tasks::{Run, Tasks};

const HELD: u64 = 1;
const TURN: u64 = 2;

/// So many tasks run before everybody else has a turn.
const TASKS: usize = 256;
/// So many rounds of calls, and of the tasks that they make ready.
const ROUNDS: usize = 4;

/// The baton, and what is done by whoever holds it.
pub(crate) struct Shift<T, C> {
    word: AtomicU64,
    /// Calls that are wanted and have not come to their first wait.
    starting: AtomicU64,
    /// 1 if tasks were put off, until somebody runs them.
    put_off: AtomicU64,
    queue: Mutex<Queue<T, C>>,
}

struct Queue<T, C> {
    tasks: Tasks<T>,
    calls: VecDeque<C>,
    /// Who has the baton, or is about to ask for it, will look at `tasks`.
    tasks_expected: bool,
    /// The loop will look at `calls`.
    calls_expected: bool,
}

/// What is below.
pub(crate) trait Floor {
    /// What runs whenever it is woken, and never blocks.
    type Task;
    /// What only the loop's thread may run; it may block.
    type Call;
    /// Runs a task, and gives it back unless it is over.
    fn run(&self, run: Run<Self::Task>) -> Option<Self::Task>;
    /// Makes a call.
    fn call(&self, call: Self::Call);
    /// Asks the kernel for events, without waiting, and passes them on.
    fn poll_kernel(&self);
    /// The baton will be put down next.
    fn settle(&self);
    /// Whether it was put down some time ago.
    fn is_stale(&self) -> bool;
    /// Has the thread that stands by look, should the loop not turn soon.
    fn rouse(&self);
    /// Makes the kernel have an event, so that somebody comes and asks it.
    fn wake_kernel(&self);
    /// Makes the loop turn.
    fn ring(&self);
}

/// What the thread that stands by waits for. The first two are `false` at the end.
pub(crate) trait Wait {
    /// Waits until the kernel has an event, or the loop turns again; it has done so `turns` times.
    fn for_news(&mut self, turns: u64) -> bool;
    /// Waits for as long as a loop may go without a turn.
    fn for_loop(&mut self) -> bool;
    /// Whether the kernel has an event now.
    fn is_due(&self) -> bool;
}

impl<T, C> Shift<T, C> {
    pub(crate) fn new() -> Self {
        let queue = Queue {
            tasks: Tasks::new(),
            calls: VecDeque::new(),
            tasks_expected: false,
            calls_expected: false,
        };
        Self {
            word: AtomicU64::new(0),
            starting: AtomicU64::new(0),
            put_off: AtomicU64::new(0),
            queue: Mutex::new(queue),
        }
    }

    /// A new task, of which `make` gets the key. It runs soon.
    pub(crate) fn spawn(&self, floor: &impl Floor, make: impl FnOnce(usize) -> T) {
        self.change(floor, |tasks| {
            tasks.insert(make);
            true
        });
    }

    /// A task is to run.
    pub(crate) fn wake(&self, floor: &impl Floor, key: usize) {
        self.change(floor, |tasks| tasks.wake(key));
    }

    /// All tasks are to run.
    pub(crate) fn wake_all(&self, floor: &impl Floor) {
        self.change(floor, Tasks::wake_all);
    }

    /// `change` tells whether a task has become ready.
    fn change(&self, floor: &impl Floor, change: impl FnOnce(&mut Tasks<T>) -> bool) {
        let expected = {
            let mut queue = self.lock();
            !change(&mut queue.tasks) || std::mem::replace(&mut queue.tasks_expected, true)
        };
        if !expected {
            floor.wake_kernel();
        }
    }

    /// A call is wanted.
    pub(crate) fn push_call(&self, floor: &impl Floor, call: C) {
        let expected = {
            let mut queue = self.lock();
            queue.calls.push_back(call);
            std::mem::replace(&mut queue.calls_expected, true)
        };
        if !expected {
            floor.ring();
        }
    }

    /// How often the loop has turned: for comparison.
    pub(crate) fn turns(&self) -> u64 {
        self.word.load(Ordering::Acquire) / TURN
    }

    /// A turn of the loop: what the kernel has, and whatever comes of it.
    pub(crate) fn turn(&self, floor: &impl Floor<Task = T, Call = C>) {
        {
            // Or what the kernel makes ready would wake it once more.
            let mut queue = self.lock();
            (queue.tasks_expected, queue.calls_expected) = (true, true);
        }
        self.run_tasks(floor, true);
        for _ in 0..ROUNDS {
            let calls = self.next_calls();
            if calls.is_empty() {
                return;
            }
            for call in calls {
                floor.call(call);
                if floor.is_stale() && self.put_off.load(Ordering::SeqCst) != 0 {
                    self.run_tasks(floor, false);
                }
            }
            self.run_tasks(floor, false);
        }
        if self.is_called() {
            floor.ring();
        }
    }

    /// The loop's thread does something that makes tasks ready, and runs them.
    pub(crate) fn with_tasks<R>(
        &self,
        floor: &impl Floor<Task = T, Call = C>,
        doing: impl FnOnce() -> R,
    ) -> R {
        self.lock().tasks_expected = true;
        let result = doing();
        self.run_tasks(floor, false);
        result
    }

    /// The same, but what was made ready is put off if other calls are about to start.
    pub(crate) fn with_tasks_soon<R>(
        &self,
        floor: &impl Floor<Task = T, Call = C>,
        doing: impl FnOnce() -> R,
    ) -> R {
        self.lock().tasks_expected = true;
        let result = doing();
        if self.starting.load(Ordering::SeqCst) > 1 && !floor.is_stale() {
            if !self.is_ready() {
                return result;
            }
            self.put_off.store(1, Ordering::SeqCst);
            floor.rouse();
            // Whoever was the last to start may have looked before: see `started`.
            if self.starting.load(Ordering::SeqCst) > 0 {
                return result;
            }
        }
        self.run_tasks(floor, false);
        result
    }

    /// A call is wanted, and will start.
    pub(crate) fn starts(&self) {
        self.starting.fetch_add(1, Ordering::SeqCst);
    }

    /// It has come to its first wait, or to its end.
    pub(crate) fn started(&self, floor: &impl Floor<Task = T, Call = C>) {
        let is_last = self.starting.fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last && self.put_off.load(Ordering::SeqCst) != 0 {
            floor.ring();
        }
    }

    /// Whether a task waits for somebody to run it.
    pub(crate) fn has_ready(&self) -> bool {
        self.lock().tasks.ready() > 0
    }

    /// Whether there is any task, ready or not.
    pub(crate) fn has_tasks(&self) -> bool {
        !self.lock().tasks.is_empty()
    }

    /// On the loop's thread.
    fn run_tasks(&self, floor: &impl Floor<Task = T, Call = C>, ask: bool) {
        if self.word.fetch_or(HELD, Ordering::AcqRel) & HELD != 0 {
            // The other thread has it, and may have looked for tasks for the last time. It sees
            // that the loop is back.
            self.word.fetch_add(TURN, Ordering::AcqRel);
            return floor.wake_kernel();
        }
        if ask {
            floor.poll_kernel();
        }
        self.put_off.store(0, Ordering::SeqCst);
        self.run_ready(floor, || false);
        floor.settle();
        // In one addition: not held, and one turn more. Release: whoever takes it next sees what
        // was done.
        self.word.fetch_add(TURN - HELD, Ordering::AcqRel);
    }

    /// The life of the thread that stands by.
    pub(crate) fn stand_by(&self, floor: &impl Floor<Task = T, Call = C>, wait: &mut impl Wait) {
        let mut turns = self.turns();
        let mut is_blocked = false;
        while wait.for_news(turns) {
            if !is_blocked || self.turns() != turns {
                match self.watch(wait) {
                    Some(quiet) => turns = quiet,
                    None => return,
                }
            }
            let is_due = wait.is_due() || self.has_ready();
            is_blocked = is_due && self.relieve(floor, turns);
            turns = self.turns();
        }
    }

    /// Leaves the loop alone for as long as it turns. Tells how often it has done so, or `None` at
    /// the end.
    fn watch(&self, wait: &mut impl Wait) -> Option<u64> {
        loop {
            let turns = self.turns();
            if !wait.for_loop() {
                return None;
            }
            if self.turns() == turns {
                return Some(turns);
            }
        }
    }

    /// Does the loop's work, if the loop has not turned since it was seen to have turned so often.
    fn relieve(&self, floor: &impl Floor<Task = T, Call = C>, turns: u64) -> bool {
        let now = turns * TURN;
        let taken =
            self.word
                .compare_exchange(now, now | HELD, Ordering::AcqRel, Ordering::Acquire);
        if taken.is_err() {
            return false;
        }
        self.lock().tasks_expected = true;
        floor.poll_kernel();
        let is_back = || self.turns() != turns;
        self.run_ready(floor, is_back);
        floor.settle();
        self.word.fetch_and(!HELD, Ordering::AcqRel) / TURN == turns
    }

    /// For the holder of the baton.
    fn run_ready(&self, floor: &impl Floor<Task = T>, is_over: impl Fn() -> bool) {
        let mut ran = None;
        for _ in 0..TASKS {
            match self.next_task(ran.take()) {
                Some(run) => ran = Some((run.key, floor.run(run))),
                None => return,
            }
            if is_over() {
                break;
            }
        }
        if let Some((key, task)) = ran {
            self.lock().tasks.ran(key, task);
        }
        if self.is_ready() {
            floor.wake_kernel();
        }
    }

    /// What is next, after what `ran`, which is given back unless it is over.
    fn next_task(&self, ran: Option<(usize, Option<T>)>) -> Option<Run<T>> {
        let mut queue = self.lock();
        if let Some((key, task)) = ran {
            queue.tasks.ran(key, task);
        }
        let next = queue.tasks.next();
        queue.tasks_expected = next.is_some();
        next
    }

    fn is_ready(&self) -> bool {
        let mut queue = self.lock();
        queue.tasks_expected = queue.tasks.ready() > 0;
        queue.tasks_expected
    }

    fn next_calls(&self) -> VecDeque<C> {
        let mut queue = self.lock();
        queue.calls_expected = !queue.calls.is_empty();
        std::mem::take(&mut queue.calls)
    }

    fn is_called(&self) -> bool {
        let mut queue = self.lock();
        queue.calls_expected = !queue.calls.is_empty();
        queue.calls_expected
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T, C>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

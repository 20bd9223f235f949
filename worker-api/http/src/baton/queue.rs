//! What is to be done: tasks, and app calls that wait for a permit.

use std::collections::VecDeque;

use super::sync::{Mutex, MutexGuard, PoisonError};
use super::tasks::{Run, Tasks};

/// One lock for all of it, held for a few instructions unless all tasks are woken: so nobody has to
/// reason about what is seen in which order, and one step costs one lock.
pub(crate) struct Queue<T, C> {
    shared: Mutex<Shared<T, C>>,
}

struct Shared<T, C> {
    tasks: Tasks<T>,
    calls: VecDeque<C>,
    /// How many calls may begin now.
    permits: usize,
    limit: usize,
    /// How many tasks were ready when the last call began.
    ready_before: usize,
    /// The holder of the baton waits for the kernel, and has to be woken.
    asleep: bool,
    /// The holder of the baton waits for the last call.
    ending: bool,
}

/// What the holder of the baton has done.
#[derive(Default)]
pub(crate) enum Done<T> {
    /// Nothing that the queue has to know.
    #[default]
    Nothing,
    /// It has run this task, which is over if it is not given back.
    Task(usize, Option<T>),
    /// It has made a call, and gives the permit back. If the call has woken one task, that one is
    /// the next, provided that it `may_jump` the queue.
    Call { may_jump: bool },
}

/// What it does next.
#[derive(Debug)]
pub(crate) enum Next<T, C> {
    /// Run a task.
    Task(Run<T>),
    /// Run a task that has jumped the queue.
    Jump(Run<T>),
    /// Make a call; it has its permit.
    Call(C),
    /// Wait for the kernel, then say [`Queue::awake`].
    Sleep,
    /// Hand the baton on.
    Leave,
    /// Nothing: no task is left, and no call runs or waits.
    End,
}

/// Whose turn it is, if there are both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Task,
    Call,
    /// A task's; calls are for another thread.
    TaskOnly,
    /// Another thread's, which gets the baton.
    Others,
}

impl<T, C> Queue<T, C> {
    /// At most `permits` calls at once.
    pub(crate) fn new(permits: usize) -> Self {
        let shared = Shared {
            tasks: Tasks::new(),
            calls: VecDeque::new(),
            permits,
            limit: permits,
            ready_before: 0,
            asleep: false,
            ending: false,
        };
        Self {
            shared: Mutex::new(shared),
        }
    }

    /// A new task. `true` if the holder of the baton is to be woken for it.
    #[must_use]
    pub(crate) fn spawn(&self, make: impl FnOnce(usize) -> T) -> bool {
        let mut shared = self.lock();
        shared.tasks.insert(make);
        std::mem::take(&mut shared.asleep)
    }

    /// A task is to run. `true` as for [`spawn`](Self::spawn).
    #[must_use]
    pub(crate) fn wake(&self, key: usize) -> bool {
        let mut shared = self.lock();
        shared.tasks.wake(key) && std::mem::take(&mut shared.asleep)
    }

    /// All tasks are to run. `true` as for [`spawn`](Self::spawn).
    #[must_use]
    pub(crate) fn wake_all(&self) -> bool {
        let mut shared = self.lock();
        shared.tasks.wake_all() && std::mem::take(&mut shared.asleep)
    }

    /// A call is wanted. `true` as for [`spawn`](Self::spawn).
    #[must_use]
    pub(crate) fn push_call(&self, call: C) -> bool {
        let mut shared = self.lock();
        shared.calls.push_back(call);
        shared.permits > 0 && std::mem::take(&mut shared.asleep)
    }

    /// What to do next, after what was done. Tasks and calls take turns, so that neither can keep
    /// the other waiting for ever.
    pub(crate) fn next(&self, done: Done<T>, turn: Turn) -> Next<T, C> {
        let mut shared = self.lock();
        match done {
            Done::Nothing => {}
            Done::Task(key, task) => shared.tasks.ran(key, task),
            Done::Call { may_jump } => {
                shared.permits += 1;
                if may_jump
                    && shared.tasks.ready() == shared.ready_before + 1
                    && let Some(run) = shared.tasks.last()
                {
                    return Next::Jump(run);
                }
            }
        }
        if turn == Turn::Others {
            return Next::Leave;
        }
        let can_call = shared.permits > 0 && !shared.calls.is_empty() && turn != Turn::TaskOnly;
        if !(can_call && turn == Turn::Call)
            && let Some(run) = shared.tasks.next()
        {
            return Next::Task(run);
        }
        if can_call && let Some(call) = shared.calls.pop_front() {
            shared.permits -= 1;
            shared.ready_before = shared.tasks.ready();
            return Next::Call(call);
        }
        if shared.tasks.is_empty() {
            if shared.permits == shared.limit && shared.calls.is_empty() {
                return Next::End;
            }
            shared.ending = true;
        }
        shared.asleep = true;
        Next::Sleep
    }

    /// The holder of the baton is back from the kernel.
    pub(crate) fn awake(&self) {
        self.lock().asleep = false;
    }

    /// A call has ended. Its permit goes to the next call that waits, if `goes_on`; else back.
    pub(crate) fn call_ended(&self, goes_on: bool) -> Ended<C> {
        let mut shared = self.lock();
        if goes_on && let Some(call) = shared.calls.pop_front() {
            return Ended::Next(call);
        }
        shared.permits += 1;
        let due = !shared.calls.is_empty() || shared.ending;
        Ended::Idle {
            wake: due && std::mem::take(&mut shared.asleep),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared<T, C>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread of a call does after it.
#[derive(Debug)]
pub(crate) enum Ended<C> {
    /// Make this call, with the same permit.
    Next(C),
    /// The permit is given back.
    Idle {
        /// The holder of the baton is to be woken: calls wait, or it waits for the last one.
        wake: bool,
    },
}

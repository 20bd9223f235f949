//! What is to be done: tasks that are ready, and app calls that wait for a permit.

use std::collections::VecDeque;

use super::sync::{Mutex, MutexGuard, PoisonError};

/// One lock for all of it, held for a few instructions: so nobody has to reason about what is
/// seen in which order.
pub(crate) struct Queue<T, C> {
    shared: Mutex<Shared<T, C>>,
}

struct Shared<T, C> {
    ready: VecDeque<T>,
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

/// What the holder of the baton does next.
#[derive(Debug)]
pub(crate) enum Next<T, C> {
    /// Run a task.
    Task(T),
    /// Make a call; it has its permit.
    Call(C),
    /// Wait for the kernel, then say [`Queue::awake`].
    Sleep,
}

/// Whose turn it is, if there are both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Task,
    Call,
}

impl<T, C> Queue<T, C> {
    /// At most `permits` calls at once.
    pub(crate) fn new(permits: usize) -> Self {
        let shared = Shared {
            ready: VecDeque::new(),
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

    /// A task is ready. `true` if the holder of the baton is to be woken for it.
    #[must_use]
    pub(crate) fn push_task(&self, task: T) -> bool {
        let mut shared = self.lock();
        shared.ready.push_back(task);
        std::mem::take(&mut shared.asleep)
    }

    /// A call is wanted. `true` as for [`push_task`](Self::push_task).
    #[must_use]
    pub(crate) fn push_call(&self, call: C) -> bool {
        let mut shared = self.lock();
        shared.calls.push_back(call);
        shared.permits > 0 && std::mem::take(&mut shared.asleep)
    }

    /// What to do next. Tasks and calls take turns, so that neither can keep the other waiting for
    /// ever.
    pub(crate) fn next(&self, turn: Turn) -> Next<T, C> {
        Self::choose(&mut self.lock(), turn)
    }

    /// The same, for the holder of the baton whose thread has made a call: it gives the permit
    /// back. If the call has woken one task, that one is the next, provided that it `may_jump` the
    /// queue. Tells too whether it does.
    pub(crate) fn next_after_call(&self, turn: Turn, may_jump: bool) -> (Next<T, C>, bool) {
        let mut shared = self.lock();
        shared.permits += 1;
        if may_jump
            && shared.ready.len() == shared.ready_before + 1
            && let Some(task) = shared.ready.pop_back()
        {
            return (Next::Task(task), true);
        }
        (Self::choose(&mut shared, turn), false)
    }

    fn choose(shared: &mut Shared<T, C>, turn: Turn) -> Next<T, C> {
        let can_call = shared.permits > 0 && !shared.calls.is_empty();
        if !(can_call && turn == Turn::Call)
            && let Some(task) = shared.ready.pop_front()
        {
            return Next::Task(task);
        }
        if can_call && let Some(call) = shared.calls.pop_front() {
            shared.permits -= 1;
            shared.ready_before = shared.ready.len();
            return Next::Call(call);
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

    /// Whether no call runs or waits; if one does, its end wakes the holder of the baton.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut shared = self.lock();
        let quiet = shared.permits == shared.limit && shared.calls.is_empty();
        shared.ending = !quiet;
        quiet
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

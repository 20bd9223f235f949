//! Tasks: where each of them is, and which are ready. So that a task is run by one thread at a time
//! and misses no wake-up.
//!
//! It has no lock: whoever has some tasks keeps them under one that is its own, with whatever else
//! is decided about them.

use std::collections::VecDeque;

use slab::Slab;

/// See the module.
pub(crate) struct Tasks<T> {
    slots: Slab<Slot<T>>,
    /// The keys of those that are ready.
    ready: VecDeque<usize>,
}

/// A task is in its slot except while it runs.
enum Slot<T> {
    /// Nothing has happened that concerns it.
    Idle(T),
    Ready(T),
    Running,
    /// Running, and woken meanwhile.
    Woken,
}

/// A task that is about to run.
#[derive(Debug)]
pub(crate) struct Run<T> {
    pub(crate) key: usize,
    pub(crate) task: T,
}

impl<T> Tasks<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab::new(),
            ready: VecDeque::new(),
        }
    }

    /// A new task, of which `make` gets the key. It is ready.
    pub(crate) fn insert(&mut self, make: impl FnOnce(usize) -> T) {
        let entry = self.slots.vacant_entry();
        let key = entry.key();
        entry.insert(Slot::Ready(make(key)));
        self.ready.push_back(key);
    }

    /// Something has happened that concerns this task; it runs, or runs once more. `true` if it was
    /// not to run before. A task that is over is nobody's concern; if its key is another one's by
    /// now, that runs for nothing.
    pub(crate) fn wake(&mut self, key: usize) -> bool {
        let Some(slot) = self.slots.get_mut(key) else {
            return false;
        };
        match std::mem::replace(slot, Slot::Woken) {
            Slot::Idle(task) => {
                *slot = Slot::Ready(task);
                self.ready.push_back(key);
                return true;
            }
            Slot::Ready(task) => *slot = Slot::Ready(task),
            Slot::Running | Slot::Woken => {}
        }
        false
    }

    /// Something concerns them all. As [`wake`](Self::wake).
    pub(crate) fn wake_all(&mut self) -> bool {
        let keys: Vec<_> = self.slots.iter().map(|(key, _)| key).collect();
        keys.into_iter()
            .fold(false, |any, key| self.wake(key) | any)
    }

    /// The one that has been ready for longest. It runs, until it [`ran`](Self::ran).
    pub(crate) fn next(&mut self) -> Option<Run<T>> {
        let key = self.ready.pop_front()?;
        self.take(key)
    }

    /// The one that has become ready last.
    pub(crate) fn last(&mut self) -> Option<Run<T>> {
        let key = self.ready.pop_back()?;
        self.take(key)
    }

    /// It has run; there is no `task` if it is over.
    pub(crate) fn ran(&mut self, key: usize, task: Option<T>) {
        let Some(task) = task else {
            self.slots.try_remove(key);
            return;
        };
        if let Some(slot) = self.slots.get_mut(key) {
            if matches!(slot, Slot::Woken) {
                *slot = Slot::Ready(task);
                self.ready.push_back(key);
            } else {
                *slot = Slot::Idle(task);
            }
        }
    }

    /// How many are ready.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether there is none, ready or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn take(&mut self, key: usize) -> Option<Run<T>> {
        let slot = self.slots.get_mut(key)?;
        match std::mem::replace(slot, Slot::Running) {
            Slot::Ready(task) => Some(Run { key, task }),
            other => {
                *slot = other;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(names: &[&'static str]) -> Tasks<&'static str> {
        let mut tasks = Tasks::new();
        names.iter().for_each(|name| tasks.insert(|_| *name));
        tasks
    }

    fn run_next(tasks: &mut Tasks<&'static str>) -> Option<&'static str> {
        let Run { key, task } = tasks.next()?;
        tasks.ran(key, Some(task));
        Some(task)
    }

    #[test]
    fn tasks_run_in_the_order_in_which_they_became_ready_and_once_for_each_time() {
        let mut tasks = tasks(&["a", "b"]);
        assert_eq!((tasks.ready(), tasks.wake(0)), (2, false));
        assert_eq!(run_next(&mut tasks), Some("a"));
        assert_eq!(run_next(&mut tasks), Some("b"));
        assert_eq!(run_next(&mut tasks), None);
        assert!(tasks.wake(1) && !tasks.wake(1) && tasks.wake(0));
        assert_eq!(tasks.last().map(|run| run.task), Some("a"));
        assert_eq!(run_next(&mut tasks), Some("b"));
    }

    #[test]
    fn what_is_woken_while_it_runs_runs_once_more() {
        let mut tasks = tasks(&["a"]);
        let Run { key, task } = tasks.next().unwrap();
        assert!(!tasks.wake(key) && !tasks.wake(key));
        assert_eq!(tasks.ready(), 0, "nobody else may run it");
        tasks.ran(key, Some(task));
        assert_eq!(run_next(&mut tasks), Some("a"));
        assert_eq!(run_next(&mut tasks), None);
    }

    #[test]
    fn what_is_over_is_gone_and_its_wakers_do_no_harm() {
        let mut tasks = tasks(&["a"]);
        let Run { key, .. } = tasks.next().unwrap();
        assert!(!tasks.is_empty());
        tasks.wake(key);
        tasks.ran(key, None);
        assert!(tasks.is_empty() && !tasks.wake(key));
        tasks.insert(|again| {
            assert_eq!(again, key);
            "b"
        });
        assert_eq!((tasks.ready(), tasks.wake(key)), (1, false));
        assert_eq!(run_next(&mut tasks), Some("b"));
    }

    #[test]
    fn all_are_woken_wherever_they_are() {
        let mut tasks = tasks(&["a", "b", "c"]);
        assert!(!tasks.wake_all(), "they are ready");
        let running = tasks.next().unwrap();
        run_next(&mut tasks);
        assert!(tasks.wake_all(), "one was idle");
        assert_eq!(run_next(&mut tasks), Some("c"));
        tasks.ran(running.key, Some(running.task));
        assert_eq!(run_next(&mut tasks), Some("b"));
        assert_eq!(run_next(&mut tasks), Some("a"));
    }
}

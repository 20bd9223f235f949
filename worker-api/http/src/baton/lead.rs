//! Who runs the tasks: threads of our own that pass the baton, or a loop that is somebody else's.

use std::sync::Arc;

use super::executor::{Core, Job, Task};
use super::hosted::{Below, Hosted};
use super::relay::Relay;

pub(super) enum Lead {
    Own(Relay<Task, Arc<dyn Job>>),
    Hosted(Hosted),
}

impl Lead {
    /// A new task, of which `make` gets the key. It runs soon.
    pub(super) fn spawn(&self, core: &Core, make: impl FnOnce(usize) -> Task) {
        match self {
            Self::Own(relay) => relay.spawn(core, make),
            Self::Hosted(hosted) => hosted.shift.spawn(&Below::new(core, hosted), make),
        }
    }

    /// A task is to run.
    pub(super) fn wake(&self, core: &Core, key: usize) {
        match self {
            Self::Own(relay) => relay.wake(core, key),
            Self::Hosted(hosted) => hosted.shift.wake(&Below::new(core, hosted), key),
        }
    }

    /// All tasks are to run.
    pub(super) fn wake_all(&self, core: &Core) {
        match self {
            Self::Own(relay) => relay.wake_all(core),
            Self::Hosted(hosted) => hosted.shift.wake_all(&Below::new(core, hosted)),
        }
    }

    /// A call is wanted.
    pub(super) fn push_call(&self, core: &Core, call: Arc<dyn Job>) {
        match self {
            Self::Own(relay) => relay.push_call(core, call),
            Self::Hosted(hosted) => hosted.shift.push_call(&Below::new(core, hosted), call),
        }
    }

    /// A call is about to wait for something that only the holder of the baton can bring. The
    /// thread of a foreign loop never does.
    pub(super) fn about_to_block(&self) {
        if let Self::Own(relay) = self {
            relay.about_to_block();
        }
    }
}

//! Who runs the tasks: threads of our own that pass the baton, or a loop that is somebody else's.

use std::sync::Arc;

use super::executor::{Core, Job, Task};
use super::hosted::{Below, Hosted};
use super::relay::Relay;

pub(super) enum Lead {
    Own(Relay<Arc<Task>, Arc<dyn Job>>),
    Hosted(Hosted),
}

impl Lead {
    /// A task is ready.
    pub(super) fn push_task(&self, core: &Core, task: Arc<Task>) {
        match self {
            Self::Own(relay) => relay.push_task(core, task),
            Self::Hosted(hosted) => hosted.shift.push_task(&Below { core, hosted }, task),
        }
    }

    /// A call is wanted.
    pub(super) fn push_call(&self, core: &Core, call: Arc<dyn Job>) {
        match self {
            Self::Own(relay) => relay.push_call(core, call),
            Self::Hosted(hosted) => hosted.shift.push_call(&Below { core, hosted }, call),
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

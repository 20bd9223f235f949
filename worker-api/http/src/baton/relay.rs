//! What the threads do with the baton: hold it, put it down for a call, take it up again, or leave
//! it to another. It knows no kernel and no clock, so that `tests/model.rs` can run this very code
//! in every order in which threads can meet.

use std::time::Duration;

use super::crew::Crew;
use super::handover::Baton;
use super::queue::{Done, Ended, Next, Queue, Turn};
use super::tasks::Run;

/// So many tasks run before the kernel is asked what else there is.
const TASKS: u32 = 256;
/// So many run before the next call, where calls are made in a row.
const AT_ONCE: u32 = 64;
/// So many calls one after the other took longer than a moment: it is their way, and not that the
/// kernel interrupted one of them.
const STEADY: u32 = 2;

/// The baton, those who run with it, and what they run for.
pub(crate) struct Relay<T, C> {
    baton: Baton,
    crew: Crew,
    queue: Queue<T, C>,
    /// All calls are made on the first thread: what an app binds to a thread is then there in every
    /// call. The other thread holds the baton during long ones, and gives it back.
    one_caller: bool,
}

/// What is below.
pub(crate) trait Ground {
    /// What runs whenever it is woken, and never blocks.
    type Task;
    /// What may block.
    type Call;
    /// Runs a task, and gives it back unless it is over.
    fn run(&self, run: Run<Self::Task>) -> Option<Self::Task>;
    /// This thread is about to make a call: whoever takes the baton meanwhile has to know.
    fn begin_call(&self);
    /// Makes a call: after [`begin_call`](Self::begin_call), or after another one.
    fn call(&self, call: Self::Call) -> Took;
    /// Asks the kernel for events, and waits for some if told to; says `back` before it passes
    /// them on.
    fn poll_kernel(&self, wait: bool, back: impl FnOnce());
    /// For how long a call has run that the holder of the baton makes, if it makes one.
    fn call_age(&self) -> Duration;
    /// This thread has no call to make, and waits for the baton.
    fn rest(&self);
    /// Ends such a wait.
    fn wake_kernel(&self);
    /// Whether the kernel was last asked some time ago.
    fn is_stale(&self) -> bool;
    /// Starts a thread that does [`Relay::live`] without the baton. `false` if there can be none.
    fn start_thread(&self) -> bool;
    /// Nothing is left to do.
    fn over(&self);
}

impl<T, C> Relay<T, C> {
    /// At most `permits` calls at once, on one thread more, or, if it is one, all on the first thread.
    /// That one holds the baton. The caller starts it and a second one, without which a call that lasts
    /// would hold everything up.
    pub(crate) fn new(permits: usize) -> Self {
        Self {
            baton: Baton::new(),
            crew: Crew::new(permits.saturating_add(1)),
            queue: Queue::new(permits),
            one_caller: permits == 1,
        }
    }

    /// A new task, of which `make` gets the key. It runs soon.
    pub(crate) fn spawn(&self, ground: &impl Ground, make: impl FnOnce(usize) -> T) {
        if self.queue.spawn(make) {
            ground.wake_kernel();
        }
    }

    /// A task is to run.
    pub(crate) fn wake(&self, ground: &impl Ground, key: usize) {
        if self.queue.wake(key) {
            ground.wake_kernel();
        }
    }

    /// All tasks are to run.
    pub(crate) fn wake_all(&self, ground: &impl Ground) {
        if self.queue.wake_all() {
            ground.wake_kernel();
        }
    }

    /// A call is wanted.
    pub(crate) fn push_call(&self, ground: &impl Ground, call: C) {
        if self.queue.push_call(call) {
            ground.wake_kernel();
        }
    }

    /// A call is about to wait for something that only the holder of the baton can bring.
    pub(crate) fn about_to_block(&self) {
        self.crew.poke(&self.baton);
    }

    /// The life of a thread; the first one holds the baton.
    pub(crate) fn live(&self, ground: &impl Ground<Task = T, Call = C>, is_first: bool) {
        let wait = || {
            if self.one_caller && is_first {
                return self.crew.claim(|| ground.wake_kernel());
            }
            (self.crew).wait_for_baton(&self.baton, || ground.call_age())
        };
        let calls = is_first || !self.one_caller;
        let mut holds = is_first || wait();
        while holds {
            match self.hold(ground, calls) {
                Left::Baton => {
                    ground.rest();
                    holds = wait();
                }
                Left::Nothing => {
                    self.crew.end();
                    return ground.over();
                }
            }
        }
    }

    /// A call that takes a moment is made as soon as a task has asked for it, and its answer is the
    /// next thing to be worked on: a request is over before the next one begins, while all that it
    /// needs is in the processor's cache. Calls that take longer need the cache for themselves: they
    /// are made in a row, for as long as the kernel can wait, and then their answers are worked on.
    ///
    /// A thread that makes no `calls` holds the baton until another one claims it.
    fn hold(&self, ground: &impl Ground<Task = T, Call = C>, calls: bool) -> Left {
        let (mut tasks, mut turn) = (0, Turn::Task);
        let mut jump = Jump::default();
        let (mut short, mut before_calls) = (0_u32, 0);
        let mut done = Done::Nothing;
        loop {
            if !calls {
                let claimed = self.crew.is_claimed();
                turn = if claimed {
                    Turn::Others
                } else {
                    Turn::TaskOnly
                };
            }
            let next = self.queue.next(std::mem::take(&mut done), turn);
            let wait = matches!(next, Next::Sleep);
            if matches!(next, Next::Jump(_)) {
                jump = Jump { ran: 0 };
            }
            match next {
                Next::Task(run) | Next::Jump(run) => {
                    (tasks, before_calls) = (tasks + 1, before_calls + 1);
                    let more = short >= STEADY && before_calls < AT_ONCE;
                    turn = if more { Turn::Task } else { Turn::Call };
                    jump.ran();
                    done = Done::Task(run.key, ground.run(run));
                }
                Next::Call(call) => {
                    let took = match self.put_down_for(ground, call) {
                        Back::WithPermit(took) => {
                            let may_jump = took == Took::AMoment && jump.is_allowed();
                            done = Done::Call { may_jump };
                            took
                        }
                        Back::Without(took) => took,
                        Back::NotAtAll => return Left::Baton,
                    };
                    short = match took {
                        Took::Short => STEADY.min(short + 1),
                        Took::AMoment | Took::Long => 0,
                    };
                    before_calls = 0;
                    turn = if short >= STEADY {
                        Turn::Call
                    } else {
                        Turn::Task
                    };
                }
                Next::Sleep => {}
                Next::Leave => {
                    self.crew.give();
                    return Left::Baton;
                }
                Next::End => return Left::Nothing,
            }
            if wait || tasks > TASKS || ground.is_stale() {
                (tasks, turn) = (0, Turn::Task);
                ground.poll_kernel(wait, || self.queue.awake());
            }
        }
    }

    /// Makes a call on this thread, without the baton.
    fn put_down_for(&self, ground: &impl Ground<Task = T, Call = C>, call: C) -> Back {
        ground.begin_call();
        if self.baton.put_down() && self.crew.summon() && !ground.start_thread() {
            self.crew.not_started(&self.baton);
        }
        let mut took = ground.call(call);
        if self.baton.take() {
            return Back::WithPermit(took);
        }
        // Long calls follow each other on this thread, beside the holder of the baton. After a
        // short one it is better to be one thread again.
        loop {
            match self.queue.call_ended(took == Took::Long) {
                Ended::Next(call) => took = ground.call(call),
                Ended::Idle { wake } => {
                    if wake {
                        ground.wake_kernel();
                    }
                    return match self.baton.take() {
                        true => Back::Without(took),
                        false => Back::NotAtAll,
                    };
                }
            }
        }
    }
}

/// How long a call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// Hardly longer than the work around it.
    AMoment,
    Short,
    /// So long that others should not wait for it.
    Long,
}

/// Who was woken by a call may jump the queue, but not twice running: a client that sends request
/// upon request must not keep the others waiting.
struct Jump {
    /// How many tasks ran since the last one that did.
    ran: u32,
}

impl Default for Jump {
    fn default() -> Self {
        Self { ran: 2 }
    }
}

impl Jump {
    fn ran(&mut self) {
        self.ran = self.ran.saturating_add(1);
    }

    /// The one that jumped has run, and another one that waited for its turn.
    fn is_allowed(&self) -> bool {
        self.ran >= 2
    }
}

/// Whether a thread holds the baton again after a call, and how long the call took.
enum Back {
    /// The call's permit is still to be given back. Who holds the baton does not sleep: nobody is to
    /// be woken for that.
    WithPermit(Took),
    Without(Took),
    NotAtAll,
}

/// Where a thread stands after it held the baton.
enum Left {
    /// Another thread has taken the baton.
    Baton,
    /// There is nothing left to do.
    Nothing,
}

//! Python's lock (or, where there is none, the attachment to the interpreter) on the threads that
//! call the app: kept from one call to the next, let go of only where the thread waits.
#![expect(unsafe_code, reason = "keeps the lock beyond a scope")]

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::{ffi, intern};

thread_local! {
    static LOCK: Cell<Lock> = const { Cell::new(Lock::Foreign) };
}

/// Who has this thread's lock.
#[derive(Clone, Copy)]
enum Lock {
    /// It is no thread of ours, or it has let go of the lock in PyO3's way.
    Foreign,
    /// It is one of ours, and Python has not seen it yet.
    Unknown,
    Held,
    Released(NonNull<ffi::PyThreadState>),
}

/// The life of a thread that calls the app. It keeps one thread state for all its calls.
///
/// It has none before the first: that takes the lock, which another call may keep for long, and
/// the thread is there to see to everything else meanwhile.
pub(crate) fn live(life: &mut (dyn FnMut() + Send)) {
    LOCK.set(Lock::Unknown);
    life();
    take_back();
    if matches!(LOCK.replace(Lock::Foreign), Lock::Held) {
        // SAFETY: the thread holds the lock, and gives back what `meet` took: the first state of a
        // thread that Python did not know, which is the unlocked one.
        unsafe { ffi::PyGILState_Release(ffi::PyGILState_STATE::PyGILState_UNLOCKED) };
    }
}

/// Runs Python code on such a thread, which keeps the lock afterwards.
pub(crate) fn with<R>(code: impl FnOnce(Python<'_>) -> R) -> R {
    match LOCK.get() {
        Lock::Released(_) => take_back(),
        Lock::Unknown => meet(),
        Lock::Foreign | Lock::Held => {}
    }
    // SAFETY: there is an interpreter: it has loaded this module.
    unsafe { Python::attach_unchecked(code) }
}

/// Takes the lock again, if this thread has let go of it.
fn take_back() {
    if let Lock::Released(state) = LOCK.get() {
        // SAFETY: the state is this thread's and was saved by it; it is restored once, since it is
        // forgotten here.
        unsafe { ffi::PyEval_RestoreThread(state.as_ptr()) };
        LOCK.set(Lock::Held);
    }
}

/// Makes this thread known to Python, and takes the lock.
fn meet() {
    // SAFETY: there is an interpreter: it has loaded this module. What this makes is given back at
    // the end of `live`.
    unsafe { ffi::PyGILState_Ensure() };
    LOCK.set(Lock::Held);
    Python::attach(|py| {
        if let Err(error) = name_thread(py) {
            error.write_unraisable(py, None);
        }
    });
}

/// Lets go of the lock, if this thread keeps it. Not for the middle of a call: see [`detach`].
pub(crate) fn rest() {
    if matches!(LOCK.get(), Lock::Held) {
        // SAFETY: the thread holds the lock; `with` takes it again before anything of Python's is
        // touched.
        let state = unsafe { ffi::PyEval_SaveThread() };
        LOCK.set(NonNull::new(state).map_or(Lock::Foreign, Lock::Released));
    }
}

/// Does something that may wait, in the middle of a call, without the lock.
pub(crate) fn detach<T: Send>(py: Python<'_>, wait: impl FnOnce() -> T + Send) -> T {
    /// Says again who has the lock, however the wait ends.
    struct Back(Lock);

    impl Drop for Back {
        fn drop(&mut self) {
            LOCK.set(self.0);
        }
    }

    let _back = Back(LOCK.replace(Lock::Foreign));
    py.detach(wait)
}

/// How many references there are to an object.
pub(crate) fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: the object lives, and the lock is held.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// What the app sees as the thread's name, in its logs for example.
fn name_thread(py: Python<'_>) -> PyResult<()> {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let thread = py.import("threading")?.call_method0("current_thread")?;
    thread.setattr(intern!(py, "name"), format!("gracefork-app-{number}"))
}

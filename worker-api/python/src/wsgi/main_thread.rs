//! The main thread while the app is served: it waits, and runs the handlers of Python's signals.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use rustix::event::{PollFd, PollFlags};
use worker_api::{PodPhase, Worker};
use worker_http::{Handler, ServeError, Surroundings, stack_size};

/// Serves on other threads until the worker has drained.
pub(super) fn serve(
    py: Python<'_>,
    worker: &Worker,
    handler: impl Handler,
    around: impl Surroundings,
) -> PyResult<()> {
    let wakeup = Wakeup::install(py)?;
    let (over, end) = UnixStream::pair()?;
    let end = End(end);
    let served = worker.clone();
    let thread = thread::Builder::new().name("gracefork-serve".to_owned());
    let thread = thread.stack_size(stack_size());
    let thread = thread.spawn(move || -> Result<(), ServeError> {
        let _end = end;
        worker_http::serve_within(served, handler, around)
    })?;
    loop {
        let is_over = py.detach(|| wakeup.wait(&over))?;
        if is_over {
            break;
        }
        wakeup.pass_on(py)?;
        py.check_signals()
            .or_else(|error| leave(py, worker, error))?;
    }
    wakeup.remove(py)?;
    match py.detach(|| thread.join()) {
        Ok(served) => served.map_err(|error| PyRuntimeError::new_err(error.to_string())),
        Err(_) => Err(PyRuntimeError::new_err("serving ended by a panic")),
    }
}

/// Says that the thread ends, however it does. To close its end is not enough: what the app has forked
/// has another copy.
struct End(UnixStream);

impl Drop for End {
    fn drop(&mut self) {
        // Where nobody listens, nobody is to be told.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A signal handler wants the process to end. It does so without losing a request: where the pod
/// is about to stop, its master says when; else this worker leaves the others now.
fn leave(py: Python<'_>, worker: &Worker, error: PyErr) -> PyResult<()> {
    let ends =
        error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py);
    if !ends {
        return Err(error);
    }
    py.detach(|| match worker.pod_phase() {
        PodPhase::Boot | PodPhase::Ready => worker.leave(),
        _ => worker.health().mark_unhealthy(),
    });
    Ok(())
}

/// Python writes to it when a signal has come, whichever thread the kernel has chosen for it.
struct Wakeup {
    read: UnixStream,
    _write: UnixStream,
    /// What the app had put there, which goes on to hear of signals.
    before: i32,
}

impl Wakeup {
    fn install(py: Python<'_>) -> PyResult<Self> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let before = set_wakeup_fd(py, write.as_raw_fd())?;
        Ok(Self {
            read,
            _write: write,
            before,
        })
    }

    /// `true` when serving is over, `false` when there may be a signal.
    fn wait(&self, over: &UnixStream) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(over, PollFlags::IN),
            PollFd::new(&self.read, PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn pass_on(&self, py: Python<'_>) -> PyResult<()> {
        let mut signals = [0; 64];
        while let Ok(len @ 1..) = (&self.read).read(&mut signals) {
            if self.before >= 0 {
                let signals = PyBytes::new(py, &signals[..len]);
                py.import("os")?
                    .call_method1("write", (self.before, signals))?;
            }
        }
        Ok(())
    }

    fn remove(&self, py: Python<'_>) -> PyResult<()> {
        set_wakeup_fd(py, self.before).map(drop)
    }
}

fn set_wakeup_fd(py: Python<'_>, fd: i32) -> PyResult<i32> {
    let options = PyDict::new(py);
    options.set_item("warn_on_full_buffer", false)?;
    let signal = py.import("signal")?;
    let before = signal.call_method("set_wakeup_fd", (fd,), Some(&options))?;
    before.extract()
}

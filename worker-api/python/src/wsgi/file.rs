//! `wsgi.file_wrapper`: a file as a response, sent by the kernel where it is a real one.

use std::fs::File;
use std::os::fd::RawFd;

use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

const BLOCK: usize = 8192;

/// What an app returns to have a file sent; otherwise an iterator over its blocks.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    blksize: usize,
}

/// A part of a regular file.
pub(super) struct Part {
    pub(super) file: File,
    pub(super) offset: u64,
    pub(super) len: u64,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=BLOCK))]
    fn new(filelike: Py<PyAny>, blksize: usize) -> Self {
        Self { filelike, blksize }
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let read = intern!(py, "read");
        let block = self.filelike.bind(py).call_method1(read, (self.blksize,))?;
        if block.is_truthy()? {
            Ok(block)
        } else {
            Err(PyStopIteration::new_err(()))
        }
    }

    pub(super) fn close(&self, py: Python<'_>) -> PyResult<()> {
        let close = self.filelike.bind(py).getattr_opt(intern!(py, "close"))?;
        close.map_or(Ok(()), |close| close.call0().map(drop))
    }
}

impl FileWrapper {
    /// What is left of the file, if it is a regular one: from its position to its end. What only
    /// reads from a file, to decompress it for example, is no such thing.
    pub(super) fn part(&self, py: Python<'_>) -> Option<Part> {
        let filelike = self.filelike.bind(py);
        if !is_plain(filelike).ok()? {
            return None;
        }
        // Most things that can be read have no descriptor: then nothing is wrong.
        let fd: RawFd = filelike
            .call_method0(intern!(py, "fileno"))
            .ok()?
            .extract()
            .ok()?;
        let offset: u64 = filelike
            .call_method0(intern!(py, "tell"))
            .ok()?
            .extract()
            .ok()?;
        let file = File::from(worker_api::duplicate(fd).ok()?);
        let meta = file.metadata().ok()?;
        let len = meta.len().saturating_sub(offset);
        meta.is_file().then_some(Part { file, offset, len })
    }
}

/// Whether a read gives what is in the file: of `open()` in binary mode, or `tempfile`'s around it.
fn is_plain(filelike: &Bound<'_, PyAny>) -> PyResult<bool> {
    static KINDS: PyOnceLock<[Py<PyAny>; 4]> = PyOnceLock::new();
    let py = filelike.py();
    let kinds = KINDS.get_or_try_init(py, || {
        let kind = |module, name| py.import(module)?.getattr(name).map(Bound::unbind);
        Ok::<_, PyErr>([
            kind("io", "FileIO")?,
            kind("io", "BufferedReader")?,
            kind("io", "BufferedRandom")?,
            kind("tempfile", "_TemporaryFileWrapper")?,
        ])
    })?;
    let [raw, reader, random, temporary] = kinds.each_ref().map(|kind| kind.bind(py));
    let mut file = filelike.clone();
    if file.is_instance(temporary)? {
        file = file.getattr(intern!(py, "file"))?;
    }
    // What is buffered may come from anything.
    if file.is_instance(reader)? || file.is_instance(random)? {
        file = file.getattr(intern!(py, "raw"))?;
    }
    file.is_instance(raw)
}

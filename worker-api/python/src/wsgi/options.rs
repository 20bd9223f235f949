//! What serving depends on besides the worker's settings.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::hooks::RequestHooks;

/// As `gracefork/_worker.py` gives them; each may be missing.
pub(super) struct Options {
    pub(super) multiprocess: bool,
    pub(super) script_name: String,
    pub(super) hang_timeout: Option<Duration>,
    pub(super) hooks: RequestHooks,
    /// `wsgi.errors`; otherwise standard error.
    pub(super) errors: Option<Py<PyAny>>,
}

impl Options {
    pub(super) fn new(options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let get = |key: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
            Ok(options.get_item(key)?.filter(|value| !value.is_none()))
        };
        let object =
            |key: &str| -> PyResult<Option<Py<PyAny>>> { Ok(get(key)?.map(Bound::unbind)) };
        let seconds: f64 = get("hang_timeout")?.map_or(Ok(0.0), |it| it.extract())?;
        let multiprocess = get("multiprocess")?.map_or(Ok(false), |it| it.is_truthy())?;
        let script_name = get("script_name")?.map_or(Ok(String::new()), |it| it.extract())?;
        Ok(Self {
            multiprocess,
            script_name,
            hang_timeout: Duration::try_from_secs_f64(seconds)
                .ok()
                .filter(|time| !time.is_zero()),
            hooks: RequestHooks {
                worker: object("worker")?,
                request: object("request")?,
                before: object("pre_request")?,
                after: object("post_request")?,
            },
            errors: object("errors")?,
        })
    }
}

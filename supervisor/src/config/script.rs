//! gunicorn's config files, which are programs: how one is named.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf, absolute};

/// A config program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// By its path; absolute where a [`Config`](super::Config) has it.
    File(PathBuf),
    /// As a module that the interpreter finds, written `python:MODULE`.
    Module(String),
}

impl Script {
    /// Whether a config file of this name is a program: `FILE.py`, or in gunicorn's own words
    /// `file:FILE` and `python:MODULE`.
    pub(crate) fn is_meant(name: &str) -> bool {
        name.ends_with(".py") || name.starts_with("file:") || name.starts_with("python:")
    }

    /// The same, wherever it is asked from later.
    pub(crate) fn absolute(self) -> Self {
        match self {
            Self::File(path) => Self::File(absolute(&path).unwrap_or(path)),
            module @ Self::Module(_) => module,
        }
    }

    /// The file that has to be there.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Module(_) => None,
        }
    }

    /// As the package takes it.
    #[must_use]
    pub fn to_os_string(&self) -> OsString {
        match self {
            Self::File(path) => path.clone().into_os_string(),
            Self::Module(_) => self.to_string().into(),
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::File(PathBuf::new())
    }
}

impl From<&str> for Script {
    fn from(name: &str) -> Self {
        match name.strip_prefix("python:") {
            Some(module) => Self::Module(module.to_owned()),
            None => Self::File(name.strip_prefix("file:").unwrap_or(name).into()),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Module(module) => write!(f, "python:{module}"),
        }
    }
}

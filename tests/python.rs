//! Python apps under the package as it is installed: the interpreter's own workers, and the
//! frameworks that people use.

mod check;
mod children;
mod container;
mod frameworks;
mod hang;
mod life;
mod memory;
mod mistakes;
mod mount;
mod sockets;
mod training;
mod wsgi;

use std::path::PathBuf;

use crate::harness::programs::{Program, hosting_python, root};
use crate::harness::{Builder, Server};

/// Two workers of an app of `tests/apps`; nothing where the package, or one of the modules that it
/// is to have beside it, is not installed.
fn hosted(app: &str, modules: &str) -> Option<Builder> {
    let folder = root().join("tests/apps");
    hosted_in(app, modules, &folder)
}

/// The same with an app of that folder.
fn hosted_in(app: &str, modules: &str, folder: &std::path::Path) -> Option<Builder> {
    let python = hosting_python(modules)?;
    let builder = Builder::new(Program::new(app))
        .set("chdir", folder.to_str().unwrap())
        .set("python.executable", python.to_str().unwrap())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Some(builder)
}

/// A file of `tests/apps`.
fn app_file(name: &str) -> PathBuf {
    root().join("tests/apps").join(name)
}

/// Asserts a whole answer.
#[track_caller]
fn answers(server: &Server, path: &str, status: u16, body: &str) {
    let answer = server.get(path);
    assert_eq!((answer.status, answer.text().as_str()), (status, body));
}

/// The numbers of every app's `/stream`.
fn numbers(count: usize) -> String {
    (0..count).map(|number| format!("{number}\n")).collect()
}

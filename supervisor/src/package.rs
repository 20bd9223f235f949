//! The Python package beside this binary: what is told where an interpreter lacks it.

use std::path::Path;

/// Whether this is what Python says where the package, or a module of it, is not installed.
#[must_use]
pub fn lacks_the_package(said: &str) -> bool {
    said.lines().any(|line| {
        let missing = line.split_once("No module named ").map(|(_, name)| name);
        let missing = missing.map(|name| name.trim_matches(['\'', ')']));
        // Its own modules, and not what an app supposes to be in it.
        missing.is_some_and(|name| name == "gracefork" || name.starts_with("gracefork._"))
    })
}

/// What is wrong then, for people.
#[must_use]
pub fn no_package(interpreter: &Path) -> String {
    let python = interpreter.display();
    format!(
        "error: {python} has no package gracefork, or an older one\n  = help: {python} -m pip install --upgrade gracefork, or name another interpreter: `python.executable`"
    )
}

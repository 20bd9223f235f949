//! As the first process, and in the strictest container.

use std::path::Path;

use super::hosted;
use crate::confined::lives_its_life;
use crate::harness::builder::confined_runs;
use crate::harness::programs::{hosting_python, need, unshare_works};
use crate::harness::skip::skip;
use crate::shutdown::goes_down_under_load;

#[test]
fn as_pid_1_wsgi_and_asgi_lose_nothing_to_sigterm() {
    if !unshare_works() {
        return skip("a pid namespace (unshare --pid --fork --mount-proc)");
    }
    for app in ["raw_wsgi:app", "raw_asgi:app"] {
        let builder = need!(hosted(app, "sys"), "the package");
        goes_down_under_load(builder.pid_1());
    }
}

#[test]
fn confined_wsgi_and_asgi_lose_nothing_to_a_reload_and_sigterm() {
    let python = need!(hosting_python("sys"), "the package");
    // Not by `setpriv` itself, which may reach more than its user.
    let shell = Path::new("/bin/sh");
    let line = "exec \"$0\" -c 'import asyncio, gracefork._gracefork'";
    if !confined_runs(shell, &["-c", line, python.to_str().unwrap()]) {
        return skip(
            "mount and pid namespaces, setpriv, and an interpreter that any user may execute",
        );
    }
    for app in ["raw_wsgi:app", "raw_asgi:app"] {
        lives_its_life(need!(hosted(app, "sys"), "the package"));
    }
}

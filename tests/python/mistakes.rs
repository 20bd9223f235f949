//! What people get wrong: the exit status, their own frames, and one line that says what to do.

use std::fs;

use super::{Builder, hosted_in};
use crate::harness::programs::need;

/// A folder with that app and that config file in it, which does not start.
pub(super) struct Mistake {
    pub(super) name: &'static str,
    pub(super) app: &'static str,
    pub(super) config: Option<&'static str>,
    /// The exit status.
    pub(super) status: i32,
    /// A line that tells what is wrong, and one that says what to do.
    pub(super) told: &'static [&'static str],
    pub(super) help: &'static str,
}

pub(super) const GOOD: &str =
    "def app(environ, start):\n    start('200 OK', [])\n    return [b'']\n";

pub(super) const MISTAKES: [Mistake; 11] = [
    Mistake {
        name: "mian:app",
        app: GOOD,
        config: None,
        status: 4,
        told: &["there is no module", "mian"],
        help: "did you mean main?",
    },
    Mistake {
        name: "main:ap",
        app: GOOD,
        config: None,
        status: 4,
        told: &["'main' has no 'ap'"],
        help: "did you mean main:app?",
    },
    Mistake {
        name: "main:app",
        app: "import nothing_like_this\n",
        config: None,
        status: 4,
        told: &["needs the module", "nothing_like_this"],
        help: "install it",
    },
    Mistake {
        name: "main:make()",
        app: "def make():\n    raise RuntimeError('no database')\n",
        config: None,
        status: 4,
        told: &["RuntimeError: no database"],
        help: "correct what the traceback names",
    },
    Mistake {
        name: "main:make",
        app: "def make():\n    return None\n",
        config: None,
        status: 4,
        told: &["takes no arguments"],
        help: "write main:make()",
    },
    Mistake {
        name: "main:app",
        app: "app = 7\n",
        config: None,
        status: 4,
        told: &["cannot be called: it is of type int"],
        help: "name the WSGI or ASGI app itself",
    },
    Mistake {
        name: "main:app",
        app: "async def app(scope, receive, send): ...\n",
        config: Some("worker_class = 'gthread'\n"),
        status: 4,
        told: &["is an ASGI app, and a WSGI app was asked for"],
        help: "leave python.interface",
    },
    Mistake {
        name: "main:app",
        app: GOOD,
        config: Some("def post_fork(worker):\n    pass\n"),
        status: 1,
        told: &["post_fork"],
        help: "server, worker",
    },
    Mistake {
        name: "main:app",
        app: GOOD,
        config: Some("def post_worker_init(worker):\n    raise RuntimeError('no cache')\n"),
        status: 3,
        told: &["RuntimeError: no cache"],
        help: "correct what the traceback names",
    },
    Mistake {
        name: "main:app",
        app: GOOD,
        config: Some("raise RuntimeError('no region')\n"),
        status: 1,
        told: &["RuntimeError: no region"],
        help: "correct",
    },
    Mistake {
        name: "main:app",
        app: GOOD,
        config: Some("worker_class = 'gevent'\n"),
        status: 1,
        told: &["gevent"],
        help: "gthread",
    },
];

#[test]
fn a_start_that_cannot_be_ends_with_its_status_and_says_what_to_do() {
    for mistake in MISTAKES {
        for preload in [false, true] {
            is_told(need!(in_place(&mistake), "the package"), &mistake, preload);
        }
    }
}

/// The folder has to live as long as the server.
fn in_place(mistake: &Mistake) -> Option<(Builder, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.py"), mistake.app).unwrap();
    let mut builder = hosted_in(mistake.name, "sys", folder.path())?;
    if let Some(config) = mistake.config {
        let path = folder.path().join("conf.py");
        fs::write(&path, config).unwrap();
        builder = builder.set("python.config", path.to_str().unwrap());
    }
    Some((builder, folder))
}

fn is_told((builder, folder): (Builder, tempfile::TempDir), mistake: &Mistake, preload: bool) {
    let server = builder
        .set("workers.preload", preload)
        .set("workers.restart.backoff", "10ms")
        .spawn();
    let exit = server.wait_exit();
    let log = server.log.text();
    let case = format!(
        "{}: {} with preload {preload}:\n{log}",
        mistake.name, mistake.app
    );
    assert_eq!(exit.code(), Some(mistake.status), "{case}");
    server.wait_log(mistake.told);
    server.wait_log(&[mistake.help]);
    let frames = server.log.count(&["/gracefork/_"]) + server.log.count(&["importlib"]);
    assert_eq!(frames, 0, "frames that are not the user's: {case}");
    server.assert_no_leftovers();
    drop(folder);
}

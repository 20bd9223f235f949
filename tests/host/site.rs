//! A folder with an app in it, and how to serve it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::Builder;
use crate::harness::command::{Said, run_in};
use crate::harness::programs::{Program, python_path, root};

/// The folder, until the end of the test.
pub(super) struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// With an app that answers "one" under any path.
    pub(super) fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let site = Site { folder };
        site.app("one", "");
        site
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The app with another answer, and lines before all else.
    pub(super) fn app(&self, answer: &str, first: &str) {
        let text = format!(
            "{first}
def app(environ, start_response):
    start_response('200 OK', [])
    return [b'{answer}']
"
        );
        self.write("main.py", &text);
    }

    /// A gunicorn config file.
    pub(super) fn config(&self, text: &str) {
        self.write("gunicorn_config.py", text);
    }

    /// A command that ends by itself, run here.
    pub(super) fn run(&self, environment: &[(&str, &str)], args: &[&str]) -> Said {
        let paths = package();
        let folder = Path::new(python_path()).parent().unwrap();
        let mut all = vec![
            ("PATH", folder.to_str().unwrap()),
            ("PYTHONPATH", &paths),
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ];
        all.extend(environment);
        run_in(self.folder.path(), &all, args)
    }

    /// Two workers of the app, without the config file.
    pub(super) fn plain(&self) -> Builder {
        let paths = package();
        Builder::new(Program::new("main:app"))
            .set("chdir", self.folder.path().to_str().unwrap())
            .set("python.executable", python_path())
            .set("workers.ready_after", "100ms")
            .env("PYTHONPATH", paths)
            .env("PYTHONDONTWRITEBYTECODE", "1")
    }

    /// Two workers of the app, with the config file.
    pub(super) fn builder(&self) -> Builder {
        let config = self.path("gunicorn_config.py");
        self.plain()
            .set("python.config", config.to_str().unwrap().to_owned())
    }
}

/// Where Python finds the package.
fn package() -> String {
    let paths = ["tests/workers/host", "tests/workers"].map(|path| root().join(path));
    std::env::join_paths(paths).unwrap().into_string().unwrap()
}

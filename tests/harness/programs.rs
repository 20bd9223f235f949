//! What there is to start: the examples, the small workers of `tests/workers`, uvicorn and Node.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A program and the arguments that come before those of the test.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
}

impl Program {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Program {
        Program {
            path: path.into(),
            args: Vec::new(),
        }
    }

    pub(crate) fn arg(mut self, arg: impl Into<String>) -> Program {
        self.args.push(arg.into());
        self
    }
}

/// The supervisor's own binary.
pub(crate) fn gracefork() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_gracefork"))
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A binary of the workspace's examples, for instance `axum-app`.
pub(crate) fn example(name: &str) -> Program {
    let path = gracefork().with_file_name(name);
    assert!(
        path.is_file(),
        "{} is missing; the end-to-end tests need the examples: run `cargo build` first",
        path.display()
    );
    Program::new(path)
}

/// A script of `tests/workers`, run by Python without its site packages (which only cost time).
pub(crate) fn python(script: &str) -> Program {
    let path = root().join("tests/workers").join(script);
    assert!(path.is_file(), "{} is missing", path.display());
    // -B: no __pycache__ in the source tree. -u: what it prints is seen at once.
    let interpreter = Program::new(python_path()).arg("-S").arg("-B").arg("-u");
    interpreter.arg(path.to_str().unwrap())
}

/// The interpreter itself: a version manager's shim would add a shell to each start of a worker.
pub(crate) fn python_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let asked = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output();
        let output = asked.expect("the tests need python3 in PATH");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// uvicorn of the repository's `.venv`, or of the interpreter that `GRACEFORK_TEST_PYTHON` names.
pub(crate) fn uvicorn() -> Option<Program> {
    let app = |program: Program| {
        let folder = root().join("tests/workers");
        let program = program
            .arg("asgi_app:app")
            .arg("--app-dir")
            .arg(folder.to_str().unwrap());
        program
            .arg("--log-level")
            .arg("warning")
            .arg("--fd")
            .arg("{fd}")
    };
    if let Some(python) = std::env::var_os("GRACEFORK_TEST_PYTHON") {
        let program = Program::new(python).arg("-B").arg("-m").arg("uvicorn");
        return runs(&program.path, &["-c", "import uvicorn"]).then(|| app(program));
    }
    let path = root().join(".venv/bin/uvicorn");
    path.is_file().then(|| app(Program::new(path)))
}

/// An interpreter that has the package, with these modules: the one of the repository's `.venv`, or
/// that which `GRACEFORK_TEST_PYTHON` names.
pub(crate) fn hosting_python(modules: &str) -> Option<PathBuf> {
    let path = match std::env::var_os("GRACEFORK_TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => root().join(".venv/bin/python"),
    };
    let probe = format!("import gracefork._gracefork, {modules}");
    runs(&path, &["-c", &probe]).then_some(path)
}

/// Node, where it is in PATH.
pub(crate) fn node(script: &str) -> Option<Program> {
    let path = find_in_path("node")?;
    let script = root().join("tests/workers").join(script);
    runs(&path, &["--version"]).then(|| Program::new(path).arg(script.to_str().unwrap()))
}

/// Whether a new pid namespace can be made here.
pub(crate) fn unshare_works() -> bool {
    runs(
        Path::new("unshare"),
        &["--pid", "--fork", "--mount-proc", "true"],
    )
}

/// The value, or an early end of the test that says what is missing.
macro_rules! need {
    ($what:expr, $needs:literal) => {
        match $what {
            Some(value) => value,
            None => return crate::harness::skip::skip($needs),
        }
    };
}
pub(crate) use need;

fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn runs(program: &Path, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

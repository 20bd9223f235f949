//! `APP`: what it may be, and where the program is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::App;
use super::problem::Problem;

/// Where programs are looked for when nobody says, as `execvp` does.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Whether this is a Python app in gunicorn's form: `module:attr`, `pkg.module:make()`.
pub(crate) fn is_python(app: &str) -> bool {
    let Some((module, attribute)) = app.split_once(':') else {
        return false;
    };
    let attribute = attribute.split('(').next().unwrap_or(attribute);
    is_dotted(module) && is_dotted(attribute)
}

/// Whether this names a module in `chdir` (a relative one begins where the master is): `main`,
/// `pkg.wsgi`.
pub(crate) fn is_module(app: &str, chdir: &Path) -> bool {
    let file = chdir.join(app.replace('.', "/"));
    is_dotted(app) && (file.with_extension("py").is_file() || file.join("__init__.py").is_file())
}

fn is_dotted(names: &str) -> bool {
    let identifier = |name: &str| {
        name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    names.split('.').all(identifier)
}

/// Finds the program of the app: in `chdir` if its name has a slash, else in
/// `PATH` (that of the app's own `env` first, then `path`).
///
/// # Errors
///
/// When there is no such file, or none that can be executed.
pub fn find_program(app: &App, path: Option<&str>) -> Result<PathBuf, Problem> {
    if app.program.contains('/') {
        let program = app.chdir.join(&app.program);
        return check_program(&app.program, &program).map(|()| program);
    }
    let path = app
        .env
        .get("PATH")
        .map(String::as_str)
        .or(path)
        .unwrap_or(USUAL_PATH);
    let candidates = path
        .split(':')
        .map(|folder| app.chdir.join(folder).join(&app.program));
    for candidate in candidates {
        if check_program(&app.program, &candidate).is_ok() {
            return Ok(candidate);
        }
    }
    let problem = Problem::new(format!("the app `{}` was not found in PATH", app.program));
    Err(if app.chdir.join(&app.program).is_file() {
        problem.help(format!(
            "for the file in {} write ./{}",
            app.chdir.display(),
            app.program
        ))
    } else {
        problem.help(format!("give its path, or install it into one of {path}"))
    })
}

fn check_program(name: &str, program: &Path) -> Result<(), Problem> {
    let shown = program.display();
    let metadata = std::fs::metadata(program).map_err(|error| {
        Problem::new(format!(
            "the app `{name}` cannot be executed: {shown}: {error}"
        ))
        .help("give the path of a program; a relative one starts at `chdir`")
    })?;
    if !metadata.is_file() {
        return Err(Problem::new(format!(
            "the app `{name}` is not a program: {shown} is not a file"
        )));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(
            Problem::new(format!("the app `{name}` is not executable")).help(format!(
                "run chmod +x {shown}, or name its interpreter as the app"
            )),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn app(program: &str, chdir: &Path) -> App {
        App {
            program: program.into(),
            args: vec![],
            chdir: chdir.into(),
            env: BTreeMap::new(),
        }
    }

    #[test]
    fn a_module_and_its_attribute_are_told_from_a_program() {
        for python in [
            "main:app",
            "pkg.main:app",
            "main:make()",
            "main:make('x')",
            "m:a.b",
        ] {
            assert!(is_python(python), "{python}");
        }
        for program in [
            "./main:app",
            "server",
            "/bin/server",
            "a:b/c",
            "8080:80",
            ":",
            "a:",
        ] {
            assert!(!is_python(program), "{program}");
        }
    }

    #[test]
    fn a_module_is_told_by_its_file() {
        let here = tempfile::tempdir().unwrap();
        std::fs::create_dir(here.path().join("pkg")).unwrap();
        for file in ["main.py", "pkg/__init__.py", "pkg/wsgi.py", "x-y.py"] {
            std::fs::write(here.path().join(file), "").unwrap();
        }
        for module in ["main", "pkg", "pkg.wsgi"] {
            assert!(is_module(module, here.path()), "{module}");
        }
        for other in ["main.py", "pkg.other", "./main", "x-y", "", "."] {
            assert!(!is_module(other, here.path()), "{other}");
        }
    }

    #[test]
    fn a_program_is_found_where_exec_would_find_it() {
        let here = tempfile::tempdir().unwrap();
        let file = here.path().join("server");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        let error = find_program(&app("./server", here.path()), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("is not executable") && error.contains("chmod +x"),
            "{error}"
        );
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            find_program(&app("./server", here.path()), None).unwrap(),
            here.path().join("./server")
        );
        let error = find_program(&app("server", here.path()), Some("/bin"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("write ./server"), "{error}");
        let folder = here.path().to_str();
        assert_eq!(
            find_program(&app("server", here.path()), folder).unwrap(),
            file
        );
        assert!(find_program(&app("sh", here.path()), None).is_ok());
        assert!(find_program(&app("./nothing", here.path()), None).is_err());
        assert!(find_program(&app("../", here.path()), None).is_err());
    }
}

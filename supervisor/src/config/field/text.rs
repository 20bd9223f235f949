//! Settings that name something: programs, paths, addresses.

use std::net::SocketAddr;
use std::path::PathBuf;

use worker_api::access_log::Format;

use super::super::bind;
use super::super::raw::Item;
use super::super::settings::Setting;
use super::super::visible::visible;
use super::super::{AccessFormat, AccessLog, LogFile, Script, toml_text};
use super::{Fault, Field};

/// The program to run; empty until it is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Program(pub(crate) String);

impl Field for Program {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        name(item)?.clone_into(&mut self.0);
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "a program".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "PROGRAM"
    }

    fn show(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| toml_text::string(&self.0))
    }
}

impl Field for PathBuf {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        *self = PathBuf::from(name(item)?);
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "a path".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "PATH"
    }

    fn show(&self) -> Option<String> {
        Some(toml_text::string(&self.to_string_lossy()))
    }
}

impl Field for Script {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        *self = Self::from(name(item)?);
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        r#"a path or "python:" and a module"#.to_owned()
    }

    fn value_name(&self) -> &'static str {
        "PATH"
    }

    fn show(&self) -> Option<String> {
        Some(toml_text::string(&self.to_string()))
    }
}

impl Field for LogFile {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        *self = match name(item)? {
            "-" => Self::Stderr,
            path => Self::Path(PathBuf::from(path)),
        };
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        r#""-" (standard error) or a path"#.to_owned()
    }

    fn value_name(&self) -> &'static str {
        "PATH"
    }

    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Stderr => r#""-""#.to_owned(),
            Self::Path(path) => toml_text::string(&path.to_string_lossy()),
        })
    }
}

impl Field for AccessLog {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        *self = match name(item)? {
            "off" => Self::Off,
            "-" => Self::Stdout,
            path => Self::Path(PathBuf::from(path)),
        };
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        r#""off", "-" (standard output) or a path"#.to_owned()
    }

    fn value_name(&self) -> &'static str {
        "PATH"
    }

    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Off => r#""off""#.to_owned(),
            Self::Stdout => r#""-""#.to_owned(),
            Self::Path(path) => toml_text::string(&path.to_string_lossy()),
        })
    }
}

impl Field for AccessFormat {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let text = item.text().ok_or_else(Fault::default)?;
        Format::parse(text).map_err(|error| {
            let atoms = "h l u t r m U q H s B b f a T M D L p {header}i {header}o {variable}e";
            Fault::at(item, visible(&error.to_string()))
                .help(format!("the atoms are {atoms}: each is written %(atom)s"))
        })?;
        text.clone_into(&mut self.0);
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        r#""json" or a format of gunicorn's"#.to_owned()
    }

    fn value_name(&self) -> &'static str {
        "FORMAT"
    }

    fn show(&self) -> Option<String> {
        Some(toml_text::string(&self.0))
    }
}

/// The address of a listener that may be left out.
impl Field for Option<SocketAddr> {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        *self = match name(item)? {
            "off" => None,
            // A socket path or descriptor is no place for a probe to ask.
            text if text.starts_with("unix:") || text.starts_with("fd:") => {
                return Err(Fault::default());
            }
            text => Some(bind::tcp(text).map_err(|label| Fault::at(item, label))?),
        };
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        r#""off" or an address with its port"#.to_owned()
    }

    fn value_name(&self) -> &'static str {
        "ADDRESS"
    }

    fn show(&self) -> Option<String> {
        self.map(|address| format!("\"{address}\""))
    }
}

/// A path of a URL that may be left out.
impl Field for Option<String> {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let text = name(item)?;
        let printable = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
        *self = match text {
            "off" => None,
            path if path.starts_with('/') && path.chars().all(printable) => Some(path.to_owned()),
            _ => return Err(Fault::default()),
        };
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        r#""off" or a path that starts with "/""#.to_owned()
    }

    fn value_name(&self) -> &'static str {
        "PATH"
    }

    fn show(&self) -> Option<String> {
        self.as_deref().map(toml_text::string)
    }
}

/// A text that the system can take as a name: not empty, no NUL.
fn name(item: &Item) -> Result<&str, Fault> {
    let text = item.text().ok_or_else(Fault::default)?;
    if text.is_empty() || text.contains('\0') {
        return Err(Fault::default());
    }
    Ok(text)
}

//! Settings that hold several values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use worker_api::AllowedIps;

use super::super::BindAddress;
use super::super::raw::{Item, Raw};
use super::super::settings::Setting;
use super::super::toml_text;
use super::{Fault, Field};

/// Arguments: in a variable a TOML list, or words between blanks.
impl Field for Vec<String> {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let argument = |item: &Item| match item.text() {
            Some(text) if !text.contains('\0') => Ok(text.to_owned()),
            Some(_) => Err(Fault::at(item, "expected a string without a NUL character")),
            None => Err(Fault::at(item, "expected a string: put it in quotes")),
        };
        *self = items(item, char::is_whitespace)?
            .iter()
            .map(argument)
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "a list of strings".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "ARGS"
    }

    fn show(&self) -> Option<String> {
        Some(toml_text::list(self.iter().map(String::as_str)))
    }
}

/// Folders: in a variable a TOML list, or folders between commas.
impl Field for Vec<PathBuf> {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let folder = |item: &Item| match item.text() {
            // A list of folders is handed on with colons between them.
            Some(text) if !text.is_empty() && !text.contains(['\0', ':']) => Ok(text.into()),
            _ => Err(Fault::at(
                item,
                "expected a folder, without a colon in its name",
            )),
        };
        *self = items(item, |c| c == ',')?
            .iter()
            .map(folder)
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "a list of folders".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "FOLDERS"
    }

    fn show(&self) -> Option<String> {
        let folders: Vec<_> = self.iter().map(|path| path.to_string_lossy()).collect();
        Some(toml_text::list(folders.iter().map(AsRef::as_ref)))
    }
}

/// Addresses: in a variable a TOML list, or addresses between commas.
impl Field for Vec<BindAddress> {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        // One address alone is so common that it needs no brackets.
        let found = match &item.raw {
            Raw::Text(_) => vec![item.clone()],
            _ => items(item, |c| c == ',')?,
        };
        let mut addresses = Vec::new();
        for item in &found {
            let text = item.text().ok_or_else(|| {
                Fault::at(
                    item,
                    r#"expected an address in quotes, for example "0.0.0.0:8000""#,
                )
            })?;
            let address = text
                .parse()
                .map_err(|label: String| Fault::at(item, label))?;
            if addresses.contains(&address) && !any_port(&address) {
                let label = format!("`{address}` is in the list already: remove one of the two");
                return Err(Fault::at(item, label));
            }
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(Fault::at(
                item,
                r#"expected at least one address, for example ["0.0.0.0:8000"]"#,
            ));
        }
        *self = addresses;
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "a list of addresses".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "ADDRESS"
    }

    fn show(&self) -> Option<String> {
        let texts: Vec<_> = self.iter().map(BindAddress::to_string).collect();
        Some(toml_text::list(texts.iter().map(String::as_str)))
    }
}

/// Proxies: in a variable a TOML list, or addresses and networks between commas.
impl Field for AllowedIps {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let found = match &item.raw {
            Raw::Text(_) => vec![item.clone()],
            _ => items(item, |c| c == ',')?,
        };
        let mut words = Vec::new();
        for item in &found {
            let text = item.text().ok_or_else(|| {
                Fault::at(
                    item,
                    r#"expected an address in quotes, for example "10.0.0.0/8""#,
                )
            })?;
            let one: Result<Self, _> = text.parse();
            one.map_err(|error| Fault::at(item, error.to_string()))?;
            words.push(text);
        }
        *self = words.join(",").parse().map_err(|_| Fault::default())?;
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "a list of addresses and networks".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "ADDRESSES"
    }

    fn show(&self) -> Option<String> {
        let words = self.to_string();
        Some(toml_text::list(
            words.split(',').filter(|word| !word.is_empty()),
        ))
    }
}

/// Variables: each layer adds to those below. Flags and variables say `KEY=VALUE`.
impl Field for BTreeMap<String, String> {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let item = item.embedded().unwrap_or_else(|| item.clone());
        if let Raw::Table(entries) = &item.raw {
            for (key, value) in entries {
                let text = value.text().ok_or_else(|| {
                    Fault::at(
                        value,
                        "expected a string: the value of a variable needs quotes",
                    )
                })?;
                self.insert(variable(key, text, value)?, text.to_owned());
            }
            return Ok(());
        }
        for pair in items(&item, char::is_whitespace)? {
            let (key, value) = pair
                .text()
                .and_then(|text| text.split_once('='))
                .ok_or_else(|| Fault::at(&pair, "expected KEY=VALUE"))?;
            self.insert(variable(key, value, &pair)?, value.to_owned());
        }
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "a table of strings".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "KEY=VALUE"
    }

    fn show(&self) -> Option<String> {
        Some(toml_text::table(self))
    }
}

fn variable(key: &str, value: &str, item: &Item) -> Result<String, Fault> {
    if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
        let label = "expected a variable: a name without `=`, a value without a NUL character";
        return Err(Fault::at(item, label));
    }
    Ok(key.to_owned())
}

/// Whether the kernel picks the port, so that the same words are not the same address.
fn any_port(address: &BindAddress) -> bool {
    matches!(address, BindAddress::Tcp(address) if address.port() == 0)
}

fn items(item: &Item, separator: fn(char) -> bool) -> Result<Vec<Item>, Fault> {
    let item = item.embedded().unwrap_or_else(|| item.clone());
    match item.raw {
        Raw::List(items) => Ok(items),
        Raw::Word(_) => Ok(item.split(separator)),
        _ => Err(Fault::default()),
    }
}

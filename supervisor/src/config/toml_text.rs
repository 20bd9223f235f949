//! Values written as TOML on one line.

use std::collections::BTreeMap;

/// `"text"`, with everything escaped that a terminal would act on.
pub(crate) fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if super::visible::is_hidden(c) => {
                quoted.push_str(&format!("\\U{:08X}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// `["a", "b"]`.
pub(crate) fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", texts.map(string).collect::<Vec<_>>().join(", "))
}

/// `{ KEY = "value" }`.
pub(crate) fn table(entries: &BTreeMap<String, String>) -> String {
    let bare = |key: &str| {
        key.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    let entry = |(key, value): (&String, &String)| {
        let key = if bare(key) && !key.is_empty() {
            key.clone()
        } else {
            string(key)
        };
        format!("{key} = {}", string(value))
    };
    if entries.is_empty() {
        return "{}".to_owned();
    }
    format!(
        "{{ {} }}",
        entries.iter().map(entry).collect::<Vec<_>>().join(", ")
    )
}

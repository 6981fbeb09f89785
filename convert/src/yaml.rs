//! Writes YAML for people: blocks where it is long, one line where it is short.

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Yaml {
    /// Text, quoted where it has to be.
    Text(String),
    /// A number, a flag, a duration: as it stands.
    Plain(String),
    List(Vec<Self>),
    Map(Vec<(&'static str, Self)>),
}

/// Longer values go to lines of their own.
const WIDTH: usize = 100;

impl Yaml {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts alike")]
    pub(crate) fn plain(value: impl ToString) -> Self {
        Self::Plain(value.to_string())
    }

    /// A list of texts, or the only one.
    pub(crate) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut all: Vec<_> = texts.into_iter().map(Self::text).collect();
        if all.len() == 1 { all.remove(0) } else { Self::List(all) }
    }

    /// On one line.
    pub(crate) fn inline(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Plain(text) => text.clone(),
            Self::List(items) => {
                format!("[{}]", items.iter().map(Self::inline).collect::<Vec<_>>().join(", "))
            }
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| format!("{key}: {}", value.inline()));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Behind a key and its colon, at `indent`, with the line's end.
    pub(crate) fn behind_key(&self, indent: usize) -> String {
        let inline = self.inline();
        let pad = " ".repeat(indent + 2);
        match self {
            Self::Map(entries) if inline.len() + indent > WIDTH => {
                let lines =
                    entries.iter().map(|(key, value)| format!("{pad}{key}:{}", value.behind_key(indent + 2)));
                format!("\n{}", lines.collect::<String>())
            }
            Self::List(items) if inline.len() + indent > WIDTH => {
                let lines = items.iter().map(|item| item.item(indent + 2));
                format!("\n{}", lines.collect::<String>())
            }
            _ => format!(" {inline}\n"),
        }
    }

    /// As an item of a list at `indent`, with the line's end.
    pub(crate) fn item(&self, indent: usize) -> String {
        let (inline, pad) = (self.inline(), " ".repeat(indent));
        let Self::Map(entries) = self else { return format!("{pad}- {inline}\n") };
        if inline.len() + indent <= WIDTH {
            return format!("{pad}- {inline}\n");
        }
        let line = |(at, (key, value)): (usize, &(&str, Self))| {
            format!("{pad}{} {key}:{}", if at == 0 { "-" } else { " " }, value.behind_key(indent + 2))
        };
        entries.iter().enumerate().map(line).collect()
    }

    /// How many values it is made of.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(_) | Self::Plain(_) => 1,
            Self::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            // A key is one, too.
            Self::Map(entries) => 1 + entries.iter().map(|(_, value)| 1 + value.size()).sum::<usize>(),
        }
    }
}

/// A text as YAML has it, no variable in it.
pub(crate) fn quoted(text: &str) -> String {
    let is_word = |it: char| it.is_ascii_alphanumeric() || matches!(it, '/' | '.' | '_' | '-');
    let plain = text.starts_with(|it: char| it.is_ascii_alphabetic() || it == '/')
        && text.chars().all(is_word)
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let text = text.replace("${", "$${");
    if text.chars().any(|it| {
        it.is_control() || matches!(it, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
    }) {
        let escaped = text.chars().map(|it| match it {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            it if (it as u32) < 0x20 || it.is_control() => format!("\\x{:02x}", it as u32),
            it if it as u32 <= 0xffff && !it.is_ascii() => format!("\\u{:04x}", it as u32),
            it => it.to_string(),
        });
        return format!("\"{}\"", escaped.collect::<String>());
    }
    format!("'{}'", text.replace('\'', "''"))
}

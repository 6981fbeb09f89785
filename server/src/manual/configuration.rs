//! docs/configuration.md as a manual page: as much of Markdown as that page uses, in the macros of man(7).

/// The page `copal.yaml(5)`.
pub(super) fn page(markdown: &str) -> String {
    let mut page = String::from(
        ".TH copal.yaml 5\n.SH NAME\ncopal.yaml \\- configuration of a Copal cluster\n.SH DESCRIPTION\n",
    );
    let mut lines = markdown.lines().skip(1).peekable();
    let mut code = false;
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            code = !code;
            page.push_str(if code { ".PP\n.nf\n" } else { ".fi\n" });
        } else if code {
            page.push_str(&escaped(line));
            page.push('\n');
        } else if let Some(title) = line.strip_prefix("## ") {
            page.push_str(&format!(".SH \"{}\"\n", plain(title)));
        } else if let Some(title) =
            line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'))
        {
            page.push_str(&format!(".SS \"{}\"\n", plain(title)));
        } else if line.starts_with('|') {
            // A row below which the rule stands is the table's head.
            if lines.peek().is_some_and(|next| next.starts_with("|--")) {
                lines.next();
            } else {
                page.push_str(&row(line));
            }
        } else if line.trim().is_empty() {
            page.push_str(".PP\n");
        } else {
            page.push_str(&text(line.trim_start_matches("- ")));
            page.push('\n');
        }
    }
    page
}

/// The first cell is the word that is looked up, the others say what it is.
fn row(line: &str) -> String {
    let cells = cells(line);
    let Some((word, rest)) = cells.split_first() else { return String::new() };
    let rest: Vec<_> = rest.iter().filter(|it| !it.is_empty()).map(|it| text(it)).collect();
    format!(".TP\n\\fB{}\\fR\n{}\n", plain(word), rest.join("\n.br\n"))
}

/// `\|` is a bar within a cell.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').replace("\\|", "\u{1}");
    let line = line.strip_suffix('|').unwrap_or(&line);
    line.split('|').map(|it| it.trim().replace('\u{1}', "|")).collect()
}

/// Running text: links are their words, code and what is strong is bold.
fn text(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some(at) = rest.find(['`', '[']) {
        let (before, from) = rest.split_at(at);
        text.push_str(&escaped(&before.replace("**", "")));
        let inner = &from[1..];
        let code = inner.find('`').filter(|_| from.starts_with('`'));
        let link = inner.find("](").filter(|_| from.starts_with('['));
        let end_of_link = link.and_then(|middle| Some((middle, middle + inner[middle..].find(')')?)));
        if let Some(end) = code {
            text.push_str(&format!("\\fB{}\\fR", escaped(&inner[..end])));
            rest = &inner[end + 1..];
        } else if let Some((middle, end)) = end_of_link {
            text.push_str(&escaped(&inner[..middle]));
            rest = &inner[end + 1..];
        } else {
            text.push_str(&escaped(&from[..1]));
            rest = inner;
        }
    }
    text.push_str(&escaped(&rest.replace("**", "")));
    // A line that begins with one of these would be a macro.
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

/// Without any marks.
fn plain(markdown: &str) -> String {
    escaped(&markdown.replace(['`', '"'], "").replace("**", ""))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_uses_of_markdown_becomes_macros() {
        let markdown = "# Title\n\nSee [there](a.md) and `x-y`, **now**.\n\n```yaml\na: '\\d'\n```\n## `admin`\n\n| key | type | |\n|---|---|---|\n\
                        | `one` (in `a`) | `'a\\|b'`; `1` | is |\n.dot [alone";
        let expected = ".TH copal.yaml 5\n.SH NAME\ncopal.yaml \\- configuration of a Copal cluster\n.SH DESCRIPTION\n.PP\n\
                        See there and \\fBx\\-y\\fR, now.\n.PP\n.PP\n.nf\na: '\\ed'\n.fi\n.SH \"admin\"\n.PP\n\
                        .TP\n\\fBone (in a)\\fR\n\\fB'a|b'\\fR; \\fB1\\fR\n.br\nis\n\\&.dot [alone\n";
        assert_eq!(page(markdown), expected);
    }
}

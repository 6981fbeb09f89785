//! What keys are for: the rows of the documentation's tables.

use super::super::keys::Keys;

/// The pages with tables of keys.
const PAGES: [&str; 3] = [
    include_str!("../../../../docs/configuration.md"),
    include_str!("../../../../docs/compression.md"),
    include_str!("../../../../docs/caching.md"),
];

/// The tables of the documentation.
#[derive(Debug)]
pub(super) struct Pages(Vec<Row>);

/// A row of a table: keys, and what is said of them.
#[derive(Debug)]
struct Row {
    /// What stands above the table, or in its head.
    about: String,
    /// Its first cell.
    keys: &'static str,
    meaning: String,
}

impl Default for Pages {
    fn default() -> Self {
        Self(PAGES.iter().flat_map(|page| rows(page)).collect())
    }
}

/// The rows of a page.
fn rows(page: &'static str) -> Vec<Row> {
    let (mut rows, mut heading, mut lead) = (Vec::new(), "", "");
    for line in page.lines() {
        match line.chars().next() {
            Some('#') => (heading, lead) = (line, ""),
            // The first line of the paragraph that introduces a table.
            Some('`') => lead = line,
            Some('|') => {
                let cells = cells(line);
                if cells.first().is_some_and(|cell| cell.starts_with("key of")) {
                    lead = cells[0];
                }
                if cells.first().is_some_and(|cell| cell.starts_with('`')) {
                    let about = if lead.is_empty() { heading } else { lead };
                    let said = cells[1..].iter().map(|it| plain(it)).filter(|it| !it.is_empty());
                    let meaning = said.collect::<Vec<_>>().join(": ");
                    rows.push(Row { about: about.to_lowercase(), keys: cells[0], meaning });
                }
            }
            _ => {}
        }
    }
    rows
}

/// The cells of a line of a table; `\\|` is none's end.
fn cells(line: &'static str) -> Vec<&'static str> {
    let line = line.trim_matches('|');
    let (mut cells, mut from) = (Vec::new(), 0);
    for (at, _) in line.match_indices('|') {
        if !line[..at].ends_with('\\') {
            cells.push(line[from..at].trim());
            from = at + 1;
        }
    }
    cells.push(line[from..].trim());
    cells
}

/// A cell without links and marks.
fn plain(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell;
    while let Some((before, link)) = rest.split_once("](") {
        text.push_str(before);
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.replace("\\|", "|").replace(['[', '`'], "").trim().to_owned()
}

impl Pages {
    /// What is said of a key: by the table of its own kind of mapping, else by the only row about a key of this name.
    pub(super) fn meaning(&self, keys: &Keys, key: &str) -> Option<&str> {
        let quoted = format!("`{key}`");
        let rows: Vec<&Row> = self.0.iter().filter(|row| row.keys.contains(&quoted)).collect();
        let what = keys.what.to_lowercase();
        let name = what.split('`').nth(1).unwrap_or(&what);
        let own =
            rows.iter().find(|row| row.about.contains(&what) || row.keys.contains(&format!("(in `{name}`)")));
        let own = own.or_else(|| rows.iter().find(|row| row.about.contains(&format!("`{name}`"))));
        let only = || if let [row] = rows[..] { Some(row) } else { None };
        own.copied().or_else(only).map(|row| row.meaning.as_str())
    }
}

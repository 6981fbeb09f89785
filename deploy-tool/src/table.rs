//! A table of text for people: columns as wide as their widest cell.

use crate::clean;

/// What a table shows of a text.
const SHOWN: usize = 60;

/// Lines of cells, the first the heading. What a terminal would obey is left out of the cells.
pub(crate) fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let clean = |cell: &String| cell.chars().filter(|it| !it.is_control()).collect::<String>();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(clean).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A time without what is below its second.
pub(crate) fn seconds(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(whole, _)| format!("{whole}Z"))
}

/// The beginning of a text.
pub(crate) fn shown(text: &str) -> String {
    let clean = clean(text);
    let shown: String = clean.chars().take(SHOWN).collect();
    if shown.len() < clean.len() { format!("{shown}…") } else { shown }
}

/// A time in milliseconds, or what stands for none.
pub(crate) fn millis(ms: Option<f64>) -> String {
    match ms {
        Some(ms) if ms >= 10_000.0 => format!("{:.1}s", ms / 1000.0),
        Some(ms) => format!("{ms:.1}ms"),
        None => "-".to_owned(),
    }
}

/// A text, or what stands for none.
pub(crate) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows =
            [row(["SERVER", "STATE", "SINCE"]), row(["a", "up\u{1b}[31m", ""]), row(["größer", "x", "now"])];
        let expected = ["SERVER  STATE   SINCE", "a       up[31m", "größer  x       now"];
        assert_eq!(lines(&rows), expected);
        assert_eq!(lines(&[]), Vec::<String>::new());
    }
}

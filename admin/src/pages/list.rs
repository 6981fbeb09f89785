//! A list that may be long: a part of it at a time, found by name.

use super::form::Form;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::ops::Range;

/// The longest part of a name that is looked for, in characters.
const FIND_MAX: usize = 100;

/// Which rows of a list are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListQuery {
    /// Is in the name; empty: any.
    pub(super) find: String,
    /// A word for the order, as it was asked for; empty: the list's own.
    order: String,
    /// From 0.
    page: usize,
}

/// What stands above a list: the filter, which part it is, and the ways to the others.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) path: &'static str,
    /// What the rows are, for who does not see the list.
    pub(super) label: &'static str,
    pub(super) find: String,
    pub(super) orders: Vec<Order>,
    /// Which of how many are shown, if not all.
    pub(super) which: String,
    pub(super) earlier: Option<String>,
    pub(super) later: Option<String>,
}

/// An order of rows.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) word: &'static str,
    pub(super) name: &'static str,
    pub(super) chosen: bool,
}

impl ListQuery {
    /// Reads the query of a URL, or a form. What makes no sense says nothing.
    pub(crate) fn read(query: &str) -> Self {
        Self::of(&Form::read(query))
    }

    /// The same of a form's fields.
    pub(super) fn of(form: &Form) -> Self {
        Self {
            find: form.field("find").trim().chars().take(FIND_MAX).collect(),
            order: form.field("order").chars().take(FIND_MAX).collect(),
            page: form.field("page").parse().unwrap_or(1).max(1) - 1,
        }
    }

    /// Whether a row of this name is wanted.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        name.contains(&self.find)
    }

    /// The one of these words that was asked for, or else the first.
    pub(super) fn order(&self, orders: &[(&'static str, &'static str)]) -> &'static str {
        let known = orders.iter().find(|(word, _)| *word == self.order).or(orders.first());
        known.map_or("", |(word, _)| word)
    }

    /// The fields that lead back to the same part, as an address has them.
    pub(super) fn fields(&self) -> String {
        self.link(self.page).trim_start_matches('?').to_owned()
    }

    /// The way to another part.
    fn link(&self, page: usize) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let order = match self.order.as_str() {
            "" => String::new(),
            order => format!("&order={}", encoded(order)),
        };
        format!("?find={}{order}&page={}", encoded(&self.find), page + 1)
    }

    /// The first row of a part of `size`, if there are so many.
    pub(super) fn first(&self, size: usize) -> usize {
        self.page.saturating_mul(size)
    }

    /// The rows of `total` that a part of `size` has; beyond the end the last ones.
    pub(super) fn range(&self, total: usize, size: usize) -> Range<usize> {
        let from = self.page.min(total.saturating_sub(1) / size) * size;
        from..total.min(from + size)
    }

    /// What stands above the rows of [`ListQuery::range`].
    pub(super) fn above(
        &self,
        (path, label): (&'static str, &'static str),
        orders: &[(&'static str, &'static str)],
        (total, size): (usize, usize),
    ) -> List {
        let range = self.range(total, size);
        let (page, is_part) = (range.start / size, range.len() < total);
        let which = || format!("{} to {} of {total}", range.start + 1, range.end);
        let chosen = self.order(orders);
        let order =
            |(word, name): &(&'static str, &'static str)| Order { word, name, chosen: *word == chosen };
        List {
            path,
            label,
            find: self.find.clone(),
            orders: orders.iter().map(order).collect(),
            which: if is_part { which() } else { String::new() },
            earlier: (page > 0).then(|| self.link(page - 1)),
            later: (range.end < total).then(|| self.link(page + 1)),
        }
    }
}

impl List {
    /// Whether all of it fits a page and nothing is looked for: then there is nothing to choose.
    pub(super) fn is_whole(&self) -> bool {
        self.find.is_empty() && self.which.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_list_is_between_its_neighbours() {
        let above = |query: &str, total| {
            ListQuery::read(query).above(("/x", "x"), &[("a", "A"), ("b", "B")], (total, 10))
        };
        let all = above("", 10);
        assert!(all.is_whole() && all.earlier.is_none() && all.later.is_none() && all.orders[0].chosen);
        let second = above("find=%3Cb%3E&order=b&page=2", 25);
        assert_eq!(second.which, "11 to 20 of 25");
        assert_eq!(second.earlier.as_deref(), Some("?find=%3Cb%3E&order=b&page=1"));
        assert_eq!(second.later.as_deref(), Some("?find=%3Cb%3E&order=b&page=3"));
        assert!(second.orders[1].chosen && !second.is_whole());
        for (query, which) in
            [("page=99", "21 to 25 of 25"), ("page=x", "1 to 10 of 25"), ("page=0", "1 to 10 of 25")]
        {
            assert_eq!(above(query, 25).which, which);
        }
        assert!(above("page=9&order=c", 0).orders[0].chosen);
        assert_eq!(ListQuery::read("page=99999999999999999999").range(0, 10), 0..0);
    }
}

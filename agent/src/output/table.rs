//! Columns of text.

use anstyle::Style;

use super::{HEADING, PLAIN, styled};

/// One cell: its words and their colour.
#[derive(Clone, Debug)]
pub(crate) struct Cell(String, Style);

impl Cell {
    /// In a colour.
    pub(crate) fn new(text: impl Into<String>, style: Style) -> Self {
        Self(text.into(), style)
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(text.into(), PLAIN)
    }
}

/// Columns as wide as their widest cell, with headings; no trailing blanks.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[Cell; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter().map(|row| width(&row[column].0)).chain([width(headings[column])]).max().unwrap_or(0)
    });
    let line = |cells: &[Cell; N]| {
        let mut text = String::new();
        for (column, Cell(words, style)) in cells.iter().enumerate() {
            text.push_str(&styled(*style, words));
            if column + 1 < N {
                text.push_str(&" ".repeat(widths[column] - width(words) + 2));
            }
        }
        text + "\n"
    };
    let headings = headings.map(|heading| Cell::new(heading, HEADING));
    std::iter::once(&headings).chain(rows).map(line).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = table(["A", "LONG"], &[["xyz".into(), "1".into()], ["ü".into(), "2".into()]]);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(text, "A    LONG\nxyz  1\nü    2\n");
    }
}

//! Tables for people: columns stand below each other, and no cell has spaces, so that `awk` reads them as well.

use std::io::{self, Write};

/// What stands for something that is not there or not known; 0 would say something else.
pub(crate) const NOTHING: &str = "-";

/// Rows that are written together.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cell = |cell: String| if cell.is_empty() { NOTHING.to_owned() } else { cell.replace(' ', "_") };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// Whether there is nothing below the headings.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let padded: Vec<_> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(out, "{}", padded.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A number that may not be known.
pub(crate) fn number(number: Option<i64>) -> String {
    number.map_or_else(|| NOTHING.to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_cells_have_no_spaces() {
        let mut table = Table::new(&["GROUP", "LAG"]);
        table.row(["billing".to_owned(), number(None)]);
        table.row(["a b".to_owned(), number(Some(12))]);
        table.row([String::new(), number(Some(0))]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "GROUP    LAG\nbilling  -\na_b      12\n-        0\n");
    }
}

//! Tables for people, JSON for programs, progress for those who wait.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

/// Progress is drawn at most so often.
const REDRAW: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: one document, stable field names
    Json,
}

/// A plain table: a header in capitals, columns apart by two spaces, numbers to the right, no line ever wrapped.
pub struct Columns {
    /// Empty: a table without header.
    header: Vec<&'static str>,
    /// Ordinals of columns of numbers.
    numbers: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// A `#` before a name marks a column of numbers.
    pub fn new(header: &[&'static str]) -> Self {
        let numbers = header.iter().enumerate().filter(|(_, name)| name.starts_with('#')).map(|(at, _)| at).collect();
        Self { header: header.iter().map(|name| name.trim_start_matches('#')).collect(), numbers, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    pub fn render(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if !self.header.is_empty() {
            table.set_header(self.header.clone());
        }
        table.add_rows(self.rows.clone());
        for (ordinal, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.numbers.contains(&ordinal) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
        lines.collect()
    }
}

/// Control characters, which could drive a terminal, as escapes.
fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// `-` for what is not known.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `1,2,3`; `-` for none.
pub fn list<T: ToString>(values: &[T]) -> String {
    or_dash((!values.is_empty()).then(|| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")))
}

/// Writes the document, or what people see instead.
pub fn show(format: Format, document: &Value, text: impl FnOnce() -> String) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{document:#}")?,
        Format::Table => out.write_all(text().as_bytes())?,
    }
    out.flush()
}

/// A remark for the user, beside the result. A closed stderr is no reason to stop.
pub fn remark(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// `deleting topics 300/1000`, redrawn in place while stderr is a terminal.
pub struct Progress {
    label: &'static str,
    /// None: nobody knows how much it will be.
    total: Option<usize>,
    drawn: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// Work of a single step is not worth a line.
    pub fn new(label: &'static str, total: usize) -> Self {
        Self { label, total: Some(total), drawn: None, is_shown: total > 1 && io::stderr().is_terminal() }
    }

    /// Without a known end. Input that is typed needs none: its typist would be disturbed.
    pub fn counting(label: &'static str, is_typed: bool) -> Self {
        Self { label, total: None, drawn: None, is_shown: !is_typed && io::stderr().is_terminal() }
    }

    pub fn at(&mut self, done: usize) {
        if !self.is_shown || self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let mut err = io::stderr();
        let of_total = self.total.map_or_else(String::new, |total| format!("/{total}"));
        drop(write!(err, "\r{} {done}{of_total}\x1b[K", self.label).and_then(|()| err.flush()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let mut err = io::stderr();
            drop(write!(err, "\r\x1b[K").and_then(|()| err.flush()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_plain_text_in_columns() {
        let mut columns = Columns::new(&["NAME", "#PARTITIONS", "ID"]);
        columns.row(["orders".to_owned(), "12".to_owned(), "x".to_owned()]);
        columns.row(["a\u{1b}[1m".to_owned(), "3".to_owned(), "-".to_owned()]);
        assert_eq!(
            columns.render(),
            "NAME        PARTITIONS  ID\n\
             orders              12  x\n\
             a\\u{1b}[1m           3  -\n"
        );
    }

    #[test]
    fn lists_and_blanks() {
        assert_eq!(list(&[1, 2]), "1,2");
        assert_eq!(list::<i32>(&[]), "-");
        assert_eq!(or_dash(None::<i64>), "-");
    }
}

//! Strings of clients in the log: shown, but never able to forge a line or to move a terminal's cursor.

use std::fmt::{self, Write};

/// Longest part of a client's string which is shown, in characters. The rest becomes `…`.
const SHOWN_CHARS_MAX: usize = 128;

/// Displays a client's string with control and non-ASCII characters escaped, quotes around it, and cut to 128 characters.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for (index, c) in self.0.chars().enumerate() {
            if index == SHOWN_CHARS_MAX {
                f.write_char('…')?;
                break;
            }
            write!(f, "{}", c.escape_default())?;
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_forge_a_log_line() {
        let forged = "x\n2025-01-01T00:00:00Z ERROR \u{1b}[31mbroken\u{202e}";
        let shown = Escaped(forged).to_string();
        assert!(shown.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{shown}");
        assert!(shown.starts_with("\"x\\n2025"));
    }

    #[test]
    fn a_long_string_is_cut() {
        assert_eq!(Escaped(&"a".repeat(1000)).to_string().chars().count(), SHOWN_CHARS_MAX + 3);
    }
}

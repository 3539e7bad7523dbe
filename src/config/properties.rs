//! Java's `.properties` format, as `java.util.Properties.load` reads it: Kafka's `server.properties` is taken as it is.

use std::iter::Peekable;
use std::str::Chars;

/// One `key = value` with the line where it begins, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub key: String,
    pub value: String,
    pub line: usize,
}

/// A `\u` that is not followed by four hexadecimal digits: the only thing Java refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: \\u must be followed by four hexadecimal digits")]
pub struct MalformedEscape {
    pub line: usize,
}

/// All properties in file order; of a key that stands twice both are returned (Java keeps the last).
pub fn parse(text: &str) -> Result<Vec<Property>, MalformedEscape> {
    let text = text.replace("\r\n", "\n");
    let mut lines = text.split(['\n', '\r']).zip(1..);
    let mut properties = Vec::new();
    while let Some((raw, line)) = lines.next() {
        let start = raw.trim_start_matches(is_space);
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = start.to_owned();
        while ends_with_open_backslash(&logical) {
            logical.pop();
            let Some((next, _)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(is_space));
        }
        properties.push(split(&logical, line)?);
    }
    Ok(properties)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn ends_with_open_backslash(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

/// Key up to the first unescaped `=`, `:` or space; then spaces, at most one `=` or `:`, and spaces again.
fn split(logical: &str, line: usize) -> Result<Property, MalformedEscape> {
    let mut chars = logical.chars().peekable();
    let mut key = String::new();
    while let Some(c) = chars.next_if(|c| !is_space(*c) && !matches!(c, '=' | ':')) {
        push(&mut key, c, &mut chars, line)?;
    }
    while chars.next_if(|c| is_space(*c)).is_some() {}
    if chars.next_if(|c| matches!(c, '=' | ':')).is_some() {
        while chars.next_if(|c| is_space(*c)).is_some() {}
    }
    let mut value = String::new();
    while let Some(c) = chars.next() {
        push(&mut value, c, &mut chars, line)?;
    }
    Ok(Property { key, value, line })
}

/// Appends a character, or what an escape stands for.
fn push(to: &mut String, c: char, rest: &mut Peekable<Chars<'_>>, line: usize) -> Result<(), MalformedEscape> {
    if c != '\\' {
        to.push(c);
        return Ok(());
    }
    match rest.next() {
        Some('t') => to.push('\t'),
        Some('n') => to.push('\n'),
        Some('r') => to.push('\r'),
        Some('f') => to.push('\u{c}'),
        Some('u') => {
            let unit = utf16_unit(rest).ok_or(MalformedEscape { line })?;
            // A lone surrogate is no character; two of them in a row do not occur in configurations.
            to.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        Some(other) => to.push(other),
        None => {}
    }
    Ok(())
}

fn utf16_unit(rest: &mut Peekable<Chars<'_>>) -> Option<u32> {
    (0..4).try_fold(0, |unit, _| Some(unit * 16 + rest.next()?.to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().map(|p| (p.key, p.value)).collect()
    }

    fn pair(text: &str) -> (String, String) {
        let mut all = pairs(text);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn of(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn keys_end_at_the_first_separator() {
        assert_eq!(pair("a=b"), of("a", "b"));
        assert_eq!(pair("a = b "), of("a", "b "));
        assert_eq!(pair("a:b=c"), of("a", "b=c"));
        assert_eq!(pair("a b=c"), of("a", "b=c"));
        assert_eq!(pair("a==b"), of("a", "=b"));
        assert_eq!(pair("a"), of("a", ""));
        assert_eq!(pair(r"a\=\:\ b = c"), of("a=: b", "c"));
    }

    #[test]
    fn comments_and_empty_lines_say_nothing() {
        assert_eq!(pairs("# a=b\n  ! c=d\n\n \t\n"), vec![]);
        assert_eq!(pair("a=b # not a comment"), of("a", "b # not a comment"));
    }

    #[test]
    fn an_odd_backslash_continues_the_line() {
        assert_eq!(pair("a=b,\\\n   c,\\\n   d"), of("a", "b,c,d"));
        assert_eq!(pair("a=b,\\\r\n   c"), of("a", "b,c"));
        assert_eq!(pairs("a=b\\\\\nc=d"), vec![of("a", "b\\"), of("c", "d")]);
        assert_eq!(pairs("# comment \\\na=b"), vec![of("a", "b")]);
        assert_eq!(pair("a=b\\"), of("a", "b"));
    }

    #[test]
    fn escapes_are_javas() {
        assert_eq!(pair(r"a=\t\n\r\f\\\q\u00e4\u0041"), of("a", "\t\n\r\u{c}\\qäA"));
        assert_eq!(parse("x=1\n\na=\\u12"), Err(MalformedEscape { line: 3 }));
    }

    #[test]
    fn lines_are_numbered_over_continuations() {
        let lines = |text| parse(text).unwrap().iter().map(|p| p.line).collect::<Vec<_>>();
        assert_eq!(lines("a=1\\\n2\n\nb=3"), [1, 4]);
        assert_eq!(lines("a=1\r\n\r\nb=3\r\n"), [1, 3]);
    }
}

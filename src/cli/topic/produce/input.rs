//! Where records come from: arguments, or the lines of a file or of standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

use tokio::sync::mpsc;

/// Longest line, in bytes: no broker takes a record of this size.
const LINE_SIZE_BYTES_MAX: usize = 256 << 20;
/// Bytes read at once.
const READ_BUFFER: usize = 256 << 10;
/// Chunks that wait to be sent, each of at most a read buffer or one line. Full: reading pauses.
const CHUNKS_MAX: usize = 4;

/// The whole lines that one read gave, without their ends; or why reading stopped.
pub type LineChunk = io::Result<Vec<Vec<u8>>>;

/// A source of lines, and whether someone types them.
pub struct Lines {
    pub chunks: mpsc::Receiver<LineChunk>,
    pub is_typed: bool,
}

/// Reads in a thread of its own, which a read from a terminal may hold for ever: nobody waits for it to end.
pub fn read_lines(file: Option<&Path>) -> io::Result<Lines> {
    let (source, is_typed): (Box<dyn Read + Send>, bool) = match file {
        Some(path) => (Box::new(File::open(path)?), false),
        None => (Box::new(io::stdin()), io::stdin().is_terminal()),
    };
    let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        let mut source = BufReader::with_capacity(READ_BUFFER, source);
        loop {
            let chunk = next_chunk(&mut source, LINE_SIZE_BYTES_MAX);
            let is_last = !matches!(&chunk, Ok(lines) if !lines.is_empty());
            if matches!(&chunk, Ok(lines) if lines.is_empty()) || sender.blocking_send(chunk).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(Lines { chunks, is_typed })
}

/// At least one line, waiting for it, and what more is there already. Empty at the end of the input.
fn next_chunk(source: &mut BufReader<impl Read>, size_max: usize) -> LineChunk {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(size_max).unwrap_or(u64::MAX).saturating_add(1);
        if source.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(lines);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.len() > size_max {
            return Err(io::Error::other(format!("a line is longer than {size_max} bytes")));
        }
        lines.push(line);
        // Another line that is whole in the buffer costs no waiting.
        if !source.buffer().contains(&b'\n') {
            return Ok(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], buffer: usize, size_max: usize) -> Vec<Result<Vec<String>, String>> {
        let mut source = BufReader::with_capacity(buffer, text);
        let mut chunks = Vec::new();
        loop {
            match next_chunk(&mut source, size_max) {
                Ok(lines) if lines.is_empty() => return chunks,
                Ok(lines) => {
                    chunks.push(Ok(lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()));
                }
                Err(error) => {
                    chunks.push(Err(error.to_string()));
                    return chunks;
                }
            }
        }
    }

    fn ok(lines: &[&str]) -> Result<Vec<String>, String> {
        Ok(lines.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_come_as_they_are_there() {
        assert_eq!(all(b"a\n\nb\r\nc", 64, 64), [ok(&["a", "", "b\r"]), ok(&["c"])]);
        assert_eq!(all(b"abc\ndef\n", 2, 64), [ok(&["abc"]), ok(&["def"])]);
        assert_eq!(all(b"", 2, 64), []);
    }

    #[test]
    fn a_line_has_a_limit() {
        assert_eq!(all(b"abc\nabcd\n", 64, 3), [Err("a line is longer than 3 bytes".to_owned())]);
        assert_eq!(all(b"abc\n", 64, 3), [ok(&["abc"])]);
    }
}

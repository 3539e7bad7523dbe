//! stderr as a log that may be lost: its reader is gone, or its disk is full. The node goes on without.

use std::io::{self, Write};

/// Writes to stderr what can be written. Never fails: whoever would be told could only tell it to stderr.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _lost: io::Result<()> = io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One line for people, where there is no log yet.
pub fn tell(line: &str) {
    let _lost: io::Result<()> = writeln!(Stderr, "millstream: {line}");
}

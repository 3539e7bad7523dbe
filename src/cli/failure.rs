//! How a command ends badly: one line that says what failed, why, and what to do.

use std::fmt;
use std::io;

use super::client::{ClientError, error_name};

/// Exit codes of the command line.
pub const EXIT_FAILURE: u8 = 1;
pub const EXIT_USAGE: u8 = 2;

/// Failures of one kind shown before the rest is counted.
const SHOWN_MAX: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `cannot create topic orders`
    pub what: String,
    pub why: String,
    /// What the user may do about it.
    pub advice: Option<String>,
    /// Kafka's name of the error, when the broker gave one.
    pub code: Option<String>,
}

/// Why a command stops.
#[derive(Debug)]
pub enum Stop {
    Failed(Vec<Failure>),
    /// The arguments make no sense together.
    Usage(String),
    /// The reader of our output has gone: nothing more to say.
    OutputClosed,
}

impl Failure {
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), advice: None, code: None }
    }

    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// What went wrong in asking a broker.
    pub fn of(what: impl Into<String>, error: &ClientError) -> Self {
        Self {
            what: what.into(),
            why: error.to_string(),
            advice: error.advice().map(str::to_owned),
            code: error.response().map(error_name),
        }
    }

    /// For JSON results.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "code": self.code, "message": self.why })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever a broker sends.
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "?");
        write!(f, "{}: {}", line(&self.what), line(&self.why))?;
        match &self.advice {
            Some(advice) => write!(f, "; {}", line(advice)),
            None => Ok(()),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(vec![failure])
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Failure::new("cannot write the output", error.to_string()).into(),
        }
    }
}

impl Stop {
    /// What is printed, a line each.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::OutputClosed => Vec::new(),
            Self::Usage(text) => vec![format!("{text}; --help shows the options")],
            Self::Failed(failures) => {
                let mut lines: Vec<_> = failures.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
                if failures.len() > SHOWN_MAX {
                    lines.push(format!("... and {} more failures", failures.len() - SHOWN_MAX));
                }
                lines
            }
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed(_) => EXIT_FAILURE,
            Self::Usage(_) => EXIT_USAGE,
        }
    }
}

/// `result.doing("cannot list the topics")?`
pub trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Stop>;
}

impl<T> Doing<T> for Result<T, ClientError> {
    fn doing(self, what: impl Into<String>) -> Result<T, Stop> {
        self.map_err(|error| Failure::of(what, &error).into())
    }
}

/// The failures of a command over many things, if any.
pub fn all_done(failures: Vec<Failure>) -> Result<(), Stop> {
    if failures.is_empty() { Ok(()) } else { Err(Stop::Failed(failures)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::new("cannot create topic a", "bad\nthing\u{7}").advise("try b");
        assert_eq!(failure.to_string(), "cannot create topic a: bad thing?; try b");
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_many_failures_are_counted() {
        let stop = Stop::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(stop.lines().is_empty());
        assert_eq!(stop.exit_code(), 0);
        let stop = Stop::Failed((0..13).map(|i| Failure::new(format!("cannot {i}"), "no")).collect());
        assert_eq!(stop.lines().len(), 11);
        assert_eq!(stop.lines()[10], "... and 3 more failures");
        assert_eq!(stop.exit_code(), 1);
    }

    #[test]
    fn kafkas_code_is_kept_for_programs() {
        let error = ClientError::of_code(3, None).expect("an error");
        let json = Failure::of("cannot describe topic a", &error).to_json();
        assert_eq!(json["code"], "UNKNOWN_TOPIC_OR_PARTITION");
    }
}

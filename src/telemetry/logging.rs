//! The log on stderr: people's text or a JSON object a line.

use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::Subscriber;

use super::levels::{Levels, LogLevels};
use super::stderr::Stderr;

/// Target of the one line that says that the node serves; it passes every level.
pub const READY_TARGET: &str = "millstream::ready";

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        match s {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// What is logged and how.
#[derive(Clone, Debug)]
pub struct LoggingConfig {
    /// `logging.format`: `text` (default) or `json`.
    pub format: LogFormat,
    /// `logging.level`: a level (`info` by default), or a list of `module=level` as tracing's filters take it.
    /// Below `info` one sees neither start nor leaderships; `debug` writes a line per request.
    pub level: String,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl LoggingConfig {
    /// Whether a text is a filter that [`init_logging`] takes.
    pub fn is_filter(level: &str) -> bool {
        // A filter takes any word for a module; a word by itself is rather a level that is spelled wrong.
        let is_level = |item: &str| item.contains('=') || item.trim().parse::<LevelFilter>().is_ok();
        level.split(',').all(|item| !item.trim().is_empty() && is_level(item)) && level.parse::<EnvFilter>().is_ok()
    }
}

/// Sends the log of this process to stderr from here on. The `ready` line passes every level.
///
/// A second call in one process (tests) changes nothing.
pub fn init_logging(config: &LoggingConfig) -> LogLevels {
    let levels = Levels::parse(&config.level);
    let builder = Subscriber::builder().with_env_filter(levels.filter()).with_writer(|| Stderr);
    // What tracing has to say of its own failures goes to stderr, too, and panics when that fails.
    let builder = builder.log_internal_errors(false);
    match config.format {
        LogFormat::Text => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let builder = builder.with_ansi(ansi).with_filter_reloading();
            let handle = builder.reload_handle();
            tell_second_call(tracing::subscriber::set_global_default(builder.finish()));
            LogLevels::new(levels, move |filter| tell_not_reloaded(handle.reload(filter)))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_ansi(false).with_filter_reloading();
            let handle = builder.reload_handle();
            tell_second_call(tracing::subscriber::set_global_default(builder.finish()));
            LogLevels::new(levels, move |filter| tell_not_reloaded(handle.reload(filter)))
        }
    }
}

fn tell_second_call(installed: Result<(), tracing::subscriber::SetGlobalDefaultError>) {
    if installed.is_err() {
        tracing::debug!("logging is set up already");
    }
}

fn tell_not_reloaded(reloaded: Result<(), tracing_subscriber::reload::Error>) {
    if let Err(e) = reloaded {
        tracing::warn!(error = %e, "levels of the log could not be changed");
    }
}

/// Sends panics to the log, as one line with their place, instead of the raw text on stderr. Nothing in it may panic:
/// a second panic ends the process.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic
            .payload()
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.payload().downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic without a text".to_owned());
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            tracing::error!(place, thread, panic = message, %backtrace, "panic");
        } else {
            tracing::error!(place, thread, panic = message, "panic");
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_told_from_nonsense() {
        for good in ["info", "warn,millstream::net=debug", "trace", "off"] {
            assert!(LoggingConfig::is_filter(good), "{good}");
        }
        for bad in ["", "loud", "=,=", "millstream=loud", "info,"] {
            assert!(!LoggingConfig::is_filter(bad), "{bad}");
        }
    }
}

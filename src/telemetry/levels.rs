//! Levels of the log, module by module: as they were set at the start, and as they are changed while the node runs
//! (Kafka `LoggingController`, KIP-412). Changes are not kept: the next start begins with `logging.level` again.
//!
//! Loggers are named with dots, as `millstream.net`: Kafka's tools take no colons.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::logging::READY_TARGET;

/// Kafka's name of the logger that all others follow.
const ROOT: &str = "root";

/// Modules whose level can be set by itself.
const MODULES: &[&str] = &[
    "millstream::admin",
    "millstream::api",
    "millstream::config",
    "millstream::controller",
    "millstream::coordinator",
    "millstream::log",
    "millstream::net",
    "millstream::partition",
    "millstream::protocol",
    "millstream::raft",
    "millstream::startup",
    "millstream::store",
    "millstream::telemetry",
];

/// Kafka's levels and ours. Nothing here is fatal and goes on: with that level a module says nothing.
const LEVELS: &[(&str, LevelFilter)] = &[
    ("DEBUG", LevelFilter::DEBUG),
    ("ERROR", LevelFilter::ERROR),
    ("FATAL", LevelFilter::OFF),
    ("INFO", LevelFilter::INFO),
    ("TRACE", LevelFilter::TRACE),
    ("WARN", LevelFilter::WARN),
];

/// A level to set, or to take back so that the module follows the others again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelChange {
    pub logger: String,
    /// One of Kafka's words; `None`: take back.
    pub level: Option<String>,
}

/// Why levels stay as they are, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    #[error("Logger {0} does not exist!")]
    UnknownLogger(String),
    #[error(
        "Cannot set the log level of {logger} to {level} as it is not a supported log level. Valid log levels are \
         DEBUG, ERROR, FATAL, INFO, TRACE, WARN"
    )]
    UnknownLevel { logger: String, level: String },
    #[error("Removing the log level of the {ROOT} logger is not allowed")]
    Root,
}

/// The levels in force, and the way to change them.
pub struct LogLevels {
    /// A leaf; held while a new filter is put in place, so that the last change is the one in force.
    levels: Mutex<Levels>,
    apply: Box<dyn Fn(EnvFilter) + Send + Sync>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Levels {
    root: LevelFilter,
    modules: BTreeMap<String, LevelFilter>,
    /// Parts of `logging.level` that are about spans and fields: they stay as they are.
    others: Vec<String>,
}

impl Levels {
    /// From `logging.level`.
    pub(super) fn parse(text: &str) -> Self {
        // What tracing takes when no level stands by itself.
        let mut levels = Self { root: LevelFilter::ERROR, modules: BTreeMap::new(), others: Vec::new() };
        for item in text.split(',').map(str::trim) {
            if let Ok(level) = item.parse() {
                levels.root = level;
                continue;
            }
            match item.split_once('=').map(|(module, level)| (module, level.parse())) {
                Some((module, Ok(level))) if !module.contains('[') => {
                    levels.modules.insert(module.to_owned(), level);
                }
                _ => levels.others.push(item.to_owned()),
            }
        }
        levels
    }

    /// The `ready` line passes every level.
    pub(super) fn filter(&self) -> EnvFilter {
        let mut items = vec![self.root.to_string()];
        items.extend(self.modules.iter().map(|(module, level)| format!("{module}={level}")));
        items.extend(self.others.iter().cloned());
        EnvFilter::new(items.join(",")).add_directive(format!("{READY_TARGET}=info").parse().expect("a constant"))
    }

    /// What a module logs at: its own level, or that of the nearest one it lies in.
    fn in_force(&self, module: &str) -> LevelFilter {
        let around = self.modules.iter().filter(|(of, _)| module.starts_with(of.as_str()));
        around.max_by_key(|(of, _)| of.len()).map_or(self.root, |(_, level)| *level)
    }

    /// The modules that have a logger, which may be named twice.
    fn modules(&self) -> impl Iterator<Item = &str> {
        MODULES.iter().copied().chain(self.modules.keys().map(String::as_str))
    }

    fn change(&mut self, change: &LevelChange) -> Result<(), LevelError> {
        let LevelChange { logger, level } = change;
        let module = self.modules().find(|module| logger_of(module) == *logger).map(str::to_owned);
        if module.is_none() && logger != ROOT {
            return Err(LevelError::UnknownLogger(logger.clone()));
        }
        let Some(word) = level else {
            let module = module.ok_or(LevelError::Root)?;
            self.modules.remove(&module);
            return Ok(());
        };
        let Some((_, level)) = LEVELS.iter().find(|(known, _)| known == word) else {
            return Err(LevelError::UnknownLevel { logger: logger.clone(), level: word.clone() });
        };
        match module {
            None => self.root = *level,
            Some(module) => drop(self.modules.insert(module, *level)),
        }
        Ok(())
    }
}

impl LogLevels {
    /// `apply` puts a filter in place of the one before.
    pub(super) fn new(levels: Levels, apply: impl Fn(EnvFilter) + Send + Sync + 'static) -> Self {
        Self { levels: Mutex::new(levels), apply: Box::new(apply) }
    }

    /// Every logger with its level, in Kafka's words, by name.
    pub fn describe(&self) -> BTreeMap<String, &'static str> {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut described = BTreeMap::from([(ROOT.to_owned(), word(levels.root))]);
        described.extend(levels.modules().map(|module| (logger_of(module), word(levels.in_force(module)))));
        described
    }

    /// Makes all changes, or none of them when one cannot be made; with `validate_only` none in any case.
    pub fn change(&self, changes: &[LevelChange], validate_only: bool) -> Result<(), LevelError> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = levels.clone();
        for change in changes {
            wanted.change(change)?;
        }
        if !validate_only && wanted != *levels {
            (self.apply)(wanted.filter());
            *levels = wanted;
        }
        Ok(())
    }
}

fn logger_of(module: &str) -> String {
    module.replace("::", ".")
}

fn word(level: LevelFilter) -> &'static str {
    LEVELS.iter().find(|(_, known)| *known == level).map_or("INFO", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn levels(text: &str) -> (LogLevels, Arc<Mutex<String>>) {
        let applied = Arc::new(Mutex::new(String::new()));
        let to = applied.clone();
        (LogLevels::new(Levels::parse(text), move |filter| *to.lock().unwrap() = filter.to_string()), applied)
    }

    fn set(logger: &str, level: &str) -> LevelChange {
        LevelChange { logger: logger.into(), level: Some(level.into()) }
    }

    fn unset(logger: &str) -> LevelChange {
        LevelChange { logger: logger.into(), level: None }
    }

    #[test]
    fn every_module_has_a_level() {
        let (levels, _) = levels("warn,millstream::net=debug,other=trace,[span]=info");
        let described = levels.describe();
        let of = |logger: &str| described.get(logger).copied();
        assert_eq!((of("root"), of("millstream.api")), (Some("WARN"), Some("WARN")));
        assert_eq!((of("millstream.net"), of("other")), (Some("DEBUG"), Some("TRACE")));
        assert_eq!(described.len(), MODULES.len() + 2);
    }

    #[test]
    fn levels_change_and_follow_the_others_again() {
        let (levels, applied) = levels("info,[span]=debug");
        levels.change(&[set("millstream.net", "TRACE"), set("root", "FATAL")], false).unwrap();
        assert_eq!(levels.describe()["millstream.net"], "TRACE");
        assert_eq!(levels.describe()["millstream.log"], "FATAL");
        let filter = applied.lock().unwrap().clone();
        for part in ["off", "millstream::net=trace", "[span]=debug", "millstream::ready=info"] {
            assert!(filter.split(',').any(|item| item == part), "{part} in {filter}");
        }
        levels.change(&[unset("millstream.net")], false).unwrap();
        assert_eq!(levels.describe()["millstream.net"], "FATAL");
    }

    #[test]
    fn what_cannot_be_changes_nothing() {
        let (levels, applied) = levels("info");
        let refusal = |changes: &[LevelChange]| levels.change(changes, false).unwrap_err().to_string();
        assert_eq!(refusal(&[set("root", "WARN"), set("nobody", "INFO")]), "Logger nobody does not exist!");
        assert!(
            refusal(&[set("root", "warn")]).ends_with("Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN")
        );
        assert_eq!(refusal(&[unset("root")]), "Removing the log level of the root logger is not allowed");
        levels.change(&[set("root", "WARN")], true).unwrap();
        assert_eq!(levels.describe()["root"], "INFO");
        assert!(applied.lock().unwrap().is_empty(), "no filter was put in place");
    }

    #[test]
    fn the_modules_are_those_of_the_program() {
        let program = include_str!("../lib.rs");
        for module in MODULES {
            let name = module.strip_prefix("millstream::").unwrap();
            assert!(program.contains(&format!("pub mod {name};")), "{module}");
        }
    }
}

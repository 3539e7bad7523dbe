//! What an operator sees of a running node: the log on stderr and the numbers behind `/metrics`.
//!
//! Knows nothing of what it measures: other parts make their own metrics in [`Metrics::registry`].

mod clients;
mod escape;
mod essential;
mod levels;
mod logging;
mod metrics;
mod process;
mod seldom;
mod stderr;

pub use clients::{ClientConnection, ClientMetrics, Pushed};
pub use escape::Escaped;
pub use essential::spawn_essential;
pub use levels::{LevelChange, LevelError, LogLevels};
pub use logging::{LogFormat, LoggingConfig, READY_TARGET, init_logging, log_panics};
pub use metrics::{ApiMetrics, Metrics};
pub use seldom::Seldom;
pub use stderr::tell;

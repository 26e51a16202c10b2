//! The log: where it goes, and how it is changed while the process runs.

use std::fmt as core_fmt;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{LogFormat, LogLevel};

type Filter = reload::Layer<Targets, Registry>;
type Filtered = Layered<Filter, Registry>;
type Writer = Box<dyn Layer<Filtered> + Send + Sync>;

/// The log of the process. Lines go to standard error.
pub struct Log {
    filter: Handle<Targets, Registry>,
    writer: Handle<Writer, Filtered>,
}

impl Log {
    /// Starts it. A second start in one process has no effect.
    #[must_use]
    pub fn start(level: LogLevel, format: LogFormat) -> Self {
        let (filter_layer, filter) = reload::Layer::new(targets(level));
        let (writer_layer, writer) = reload::Layer::new(lines(format));
        let _ = tracing_subscriber::registry()
            .with(filter_layer)
            .with(writer_layer)
            .try_init();
        std::panic::set_hook(Box::new(|panic| tracing::error!("a task has failed: {panic}")));
        Self { filter, writer }
    }

    pub fn change(&self, level: LogLevel, format: LogFormat) {
        let _ = self.filter.reload(targets(level));
        let _ = self.writer.reload(lines(format));
    }
}

impl core_fmt::Debug for Log {
    fn fmt(&self, f: &mut core_fmt::Formatter<'_>) -> core_fmt::Result {
        f.write_str("Log")
    }
}

/// The TLS library and the event loop have a log of their own, which is of no use to an operator.
fn targets(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(LevelFilter::WARN.min(own))
        .with_target("pgweir", own)
}

fn lines(format: LogFormat) -> Writer {
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

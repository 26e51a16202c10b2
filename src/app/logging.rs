//! The log: where it goes, and how it is changed while the process runs.

use std::fmt as core_fmt;
use std::io;

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

/// Writes events so that nobody's name or message can pass for a line of ours: further lines of an event begin with a tab,
/// and control characters are shown as what they are.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut standard_error = io::stderr().lock();
        match tame(event) {
            Some(tame) => standard_error.write_all(tame.as_bytes())?,
            None => standard_error.write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// None for an event that is tame as it is.
fn tame(event: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(event);
    let line = text.strip_suffix('\n').unwrap_or(&text);
    if !line.contains(char::is_control) {
        return None;
    }
    let mut tame = String::with_capacity(text.len() + text.len() / 8);
    for character in line.chars() {
        match character {
            '\n' => tame.push_str("\n\t"),
            other if other.is_control() => tame.extend(other.escape_default()),
            other => tame.push(other),
        }
    }
    tame.push('\n');
    Some(tame)
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
    let lines = fmt::layer().with_writer(|| Lines).with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_pass_for_a_line_of_the_log() {
        assert_eq!(tame(b"INFO login user=\"a\"\n"), None);
        assert_eq!(
            tame(b"WARN refused \"a\n2026 INFO login\x1b[2J\r\"\n").unwrap(),
            "WARN refused \"a\n\t2026 INFO login\\u{1b}[2J\\r\"\n"
        );
    }
}

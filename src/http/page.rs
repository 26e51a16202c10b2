//! Metrics as text, in the format of Prometheus.

use std::fmt::{Display, Write};

/// One metric: what all its samples have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// How a metric's values are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A page that is being written: metric by metric, each with all of its samples.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// The samples that follow are of this metric.
    pub(super) fn begin(&mut self, metric: &Metric) {
        let Metric { name, kind, help, .. } = metric;
        let kind = kind.as_str();
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A sample; `values` are those of the metric's labels, in their order.
    pub(super) fn sample(&mut self, metric: &Metric, values: &[&str], value: impl Display) {
        self.text.push_str(metric.name);
        self.labels(metric, values, None);
        self.write(format_args!(" {value}\n"));
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn labels(&mut self, metric: &Metric, values: &[&str], last: Option<(&str, &str)>) {
        let labels = metric.labels.iter().copied().zip(values.iter().copied());
        let mut opening = '{';
        for (label, value) in labels.chain(last) {
            self.text.push(opening);
            self.write(format_args!("{label}=\""));
            self.escaped(value);
            self.text.push('"');
            opening = ',';
        }
        if opening == ',' {
            self.text.push('}');
        }
    }

    /// Names of databases and users may hold any character.
    fn escaped(&mut self, value: &str) {
        for letter in value.chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                letter => self.text.push(letter),
            }
        }
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = self.text.write_fmt(arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Metric = Metric {
        name: "seen_total",
        kind: Kind::Counter,
        labels: &["database", "user"],
        help: "What was seen.",
    };

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.begin(&SEEN);
        page.sample(&SEEN, &["a\"b\\c\nd", "é{}=,"], 7);
        assert_eq!(
            page.into_text(),
            "# HELP seen_total What was seen.\n# TYPE seen_total counter\n\
             seen_total{database=\"a\\\"b\\\\c\\nd\",user=\"é{}=,\"} 7\n"
        );
    }

    #[test]
    fn a_metric_without_labels_has_no_braces() {
        let bare = Metric { labels: &[], ..SEEN };
        let mut page = Page::default();
        page.sample(&bare, &[], 0.5);
        assert_eq!(page.into_text(), "seen_total 0.5\n");
    }
}

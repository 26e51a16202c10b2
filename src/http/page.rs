//! Metrics as text, in the format of Prometheus.

use std::fmt::{Display, Write};

use crate::pool::meter::{BOUNDS, HistogramSums};

/// One metric: what all its samples have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// How a metric's values are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    #[must_use]
    pub(super) fn as_str(self) -> &'static str {
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

    /// All samples of a histogram.
    pub(super) fn histogram(&mut self, metric: &Metric, values: &[&str], sums: &HistogramSums) {
        let bounds = BOUNDS.iter().map(|micros| seconds(*micros));
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let mut count = 0_u64;
        for (bound, bucket) in bounds.zip(sums.buckets) {
            count = count.wrapping_add(bucket);
            self.text.push_str(metric.name);
            self.text.push_str("_bucket");
            self.labels(metric, values, Some(("le", &bound)));
            self.write(format_args!(" {count}\n"));
        }
        for (suffix, value) in [("_sum", seconds(sums.micros)), ("_count", count.to_string())] {
            self.text.push_str(metric.name);
            self.text.push_str(suffix);
            self.labels(metric, values, None);
            self.write(format_args!(" {value}\n"));
        }
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

/// Microseconds in seconds, exactly.
pub(super) fn seconds(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = format!("{whole}.{rest:06}");
    digits.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        for (micros, shown) in [(0, "0"), (50, "0.00005"), (2_500_000, "2.5"), (30_000_000, "30")] {
            assert_eq!(seconds(micros), shown);
        }
    }

    #[test]
    fn buckets_count_all_that_is_shorter() {
        let took = Metric {
            name: "took_seconds",
            labels: &["database"],
            ..SEEN
        };
        let mut sums = HistogramSums {
            micros: 60,
            ..HistogramSums::default()
        };
        sums.buckets[0] = 2;
        sums.buckets[20] = 1;
        let mut page = Page::default();
        page.histogram(&took, &["a"], &sums);
        let text = page.into_text();
        assert!(
            text.starts_with("took_seconds_bucket{database=\"a\",le=\"0.00005\"} 2\n"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "le=\"26.2144\"} 2\ntook_seconds_bucket{database=\"a\",le=\"+Inf\"} 3\n\
                 took_seconds_sum{database=\"a\"} 0.00006\ntook_seconds_count{database=\"a\"} 3\n"
            ),
            "{text}"
        );
    }

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

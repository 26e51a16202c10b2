//! A client of the HTTP port, and a strict reader of the text format of Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use super::{PATIENCE, Pgweir};

/// What a request is answered with.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Pgweir {
    /// The port that `http_listen = "127.0.0.1:0"` has come to.
    pub(crate) fn http_port(&self) -> u16 {
        let log = self.log();
        let (_, rest) = log.split_once("http=\"127.0.0.1:").expect("no HTTP port");
        rest.split('"').next().unwrap().parse().unwrap()
    }

    /// Gets a page of the HTTP port.
    pub(crate) fn page(&self, path: &str) -> Page {
        Page::get(self.http_port(), path)
    }

    pub(crate) fn scrape(&self) -> Scrape {
        let page = self.page("/metrics");
        assert_eq!(page.status, 200);
        Scrape::read(&page.body)
    }
}

impl Page {
    pub(crate) fn get(port: u16, path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: pgweir\r\n\r\n");
        Self::of(port, request.as_bytes()).expect("no answer")
    }

    /// Sends these bytes and reads until the end; nothing when the end comes first.
    pub(crate) fn of(port: u16, request: &[u8]) -> Option<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be refused before it is through.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }
}

/// The samples of a scrape. Whatever the format does not allow fails the test.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    /// By metric: its type and its text of help.
    pub(crate) metrics: BTreeMap<String, String>,
    pub(crate) samples: BTreeMap<Series, f64>,
}

/// A name with its labels.
pub(crate) type Series = (String, BTreeMap<String, String>);

impl Scrape {
    fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut scrape = Self::default();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!help.is_empty() && !scrape.metrics.contains_key(name), "{line}");
                name.clone_into(&mut current);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, current, "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                // Two have the names that were promised for them.
                let is_promised = ["pgweir_plan_cache_hits", "pgweir_plan_cache_misses"].contains(&name);
                assert_eq!(
                    kind == "counter",
                    name.ends_with("_total") || is_promised,
                    "{line}"
                );
                scrape.metrics.insert(current.clone(), kind.to_owned());
            } else {
                let (series, value) = series(line);
                let is_part = |suffix: &&str| series.0 == format!("{current}{suffix}");
                let suffixes: &[&str] = match scrape.metrics[&current].as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(suffixes.iter().any(is_part), "{line} under {current}");
                let known = scrape.samples.insert(series, value);
                assert!(known.is_none(), "twice: {line}");
            }
        }
        scrape.check_histograms();
        scrape
    }

    /// The value of the one series that has these labels among its own.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.find(name, labels);
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0]
    }

    /// The sum over all series that have these labels among their own.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).iter().sum()
    }

    fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let is_meant = |series: &Series| {
            let mut wanted = labels.iter();
            series.0 == name
                && wanted.all(|(label, value)| series.1.get(*label).is_some_and(|own| own == value))
        };
        let found = self.samples.iter().filter(|(series, _)| is_meant(series));
        found.map(|(_, value)| *value).collect()
    }

    /// Buckets grow, the last is everything, and each has a sum.
    fn check_histograms(&self) {
        let histograms = self.metrics.iter().filter(|(_, kind)| *kind == "histogram");
        for (name, _) in histograms {
            let mut all: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
            for ((sample, labels), count) in &self.samples {
                if *sample == format!("{name}_bucket") {
                    let mut labels = labels.clone();
                    let bound = labels.remove("le").unwrap();
                    let bound: f64 = bound.parse().unwrap();
                    all.entry(labels).or_default().push((bound, *count));
                }
            }
            for (labels, mut buckets) in all {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{name} {labels:?}");
                let (bound, everything) = *buckets.last().unwrap();
                assert!(bound.is_infinite());
                assert_eq!(
                    self.samples[&(format!("{name}_count"), labels.clone())],
                    everything
                );
                let sum = self.samples[&(format!("{name}_sum"), labels)];
                assert!(sum >= 0.0 && (everything > 0.0 || sum == 0.0), "{name}");
            }
        }
    }
}

/// Takes a line apart: `name{label="value",…} number`.
fn series(line: &str) -> (Series, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    let mut seen = BTreeSet::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label) && seen.insert(label), "{line}");
            let (value, after) = unescape(after);
            labels.insert(label.to_owned(), value);
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after.strip_prefix('}').unwrap();
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    ((name.to_owned(), labels), value)
}

/// A label's value up to its closing quote, and what follows that.
fn unescape(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match letters.next() {
                Some((_, 'n')) => '\n',
                Some((_, letter @ ('\\' | '"'))) => letter,
                other => panic!("not an escape: {other:?}"),
            }),
            letter => value.push(letter),
        }
    }
    panic!("no end: {text}");
}

fn is_name(name: &str) -> bool {
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    name.chars().all(is_good) && name.starts_with(|letter: char| letter.is_ascii_alphabetic())
}

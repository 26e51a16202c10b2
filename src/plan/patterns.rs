//! What an operator says about functions by patterns, whatever the catalog says.

/// `read_only_functions` and `write_functions`.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    reads: Box<[Pattern]>,
    writes: Box<[Pattern]>,
}

/// What the operator says about a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    Reads,
    Writes,
}

/// `schema.name` or `name`, in which `*` stands for any letters.
#[derive(Debug, Clone)]
struct Pattern {
    schema: Option<Box<str>>,
    name: Box<str>,
}

impl Patterns {
    /// From lists as they are configured: `app.lookup*`, `lookup`, `*.lookup`.
    #[must_use]
    pub fn new<'a>(
        read_only: impl IntoIterator<Item = &'a str>,
        write: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self {
            reads: read_only.into_iter().map(Pattern::new).collect(),
            writes: write.into_iter().map(Pattern::new).collect(),
        }
    }

    /// About a function whose schema is known.
    pub(super) fn ruling(&self, schema: &str, name: &str) -> Option<Ruling> {
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.fits(schema, name));
        if fits(&self.writes) {
            Some(Ruling::Writes)
        } else if fits(&self.reads) {
            Some(Ruling::Reads)
        } else {
            None
        }
    }

    /// About a function that could be in any schema of a path: what writes in one of them writes.
    pub(super) fn rulings(&self, schema: Option<&str>, name: &str, path: &[Box<str>]) -> Option<Ruling> {
        let path = path.iter().map(|schema| &**schema);
        let mut rulings = match schema {
            Some(schema) => return self.ruling(schema, name),
            None => path.filter_map(|schema| self.ruling(schema, name)),
        };
        let first = rulings.next()?;
        let writes = first == Ruling::Writes || rulings.any(|ruling| ruling == Ruling::Writes);
        Some(if writes { Ruling::Writes } else { first })
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema.into()), name.into()),
            None => (None, text.into()),
        };
        Self { schema, name }
    }

    fn fits(&self, schema: &str, name: &str) -> bool {
        let own = self.schema.as_deref();
        own.is_none_or(|own| matches(own.as_bytes(), schema.as_bytes()))
            && matches(self.name.as_bytes(), name.as_bytes())
    }
}

/// Whether a pattern is true of a text. After a star only the last one is gone back to, so that it takes no more than the product of
/// both lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                retry = Some((rest, text));
                pattern = rest;
            }
            (Some((own, rest)), Some((other, others))) if own == other => {
                pattern = rest;
                text = others;
            }
            (None, None) => return true,
            _ => {
                let Some((after_star, [_, shorter @ ..])) = retry else {
                    return false;
                };
                retry = Some((after_star, shorter));
                pattern = after_star;
                text = shorter;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters() {
        let fits = |pattern: &str, text: &str| matches(pattern.as_bytes(), text.as_bytes());
        assert!(fits("lookup*", "lookup_user") && fits("*", "") && fits("a*b*c", "axxbyybc"));
        assert!(!fits("lookup*", "my_lookup") && !fits("a*b", "axxc") && !fits("", "a"));
    }

    #[test]
    fn write_functions_win_and_schemas_count() {
        let patterns = Patterns::new(["app.*", "count_up"], ["app.bump*"]);
        assert_eq!(patterns.ruling("app", "lookup"), Some(Ruling::Reads));
        assert_eq!(patterns.ruling("app", "bump_all"), Some(Ruling::Writes));
        assert_eq!(patterns.ruling("other", "lookup"), None);
        assert_eq!(patterns.ruling("other", "count_up"), Some(Ruling::Reads));
        let path = ["other".into(), "app".into()];
        assert_eq!(patterns.rulings(None, "bump", &path), Some(Ruling::Writes));
        assert_eq!(patterns.rulings(Some("other"), "bump", &path), None);
    }
}

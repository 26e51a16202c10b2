//! What the server is asked when a transaction has ended: what became of the settings that its statements named, and whether
//! what pins the client is still there. The server's own words are what travels: no model of its transactions, savepoints and
//! canonical values stands in for them.

use super::screen::{Effects, PinReason, Pins, SettingEffect};
use super::settings::{STATEMENT_TIMEOUT, quote_literal};

/// What is to be asked at the end of the present transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inquiry {
    /// Settings by name, in lower case, each once.
    names: Vec<Box<str>>,
    /// Some of them may be the connection's own again.
    resets: bool,
    /// Reasons of which it is asked whether they last.
    pins: Pins,
    /// What was answered so far, once it was asked.
    findings: Option<Findings>,
    /// How often it was asked.
    times: u8,
}

/// What a value's letters beyond ASCII are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    Utf8,
    /// An encoding that is not understood here.
    Other,
}

impl Letters {
    /// Of a connection that speaks this encoding. In `SQL_ASCII` the server says what it has.
    #[must_use]
    pub fn of(client_encoding: Option<&str>) -> Self {
        match client_encoding {
            Some("UTF8" | "SQL_ASCII") | None => Self::Utf8,
            Some(_) => Self::Other,
        }
    }
}

/// What the server has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Each setting, with its value unless there is none.
    pub values: Vec<(Box<str>, Option<Box<str>>)>,
    /// Settings that have the connection's own value.
    pub defaults: Vec<Box<str>>,
    /// Reasons that last.
    pub pins: Pins,
    /// Reasons of which was asked.
    pub asked: Pins,
}

impl Inquiry {
    /// Takes note of a statement that is about to be carried out. `known` are settings that a reset of everything touches.
    pub fn note<'a>(&mut self, effects: &Effects, known: impl Iterator<Item = &'a str>) {
        for name in &effects.sets {
            self.add(name);
        }
        let forgets = effects.names == super::screen::NameEffect::Forgets;
        if effects.settings == SettingEffect::ResetAll || forgets {
            known.for_each(|name| self.add(name));
        }
        self.resets |= effects.settings >= SettingEffect::Reset || forgets;
    }

    /// Asks for a setting, and whether it has the connection's own value.
    pub fn ask_whether_set(&mut self, name: &str) {
        self.add(name);
        self.resets = true;
    }

    /// Something was rolled back, or failed: settings may have the connection's own value all along.
    pub fn doubt(&mut self) {
        self.resets = true;
    }

    /// Asks whether these reasons last.
    pub fn ask_pins(&mut self, pins: Pins) {
        self.pins = self.pins.union(pins.askable());
    }

    fn add(&mut self, name: &str) {
        let is_known = self.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if !is_known {
            self.names.push(name.to_ascii_lowercase().into());
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.pins.is_empty()
    }

    /// Whether it asks for settings.
    #[must_use]
    pub fn asks_settings(&self) -> bool {
        !self.names.is_empty()
    }

    /// Whether it asks for more settings than a session has.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.names.len() > NAMES_MAX
    }

    /// It is being asked: answers are findings from now on.
    pub fn begin(&mut self) {
        self.times = self.times.saturating_add(1);
        self.findings = Some(Findings {
            asked: self.pins,
            ..Findings::default()
        });
    }

    /// A row of the answer, as the body of a `DataRow`. What is not understood leaves nothing found.
    pub fn on_row(&mut self, body: Option<&[u8]>, letters: Letters) {
        let findings = self.findings.take();
        self.findings = findings.zip(body).and_then(|(mut findings, body)| {
            let is_understood = findings.on_row(body, letters);
            is_understood.then_some(findings)
        });
    }

    /// What was found; none if something was not understood.
    #[must_use]
    pub fn into_findings(self) -> Option<Findings> {
        self.findings
    }

    /// Whether it may be asked once more.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        self.times < TIMES_MAX
    }

    /// A text whose rows are `kind, name, value`. Nothing in it depends on the client's search path. It is one statement, unless
    /// that was cancelled before: then the session's own limit of time is put out of its way, for this transaction alone.
    #[must_use]
    pub fn sql(&self) -> String {
        if self.times == 0 {
            return self.statement(&self.names);
        }
        let names = self.names.iter().map(AsRef::as_ref);
        let (limit, others): (Vec<&str>, Vec<&str>) = names.partition(|name| *name == STATEMENT_TIMEOUT);
        let mut sql = String::new();
        if !limit.is_empty() {
            // As it is before. Whether it is the connection's own is not asked: that cannot be told quickly, and then the
            // value is set where the client goes.
            sql.push_str(&value_of(STATEMENT_TIMEOUT));
            sql.push(';');
        }
        sql.push_str("SET LOCAL statement_timeout = 0;");
        sql.push_str(&self.statement(&others));
        sql
    }

    fn statement(&self, names: &[impl AsRef<str>]) -> String {
        let mut sql = String::new();
        let mut part = |text: &str| {
            if !sql.is_empty() {
                sql.push_str(" UNION ALL ");
            }
            sql.push_str(text);
        };
        for name in names {
            part(&value_of(name.as_ref()));
        }
        if self.resets && !names.is_empty() {
            let mut text = String::from(DEFAULTS);
            for (index, name) in names.iter().enumerate() {
                text.push(if index == 0 { '(' } else { ',' });
                quote_literal(name.as_ref(), &mut text);
            }
            text.push(')');
            part(&text);
        }
        for (reason, text) in LASTING {
            if self.pins.contains(reason) {
                part(text);
            }
        }
        sql
    }
}

impl Findings {
    /// Says whether the row was understood.
    fn on_row(&mut self, body: &[u8], letters: Letters) -> bool {
        let mut rest = body.get(2..).unwrap_or_default();
        let (Some(kind), Some(name), Some(value)) = (column(&mut rest), column(&mut rest), column(&mut rest))
        else {
            return false;
        };
        let is_plain = |text: Option<&str>| letters == Letters::Utf8 || text.is_none_or(str::is_ascii);
        if !is_plain(name) || !is_plain(value) {
            return false;
        }
        match (kind, name) {
            (Some("v"), Some(name)) => self.values.push((name.into(), value.map(Into::into))),
            (Some("d"), Some(name)) => self.defaults.push(name.into()),
            (Some("p"), Some(name)) => {
                let reason = LASTING.iter().find(|(reason, _)| reason.as_str() == name);
                self.pins.extend(reason.map(|(reason, _)| *reason));
            }
            _ => return false,
        }
        true
    }

    #[must_use]
    pub fn is_default(&self, name: &str) -> bool {
        self.defaults.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn value_of(name: &str) -> String {
    let mut text = String::from("SELECT 'v',");
    quote_literal(name, &mut text);
    text.push_str(",pg_catalog.current_setting(");
    quote_literal(name, &mut text);
    text.push_str(",true)");
    text
}

/// One column of a `DataRow`; the outer `None` is a row that ends too early or is no text.
fn column<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a str>> {
    let (len, behind) = rest.split_first_chunk::<4>()?;
    let len = i32::from_be_bytes(*len);
    if len < 0 {
        *rest = behind;
        return Some(None);
    }
    let (value, behind) = behind.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = behind;
    std::str::from_utf8(value).ok().map(Some)
}

/// Settings that the session has not set: theirs is the value of the connection.
const DEFAULTS: &str = "SELECT 'd',name,NULL FROM pg_catalog.pg_settings \
     WHERE source OPERATOR(pg_catalog.<>) 'session' AND pg_catalog.lower(name) IN ";

/// How the server tells whether a reason lasts.
const LASTING: [(PinReason, &str); 3] = [
    (
        PinReason::Cursor,
        "SELECT 'p','cursor',NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_cursors)",
    ),
    (
        PinReason::TemporaryTable,
        "SELECT 'p','temporary table',NULL WHERE \
         EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) OR \
         EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) OR \
         EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())",
    ),
    (
        PinReason::AdvisoryLock,
        "SELECT 'p','advisory lock',NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_locks \
         WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())",
    ),
];

/// How often it is asked while something cancels it: cancel requests under way for a connection are fewer (`CANCELS_MAX`).
const TIMES_MAX: u8 = 8;
/// Settings asked for at once; a client that names more keeps its connection.
const NAMES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::screen::screen;

    fn noted(text: &str) -> Inquiry {
        let mut inquiry = Inquiry::default();
        inquiry.note(&screen(text.as_bytes()), ["work_mem", "app.x"].into_iter());
        inquiry
    }

    #[test]
    fn it_asks_for_what_the_statements_named_and_no_more() {
        assert!(noted("SELECT 1").is_empty());
        assert!(noted("SET TimeZone = 'UTC'; SET LOCAL work_mem = 1").is_empty());
        assert_eq!(
            noted("SET Work_Mem = 1; SET work_mem = 2").sql(),
            "SELECT 'v',E'work_mem',pg_catalog.current_setting(E'work_mem',true)"
        );
        assert!(
            noted("RESET a")
                .sql()
                .ends_with("pg_catalog.lower(name) IN (E'a')")
        );
        let all = noted("RESET ALL").sql();
        assert!(all.contains("E'work_mem'") && all.contains("E'app.x'"), "{all}");
    }

    #[test]
    fn what_was_cancelled_is_asked_again_without_the_sessions_limit() {
        let mut inquiry = noted("SET statement_timeout = 1; SET work_mem = 1");
        let first = inquiry.sql();
        assert_eq!(inquiry.sql(), first);
        inquiry.begin();
        assert_eq!(
            inquiry.sql(),
            "SELECT 'v',E'statement_timeout',pg_catalog.current_setting(E'statement_timeout',true);\
             SET LOCAL statement_timeout = 0;SELECT 'v',E'work_mem',pg_catalog.current_setting(E'work_mem',true)"
        );
        let mut alone = noted("RESET statement_timeout");
        alone.begin();
        assert!(alone.sql().ends_with("SET LOCAL statement_timeout = 0;"));
        for _ in 0..TIMES_MAX {
            inquiry.begin();
        }
        assert!(!inquiry.may_be_repeated());
    }

    #[test]
    fn rows_are_understood_or_refused() {
        let row = |columns: &[Option<&str>]| {
            let mut body = vec![0, 3];
            for column in columns {
                let len = column.map_or(-1, |value| i32::try_from(value.len()).unwrap());
                body.extend_from_slice(&len.to_be_bytes());
                body.extend_from_slice(column.unwrap_or_default().as_bytes());
            }
            body
        };
        let mut findings = Findings::default();
        assert!(findings.on_row(&row(&[Some("v"), Some("a"), Some("1")]), Letters::Other));
        assert!(findings.on_row(&row(&[Some("v"), Some("b"), None]), Letters::Other));
        assert!(findings.on_row(&row(&[Some("d"), Some("A"), None]), Letters::Other));
        assert!(findings.on_row(&row(&[Some("p"), Some("cursor"), None]), Letters::Other));
        assert!(findings.is_default("a") && !findings.is_default("b"));
        assert!(findings.pins.contains(PinReason::Cursor));
        assert_eq!(findings.values.len(), 2);
        let letters = row(&[Some("v"), Some("c"), Some("\u{e9}")]);
        assert!(findings.on_row(&letters, Letters::Utf8));
        assert!(!findings.on_row(&letters, Letters::Other));
        assert!(!findings.on_row(b"\0\x03\0\0\0\x09v", Letters::Utf8));
        assert!(!findings.on_row(b"", Letters::Utf8));
    }
}

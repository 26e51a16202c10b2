//! A model of one PostgreSQL session: the backend's side of the protocol for a small language.
//!
//! The same model stands behind the pool and, one for each client, beside it as the reference: what a client gets through the
//! pool must be what it would get from a server of its own. Answers are kept back as PostgreSQL keeps them, until a flush.

use std::collections::BTreeMap;

use crate::tag;
use crate::wire::*;

type Settings = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub struct Model {
    /// `I`, `T` or `E`.
    pub state: u8,
    /// The state that the last `ReadyForQuery` told.
    pub told_state: u8,
    pub named: BTreeMap<String, String>,
    pub unnamed: Option<String>,
    portals: BTreeMap<String, Portal>,
    pub settings: Settings,
    committed: Settings,
    base: Settings,
    reported: Settings,
    pub skipping: bool,
    pub copy: Copying,
    begins: Begins,
    input: Vec<u8>,
    /// Answers that are not flushed.
    held: Vec<u8>,
    /// Answers on their way.
    pub out: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    No,
    Simple(usize),
    Extended(usize),
}

/// What becomes of a `BEGIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    Carried,
    Refused,
    /// One was refused: nobody may ask for anything more.
    Over,
}

#[derive(Clone, Debug)]
struct Portal {
    text: String,
    value: String,
}

/// An error of a statement: code and text.
struct Trouble(&'static str, String);

impl Model {
    /// A session that has these settings of its own from the start.
    pub fn new(own: &[(&str, &str)]) -> Self {
        let mut base: Settings = [
            ("TimeZone", "UTC"),
            ("search_path", "public"),
            ("work_mem", "4MB"),
        ]
        .map(owned)
        .into();
        base.extend(own.iter().copied().map(owned));
        Self {
            state: b'I',
            told_state: b'I',
            named: BTreeMap::new(),
            unnamed: None,
            portals: BTreeMap::new(),
            settings: base.clone(),
            committed: base.clone(),
            reported: base.clone(),
            base,
            skipping: false,
            copy: Copying::No,
            begins: Begins::Carried,
            input: Vec::new(),
            held: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Takes in bytes, and carries out the messages that are whole.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let (messages, rest) = split(&input);
        self.input = rest.to_vec();
        for (tag, body) in messages {
            self.on_message(tag, body);
        }
    }

    /// Everything answered so far, flushed or not.
    pub fn take_all(&mut self) -> Vec<u8> {
        self.flush();
        std::mem::take(&mut self.out)
    }

    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    pub fn is_quiet(&self) -> bool {
        self.input.is_empty() && self.held.is_empty() && self.out.is_empty()
    }

    /// Settings that are not the connection's own.
    pub fn changed_settings(&self) -> Vec<(&str, &str)> {
        let changed = self
            .settings
            .iter()
            .filter(|(name, value)| self.base.get(*name) != Some(value));
        changed
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// Whether that is the connection's own value of a setting.
    pub fn is_own(&self, name: &str, value: &str) -> bool {
        self.base.get(name).is_some_and(|own| own == value)
    }

    /// The connection is lost, and the session goes on elsewhere from what was told last: a block has failed.
    pub fn on_lost(&mut self) {
        self.state = if self.told_state == b'I' { b'I' } else { b'E' };
        self.told_state = self.state;
        self.settings = self.committed.clone();
        self.reported = self.settings.clone();
        self.portals.clear();
        self.copy = Copying::No;
        self.held.clear();
        self.out.clear();
    }

    /// A request is refused by the pooler: as any error, it fails the block.
    pub fn on_refused(&mut self) {
        if self.state == b'T' {
            self.state = b'E';
            self.told_state = b'E';
        }
    }

    /// Something goes wrong with the `BEGIN` that comes next. Nothing may be carried out behind it, since the client takes it
    /// for done.
    pub fn refuse_begin(&mut self) {
        if self.state == b'I' {
            self.begins = Begins::Refused;
        }
    }

    /// What a pool does between two clients.
    pub fn reset(&mut self) {
        self.discard();
        self.committed = self.settings.clone();
        self.reported = self.settings.clone();
        self.unnamed = None;
    }

    fn put(&mut self, message: &[u8]) {
        self.held.extend_from_slice(message);
    }

    fn flush(&mut self) {
        self.out.append(&mut self.held);
    }

    fn ready(&mut self) {
        if self.state == b'I' {
            self.commit();
            self.portals.clear();
        }
        let value = self.settings["TimeZone"].clone();
        if self.reported["TimeZone"] != value {
            self.put(&parameter("TimeZone", &value));
            self.reported.insert("TimeZone".into(), value);
        }
        self.told_state = self.state;
        self.put(&ready(self.state));
        self.flush();
    }

    fn commit(&mut self) {
        self.committed = self.settings.clone();
    }

    fn fail(&mut self, trouble: Trouble) {
        let Trouble(code, text) = trouble;
        self.put(&error(code, &text));
        self.flush();
        self.settings = self.committed.clone();
        self.portals.clear();
        if self.state == b'T' {
            self.state = b'E';
        }
    }

    fn on_message(&mut self, tag: u8, body: &[u8]) {
        if tag == tag::SYNC {
            if self.copy == Copying::No {
                self.skipping = false;
                self.ready();
            }
            return;
        }
        if matches!(tag, tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL) {
            return self.on_copy(tag, body);
        }
        if self.skipping {
            return;
        }
        assert!(
            self.copy == Copying::No || tag == tag::FLUSH,
            "a message in the middle of a copy: {:?}",
            frontend(&message(tag, body))
        );
        let texts = texts(body);
        match tag {
            tag::FLUSH => self.flush(),
            tag::QUERY => self.on_query(texts[0]),
            tag::FUNCTION_CALL => {
                self.put(&message(tag::FUNCTION_CALL_RESPONSE, body));
                self.ready();
            }
            _ => {
                if let Err(trouble) = self.on_extended(tag, &texts) {
                    self.fail(trouble);
                    self.skipping = true;
                }
            }
        }
    }

    fn on_query(&mut self, text: &str) {
        self.unnamed = None;
        self.portals.remove("");
        if text.starts_with("SELECT 'v',") {
            self.on_inquiry(text);
            return self.ready();
        }
        for statement in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match self.run(statement, "") {
                Ok(true) => {
                    self.copy = Copying::Simple(0);
                    self.flush();
                    return;
                }
                Ok(false) => {}
                Err(trouble) => {
                    self.fail(trouble);
                    break;
                }
            }
        }
        self.ready();
    }

    /// What became of settings: `SELECT 'v',E'name',… UNION ALL …`, and which have the connection's own value.
    fn on_inquiry(&mut self, text: &str) {
        for part in text.split(" UNION ALL ") {
            let names = part
                .split("E'")
                .skip(1)
                .filter_map(|rest| rest.split('\'').next());
            if part.starts_with("SELECT 'v',") {
                let name = names.last().unwrap_or_default();
                let value = self
                    .settings
                    .iter()
                    .find(|(known, _)| known.eq_ignore_ascii_case(name));
                let value = value.map(|(_, value)| value.clone());
                self.put(&finding("v", name, value.as_deref()));
                continue;
            }
            let changed = self.changed_settings();
            let is_own = |name: &&str| changed.iter().all(|(known, _)| !known.eq_ignore_ascii_case(name));
            let own: Vec<&str> = names.filter(is_own).collect();
            own.iter().for_each(|name| self.put(&finding("d", name, None)));
        }
        self.put(&complete("SELECT 1"));
    }

    fn on_extended(&mut self, tag: u8, texts: &[&str]) -> Result<(), Trouble> {
        match tag {
            tag::PARSE => self.on_parse(texts[0], texts[1])?,
            tag::BIND => {
                let text = self.statement(texts[1])?;
                self.check_block(&text)?;
                let portal = Portal {
                    text,
                    value: texts[2].into(),
                };
                self.portals.insert(texts[0].into(), portal);
                self.put(&bare(tag::BIND_COMPLETE));
            }
            tag::DESCRIBE => {
                self.statement(&texts[0][1..])?;
                self.put(&message(tag::PARAMETER_DESCRIPTION, &[0, 0]));
                self.put(&row_description());
            }
            tag::EXECUTE => {
                let missing = || Trouble("34000", format!("portal \"{}\" does not exist", texts[0]));
                let portal = self.portals.get(texts[0]).ok_or_else(missing)?.clone();
                self.check_block(&portal.text)?;
                if self.run(&portal.text, &portal.value)? {
                    self.copy = Copying::Extended(0);
                    self.flush();
                }
            }
            tag::CLOSE => {
                match texts[0][1..].to_owned() {
                    name if texts[0].starts_with('P') => _ = self.portals.remove(&name),
                    name if name.is_empty() => self.unnamed = None,
                    name => _ = self.named.remove(&name),
                }
                self.put(&bare(tag::CLOSE_COMPLETE));
            }
            other => panic!("a message of type {other} reached a server"),
        }
        Ok(())
    }

    fn on_parse(&mut self, name: &str, text: &str) -> Result<(), Trouble> {
        if name.is_empty() {
            self.unnamed = None;
        }
        if text.starts_with("BAD") {
            return Err(Trouble("42601", format!("syntax error: {text}")));
        }
        if self.named.contains_key(name) {
            return Err(Trouble(
                "42P05",
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        if name.is_empty() {
            self.unnamed = Some(text.into());
        } else {
            self.named.insert(name.into(), text.into());
        }
        self.put(&bare(tag::PARSE_COMPLETE));
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<String, Trouble> {
        let (found, text) = if name.is_empty() {
            (
                self.unnamed.as_ref(),
                "unnamed prepared statement does not exist".to_owned(),
            )
        } else {
            (
                self.named.get(name),
                format!("prepared statement \"{name}\" does not exist"),
            )
        };
        found.cloned().ok_or(Trouble("26000", text))
    }

    fn check_block(&self, text: &str) -> Result<(), Trouble> {
        if self.state == b'E' && !matches!(text, "COMMIT" | "ROLLBACK") {
            return Err(Trouble("25P02", "current transaction is aborted".into()));
        }
        Ok(())
    }

    /// Runs one statement. True: it waits for the data of a copy.
    fn run(&mut self, text: &str, value: &str) -> Result<bool, Trouble> {
        self.check_block(text)?;
        assert_ne!(
            self.begins,
            Begins::Over,
            "{text} is carried out outside of its block"
        );
        let words: Vec<&str> = text.split(' ').collect();
        let was_failed = self.state == b'E';
        match *words.as_slice() {
            ["BEGIN"] if self.begins == Begins::Refused => {
                self.begins = Begins::Over;
                return Err(Trouble("57014", "canceling statement".into()));
            }
            ["BEGIN"] => self.state = b'T',
            ["COMMIT"] if self.state != b'E' => {
                self.commit();
                self.state = b'I';
            }
            ["COMMIT" | "ROLLBACK"] => {
                self.settings = self.committed.clone();
                self.state = b'I';
            }
            ["ROLLBACK", "TO", ..] => return Err(Trouble("3B001", "savepoint does not exist".into())),
            ["FAIL", ..] | ["BAD", ..] => return Err(Trouble("22012", text.into())),
            ["SET", name, "TO", value] => _ = self.settings.insert(name.into(), unquoted(value).into()),
            ["RESET", name] => self.reset_one(name),
            ["SHOW", name] => self.put(&row(&self.settings[name].clone())),
            ["DEALLOCATE", "ALL"] => self.named.clear(),
            ["DEALLOCATE", name] => {
                self.named.remove(name).ok_or_else(|| unknown(name))?;
            }
            ["PREPARE", name, "AS", ..] => self.prepare(name, &words[3..].join(" "))?,
            ["EXECUTE", name] => return self.execute(name),
            ["UNLISTEN", ..] => {}
            ["DISCARD", "ALL"] if self.state == b'I' => {
                // Committed at once (XACT_FLAGS_NEEDIMMEDIATECOMMIT in src/backend/tcop/postgres.c).
                self.discard();
                self.commit();
            }
            ["DISCARD", ..] => {
                return Err(Trouble(
                    "25001",
                    "DISCARD ALL cannot run inside a transaction block".into(),
                ));
            }
            // With a value it is a later use of the statement, by a client that has no data ready.
            ["COPY", "IN", ..] if value.is_empty() => {
                self.put(&copy_response(tag::COPY_IN_RESPONSE));
                return Ok(true);
            }
            ["COPY", "OUT", data] => {
                self.put(&copy_response(tag::COPY_OUT_RESPONSE));
                self.put(&copy_data(data));
                self.put(&copy_done());
            }
            ["SELECT", list] if list.starts_with("pg_catalog.set_config") => self.set_config(list),
            _ => self.put(&row(&format!("{text}|{value}"))),
        }
        let command = match words[0] {
            "DEALLOCATE" | "DISCARD" if words[1] == "ALL" => format!("{} ALL", words[0]),
            "COPY" => "COPY 1".into(),
            "COMMIT" if was_failed => "ROLLBACK".into(),
            "BEGIN" | "COMMIT" | "ROLLBACK" | "SET" | "RESET" | "SHOW" | "DEALLOCATE" | "PREPARE"
            | "UNLISTEN" => words[0].into(),
            _ => "SELECT 1".into(),
        };
        self.put(&complete(&command));
        Ok(false)
    }

    fn prepare(&mut self, name: &str, text: &str) -> Result<(), Trouble> {
        if text.starts_with("BAD") {
            return Err(Trouble("42601", format!("syntax error: {text}")));
        }
        if self.named.contains_key(name) {
            return Err(Trouble(
                "42P05",
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        self.named.insert(name.into(), text.into());
        Ok(())
    }

    /// Of queries alone.
    fn execute(&mut self, name: &str) -> Result<bool, Trouble> {
        let text = self.named.get(name).cloned().ok_or_else(|| unknown(name))?;
        if !text.starts_with("SELECT") && !text.starts_with("FAIL") {
            return Err(Trouble("42P11", format!("not a query: {text}")));
        }
        self.run(&text, "")
    }

    fn on_copy(&mut self, tag: u8, body: &[u8]) {
        let (is_extended, count) = match self.copy {
            Copying::No => return,
            Copying::Simple(count) => (false, count),
            Copying::Extended(count) => (true, count),
        };
        let failed = match tag {
            tag::COPY_DATA if body.starts_with(b"bad") => Some("22P04"),
            tag::COPY_DATA => {
                self.copy = match is_extended {
                    true => Copying::Extended(count + 1),
                    false => Copying::Simple(count + 1),
                };
                return;
            }
            tag::COPY_FAIL => Some("57014"),
            _ => None,
        };
        self.copy = Copying::No;
        match failed {
            Some(code) => {
                self.fail(Trouble(code, format!("copy: {}", texts(body)[0])));
                self.skipping = is_extended;
            }
            None => self.put(&complete(&format!("COPY {count}"))),
        }
        if !is_extended {
            self.ready();
        }
    }

    fn discard(&mut self) {
        self.settings = self.base.clone();
        self.named.clear();
        self.portals.clear();
    }

    fn reset_one(&mut self, name: &str) {
        let name = name.trim_matches('"');
        self.settings.insert(name.into(), self.base[name].clone());
    }

    /// `pg_catalog.set_config(E'name',E'value',false)`, one or more.
    fn set_config(&mut self, list: &str) {
        for call in list
            .split("pg_catalog.set_config(")
            .filter(|call| !call.is_empty())
        {
            let quoted: Vec<&str> = call.split('\'').collect();
            let [_, name, _, value, ..] = *quoted.as_slice() else {
                panic!("not a set_config: {call}")
            };
            self.settings.insert(name.into(), value.into());
        }
        self.put(&row("set"));
    }
}

/// A row of three columns, the last of which may be null.
fn finding(kind: &str, name: &str, value: Option<&str>) -> Vec<u8> {
    let mut body = vec![0, 3];
    for column in [Some(kind), Some(name), value] {
        let len = column.map_or(-1, |value| i32::try_from(value.len()).unwrap());
        body.extend_from_slice(&len.to_be_bytes());
        body.extend_from_slice(column.unwrap_or_default().as_bytes());
    }
    message(tag::DATA_ROW, &body)
}

fn unknown(name: &str) -> Trouble {
    let text = format!("prepared statement \"{name}\" does not exist");
    Trouble("26000", text)
}

fn unquoted(value: &str) -> &str {
    value.trim_matches('\'')
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.into(), value.into())
}

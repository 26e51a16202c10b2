//! The messages that a script names.
//!
//! ```text
//! parse NAME SQL            parse NAME(23,25) SQL     with types of parameters; the name - is the empty one
//! bind PORTAL NAME 1 null 'two words'                 values as text, results in the format of the run
//! bind PORTAL NAME hex:0000002a                       a binary value
//! describe S NAME           describe P PORTAL         close S NAME        close P PORTAL
//! execute PORTAL            execute PORTAL 2          at most two rows
//! run SQL                   unnamed: parse, bind, describe, execute
//! query SQL                 flush                     sync
//! copydata 1\n              copydone                  copyfail WHY
//! call OID 1 2              a FunctionCall with arguments as text
//! ```

use pgweir::protocol::tag;

use crate::harness::wire::{c_string, execute, frame};
use crate::script::Run;

#[derive(Clone, Debug)]
pub(crate) enum Message {
    Parse {
        name: String,
        types: Vec<u32>,
        sql: String,
    },
    Bind {
        portal: String,
        statement: String,
        values: Vec<Option<String>>,
    },
    Describe {
        target: char,
        name: String,
    },
    Close {
        target: char,
        name: String,
    },
    Execute {
        portal: String,
        rows_max: u32,
    },
    Run(String),
    Query(String),
    Flush,
    Sync,
    CopyData(String),
    CopyDone,
    CopyFail(String),
    Call {
        function: u32,
        arguments: Vec<Option<String>>,
    },
}

impl Message {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        Some(match kind {
            "parse" => {
                let (head, sql) = rest.split_once(' ').unwrap_or((rest, ""));
                let (name, types) = statement_head(head)?;
                Self::Parse {
                    name,
                    types,
                    sql: sql.to_owned(),
                }
            }
            "bind" => {
                let mut words = rest.splitn(3, ' ');
                Self::Bind {
                    portal: name_of(words.next()?),
                    statement: name_of(words.next()?),
                    values: values(words.next().unwrap_or_default()),
                }
            }
            "describe" | "close" => {
                let (target, name) = rest.split_once(' ')?;
                let (target, name) = (target.chars().next()?, name_of(name));
                match kind {
                    "close" => Self::Close { target, name },
                    _ => Self::Describe { target, name },
                }
            }
            "execute" => {
                let (portal, rows) = rest.split_once(' ').unwrap_or((rest, "0"));
                Self::Execute {
                    portal: name_of(portal),
                    rows_max: rows.parse().ok()?,
                }
            }
            "run" => Self::Run(rest.to_owned()),
            "query" => Self::Query(rest.to_owned()),
            "flush" => Self::Flush,
            "sync" => Self::Sync,
            "copydata" => Self::CopyData(rest.replace("\\n", "\n").replace("\\t", "\t")),
            "copydone" => Self::CopyDone,
            "copyfail" => Self::CopyFail(rest.to_owned()),
            "call" => {
                let (function, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                Self::Call {
                    function: function.parse().ok()?,
                    arguments: values(rest),
                }
            }
            _ => return None,
        })
    }

    /// As bytes, with results in the format of the run.
    pub(crate) fn encode(&self, run: Run) -> Vec<u8> {
        match self {
            Self::Parse { name, types, sql } => {
                let mut body = [c_string(name), c_string(sql)].concat();
                body.extend(u16::try_from(types.len()).unwrap().to_be_bytes());
                body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
                frame(tag::PARSE, &body)
            }
            Self::Bind {
                portal,
                statement,
                values,
            } => {
                let mut body = [c_string(portal), c_string(statement)].concat();
                push_formats(&mut body, values);
                push_values(&mut body, values);
                body.extend(result_format(run));
                frame(tag::BIND, &body)
            }
            Self::Describe { target, name } => frame(tag::DESCRIBE, &c_string(&format!("{target}{name}"))),
            Self::Close { target, name } => frame(tag::CLOSE, &c_string(&format!("{target}{name}"))),
            Self::Execute { portal, rows_max } => execute(portal, *rows_max),
            Self::Run(sql) => unnamed(sql)
                .iter()
                .flat_map(|message| message.encode(run))
                .collect(),
            Self::Query(sql) => frame(tag::QUERY, &c_string(sql)),
            Self::Flush => frame(tag::FLUSH, &[]),
            Self::Sync => frame(tag::SYNC, &[]),
            Self::CopyData(data) => frame(tag::COPY_DATA, data.as_bytes()),
            Self::CopyDone => frame(tag::COPY_DONE, &[]),
            Self::CopyFail(why) => frame(tag::COPY_FAIL, &c_string(why)),
            Self::Call { function, arguments } => {
                let mut body = [function.to_be_bytes().as_slice(), &[0, 0]].concat();
                push_values(&mut body, arguments);
                body.extend(format_code(run));
                frame(tag::FUNCTION_CALL, &body)
            }
        }
    }
}

fn unnamed(sql: &str) -> [Message; 4] {
    let name = String::new;
    [
        Message::Parse {
            name: name(),
            types: Vec::new(),
            sql: sql.to_owned(),
        },
        Message::Bind {
            portal: name(),
            statement: name(),
            values: Vec::new(),
        },
        Message::Describe {
            target: 'P',
            name: name(),
        },
        Message::Execute {
            portal: name(),
            rows_max: 0,
        },
    ]
}

/// One format for all results; none means text.
fn result_format(run: Run) -> Vec<u8> {
    match run {
        Run::Simple | Run::Text => vec![0, 0],
        Run::Binary => vec![0, 1, 0, 1],
    }
}

fn format_code(run: Run) -> [u8; 2] {
    [0, u8::from(run == Run::Binary)]
}

/// None where all are text.
fn push_formats(body: &mut Vec<u8>, values: &[Option<String>]) {
    let is_binary = |value: &Option<String>| value.as_deref().is_some_and(|value| binary(value).is_some());
    let formats: Vec<bool> = values.iter().map(is_binary).collect();
    let formats: &[bool] = if formats.contains(&true) { &formats } else { &[] };
    body.extend(u16::try_from(formats.len()).unwrap().to_be_bytes());
    body.extend(formats.iter().flat_map(|format| [0, u8::from(*format)]));
}

/// The bytes of a binary value.
fn binary(value: &str) -> Option<Vec<u8>> {
    let digits = value.strip_prefix("hex:")?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    Some(digits.chunks(2).map(byte).collect())
}

fn push_values(body: &mut Vec<u8>, values: &[Option<String>]) {
    body.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        match value {
            Some(text) => {
                let value = binary(text).unwrap_or_else(|| text.as_bytes().to_vec());
                body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend_from_slice(&value);
            }
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
}

/// A name, and the types in parentheses behind it.
fn statement_head(head: &str) -> Option<(String, Vec<u32>)> {
    let Some((name, types)) = head.split_once('(') else {
        return Some((name_of(head), Vec::new()));
    };
    let types = types.strip_suffix(')')?.split(',');
    let types = types.map(|oid| oid.parse().ok()).collect::<Option<_>>()?;
    Some((name_of(name), types))
}

fn name_of(word: &str) -> String {
    if word == "-" {
        String::new()
    } else {
        word.to_owned()
    }
}

/// Values between blanks; quotes hold several words together.
fn values(text: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (value, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        let is_null = value == "null" && !rest.starts_with('\'');
        values.push((!is_null).then(|| value.to_owned()));
        rest = after.trim_start();
    }
    values
}

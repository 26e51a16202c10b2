//! From the fields of a line to a rule.
//!
//! Source: `parse_hba_line` in PostgreSQL's `src/backend/libpq/hba.c`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::token::{self, Field, Word};
use super::{Addresses, CertificateDemand, DatabaseMatch, FileError, Origin, Rule, UserMatch};
use crate::auth::demand::Demand;

/// All rules, or all errors.
pub(super) fn rules(text: &str) -> Result<Vec<Rule>, Vec<FileError>> {
    let mut rules = Vec::new();
    let mut errors = Vec::new();
    for line in joined_lines(text) {
        match token::fields(line.number, &line.text) {
            Ok(fields) if fields.is_empty() => {}
            Ok(fields) => match rule(&line, &fields) {
                Ok(rule) => rules.push(rule),
                Err(error) => errors.push(line.in_file(error)),
            },
            Err(error) => errors.push(line.in_file(error)),
        }
    }
    if errors.is_empty() { Ok(rules) } else { Err(errors) }
}

/// The lines; a backslash at the end of one joins the next to it.
fn joined_lines(text: &str) -> Vec<Line> {
    let mut joined = Vec::new();
    let mut open: Option<Line> = None;
    for (index, line) in text.lines().enumerate() {
        let mut whole = match open.take() {
            Some(mut open) => {
                open.joints.push(open.text.chars().count());
                open
            }
            None => Line::beginning(index + 1),
        };
        match line.strip_suffix('\\') {
            Some(front) => {
                whole.text.push_str(front);
                open = Some(whole);
            }
            None => {
                whole.text.push_str(line);
                joined.push(whole);
            }
        }
    }
    joined.extend(open);
    joined
}

fn rule(line: &Line, fields: &[Field]) -> Result<Rule, FileError> {
    let mut fields = fields.iter();
    let kind = line.single(line.next(&mut fields, "a connection type")?, "connection types")?;
    let Some(kind) = Kind::from_name(&kind.text) else {
        return Err(line.error(kind, format!("invalid connection type \"{}\"", kind.text)));
    };
    let databases = each(line.next(&mut fields, "a database")?, |word| line.database(word))?;
    let users = each(line.next(&mut fields, "a user")?, |word| line.user(word))?;
    let addresses = match kind {
        Kind::Local => Addresses::All,
        Kind::Host | Kind::HostSsl | Kind::HostNoSsl | Kind::HostGss => line.addresses(&mut fields)?,
    };
    let method = line.single(
        line.next(&mut fields, "an authentication method")?,
        "authentication methods",
    )?;
    let demand = line.demand(kind, method)?;
    let mut certificate = CertificateDemand::None;
    for field in fields {
        for option in &field.words {
            certificate = line.option(kind, demand, option)?;
        }
    }
    if demand == Demand::Cert {
        certificate = CertificateDemand::VerifyFull;
    }
    Ok(Rule {
        line: line.number,
        demand,
        certificate,
        origin: kind.origin(addresses),
        databases,
        users,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
    HostGss,
}

impl Kind {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "local" => Some(Self::Local),
            // Nothing is ever encrypted by GSSAPI here.
            "host" | "hostnogssenc" => Some(Self::Host),
            "hostssl" => Some(Self::HostSsl),
            "hostnossl" => Some(Self::HostNoSsl),
            "hostgssenc" => Some(Self::HostGss),
            _ => None,
        }
    }

    fn origin(self, addresses: Addresses) -> Origin {
        match self {
            Self::Local => Origin::Local,
            Self::Host => Origin::Host(addresses),
            Self::HostSsl => Origin::HostSsl(addresses),
            Self::HostNoSsl => Origin::HostNoSsl(addresses),
            Self::HostGss => Origin::Never,
        }
    }
}

/// A line with those that are joined to it.
struct Line {
    /// Of the first.
    number: usize,
    text: String,
    /// Where each but the first begins, in characters.
    joints: Vec<usize>,
}

impl Line {
    fn beginning(number: usize) -> Self {
        Self {
            number,
            text: String::new(),
            joints: Vec::new(),
        }
    }

    /// An error of the joined text where it stands in the file.
    fn in_file(&self, error: FileError) -> FileError {
        let passed = self.joints.iter().take_while(|joint| **joint < error.column);
        let start = passed.clone().last().copied().unwrap_or(0);
        FileError {
            line: error.line + passed.count(),
            column: error.column - start,
            ..error
        }
    }

    fn error(&self, at: &Word, message: impl Into<String>) -> FileError {
        FileError::at(self.number, &self.text, at.offset, message)
    }

    fn next<'f>(&self, fields: &mut std::slice::Iter<'f, Field>, what: &str) -> Result<&'f Field, FileError> {
        fields.next().ok_or_else(|| {
            let end = self.text.trim_end().len();
            FileError::at(
                self.number,
                &self.text,
                end,
                format!("end of line where {what} is expected"),
            )
        })
    }

    fn single<'f>(&self, field: &'f Field, what: &str) -> Result<&'f Word, FileError> {
        match field.words.as_slice() {
            [word] => Ok(word),
            [_, second, ..] => {
                Err(self.error(second, format!("one value expected instead of several {what}")))
            }
            [] => Err(FileError::at(
                self.number,
                &self.text,
                0,
                format!("a value is missing among {what}"),
            )),
        }
    }

    fn database(&self, word: &Word) -> Result<DatabaseMatch, FileError> {
        self.refuse_sigils(word)?;
        if word.is_keyword("samerole") || word.is_keyword("samegroup") {
            let message = format!(
                "\"{}\" is not supported: role membership is not known here",
                word.text
            );
            return Err(self.error(word, message));
        }
        Ok(if word.is_keyword("all") {
            DatabaseMatch::All
        } else if word.is_keyword("sameuser") {
            DatabaseMatch::SameUser
        } else if word.is_keyword("replication") {
            DatabaseMatch::Replication
        } else {
            DatabaseMatch::Name(word.text.clone())
        })
    }

    fn user(&self, word: &Word) -> Result<UserMatch, FileError> {
        self.refuse_sigils(word)?;
        Ok(if word.is_keyword("all") {
            UserMatch::All
        } else {
            UserMatch::Name(word.text.clone())
        })
    }

    fn refuse_sigils(&self, word: &Word) -> Result<(), FileError> {
        let reason = if word.has_sigil('+') {
            "role membership is not known here"
        } else if word.has_sigil('@') {
            "other files are not included"
        } else if word.has_sigil('/') {
            "regular expressions are not supported"
        } else {
            return Ok(());
        };
        Err(self.error(word, format!("\"{}\": {reason}", word.text)))
    }

    fn addresses(&self, fields: &mut std::slice::Iter<'_, Field>) -> Result<Addresses, FileError> {
        let word = self.single(self.next(fields, "an address")?, "addresses")?;
        if word.is_keyword("all") {
            return Ok(Addresses::All);
        }
        if word.is_keyword("samehost") || word.is_keyword("samenet") {
            return Err(self.error(
                word,
                format!("\"{}\" is not supported: write the network", word.text),
            ));
        }
        if let Some((address, length)) = word.text.split_once('/') {
            let net = address.parse::<IpAddr>().ok().zip(length.parse().ok());
            let net = net.and_then(|(address, length)| IpNet::new(address, length).ok());
            return match net {
                Some(net) => Ok(Addresses::Net(net)),
                None => Err(self.error(word, format!("invalid network \"{}\"", word.text))),
            };
        }
        let Ok(address) = word.text.parse::<IpAddr>() else {
            let message = format!(
                "\"{}\" is not an IP address; host names are not supported",
                word.text
            );
            return Err(self.error(word, message));
        };
        let mask_word = self.single(self.next(fields, "an IP mask")?, "masks")?;
        let mask = mask_word
            .text
            .parse()
            .ok()
            .and_then(|mask| IpNet::with_netmask(address, mask).ok());
        mask.map(Addresses::Net)
            .ok_or_else(|| self.error(mask_word, format!("invalid IP mask \"{}\"", mask_word.text)))
    }

    fn demand(&self, kind: Kind, method: &Word) -> Result<Demand, FileError> {
        match (method.text.as_str(), kind) {
            ("trust", _) => Ok(Demand::Trust),
            ("reject", _) => Ok(Demand::Reject),
            ("password", _) => Ok(Demand::Password),
            ("md5", _) => Ok(Demand::Md5),
            ("scram-sha-256", _) => Ok(Demand::Scram),
            ("cert", Kind::HostSsl) => Ok(Demand::Cert),
            ("cert", _) => Err(self.error(
                method,
                "cert authentication is only supported on hostssl connections",
            )),
            // On local sockets `ident` means `peer`, as in PostgreSQL.
            ("peer" | "ident", Kind::Local) => Ok(Demand::Peer),
            ("peer", _) => Err(self.error(method, "peer authentication is only supported on local sockets")),
            ("ident" | "gss" | "sspi" | "pam" | "bsd" | "ldap" | "radius" | "oauth", _) => {
                let message = format!("authentication method \"{}\" is not supported", method.text);
                Err(self.error(method, message))
            }
            (other, _) => Err(self.error(method, format!("invalid authentication method \"{other}\""))),
        }
    }

    fn option(&self, kind: Kind, demand: Demand, option: &Word) -> Result<CertificateDemand, FileError> {
        let Some((name, value)) = option.text.split_once('=') else {
            let message = format!("authentication option not in name=value format: {}", option.text);
            return Err(self.error(option, message));
        };
        match (name, value) {
            ("clientcert", _) if kind != Kind::HostSsl => {
                Err(self.error(option, "clientcert can only be configured for \"hostssl\" rows"))
            }
            ("clientcert", "verify-ca") if demand == Demand::Cert => Err(self.error(
                option,
                "clientcert only accepts \"verify-full\" with cert authentication",
            )),
            ("clientcert", "verify-ca") => Ok(CertificateDemand::VerifyCa),
            ("clientcert", "verify-full") => Ok(CertificateDemand::VerifyFull),
            ("clientcert", _) => {
                Err(self.error(option, format!("invalid value for clientcert: \"{value}\"")))
            }
            _ => Err(self.error(
                option,
                format!("authentication option \"{name}\" is not supported"),
            )),
        }
    }
}

fn each<T>(field: &Field, read: impl Fn(&Word) -> Result<T, FileError>) -> Result<Vec<T>, FileError> {
    field.words.iter().map(read).collect()
}

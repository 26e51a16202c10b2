//! An error as pgweir itself raises it: the only thing that becomes an `ErrorResponse`.

use std::borrow::Cow;
use std::fmt;

use super::sqlstate::SqlState;
use super::tag;
use super::write::{self, Frame};

/// One error or notice, with what becomes of the two connections. Never holds a secret, a path or another tenant's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub severity: Severity,
    pub code: SqlState,
    pub message: Cow<'static, str>,
    pub detail: Option<Cow<'static, str>>,
    pub hint: Option<Cow<'static, str>>,
    pub raiser: Raiser,
    pub fate: Fate,
}

impl Report {
    /// The statement failed; the client keeps its session.
    #[must_use]
    pub fn error(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Error, code, message, Fate::Keep)
    }

    /// The client's session ends.
    #[must_use]
    pub fn fatal(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Fatal, code, message, Fate::Close)
    }

    /// A notice: nothing ends.
    #[must_use]
    pub fn notice(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Notice, code, message, Fate::Keep)
    }

    /// The same, and more serious.
    #[must_use]
    pub fn warning(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Warning, code, message, Fate::Keep)
    }

    fn new(severity: Severity, code: SqlState, message: impl Into<Cow<'static, str>>, fate: Fate) -> Self {
        Self {
            severity,
            code,
            message: message.into(),
            detail: None,
            hint: None,
            raiser: Raiser::Pgweir,
            fate,
        }
    }

    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same as if PostgreSQL had raised it: drivers look for the name of its function.
    #[must_use]
    pub fn raised_by(mut self, raiser: Raiser) -> Self {
        self.raiser = raiser;
        self
    }

    /// The same report, ending the session.
    #[must_use]
    pub fn into_fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self.fate = Fate::Close;
        self
    }

    /// Appends the report as an `ErrorResponse` or `NoticeResponse`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let tag = match self.severity {
            Severity::Notice | Severity::Warning => tag::NOTICE_RESPONSE,
            Severity::Error | Severity::Fatal => tag::ERROR_RESPONSE,
        };
        let frame = Frame::begin(out, tag);
        let severity = self.severity.as_str().as_bytes();
        field(out, b'S', severity);
        field(out, b'V', severity);
        field(out, b'C', self.code.as_bytes());
        field(out, b'M', self.message.as_bytes());
        if let Some(detail) = &self.detail {
            field(out, b'D', detail.as_bytes());
        }
        if let Some(hint) = &self.hint {
            field(out, b'H', hint.as_bytes());
        }
        if self.raiser == Raiser::PlanCache {
            // The line is another in each version, and is left out.
            field(out, b'F', b"plancache.c");
            field(out, b'R', STALE_PLAN.as_bytes());
        }
        out.push(0);
        frame.end(out);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.severity.as_str(), self.message, self.code)?;
        if let Some(detail) = &self.detail {
            write!(f, "; {detail}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// Whose function raises a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raiser {
    Pgweir,
    /// PostgreSQL's, of a plan that is out of date.
    PlanCache,
}

/// The function that raises `cached plan must not change result type` (`src/backend/utils/cache/plancache.c`): its name is
/// the same in every language.
pub const STALE_PLAN: &str = "RevalidateCachedQuery";

/// Severities as PostgreSQL names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Fatal,
    Notice,
    Warning,
}

impl Severity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
        }
    }
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Keep,
    Close,
}

fn field(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    write::cstr(out, value);
}

//! What became of a text: a [`Plan`], and the [`Reason`] for it.

use std::fmt;

/// What a text does, as far as its route goes. It never changes; whoever has it may share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub(super) class: Class,
    pub(super) reason: Reason,
    pub(super) relations: Box<[Box<str>]>,
    pub(super) literals: Literals,
    pub(super) following: Following,
}

/// Where a text may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It reads and does nothing else: any server that is fresh enough answers it alike.
    Read,
    /// It writes, or may, or is not understood: the primary.
    Write,
    /// It concerns the session alone (`SET`, `SHOW`, `DISCARD`, `DEALLOCATE`): wherever the session is, else the primary.
    Session,
    /// It begins a transaction.
    Begin(Access),
    /// It tells the modes of the transaction that it stands in.
    Modes(Access),
    /// It belongs to the transaction that it stands in, and goes where that is.
    Within,
    /// It prepares a statement under a name, for this session.
    Prepare(Inner),
    /// It runs what was prepared under a name, and is of its class; its arguments only read.
    Execute,
}

/// What a prepared statement does when it is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    Reads,
    Writes,
}

/// What a transaction is declared to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing is said; the session's `default_transaction_read_only` and `default_transaction_isolation` hold.
    Unstated,
    /// It only reads: a replica will do for all of it.
    ReadOnly,
    /// It may write, or has an isolation that standby servers lack.
    Primary,
}

/// Whether texts that differ from this one in their literals alone have its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Literals {
    /// They have.
    Free,
    /// A literal decided: the plan is for this very text.
    Fixed,
}

/// Whether a text may follow in a transaction that only reads, on a replica. The greater says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Following {
    /// It does there what it does on the primary, or is refused by the server itself.
    Harmless,
    /// The same; but names may stand for others behind it, as it sets something, `search_path` perhaps.
    Renames,
    /// It may do something that a replica does without a word, for itself alone.
    Harmful,
}

impl Following {
    pub(super) fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

impl Class {
    /// Of one of so many statements of a text, judged for the server that it is on.
    pub(super) fn following(self, statements: usize) -> Following {
        match self {
            Self::Read | Self::Session | Self::Within | Self::Modes(_) | Self::Prepare(_) => {
                Following::Harmless
            }
            // Behind others, it would begin another transaction there.
            Self::Begin(_) if statements == 1 => Following::Harmless,
            Self::Begin(_) | Self::Write | Self::Execute => Following::Harmful,
        }
    }
}

/// Why a text has its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    kind: ReasonKind,
    subject: Box<str>,
}

/// Reasons by their kind, to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReasonKind {
    /// Nothing was found that does more than read.
    ReadsOnly,
    /// The statement itself does more than read.
    Statement,
    /// The session's own affair.
    Session,
    /// Transaction control, or what is part of a transaction.
    Transaction,
    /// Statements of different kinds in one text.
    Mixed,
    /// `FOR UPDATE` and the like.
    LockingClause,
    VolatileFunction,
    UnknownFunction,
    /// One of `write_functions`.
    WriteFunction,
    /// The answer is about the server that is asked.
    ServerFunction,
    /// It changes the session or the server, other than by data.
    ActingFunction,
    /// It runs a text that it is given.
    TextFunction,
    /// A lock that other servers do not know of.
    AdvisoryLock,
    /// Its parts are not known, as with an operator, type or cast that the catalog lacks.
    Unknown,
    UnloggedTable,
    TemporaryTable,
    SystemCatalog,
    Sequence,
    ForeignTable,
    UnknownRelation,
    /// What a view, policy, operator, type or cast does.
    Through,
    /// PostgreSQL's grammar has no such text.
    Unparsable,
    /// Over one of the limits of what is parsed.
    TooLarge,
    /// A replica has refused it: that was learned.
    Refused,
}

impl ReasonKind {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::ReadsOnly,
        Self::Statement,
        Self::Session,
        Self::Transaction,
        Self::Mixed,
        Self::LockingClause,
        Self::VolatileFunction,
        Self::UnknownFunction,
        Self::WriteFunction,
        Self::ServerFunction,
        Self::ActingFunction,
        Self::TextFunction,
        Self::AdvisoryLock,
        Self::Unknown,
        Self::UnloggedTable,
        Self::TemporaryTable,
        Self::SystemCatalog,
        Self::Sequence,
        Self::ForeignTable,
        Self::UnknownRelation,
        Self::Through,
        Self::Unparsable,
        Self::TooLarge,
        Self::Refused,
    ];

    /// Its place in `ALL`.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A word for statistics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadsOnly => "reads_only",
            Self::Statement => "statement",
            Self::Session => "session",
            Self::Transaction => "transaction_control",
            Self::Mixed => "mixed",
            Self::LockingClause => "locking_clause",
            Self::VolatileFunction => "volatile_function",
            Self::UnknownFunction => "unknown_function",
            Self::WriteFunction => "write_function",
            Self::ServerFunction => "server_function",
            Self::ActingFunction => "acting_function",
            Self::TextFunction => "text_function",
            Self::AdvisoryLock => "advisory_lock",
            Self::Unknown => "unknown",
            Self::UnloggedTable => "unlogged_table",
            Self::TemporaryTable => "temporary_table",
            Self::SystemCatalog => "system_catalog",
            Self::Sequence => "sequence",
            Self::ForeignTable => "foreign_table",
            Self::UnknownRelation => "unknown_relation",
            Self::Through => "through",
            Self::Unparsable => "unparsable",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }

    /// Whether it is about a function, which is the subject then.
    #[must_use]
    pub const fn is_of_function(self) -> bool {
        matches!(
            self,
            Self::VolatileFunction
                | Self::UnknownFunction
                | Self::WriteFunction
                | Self::ServerFunction
                | Self::ActingFunction
                | Self::TextFunction
                | Self::AdvisoryLock
        )
    }
}

impl Plan {
    /// What it does.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.class
    }

    /// Why, in words of PostgreSQL's.
    #[must_use]
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The tables and views that it names, with their schemas, each once; complete for a [`Class::Read`] alone.
    #[must_use]
    pub const fn relations(&self) -> &[Box<str>] {
        &self.relations
    }

    /// Whether it holds for other literals.
    #[must_use]
    pub const fn literals(&self) -> Literals {
        self.literals
    }

    /// Whether it may follow in a transaction that only reads, on a replica.
    #[must_use]
    pub const fn following(&self) -> Following {
        self.following
    }

    /// The plan of a text that nobody understands.
    #[must_use]
    pub fn opaque(reason: Reason) -> Self {
        Self {
            class: Class::Write,
            reason,
            relations: Box::default(),
            // Limits are about a text and its literals; for others it is parsed anew.
            literals: Literals::Fixed,
            following: Following::Harmful,
        }
    }

    /// The same, where a replica has refused it.
    #[must_use]
    pub fn refused(&self, code: &str) -> Self {
        Self {
            class: Class::Write,
            reason: Reason::new(ReasonKind::Refused, code),
            ..self.clone()
        }
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let names: usize = self
            .relations
            .iter()
            .map(|name| name.len() + size_of_val(name))
            .sum();
        size_of::<Self>() + self.reason.subject.len() + names
    }
}

impl Reason {
    /// `subject` is what it is about: the name of a function, the first words of a statement.
    #[must_use]
    pub fn new(kind: ReasonKind, subject: impl Into<Box<str>>) -> Self {
        let subject = subject.into();
        Self { kind, subject }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ReasonKind {
        self.kind
    }

    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The same, found inside of `what`: `view v: volatile function app.bump(integer)`.
    #[must_use]
    pub fn within(&self, what: impl fmt::Display) -> Self {
        Self::new(ReasonKind::Through, format!("{what}: {self}"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.kind {
            ReasonKind::ReadsOnly => "reads only",
            ReasonKind::Statement | ReasonKind::Session | ReasonKind::Transaction | ReasonKind::Through => "",
            ReasonKind::Mixed => "several statements, one of which is",
            ReasonKind::LockingClause => "locking clause",
            ReasonKind::VolatileFunction => "volatile function",
            ReasonKind::UnknownFunction => "unknown function",
            ReasonKind::WriteFunction => "function in write_functions",
            ReasonKind::ServerFunction => "answer of one server: function",
            ReasonKind::ActingFunction => "function that acts on the session or the server",
            ReasonKind::TextFunction => "function that runs a text",
            ReasonKind::AdvisoryLock => "advisory lock",
            ReasonKind::Unknown => "unknown",
            ReasonKind::UnloggedTable => "unlogged table",
            ReasonKind::TemporaryTable => "temporary table",
            ReasonKind::SystemCatalog => "system catalog",
            ReasonKind::Sequence => "sequence read as a table",
            ReasonKind::ForeignTable => "foreign table",
            ReasonKind::UnknownRelation => "unknown table",
            ReasonKind::Unparsable => "not parsed:",
            ReasonKind::TooLarge => "too large to be parsed:",
            ReasonKind::Refused => "a replica has refused it before:",
        };
        match (words, &*self.subject) {
            (words, "") => f.write_str(words),
            ("", subject) => f.write_str(subject),
            (words, subject) => write!(f, "{words} {subject}"),
        }
    }
}

//! The SQLSTATE codes that pgweir itself raises.
//!
//! Source: PostgreSQL's `src/backend/utils/errcodes.txt`.

use std::fmt;

/// A five-character SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SqlState([u8; 5]);

impl SqlState {
    pub const SUCCESSFUL_COMPLETION: Self = Self(*b"00000");
    pub const CONNECTION_EXCEPTION: Self = Self(*b"08000");
    pub const CANNOT_ESTABLISH_CONNECTION: Self = Self(*b"08001");
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    pub const TRANSACTION_RESOLUTION_UNKNOWN: Self = Self(*b"08007");
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    pub const READ_ONLY_SQL_TRANSACTION: Self = Self(*b"25006");
    pub const IN_FAILED_TRANSACTION: Self = Self(*b"25P02");
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self(*b"25P03");
    pub const TRANSACTION_TIMEOUT: Self = Self(*b"25P04");
    pub const INVALID_STATEMENT_NAME: Self = Self(*b"26000");
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    pub const INVALID_CURSOR_NAME: Self = Self(*b"34000");
    pub const INVALID_DATABASE: Self = Self(*b"3D000");
    pub const INVALID_SCHEMA_NAME: Self = Self(*b"3F000");
    pub const SYNTAX_ERROR: Self = Self(*b"42601");
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(*b"42501");
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    pub const DUPLICATE_STATEMENT: Self = Self(*b"42P05");
    pub const OUT_OF_MEMORY: Self = Self(*b"53200");
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self(*b"54000");
    pub const OBJECT_NOT_IN_STATE: Self = Self(*b"55000");
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    pub const CRASH_SHUTDOWN: Self = Self(*b"57P02");
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    pub const DATABASE_DROPPED: Self = Self(*b"57P04");
    pub const IDLE_SESSION_TIMEOUT: Self = Self(*b"57P05");
    pub const CONFIG_FILE_ERROR: Self = Self(*b"F0000");
    pub const INTERNAL_ERROR: Self = Self(*b"XX000");

    /// Reads a code off the wire; anything but five ASCII characters is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let code: [u8; 5] = bytes.try_into().ok()?;
        code.is_ascii().then_some(Self(code))
    }

    /// Whether a standby answers so to what it never carries out. Others are of a moment, as a conflict with what it replays.
    #[must_use]
    pub fn is_of_replica(self) -> bool {
        [
            Self::FEATURE_NOT_SUPPORTED,
            Self::READ_ONLY_SQL_TRANSACTION,
            Self::OBJECT_NOT_IN_STATE,
            Self::INTERNAL_ERROR,
        ]
        .contains(&self)
    }

    /// Whether a statement may fail with it because something is not defined yet that it names: a table, a column, a function, a
    /// schema, a type, or a right. Others of their class follow from what is written, or would have been told by the names.
    #[must_use]
    pub fn is_of_definitions(self) -> bool {
        [
            *b"42P01", *b"42703", *b"42883", *b"3F000", *b"42704", *b"42501", *b"42804", *b"42846",
        ]
        .contains(&self.0)
    }

    /// Whether the statement has failed and nothing else is wrong: the session goes on, and nothing is told of the server.
    #[must_use]
    pub fn is_of_statement(self) -> bool {
        self.is_of_definitions() || self.is_of_replica()
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 5] {
        &self.0
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

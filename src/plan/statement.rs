//! From a text's trees to its class: each statement by its kind, and the text as a whole.

use std::collections::BTreeSet;

use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::{
    CopyStmt, DeclareCursorStmt, SelectStmt, TransactionStmt, TransactionStmtKind, VariableSetKind,
    VariableSetStmt,
};
use pg_query::{Node, NodeEnum};

use crate::sql::{Kind, Lexer, Strings};

use super::Circumstances;
use super::parse::Statement;
use super::verdict::{Access, Class, Following, Inner, Literals, Plan, Reason, ReasonKind};
use super::walk::{Found, Walk, Whose};

/// All statements of `text`, judged as one.
pub(super) fn whole(text: &str, statements: &[Statement], circumstances: &Circumstances<'_>) -> Plan {
    let mut plan = Plan {
        class: Class::Session,
        reason: Reason::new(ReasonKind::Session, "no statement"),
        relations: Box::default(),
        literals: Literals::Free,
        following: Following::Harmless,
    };
    let mut relations = BTreeSet::new();
    for (index, statement) in statements.iter().enumerate() {
        let words = || leading_words(text, statement.start);
        let judge = |whose| Judge {
            walk: Walk::new(circumstances, whose),
            words: &words,
        };
        let own = judge(Whose::Own)
            .statement(&statement.node)
            .map(|(class, _)| class);
        let following = own.map_or(Following::Harmful, |class| class.following(statements.len()));
        let sets = matches!(
            statement.node,
            NodeEnum::VariableSetStmt(_) | NodeEnum::DiscardStmt(_)
        );
        plan.following = plan.following.and(following);
        if sets {
            plan.following = plan.following.and(Following::Renames);
        }
        let mut judge = judge(Whose::Any);
        let (class, reason) = match judge.statement(&statement.node) {
            Ok(found) => found,
            Err(reason) => (Class::Write, reason),
        };
        let findings = judge.walk.into_findings();
        relations.extend(findings.relations);
        if findings.literals == Literals::Fixed {
            plan.literals = Literals::Fixed;
        }
        if index == 0 {
            (plan.class, plan.reason) = (class, reason);
        } else {
            (plan.class, plan.reason) = both((plan.class, plan.reason), (class, reason));
        }
    }
    plan.relations = relations.into_iter().collect();
    plan
}

/// What two statements of one text are together. Where their kinds differ it is the primary's: a statement that is judged here could
/// mean another thing behind the other one.
fn both(first: (Class, Reason), second: (Class, Reason)) -> (Class, Reason) {
    match (first.0, second.0) {
        (Class::Write, _) => first,
        (_, Class::Write) => second,
        (Class::Read, Class::Read) | (Class::Session, Class::Session) => first,
        (Class::Read, _) => (Class::Write, Reason::new(ReasonKind::Mixed, second.1.to_string())),
        _ => (Class::Write, Reason::new(ReasonKind::Mixed, first.1.to_string())),
    }
}

/// One statement.
struct Judge<'a, 'w> {
    walk: Walk<'a>,
    /// The words that the statement begins with.
    words: &'w dyn Fn() -> String,
}

type Judged = Result<(Class, Reason), Reason>;

impl<'a> Judge<'a, '_> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a statement that is not named here writes, for all that is known"
    )]
    fn statement(&mut self, node: &'a NodeEnum) -> Judged {
        match node {
            NodeEnum::SelectStmt(select) => self.query(select),
            NodeEnum::CopyStmt(copy) => self.copy(copy),
            NodeEnum::ExplainStmt(explain) => self.explained(explain.query.as_deref()),
            NodeEnum::DeclareCursorStmt(declare) => self.cursor(declare),
            NodeEnum::PrepareStmt(prepare) => self.prepared(prepare.query.as_deref()),
            NodeEnum::ExecuteStmt(execute) => {
                self.walk.expressions(&execute.params)?;
                let reason = Reason::new(ReasonKind::Session, format!("EXECUTE {}", execute.name));
                Ok((Class::Execute, reason))
            }
            NodeEnum::TransactionStmt(transaction) => Ok(self.transaction(transaction)),
            NodeEnum::VariableSetStmt(set) => Ok(self.setting(set)),
            NodeEnum::FetchStmt(_) | NodeEnum::ClosePortalStmt(_) | NodeEnum::ConstraintsSetStmt(_) => Ok((
                Class::Within,
                Reason::new(ReasonKind::Transaction, (self.words)()),
            )),
            NodeEnum::VariableShowStmt(_)
            | NodeEnum::DiscardStmt(_)
            | NodeEnum::DeallocateStmt(_)
            | NodeEnum::UnlistenStmt(_) => {
                Ok((Class::Session, Reason::new(ReasonKind::Session, (self.words)())))
            }
            other => Err(self.writes(other)),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all others begin with their own words"
    )]
    fn writes(&self, node: &NodeEnum) -> Reason {
        let words = match node {
            // `WITH` may stand before these.
            NodeEnum::InsertStmt(_) => "INSERT",
            NodeEnum::UpdateStmt(_) => "UPDATE",
            NodeEnum::DeleteStmt(_) => "DELETE",
            NodeEnum::MergeStmt(_) => "MERGE",
            // `SELECT INTO` is one, too, within `EXPLAIN`.
            NodeEnum::CreateTableAsStmt(_) => "CREATE TABLE AS",
            _ => return Reason::new(ReasonKind::Statement, (self.words)()),
        };
        Reason::new(ReasonKind::Statement, words)
    }

    fn query(&mut self, select: &'a SelectStmt) -> Judged {
        self.walk.query(select)?;
        Ok((Class::Read, Reason::new(ReasonKind::ReadsOnly, "")))
    }

    fn inner_query(&mut self, query: Option<&'a Node>) -> Found {
        match query.and_then(|query| query.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => self.walk.query(select),
            Some(other) => Err(self.writes(other)),
            None => Err(Reason::new(ReasonKind::Unknown, "statement")),
        }
    }

    fn copy(&mut self, copy: &'a CopyStmt) -> Judged {
        let words = match (copy.is_from, copy.is_program, copy.filename.as_str()) {
            (true, _, _) => "COPY FROM",
            (false, true, _) => "COPY TO PROGRAM",
            (false, false, "") => "",
            (false, false, _) => "COPY TO a file",
        };
        if !words.is_empty() {
            return Err(Reason::new(ReasonKind::Statement, words));
        }
        match &copy.relation {
            Some(relation) => self.walk.table(relation)?,
            None => self.inner_query(copy.query.as_deref())?,
        }
        Ok((Class::Read, Reason::new(ReasonKind::ReadsOnly, "")))
    }

    /// Of the class of what is explained, whether it is run or not: so its plan is that of the server it would run on.
    fn explained(&mut self, query: Option<&'a Node>) -> Judged {
        match query.and_then(|query| query.node.as_ref()) {
            Some(NodeEnum::ExecuteStmt(execute)) => {
                self.walk.expressions(&execute.params)?;
                let reason = Reason::new(ReasonKind::Session, format!("EXPLAIN EXECUTE {}", execute.name));
                Ok((Class::Execute, reason))
            }
            _ => {
                self.inner_query(query)?;
                Ok((Class::Read, Reason::new(ReasonKind::ReadsOnly, "")))
            }
        }
    }

    fn cursor(&mut self, declare: &'a DeclareCursorStmt) -> Judged {
        if declare.options & CURSOR_WITH_HOLD != 0 {
            return Err(Reason::new(ReasonKind::Statement, "DECLARE CURSOR WITH HOLD"));
        }
        self.inner_query(declare.query.as_deref())?;
        Ok((
            Class::Within,
            Reason::new(ReasonKind::Transaction, "DECLARE CURSOR"),
        ))
    }

    fn prepared(&mut self, query: Option<&'a Node>) -> Judged {
        Ok(match self.inner_query(query) {
            Ok(()) => (
                Class::Prepare(Inner::Reads),
                Reason::new(ReasonKind::Session, "PREPARE of a query"),
            ),
            Err(reason) => (Class::Prepare(Inner::Writes), reason.within("PREPARE")),
        })
    }

    fn transaction(&self, statement: &TransactionStmt) -> (Class, Reason) {
        let class = match TransactionStmtKind::try_from(statement.kind) {
            Ok(TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart) => {
                Class::Begin(access(&statement.options))
            }
            Ok(
                TransactionStmtKind::TransStmtCommit
                | TransactionStmtKind::TransStmtRollback
                | TransactionStmtKind::TransStmtSavepoint
                | TransactionStmtKind::TransStmtRelease
                | TransactionStmtKind::TransStmtRollbackTo,
            ) => Class::Within,
            Ok(
                TransactionStmtKind::TransStmtPrepare
                | TransactionStmtKind::TransStmtCommitPrepared
                | TransactionStmtKind::TransStmtRollbackPrepared
                | TransactionStmtKind::Undefined,
            )
            | Err(_) => return (Class::Write, Reason::new(ReasonKind::Statement, (self.words)())),
        };
        (class, Reason::new(ReasonKind::Transaction, (self.words)()))
    }

    fn setting(&self, set: &VariableSetStmt) -> (Class, Reason) {
        let is_multiple = set.kind == VariableSetKind::VarSetMulti as i32;
        let class = match set.name.as_str() {
            "TRANSACTION" if is_multiple => Class::Modes(access(&set.args)),
            "SESSION CHARACTERISTICS" if is_multiple => Class::Session,
            // A snapshot is one server's.
            _ if is_multiple => Class::Write,
            // Modes of the transaction in the clothes of settings; what they are set to is not looked at.
            name if starts_with_ignoring_case(name, "transaction_") => Class::Write,
            _ if set.is_local => Class::Within,
            _ => Class::Session,
        };
        let kind = if class == Class::Session {
            ReasonKind::Session
        } else if class == Class::Write {
            ReasonKind::Statement
        } else {
            ReasonKind::Transaction
        };
        (class, Reason::new(kind, (self.words)()))
    }
}

/// What the modes of a transaction make it. `SERIALIZABLE` does not exist on a standby, even `READ ONLY`.
fn access(options: &[Node]) -> Access {
    let mut access = Access::Unstated;
    for option in options {
        let Some(NodeEnum::DefElem(option)) = &option.node else {
            return Access::Primary;
        };
        let constant = match option.arg.as_ref().and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::AConst(constant)) => constant.val.as_ref(),
            _ => None,
        };
        match (option.defname.as_str(), constant) {
            ("transaction_isolation", Some(Val::Sval(level))) if level.sval != "serializable" => {}
            ("transaction_read_only", Some(Val::Ival(value))) if value.ival == 1 => access = Access::ReadOnly,
            ("transaction_deferrable", _) => {}
            _ => return Access::Primary,
        }
    }
    access
}

/// The first words of a statement, in capitals: enough to tell its kind.
fn leading_words(text: &str, start: usize) -> String {
    let text = text.get(start..).unwrap_or_default();
    let tokens = Lexer::new(text.as_bytes(), Strings::Conforming);
    let words = tokens.take_while(|token| token.kind == Kind::Word);
    let words = words.filter_map(|token| text.get(token.range()));
    let is_filler = |word: &&str| {
        ["OR", "REPLACE"]
            .iter()
            .any(|filler| word.eq_ignore_ascii_case(filler))
    };
    let mut words = words.filter(|word| !is_filler(word)).map(str::to_ascii_uppercase);
    let mut leading = words.next().unwrap_or_default();
    let has_second = PAIRED.contains(&leading.as_str());
    if has_second && let Some(second) = words.next() {
        leading.push(' ');
        leading.push_str(&second);
    }
    leading
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// `CURSOR_OPT_HOLD` of `nodes/parsenodes.h`.
const CURSOR_WITH_HOLD: i32 = 0x20;

/// Words that say little without the next.
const PAIRED: [&str; 14] = [
    "ALTER", "CREATE", "COMMIT", "DISCARD", "DROP", "IMPORT", "LOCK", "PREPARE", "REASSIGN", "REFRESH",
    "RELEASE", "ROLLBACK", "SECURITY", "SET",
];

//! A tree walked for anything that does more than read. What is not known to read ends the walk.

mod expression;
mod json;
mod names;
mod select;

use std::collections::BTreeSet;

use pg_query::Node;
use pg_query::protobuf::{RangeVar, SelectStmt};

use super::Circumstances;
use super::verdict::{Literals, Reason, ReasonKind};

/// One statement's walk.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    circumstances: &'a Circumstances<'a>,
    whose: Whose,
    /// Names of `WITH` that hold where the walk is.
    common: Vec<&'a str>,
    relations: BTreeSet<Box<str>>,
    literals: Literals,
    #[cfg(test)]
    steps: Steps,
}

/// For which servers it is asked what a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// For any: all must answer alike.
    Any,
    /// For the one that its transaction is on: what that says of itself, and of what it has, is the answer.
    Own,
}

/// `Err` is the first thing that does more than read.
pub(super) type Found = Result<(), Reason>;

/// What was come by, so that tests can tell that nothing was passed over.
#[cfg(test)]
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) functions: usize,
    pub(super) relations: usize,
    pub(super) selects: usize,
    pub(super) casts: usize,
    pub(super) operators: usize,
    pub(super) columns: usize,
}

#[cfg(test)]
impl Steps {
    pub(super) const fn add(&mut self, other: &Self) {
        self.functions += other.functions;
        self.relations += other.relations;
        self.selects += other.selects;
        self.casts += other.casts;
        self.operators += other.operators;
        self.columns += other.columns;
    }
}

/// What a walk leaves.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) relations: BTreeSet<Box<str>>,
    pub(super) literals: Literals,
}

impl<'a> Walk<'a> {
    pub(super) const fn new(circumstances: &'a Circumstances<'a>, whose: Whose) -> Self {
        Self {
            circumstances,
            whose,
            common: Vec::new(),
            relations: BTreeSet::new(),
            literals: Literals::Free,
            #[cfg(test)]
            steps: Steps {
                functions: 0,
                relations: 0,
                selects: 0,
                casts: 0,
                operators: 0,
                columns: 0,
            },
        }
    }

    /// A query, whatever it is nested in.
    pub(super) fn query(&mut self, query: &'a SelectStmt) -> Found {
        self.implied()?;
        self.select(query)
    }

    /// A table that is read whole.
    pub(super) fn table(&mut self, table: &'a RangeVar) -> Found {
        self.implied()?;
        self.relation(table)
    }

    /// Expressions alone, such as the arguments of `EXECUTE`.
    pub(super) fn expressions(&mut self, expressions: &'a [Node]) -> Found {
        self.implied()?;
        self.all(expressions)
    }

    pub(super) fn into_findings(self) -> Findings {
        Findings {
            relations: self.relations,
            literals: self.literals,
        }
    }

    #[cfg(test)]
    pub(super) const fn steps(&self) -> &Steps {
        &self.steps
    }

    /// What any query may do without saying so: comparing values, as `GROUP BY`, `USING` and `CASE` do, and casts.
    fn implied(&mut self) -> Found {
        if let Some(reason) = self.circumstances.catalog.implicit_cast() {
            return Err(reason.clone());
        }
        for name in ["=", "<>", "<", ">", "<=", ">="] {
            self.operator_named(None, name)?;
        }
        Ok(())
    }
}

fn unknown(what: &str) -> Reason {
    Reason::new(ReasonKind::Unknown, what)
}

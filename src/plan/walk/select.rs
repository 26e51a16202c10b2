//! Queries and what they read from.

use pg_query::protobuf::{
    CommonTableExpr, JoinExpr, RangeFunction, RangeTableFunc, RangeTableFuncCol, RangeTableSample,
    SelectStmt, WindowDef, WithClause,
};
use pg_query::{Node, NodeEnum};

use super::{Found, Walk, unknown};
use crate::plan::verdict::{Reason, ReasonKind};

impl<'a> Walk<'a> {
    pub(super) fn select(&mut self, select: &'a SelectStmt) -> Found {
        let outer = self.common.len();
        let found = self.select_in_scope(select);
        self.common.truncate(outer);
        found
    }

    fn select_in_scope(&mut self, select: &'a SelectStmt) -> Found {
        #[cfg(test)]
        {
            self.steps.selects += 1;
        }
        if select.into_clause.is_some() {
            return Err(Reason::new(ReasonKind::Statement, "SELECT INTO"));
        }
        if !select.locking_clause.is_empty() {
            return Err(Reason::new(ReasonKind::LockingClause, ""));
        }
        if let Some(with) = &select.with_clause {
            self.with(with)?;
        }
        for arm in [&select.larg, &select.rarg].into_iter().flatten() {
            self.select(arm)?;
        }
        let lists = [
            &select.distinct_clause,
            &select.from_clause,
            &select.target_list,
            &select.group_clause,
            &select.window_clause,
            &select.values_lists,
            &select.sort_clause,
        ];
        for list in lists {
            self.all(list)?;
        }
        let parts = [
            &select.where_clause,
            &select.having_clause,
            &select.limit_offset,
            &select.limit_count,
        ];
        self.parts(parts)
    }

    /// Names of a recursive list hold in all of it; else each holds for those behind it.
    fn with(&mut self, with: &'a WithClause) -> Found {
        let mut all = Vec::with_capacity(with.ctes.len());
        for node in &with.ctes {
            match node.node.as_ref() {
                Some(NodeEnum::CommonTableExpr(common)) => all.push(&**common),
                _ => return Err(unknown("part of WITH")),
            }
        }
        if with.recursive {
            self.common
                .extend(all.iter().map(|common| common.ctename.as_str()));
        }
        for common in all {
            self.common_table(common)?;
            if !with.recursive {
                self.common.push(&common.ctename);
            }
        }
        Ok(())
    }

    fn common_table(&mut self, common: &'a CommonTableExpr) -> Found {
        if let Some(cycle) = &common.cycle_clause {
            self.parts([&cycle.cycle_mark_value, &cycle.cycle_mark_default])?;
        }
        let query = common.ctequery.as_ref().and_then(|query| query.node.as_ref());
        let words = match query {
            Some(NodeEnum::SelectStmt(select)) => return self.select(select),
            Some(NodeEnum::InsertStmt(_)) => "INSERT in WITH",
            Some(NodeEnum::UpdateStmt(_)) => "UPDATE in WITH",
            Some(NodeEnum::DeleteStmt(_)) => "DELETE in WITH",
            Some(NodeEnum::MergeStmt(_)) => "MERGE in WITH",
            _ => return Err(unknown("statement in WITH")),
        };
        Err(Reason::new(ReasonKind::Statement, words))
    }

    pub(super) fn subquery(&mut self, query: Option<&'a Node>) -> Found {
        match query.and_then(|query| query.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => self.select(select),
            _ => Err(unknown("sub-query")),
        }
    }

    pub(super) fn join(&mut self, join: &'a JoinExpr) -> Found {
        self.parts([&join.larg, &join.rarg, &join.quals])
    }

    pub(super) fn range_function(&mut self, range: &'a RangeFunction) -> Found {
        // Each function has a list of its own, with its columns' definitions.
        self.all(&range.functions)?;
        self.all(&range.coldeflist)
    }

    pub(super) fn table_function(&mut self, table: &'a RangeTableFunc) -> Found {
        self.all(&table.namespaces)?;
        self.all(&table.columns)?;
        self.parts([&table.docexpr, &table.rowexpr])
    }

    pub(super) fn table_function_column(&mut self, column: &'a RangeTableFuncCol) -> Found {
        if let Some(type_name) = &column.type_name {
            self.type_name(type_name)?;
        }
        self.parts([&column.colexpr, &column.coldefexpr])
    }

    pub(super) fn sample(&mut self, sample: &'a RangeTableSample) -> Found {
        let method = super::names::qualified(&sample.method);
        if !matches!(method, Some((None | Some("pg_catalog"), "bernoulli" | "system"))) {
            return Err(unknown("sampling method"));
        }
        self.all(&sample.args)?;
        self.parts([&sample.relation, &sample.repeatable])
    }

    pub(super) fn window(&mut self, window: &'a WindowDef) -> Found {
        self.all(&window.partition_clause)?;
        self.all(&window.order_clause)?;
        self.parts([&window.start_offset, &window.end_offset])
    }
}

//! Expressions: what they call, and what is inside of them.

use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::{AExpr, AExprKind, ColumnDef, FuncCall, SubLink, TypeCast};
use pg_query::{Node, NodeEnum};

use super::names::text_of;
use super::{Found, Walk, unknown};

impl<'a> Walk<'a> {
    pub(super) fn all(&mut self, nodes: &'a [Node]) -> Found {
        nodes.iter().try_for_each(|node| self.node(node))
    }

    pub(super) fn parts<const COUNT: usize>(&mut self, parts: [&'a Option<Box<Node>>; COUNT]) -> Found {
        parts.into_iter().flatten().try_for_each(|node| self.node(node))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of two hundred kinds of nodes those are here that a query that only reads may have"
    )]
    pub(super) fn node(&mut self, node: &'a Node) -> Found {
        let Some(node) = &node.node else {
            // A place in a list that is empty, as the bounds of `[:]`.
            return Ok(());
        };
        match node {
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::AStar(_)
            | NodeEnum::SqlvalueFunction(_) => Ok(()),
            NodeEnum::Integer(_) | NodeEnum::Float(_) | NodeEnum::String(_) | NodeEnum::SetToDefault(_) => {
                Ok(())
            }
            NodeEnum::ColumnRef(column) => self.column(&column.fields),
            NodeEnum::ResTarget(target) => {
                self.indirection(&target.indirection)?;
                self.parts([&target.val])
            }
            NodeEnum::AExpr(expression) => self.operation(expression),
            NodeEnum::BoolExpr(expression) => self.all(&expression.args),
            NodeEnum::FuncCall(call) => self.call(call),
            NodeEnum::TypeCast(cast) => self.cast(cast),
            NodeEnum::SubLink(link) => self.sub_link(link),
            NodeEnum::SelectStmt(select) => self.select(select),
            NodeEnum::RangeVar(relation) => self.relation(relation),
            NodeEnum::JoinExpr(join) => self.join(join),
            NodeEnum::RangeSubselect(range) => self.subquery(range.subquery.as_deref()),
            NodeEnum::RangeFunction(range) => self.range_function(range),
            NodeEnum::RangeTableFunc(table) => self.table_function(table),
            NodeEnum::RangeTableFuncCol(column) => self.table_function_column(column),
            NodeEnum::RangeTableSample(sample) => self.sample(sample),
            NodeEnum::ColumnDef(column) => self.column_definition(column),
            NodeEnum::List(list) => self.all(&list.items),
            NodeEnum::NullTest(test) => self.parts([&test.arg]),
            NodeEnum::BooleanTest(test) => self.parts([&test.arg]),
            NodeEnum::CaseExpr(case) => {
                self.all(&case.args)?;
                self.parts([&case.arg, &case.defresult])
            }
            NodeEnum::CaseWhen(when) => self.parts([&when.expr, &when.result]),
            NodeEnum::CoalesceExpr(coalesce) => self.all(&coalesce.args),
            NodeEnum::MinMaxExpr(choice) => self.all(&choice.args),
            NodeEnum::AIndirection(indirection) => {
                self.indirection(&indirection.indirection)?;
                self.parts([&indirection.arg])
            }
            NodeEnum::AIndices(indices) => self.parts([&indices.lidx, &indices.uidx]),
            NodeEnum::AArrayExpr(array) => self.all(&array.elements),
            NodeEnum::RowExpr(row) => self.all(&row.args),
            NodeEnum::CollateClause(collate) => self.parts([&collate.arg]),
            NodeEnum::GroupingSet(set) => self.all(&set.content),
            NodeEnum::GroupingFunc(grouping) => self.all(&grouping.args),
            NodeEnum::NamedArgExpr(argument) => self.parts([&argument.arg]),
            NodeEnum::WindowDef(window) => self.window(window),
            NodeEnum::SortBy(sort) => {
                if !sort.use_op.is_empty() {
                    self.operator(&sort.use_op)?;
                }
                self.parts([&sort.node])
            }
            NodeEnum::XmlExpr(xml) => {
                self.all(&xml.named_args)?;
                self.all(&xml.args)
            }
            NodeEnum::XmlSerialize(xml) => {
                xml.type_name.iter().try_for_each(|name| self.type_name(name))?;
                self.parts([&xml.expr])
            }
            other => self.json(other),
        }
    }

    fn call(&mut self, call: &'a FuncCall) -> Found {
        let argument = call.args.first().and_then(literal);
        self.function(&call.funcname, argument)?;
        self.all(&call.args)?;
        self.all(&call.agg_order)?;
        self.parts([&call.agg_filter])?;
        match &call.over {
            Some(window) => self.window(window),
            None => Ok(()),
        }
    }

    /// The operators of some kinds are not those that their names are.
    fn operation(&mut self, expression: &'a AExpr) -> Found {
        #[cfg(test)]
        {
            self.steps.operators += 1;
        }
        match AExprKind::try_from(expression.kind) {
            Ok(
                AExprKind::AexprBetween
                | AExprKind::AexprNotBetween
                | AExprKind::AexprBetweenSym
                | AExprKind::AexprNotBetweenSym,
            ) => {
                for name in ["<", ">", "<=", ">="] {
                    self.operator_named(None, name)?;
                }
            }
            Ok(AExprKind::Undefined) | Err(_) => return Err(unknown("expression")),
            Ok(_) => self.operator(&expression.name)?,
        }
        self.parts([&expression.lexpr, &expression.rexpr])
    }

    fn cast(&mut self, cast: &'a TypeCast) -> Found {
        #[cfg(test)]
        {
            self.steps.casts += 1;
        }
        let type_name = cast.type_name.as_ref().ok_or_else(|| unknown("type"))?;
        self.type_name(type_name)?;
        self.parts([&cast.arg])
    }

    fn sub_link(&mut self, link: &'a SubLink) -> Found {
        if !link.oper_name.is_empty() {
            self.operator(&link.oper_name)?;
        }
        self.parts([&link.testexpr])?;
        self.subquery(link.subselect.as_deref())
    }

    fn column(&mut self, fields: &'a [Node]) -> Found {
        #[cfg(test)]
        {
            self.steps.columns += 1;
        }
        match fields {
            // Alone it is a column, or a whole row.
            [] | [_] => Ok(()),
            [.., last] => text_of(last).map_or(Ok(()), |name| self.attribute(name)),
        }
    }

    fn indirection(&mut self, steps: &'a [Node]) -> Found {
        for step in steps {
            match text_of(step) {
                Some(name) => self.attribute(name)?,
                None => self.node(step)?,
            }
        }
        Ok(())
    }

    /// A column of a function's result: a name and a type. Anything else stands in tables' definitions alone.
    fn column_definition(&mut self, column: &'a ColumnDef) -> Found {
        self.all(&column.constraints)?;
        self.parts([&column.raw_default, &column.cooked_default])?;
        let type_name = column.type_name.as_ref();
        type_name.map_or(Ok(()), |type_name| self.type_name(type_name))
    }
}

/// A literal in quotes, casts around it taken off.
fn literal(node: &Node) -> Option<&str> {
    let node = node.node.as_ref()?;
    if let NodeEnum::TypeCast(cast) = node {
        return literal(cast.arg.as_deref()?);
    }
    let NodeEnum::AConst(constant) = node else {
        return None;
    };
    match constant.val.as_ref()? {
        Val::Sval(text) => Some(&text.sval),
        Val::Ival(_) | Val::Fval(_) | Val::Boolval(_) | Val::Bsval(_) => None,
    }
}

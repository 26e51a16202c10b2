//! SQL/JSON: constructors, queries and `JSON_TABLE`.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    JsonAggConstructor, JsonBehavior, JsonFuncExpr, JsonKeyValue, JsonOutput, JsonTable, JsonTableColumn,
    JsonTablePathSpec, JsonValueExpr,
};

use super::{Found, Walk, unknown};

impl<'a> Walk<'a> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what neither this nor `node` knows may do anything"
    )]
    pub(super) fn json(&mut self, node: &'a NodeEnum) -> Found {
        match node {
            NodeEnum::JsonValueExpr(value) => self.json_value(Some(value)),
            NodeEnum::JsonKeyValue(pair) => self.json_pair(Some(pair)),
            NodeEnum::JsonArgument(argument) => self.json_value(argument.val.as_deref()),
            NodeEnum::JsonBehavior(behavior) => self.json_behavior(Some(behavior)),
            NodeEnum::JsonObjectConstructor(object) => {
                self.json_output(object.output.as_ref())?;
                self.all(&object.exprs)
            }
            NodeEnum::JsonArrayConstructor(array) => {
                self.json_output(array.output.as_ref())?;
                self.all(&array.exprs)
            }
            NodeEnum::JsonArrayQueryConstructor(array) => {
                self.json_output(array.output.as_ref())?;
                self.subquery(array.query.as_deref())
            }
            NodeEnum::JsonObjectAgg(aggregate) => {
                self.json_aggregate(aggregate.constructor.as_deref())?;
                self.json_pair(aggregate.arg.as_deref())
            }
            NodeEnum::JsonArrayAgg(aggregate) => {
                self.json_aggregate(aggregate.constructor.as_deref())?;
                self.json_value(aggregate.arg.as_deref())
            }
            NodeEnum::JsonParseExpr(parse) => {
                self.json_output(parse.output.as_ref())?;
                self.json_value(parse.expr.as_deref())
            }
            NodeEnum::JsonScalarExpr(scalar) => {
                self.json_output(scalar.output.as_ref())?;
                self.parts([&scalar.expr])
            }
            NodeEnum::JsonSerializeExpr(serialize) => {
                self.json_output(serialize.output.as_ref())?;
                self.json_value(serialize.expr.as_deref())
            }
            NodeEnum::JsonIsPredicate(predicate) => self.parts([&predicate.expr]),
            NodeEnum::JsonFuncExpr(function) => self.json_function(function),
            NodeEnum::JsonTable(table) => self.json_table(table),
            NodeEnum::JsonTableColumn(column) => self.json_column(column),
            _ => Err(unknown("part of a query")),
        }
    }

    fn json_value(&mut self, value: Option<&'a JsonValueExpr>) -> Found {
        value.map_or(Ok(()), |value| {
            self.parts([&value.raw_expr, &value.formatted_expr])
        })
    }

    fn json_pair(&mut self, pair: Option<&'a JsonKeyValue>) -> Found {
        let Some(pair) = pair else { return Ok(()) };
        self.parts([&pair.key])?;
        self.json_value(pair.value.as_deref())
    }

    fn json_behavior(&mut self, behavior: Option<&'a JsonBehavior>) -> Found {
        behavior.map_or(Ok(()), |behavior| self.parts([&behavior.expr]))
    }

    fn json_output(&mut self, output: Option<&'a JsonOutput>) -> Found {
        let type_name = output.and_then(|output| output.type_name.as_ref());
        type_name.map_or(Ok(()), |type_name| self.type_name(type_name))
    }

    fn json_path(&mut self, path: Option<&'a JsonTablePathSpec>) -> Found {
        path.map_or(Ok(()), |path| self.parts([&path.string]))
    }

    fn json_aggregate(&mut self, aggregate: Option<&'a JsonAggConstructor>) -> Found {
        let Some(aggregate) = aggregate else { return Ok(()) };
        self.json_output(aggregate.output.as_ref())?;
        self.all(&aggregate.agg_order)?;
        self.parts([&aggregate.agg_filter])?;
        match &aggregate.over {
            Some(window) => self.window(window),
            None => Ok(()),
        }
    }

    fn json_function(&mut self, function: &'a JsonFuncExpr) -> Found {
        self.json_value(function.context_item.as_deref())?;
        self.parts([&function.pathspec])?;
        self.all(&function.passing)?;
        self.json_output(function.output.as_ref())?;
        self.json_behavior(function.on_empty.as_deref())?;
        self.json_behavior(function.on_error.as_deref())
    }

    fn json_table(&mut self, table: &'a JsonTable) -> Found {
        self.json_value(table.context_item.as_deref())?;
        self.json_path(table.pathspec.as_deref())?;
        self.all(&table.passing)?;
        self.all(&table.columns)?;
        self.json_behavior(table.on_error.as_deref())
    }

    fn json_column(&mut self, column: &'a JsonTableColumn) -> Found {
        if let Some(type_name) = &column.type_name {
            self.type_name(type_name)?;
        }
        self.json_path(column.pathspec.as_deref())?;
        self.all(&column.columns)?;
        self.json_behavior(column.on_empty.as_deref())?;
        self.json_behavior(column.on_error.as_deref())
    }
}

//! Names in a tree, and what those things do that have them.

use pg_query::protobuf::{RangeVar, TypeName};
use pg_query::{Node, NodeEnum};

use super::{Found, Walk, Whose, unknown};
use crate::plan::builtin::{self, Call};
use crate::plan::catalog::{Judgement, Relation};
use crate::plan::patterns::Ruling;
use crate::plan::verdict::{Literals, Reason, ReasonKind};

/// A name and its schema, where that is written.
pub(super) type Qualified<'a> = (Option<&'a str>, &'a str);

/// The last two of the names that dots part. Three are a database, which can only be this one.
pub(super) fn qualified(names: &[Node]) -> Option<Qualified<'_>> {
    let mut names = names.iter().rev().map(text_of);
    let name = names.next()??;
    let schema = match names.next() {
        Some(schema) => Some(schema?),
        None => None,
    };
    Some((schema, name))
}

/// A node that is a word.
pub(super) fn text_of(node: &Node) -> Option<&str> {
    if let NodeEnum::String(word) = node.node.as_ref()? {
        Some(&word.sval)
    } else {
        None
    }
}

impl<'a> Walk<'a> {
    /// `argument` is the first one, where it is a literal.
    pub(super) fn function(&mut self, names: &'a [Node], argument: Option<&str>) -> Found {
        #[cfg(test)]
        {
            self.steps.functions += 1;
        }
        let (schema, name) = qualified(names).ok_or_else(|| unknown("name of a function"))?;
        let all = self.circumstances;
        let mut known = 0_usize;
        for (found_in, function) in all.catalog.functions(schema, name, all.search_path) {
            known += 1;
            let signature = || format!("{found_in}.{name}({})", function.arguments);
            match all.functions.ruling(found_in, name) {
                Some(Ruling::Writes) => return Err(Reason::new(ReasonKind::WriteFunction, signature())),
                Some(Ruling::Reads) => {}
                // The server refuses by itself what it may not do.
                None if self.whose == Whose::Own && function.judgement == Judgement::Restrained => {}
                None => judged(function.judgement.reason("function", &signature()))?,
            }
        }
        if schema.is_none_or(|schema| schema == SYSTEM)
            && let Some(call) = builtin::function(name)
        {
            known += 1;
            self.builtin(name, call, argument)?;
        }
        if known > 0 {
            return Ok(());
        }
        // The catalog may be behind, and the operator know better.
        let rulings = all.functions.rulings(schema, name, all.search_path);
        match rulings {
            Some(Ruling::Reads) => Ok(()),
            Some(Ruling::Writes) => Err(Reason::new(ReasonKind::WriteFunction, written(schema, name))),
            None => Err(Reason::new(ReasonKind::UnknownFunction, written(schema, name))),
        }
    }

    fn builtin(&mut self, name: &str, call: Call, argument: Option<&str>) -> Found {
        match self.circumstances.functions.ruling(SYSTEM, name) {
            Some(Ruling::Writes) => return Err(Reason::new(ReasonKind::WriteFunction, name)),
            Some(Ruling::Reads) => return Ok(()),
            None => {}
        }
        match call {
            Call::Reads => Ok(()),
            Call::Acts(ReasonKind::ServerFunction) if self.whose == Whose::Own => Ok(()),
            Call::Acts(kind) => Err(Reason::new(kind, name)),
            Call::MakesValues => match self.circumstances.catalog.acting_type() {
                Some(reason) => Err(reason.within(name)),
                None => Ok(()),
            },
            Call::ReadsSetting => {
                self.literals = Literals::Fixed;
                let is_own = argument.is_some_and(builtin::is_sessions_own);
                let subject = || format!("{name}({})", argument.unwrap_or("…"));
                if is_own || self.whose == Whose::Own {
                    Ok(())
                } else {
                    Err(Reason::new(ReasonKind::ServerFunction, subject()))
                }
            }
        }
    }

    /// `row.name` may be a function that is written like a column.
    pub(super) fn attribute(&self, name: &str) -> Found {
        match self.circumstances.catalog.row_function(name) {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }

    pub(super) fn operator(&self, names: &'a [Node]) -> Found {
        let (schema, name) = qualified(names).ok_or_else(|| unknown("name of an operator"))?;
        self.operator_named(schema, name)
    }

    pub(super) fn operator_named(&self, schema: Option<&str>, name: &str) -> Found {
        let all = self.circumstances;
        let found = all.catalog.operators(schema, name, all.search_path);
        let is_builtin = schema.is_none_or(|schema| schema == SYSTEM) && builtin::has_operator(name);
        judge("operator", schema, name, found, is_builtin)
    }

    pub(super) fn type_name(&mut self, type_name: &'a TypeName) -> Found {
        let (schema, name) = qualified(&type_name.names).ok_or_else(|| unknown("name of a type"))?;
        let all = self.circumstances;
        let found = all.catalog.types(schema, name, all.search_path);
        let is_builtin = schema.is_none_or(|schema| schema == SYSTEM) && builtin::has_type(name);
        judge("type", schema, name, found, is_builtin)?;
        self.all(&type_name.typmods)
    }

    pub(super) fn relation(&mut self, relation: &'a RangeVar) -> Found {
        #[cfg(test)]
        {
            self.steps.relations += 1;
        }
        let schema = Some(relation.schemaname.as_str()).filter(|schema| !schema.is_empty());
        let name = relation.relname.as_str();
        if schema.is_none() && self.common.contains(&name) {
            return Ok(());
        }
        let is = |kind| Err(Reason::new(kind, written(schema, name)));
        match schema {
            Some(schema) if schema.starts_with("pg_temp") => return is(ReasonKind::TemporaryTable),
            Some(schema) if schema.starts_with("pg_") || schema == "information_schema" => {
                return self.of_server(is(ReasonKind::SystemCatalog));
            }
            // PostgreSQL looks into pg_catalog first, where all names begin so.
            None if name.starts_with("pg_") => return self.of_server(is(ReasonKind::SystemCatalog)),
            Some(_) | None => {}
        }
        let all = self.circumstances;
        let mut known = 0_usize;
        for (found_in, found) in all.catalog.relations(schema, name, all.search_path) {
            known += 1;
            let full = format!("{found_in}.{name}");
            let kind = match found {
                Relation::Logged | Relation::View => {
                    self.relations.insert(full.into());
                    continue;
                }
                Relation::Unlogged => ReasonKind::UnloggedTable,
                Relation::Temporary => ReasonKind::TemporaryTable,
                Relation::Sequence => ReasonKind::Sequence,
                Relation::Foreign => ReasonKind::ForeignTable,
                Relation::Acts(reason) => return Err(reason.within(full)),
            };
            return Err(Reason::new(kind, full));
        }
        if known > 0 {
            Ok(())
        } else {
            self.of_server(is(ReasonKind::UnknownRelation))
        }
    }
}

impl Walk<'_> {
    /// What is no read only since servers may differ in it.
    fn of_server(&self, found: Found) -> Found {
        match self.whose {
            Whose::Any => found,
            Whose::Own => Ok(()),
        }
    }
}

fn judge<'a>(
    what: &str,
    schema: Option<&str>,
    name: &str,
    found: impl Iterator<Item = (&'a str, &'a Judgement)>,
    is_builtin: bool,
) -> Found {
    let mut is_known = is_builtin;
    for (found_in, judgement) in found {
        is_known = true;
        if let Some(reason) = judgement.reason(what, &format!("{found_in}.{name}")) {
            return Err(reason);
        }
    }
    if is_known {
        Ok(())
    } else {
        Err(unknown(&format!("{what} {}", written(schema, name))))
    }
}

fn judged(reason: Option<Reason>) -> Found {
    reason.map_or(Ok(()), Err)
}

fn written(schema: Option<&str>, name: &str) -> String {
    match schema {
        Some(schema) => format!("{schema}.{name}"),
        None => name.to_owned(),
    }
}

/// The schema of PostgreSQL's own things.
const SYSTEM: &str = "pg_catalog";

//! What a database has, as far as a plan depends on it. It is read elsewhere and handed in; what it lacks goes to the primary.

use std::collections::{BTreeSet, HashMap};

use super::patterns::{Patterns, Ruling};
use super::verdict::{Reason, ReasonKind};

/// The users' own objects of one database. PostgreSQL's own are known without it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    functions: Named<Function>,
    relations: Named<Relation>,
    types: Named<Judgement>,
    operators: Named<Judgement>,
    /// By the name of a function that can be written like a column, `row.name`.
    row_functions: HashMap<Box<str>, Reason>,
    implicit_casts: Option<Reason>,
}

/// One function, aggregate or procedure: one of those that share a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// As `pg_get_function_identity_arguments` has them; for reasons alone.
    pub arguments: Box<str>,
    pub judgement: Judgement,
}

/// What using something does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Reads,
    /// A function that its database calls volatile, or a stable one that is unsafe for parallel work.
    Volatile,
    /// The same of one that does nothing by its body which a standby does without a word, for itself alone.
    Restrained,
    /// More than reading, by what is inside.
    Acts(Reason),
}

/// A table or view, and what reading it does, its policies, inheritors and definition included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// A table or materialized view whose pages are on replicas too.
    Logged,
    /// A view that only reads.
    View,
    Unlogged,
    Temporary,
    Sequence,
    Foreign,
    /// More than reading, by what is inside.
    Acts(Reason),
}

impl Catalog {
    /// Adds a function.
    pub fn add_function(&mut self, schema: &str, name: &str, function: Function) {
        self.functions.add(schema, name, function);
    }

    /// Adds a table or view, or puts another in its place.
    pub fn add_relation(&mut self, schema: &str, name: &str, relation: Relation) {
        self.relations.put(schema, name, relation);
    }

    /// Adds a type, those of tables' rows included. A domain acts as its checks do, a composite type as its columns' types.
    pub fn add_type(&mut self, schema: &str, name: &str, judgement: Judgement) {
        self.types.put(schema, name, judgement);
    }

    /// Takes a type away, until more is known of it.
    pub fn remove_type(&mut self, schema: &str, name: &str) {
        self.types.remove(schema, name);
    }

    /// Adds an operator, which acts as its function does.
    pub fn add_operator(&mut self, schema: &str, name: &str, judgement: Judgement) {
        self.operators.add(schema, name, judgement);
    }

    /// Adds a function with one argument, a row, that does more than read: `row.name` calls it.
    pub fn add_row_function(&mut self, name: &str, reason: Reason) {
        self.row_functions.insert(name.into(), reason);
    }

    /// There is a cast that nobody writes, whose function does more than read: no statement is free of it.
    pub fn add_implicit_cast(&mut self, reason: Reason) {
        self.implicit_casts.get_or_insert(reason);
    }

    /// All schemas that have something.
    #[must_use]
    pub fn schemas(&self) -> Vec<Box<str>> {
        let all: BTreeSet<&str> = self
            .functions
            .schemas()
            .chain(self.relations.schemas())
            .chain(self.types.schemas())
            .chain(self.operators.schemas())
            .collect();
        all.into_iter().map(Box::from).collect()
    }

    /// All of that name within reach: in `schema`, or anywhere on `path`.
    pub(super) fn functions<'a>(
        &'a self,
        schema: Option<&'a str>,
        name: &str,
        path: &'a [Box<str>],
    ) -> impl Iterator<Item = (&'a str, &'a Function)> {
        self.functions.within_reach(schema, name, path)
    }

    pub(super) fn types<'a>(
        &'a self,
        schema: Option<&'a str>,
        name: &str,
        path: &'a [Box<str>],
    ) -> impl Iterator<Item = (&'a str, &'a Judgement)> {
        self.types.within_reach(schema, name, path)
    }

    pub(super) fn operators<'a>(
        &'a self,
        schema: Option<&'a str>,
        name: &str,
        path: &'a [Box<str>],
    ) -> impl Iterator<Item = (&'a str, &'a Judgement)> {
        self.operators.within_reach(schema, name, path)
    }

    /// Those that may be meant: in `schema`, or anywhere on `path`, since a schema whose use is not granted is passed over.
    pub(super) fn relations<'a>(
        &'a self,
        schema: Option<&'a str>,
        name: &str,
        path: &'a [Box<str>],
    ) -> impl Iterator<Item = (&'a str, &'a Relation)> {
        self.relations.within_reach(schema, name, path)
    }

    /// Some type whose values do more than come into being.
    pub(super) fn acting_type(&self) -> Option<Reason> {
        let all = self.types.by_name.iter();
        let mut named = all.flat_map(|(name, all)| all.iter().map(move |(_, judgement)| (name, judgement)));
        named.find_map(|(name, judgement)| judgement.reason("type", name))
    }

    pub(super) fn has_acting_operator(&self) -> bool {
        let mut all = self.operators.by_name.values().flatten();
        all.any(|(_, judgement)| *judgement != Judgement::Reads)
    }

    /// Names in bodies that may stand for something that does more than read, but for functions that are judged elsewhere.
    pub(super) fn harmful_names<'a>(
        &'a self,
        patterns: &'a Patterns,
        is_judged: impl Fn(&str, &str, &str) -> bool + 'a,
    ) -> impl Iterator<Item = &'a str> {
        let is_harmful = move |name: &str, schema: &str, function: &Function| match (
            patterns.ruling(schema, name),
            &function.judgement,
        ) {
            (Some(Ruling::Writes), _) => true,
            (Some(Ruling::Reads), _) | (None, Judgement::Reads) => false,
            (None, _) => !is_judged(schema, name, &function.arguments),
        };
        let functions = self.functions.by_name.iter().filter(move |(name, all)| {
            all.iter()
                .any(|(schema, function)| is_harmful(name, schema, function))
        });
        let relations = self.relations.by_name.iter().filter(|(_, all)| {
            all.iter()
                .any(|(_, relation)| !matches!(relation, Relation::Logged | Relation::View))
        });
        functions
            .map(|(name, _)| &**name)
            .chain(relations.map(|(name, _)| &**name))
    }

    /// All of that name in a schema.
    pub(super) fn functions_named(
        &mut self,
        schema: &str,
        name: &str,
    ) -> impl Iterator<Item = &mut Function> {
        let all = self.functions.by_name.get_mut(name).into_iter().flatten();
        all.filter(move |(found, _)| **found == *schema)
            .map(|(_, function)| function)
    }

    pub(super) fn row_function(&self, name: &str) -> Option<&Reason> {
        self.row_functions.get(name)
    }

    pub(super) const fn implicit_cast(&self) -> Option<&Reason> {
        self.implicit_casts.as_ref()
    }
}

impl Judgement {
    /// Why something is no read, `what` being its name in words.
    pub(super) fn reason(&self, what: &str, name: &str) -> Option<Reason> {
        match self {
            Self::Reads => None,
            Self::Volatile | Self::Restrained => Some(Reason::new(ReasonKind::VolatileFunction, name)),
            Self::Acts(reason) => Some(reason.within(format_args!("{what} {name}"))),
        }
    }
}

/// Things by name and schema; few share a name.
#[derive(Debug, Clone, PartialEq)]
struct Named<T> {
    by_name: HashMap<Box<str>, Vec<(Box<str>, T)>>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        let by_name = HashMap::new();
        Self { by_name }
    }
}

impl<T> Named<T> {
    fn add(&mut self, schema: &str, name: &str, thing: T) {
        self.by_name
            .entry(name.into())
            .or_default()
            .push((schema.into(), thing));
    }

    fn put(&mut self, schema: &str, name: &str, thing: T) {
        let all = self.by_name.entry(name.into()).or_default();
        all.retain(|(other, _)| **other != *schema);
        all.push((schema.into(), thing));
    }

    fn schemas(&self) -> impl Iterator<Item = &str> {
        self.by_name.values().flatten().map(|(schema, _)| &**schema)
    }

    fn remove(&mut self, schema: &str, name: &str) {
        if let Some(all) = self.by_name.get_mut(name) {
            all.retain(|(other, _)| **other != *schema);
        }
    }

    fn within_reach<'a>(
        &'a self,
        schema: Option<&'a str>,
        name: &str,
        path: &'a [Box<str>],
    ) -> impl Iterator<Item = (&'a str, &'a T)> {
        let all = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        all.iter()
            .filter(move |(found, _)| match schema {
                Some(schema) => **found == *schema,
                None => path.contains(found),
            })
            .map(|(schema, thing)| (&**schema, thing))
    }
}

//! Classes of texts, with a small catalog.

mod classes;
mod deep;

use super::*;

/// What the tests plan with.
struct Fixture {
    catalog: Catalog,
    path: Vec<Box<str>>,
    patterns: Patterns,
}

impl Fixture {
    fn new() -> Self {
        let mut catalog = Catalog::default();
        for (name, relation) in [
            ("t", Relation::Logged),
            ("users", Relation::Logged),
            ("v", Relation::View),
            ("u", Relation::Unlogged),
            ("seq", Relation::Sequence),
            ("f", Relation::Foreign),
        ] {
            catalog.add_relation("public", name, relation);
        }
        let volatile = |name| Reason::new(ReasonKind::VolatileFunction, name);
        catalog.add_relation("public", "vv", Relation::Acts(volatile("app.bump(integer)")));
        catalog.add_relation("app", "u", Relation::Logged);
        let mut function = |schema: &str, name: &str, arguments: &str, judgement| {
            let arguments = arguments.into();
            catalog.add_function(schema, name, Function { arguments, judgement });
        };
        function("app", "bump", "integer", Judgement::Volatile);
        function("app", "peek", "integer", Judgement::Reads);
        function("public", "mixed", "", Judgement::Reads);
        function("public", "mixed", "integer", Judgement::Volatile);
        function("public", "lookup", "text", Judgement::Volatile);
        function("other", "peek", "text", Judgement::Volatile);
        function("public", "lower", "integer", Judgement::Volatile);
        catalog.add_type("public", "mood", Judgement::Reads);
        let check = Reason::new(ReasonKind::VolatileFunction, "app.bump(integer)");
        catalog.add_type("public", "checked", Judgement::Acts(check.clone()));
        catalog.add_operator("public", "<+>", Judgement::Volatile);
        catalog.add_row_function("bump_row", check);
        Self {
            catalog,
            path: vec!["public".into()],
            patterns: Patterns::default(),
        }
    }

    fn circumstances(&self) -> Circumstances<'_> {
        Circumstances {
            catalog: &self.catalog,
            search_path: &self.path,
            functions: &self.patterns,
            spelling: Spelling::Standard,
        }
    }

    fn plan(&self, text: &str) -> Plan {
        plan(text.as_bytes(), &self.circumstances())
    }
}

/// Runs a part of a test on a stack as long as a planner's.
fn on_a_long_stack<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_LEN);
        thread.spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

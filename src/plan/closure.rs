//! Views judged by their definitions, and those by the views in them.

use super::{Catalog, Circumstances, Class, Patterns, ReasonKind, Relation, Spelling, plan};

/// A view and its query, as `pg_get_viewdef` prints it for a session whose `search_path` is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub schema: Box<str>,
    pub name: Box<str>,
    pub query: Box<str>,
}

/// Adds `views` to a catalog that has everything else of the database. What reading one does is what its query does; one that names
/// what nobody knows is not a read either.
///
/// Like [`plan`], it needs [`STACK_LEN`](super::STACK_LEN) bytes of stack. It takes a round for each view that one stands on.
pub fn judge_views(catalog: &mut Catalog, views: Vec<View>, functions: &Patterns) {
    let mut waiting = views;
    loop {
        let before = waiting.len();
        let mut later = Vec::new();
        let mut judged = Vec::new();
        for view in waiting {
            let circumstances = Circumstances {
                catalog,
                search_path: &[],
                functions,
                spelling: Spelling::Standard,
            };
            let plan = plan(view.query.as_bytes(), &circumstances);
            let may_be_known_later = plan.reason().kind() == ReasonKind::UnknownRelation;
            if plan.class() == Class::Read {
                judged.push((view, Relation::View));
            } else if may_be_known_later {
                later.push((view, plan));
            } else {
                judged.push((view, Relation::Acts(plan.reason().clone())));
            }
        }
        let is_last = later.len() == before;
        if is_last {
            let unknown = later
                .drain(..)
                .map(|(view, plan)| (view, Relation::Acts(plan.reason().clone())));
            judged.extend(unknown);
        }
        for (view, relation) in judged {
            catalog.add_relation(&view.schema, &view.name, relation);
        }
        waiting = later.into_iter().map(|(view, _)| view).collect();
        if waiting.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_does_what_the_views_in_it_do() {
        let mut catalog = Catalog::default();
        catalog.add_relation("app", "t", Relation::Logged);
        let view = |name: &str, query: &str| View {
            schema: "app".into(),
            name: name.into(),
            query: query.into(),
        };
        let views = vec![
            view("third", "SELECT * FROM app.second"),
            view("second", "SELECT * FROM app.first JOIN app.t USING (id)"),
            view("first", "SELECT nextval('s'::regclass) AS id"),
            view("over", "SELECT * FROM app.plain"),
            view("plain", "SELECT id FROM app.t WHERE id > 0;"),
            view("lost", "SELECT * FROM app.missing"),
        ];
        judge_views(&mut catalog, views, &Patterns::default());
        let circumstances = Circumstances {
            catalog: &catalog,
            search_path: &["app".into()],
            functions: &Patterns::default(),
            spelling: Spelling::Standard,
        };
        let reason = |name: &str| {
            let plan = plan(format!("TABLE {name}").as_bytes(), &circumstances);
            plan.reason().to_string()
        };
        assert_eq!(reason("over"), "reads only");
        assert_eq!(reason("plain"), "reads only");
        assert_eq!(
            reason("third"),
            "app.third: app.second: app.first: volatile function nextval"
        );
        assert_eq!(reason("lost"), "app.lost: unknown table app.missing");
    }
}

//! No text is too deep for the stack.

use super::*;
use crate::plan::caps;

/// What nests in one text.
#[derive(Debug)]
struct Shape {
    before: &'static str,
    repeated: &'static str,
    core: &'static str,
    after: &'static str,
    end: &'static str,
}

const fn shape(
    before: &'static str,
    repeated: &'static str,
    core: &'static str,
    after: &'static str,
    end: &'static str,
) -> Shape {
    Shape {
        before,
        repeated,
        core,
        after,
        end,
    }
}

const SHAPES: [Shape; 28] = [
    shape("SELECT ", "(", "1", ")", ""),
    shape("SELECT ", "ARRAY[", "1", "]", ""),
    shape("SELECT ", "CASE WHEN true THEN ", "1", " END", ""),
    shape("SELECT ", "CASE ", "1", " WHEN 1 THEN 1 END", ""),
    shape("SELECT ", "NOT ", "true", "", ""),
    shape("SELECT ", "-(", "1", ")", ""),
    shape("SELECT ", "- ", "a", "", " FROM t"),
    shape("SELECT ", "@ ", "a", "", " FROM t"),
    shape("SELECT ", "", "1", " + 1", ""),
    shape("SELECT ", "", "'a'", " || 'b'", ""),
    shape("SELECT ", "1 + (", "1", ")", ""),
    shape("SELECT ", "", "a", " AND a OR a", " FROM t"),
    shape("SELECT ", "", "a", " IS NULL", " FROM t"),
    shape("SELECT ", "", "a", "::int", " FROM t"),
    shape("SELECT ", "", "a", " COLLATE \"C\"", " FROM t"),
    shape("SELECT ", "", "a", ".b", " FROM t"),
    shape("SELECT ", "(", "a", ").b", " FROM t"),
    shape("SELECT ", "", "a", "[1]", " FROM t"),
    shape("SELECT ", "lower(", "'a'", ")", ""),
    shape("SELECT ", "ROW(", "1", ")", ""),
    shape("SELECT ", "(SELECT ", "1", ")", ""),
    shape("SELECT * FROM ", "(SELECT * FROM ", "t", ") x", ""),
    shape("", "SELECT 1 UNION ALL ", "SELECT 1", "", ""),
    shape("", "(SELECT 1 EXCEPT ", "SELECT 1", ")", ""),
    shape("SELECT * FROM t", "", "", " JOIN t ON true", ""),
    shape("SELECT * FROM t", "", "", " NATURAL JOIN t", ""),
    shape("", "WITH a AS (", "SELECT 1", ") SELECT 1", ""),
    shape("", "EXPLAIN ", "SELECT 1", "", ""),
];

impl Shape {
    fn nested(&self, count: usize) -> String {
        let Self {
            before,
            repeated,
            core,
            after,
            end,
        } = self;
        format!(
            "{before}{}{core}{}{end}",
            repeated.repeat(count),
            after.repeat(count)
        )
    }

    /// How often it may be nested by the limits.
    fn most(&self) -> usize {
        let (mut fits, mut exceeds) = (1, 200_000);
        while exceeds - fits > 1 {
            let middle = (fits + exceeds) / 2;
            match caps::depth(self.nested(middle).as_bytes()) {
                Ok(_) => fits = middle,
                Err(_) => exceeds = middle,
            }
        }
        fits
    }
}

/// Halves too, since PostgreSQL's grammar has a limit of its own, and gives up on some shapes before they are trees.
#[test]
fn the_deepest_texts_that_are_parsed_fit_on_the_stack() {
    let fixture = Fixture::new();
    for shape in &SHAPES {
        let most = shape.most();
        for count in [most, most / 2, most / 4, most / 8] {
            let text = shape.nested(count);
            on_a_long_stack(|| drop(fixture.plan(&text)));
        }
    }
}

#[test]
fn texts_beyond_the_limits_are_the_primarys() {
    let fixture = Fixture::new();
    for shape in &SHAPES {
        let plan = fixture.plan(&shape.nested(100_000));
        assert_eq!(plan.class(), Class::Write, "{shape:?}");
        assert_eq!(plan.reason().kind(), ReasonKind::TooLarge, "{shape:?}");
    }
    let unfinished = ["(", "[", "CASE ", "ARRAY[", "/*", "a.", "'", "$a$"];
    for part in unfinished {
        let plan = fixture.plan(&format!("SELECT {}", part.repeat(100_001)));
        assert_eq!(plan.class(), Class::Write, "{part}");
    }
}

#[test]
fn ordinary_deep_queries_are_understood() {
    let fixture = Fixture::new();
    let operators = format!("SELECT name{} FROM users", " || 'x'".repeat(500));
    let arms = format!(
        "SELECT id, name FROM users{}",
        " UNION ALL SELECT id, name FROM t".repeat(500)
    );
    let conditions = format!(
        "SELECT * FROM t WHERE{} (a = 1 AND b = 2)",
        " (a = 1 AND b = 2) OR".repeat(2_000)
    );
    let list = format!("SELECT * FROM t WHERE id IN (0{})", ", 123456".repeat(50_000));
    for text in [operators, arms, conditions, list] {
        let plan = on_a_long_stack(|| fixture.plan(&text));
        assert_eq!(plan.class(), Class::Read, "{}", plan.reason());
    }
}

#[test]
fn a_tree_is_no_deeper_than_twice_what_its_text_says() {
    for shape in &SHAPES {
        let text = shape.nested(40);
        let depth = caps::depth(text.as_bytes()).unwrap();
        let Ok(parsed) = pg_query::parse(&text) else {
            continue;
        };
        let tree = nodes_deep(&format!("{:?}", parsed.protobuf));
        // A sub-query is four nodes for its parenthesis and its word.
        assert!(tree <= 2 * depth + 4, "{tree} nodes, {depth} tokens: {text}");
    }
}

/// How many nodes lie in each other, of a tree that is printed; names and texts in it have no parentheses.
fn nodes_deep(printed: &str) -> usize {
    let mut open = Vec::new();
    let mut deepest = 0;
    let mut rest = printed;
    while let Some(at) = rest.find(['(', ')', '{', '}', '[', ']']) {
        let before = &rest[..at];
        match rest.as_bytes()[at] {
            b'(' | b'{' | b'[' => open.push(before.ends_with("Node ") || before.ends_with("SelectStmt ")),
            _ => drop(open.pop()),
        }
        deepest = deepest.max(open.iter().filter(|is_node| **is_node).count());
        rest = &rest[at + 1..];
    }
    deepest
}

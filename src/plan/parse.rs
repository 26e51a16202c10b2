//! From a text to PostgreSQL's own tree. The only place that parses, so that the parser's decoder is compiled once.

use pg_query::NodeEnum;

use super::caps::{self, Excess};
use super::verdict::{Reason, ReasonKind};

/// One statement of a text.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) node: NodeEnum,
    /// Where its text begins.
    pub(super) start: usize,
}

/// The statements of a text, or why nobody knows them.
///
/// Decoding, walking and dropping a tree go as deep as the tree: see [`STACK_LEN`](super::STACK_LEN).
pub(super) fn statements(text: &str) -> Result<Vec<Statement>, Reason> {
    caps::depth(text.as_bytes()).map_err(|excess| too_large(excess, text))?;
    let parsed = match pg_query::parse(text) {
        Ok(parsed) => parsed.protobuf,
        Err(error) => return Err(Reason::new(ReasonKind::Unparsable, error.to_string())),
    };
    let statements = parsed.stmts.into_iter().map(|raw| {
        let node = raw.stmt.and_then(|node| node.node)?;
        let start = usize::try_from(raw.stmt_location).ok()?;
        Some(Statement { node, start })
    });
    let statements: Option<Vec<Statement>> = statements.collect();
    statements.ok_or_else(|| Reason::new(ReasonKind::Unparsable, "a statement without a tree"))
}

fn too_large(excess: Excess, text: &str) -> Reason {
    match excess {
        Excess::Bytes => Reason::new(ReasonKind::TooLarge, format!("{} bytes", text.len())),
        Excess::Tokens => Reason::new(ReasonKind::TooLarge, "too many words and signs"),
        Excess::Nesting => Reason::new(ReasonKind::TooLarge, "nested too deeply"),
        Excess::Broken => Reason::new(
            ReasonKind::Unparsable,
            "a quote, comment, parenthesis or number is not whole",
        ),
    }
}

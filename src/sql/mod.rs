//! SQL cut into tokens as PostgreSQL cuts it (`src/backend/parser/scan.l`): nothing is copied, and nothing can fail.
//!
//! What releases cut differently is cut as the newest does where that changes no quote: `1_000` and `0xff` are numbers.

mod byte;
mod extent;
mod lexer;
mod value;

pub use byte::is_word;
pub use lexer::{Kind, Lexer, Quoting, Strings, Token, words};
pub use value::{name_of, string_of, string_with};

#[cfg(test)]
mod tests;

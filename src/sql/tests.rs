//! Tokens of texts, as PostgreSQL cuts them.

mod scanner;

use std::borrow::Cow;

use proptest::prelude::*;

use super::Kind::{CodedName, Comment, Number, Operator, Parameter, Punctuation, QuotedName, String, Word};
use super::Quoting::{Bits, Coded, Dollars, Escaped, National, Plain};
use super::*;

fn cut(text: &[u8], strings: Strings) -> Vec<(Kind, &str)> {
    Lexer::new(text, strings)
        .map(|token| (token.kind, std::str::from_utf8(token.text).unwrap()))
        .collect()
}

fn tokens(text: &str) -> Vec<(Kind, &str)> {
    cut(text.as_bytes(), Strings::Conforming)
}

fn texts(text: &str) -> Vec<&str> {
    tokens(text).into_iter().map(|(_, text)| text).collect()
}

fn is_sure(text: &str, strings: Strings) -> bool {
    let mut lexer = Lexer::new(text.as_bytes(), strings);
    while lexer.next().is_some() {}
    lexer.is_sure()
}

#[test]
fn every_kind_of_token_is_known() {
    for (text, kind) in [
        ("select", Word),
        ("_a1$", Word),
        ("größe", Word),
        ("\"a \"\"b\"\"\"", QuotedName),
        ("\"a -- b\"", QuotedName),
        ("U&\"\\0061\"", CodedName),
        ("u&\"a\"\"b\"", CodedName),
        ("''", String(Plain)),
        ("'it''s'", String(Plain)),
        ("'C:\\'", String(Plain)),
        ("N'a'", String(National)),
        ("e'it\\'s'", String(Escaped)),
        ("E'\\\\'", String(Escaped)),
        ("E'a\\\nb'", String(Escaped)),
        ("U&'\\'", String(Coded)),
        ("u&'a''b'", String(Coded)),
        ("b'01'", String(Bits)),
        ("X'ff'", String(Bits)),
        ("$$ 'a $ b' $$", String(Dollars)),
        ("$a_1$ $$ $b$ $a_1 $a_1$", String(Dollars)),
        ("$é$$a$$é$", String(Dollars)),
        ("0", Number),
        ("1_000", Number),
        ("1.5", Number),
        ("1.", Number),
        (".5e-3", Number),
        ("1e10", Number),
        ("0xFf_0", Number),
        ("0o17", Number),
        ("0b_01", Number),
        ("$1", Parameter),
        ("$12", Parameter),
        ("=", Operator),
        ("<>", Operator),
        ("@-", Operator),
        ("||/", Operator),
        ("=>", Operator),
        ("::", Punctuation),
        (":=", Punctuation),
        ("..", Punctuation),
        (":", Punctuation),
        (".", Punctuation),
        (";", Punctuation),
        ("[", Punctuation),
        ("{", Punctuation),
        ("\\", Punctuation),
        ("$", Punctuation),
    ] {
        assert_eq!(tokens(text), [(kind, text)], "{text}");
        assert_eq!(
            tokens(&format!(" {text}/**/;")),
            [(kind, text), (Punctuation, ";")],
            "{text}"
        );
    }
}

#[test]
fn tokens_end_where_postgresql_ends_them() {
    for (text, expected) in [
        ("a$b$c$", &["a$b$c$"][..]),
        ("1$a$b$a$", &["1", "$a$b$a$"]),
        ("$1$a$b$a$", &["$1", "$a$b$a$"]),
        ("$1a", &["$1", "a"]),
        ("$a b", &["$", "a", "b"]),
        ("1from", &["1", "from"]),
        ("1e", &["1", "e"]),
        ("1e'\\''", &["1", "e'\\''"]),
        ("0x'ff'", &["0", "x'ff'"]),
        ("1..2", &["1", "..", "2"]),
        ("1.2.3", &["1.2", ".3"]),
        ("a.b", &["a", ".", "b"]),
        ("a[1:2]", &["a", "[", "1", ":", "2", "]"]),
        ("'a'::text", &["'a'", "::", "text"]),
        ("a:=-1", &["a", ":=", "-", "1"]),
        ("1+-1", &["1", "+", "-", "1"]),
        ("1<-1", &["1", "<", "-", "1"]),
        ("1@-1", &["1", "@-", "1"]),
        ("1*--x\r2", &["1", "*", "2"]),
        ("1*/*x*/2", &["1", "*", "2"]),
        ("1*/2", &["1", "*/", "2"]),
        ("a->>'b'", &["a", "->>", "'b'"]),
        ("be'a'", &["be", "'a'"]),
        ("u&b", &["u", "&", "b"]),
        ("U& 'a'", &["U", "&", "'a'"]),
        ("b'0''1'", &["b'0'", "'1'"]),
        // Strings go on in other lines.
        ("'a'\n'b'", &["'a'\n'b'"]),
        (
            "'a' -- x'\n -- y\r\t'b''c' 'd'",
            &["'a' -- x'\n -- y\r\t'b''c'", "'d'"],
        ),
        ("E'a'\n'\\''", &["E'a'\n'\\''"]),
        ("b'0'\n'1'", &["b'0'\n'1'"]),
        ("'a' 'b'", &["'a'", "'b'"]),
        ("'a' /*\n*/ 'b'", &["'a'", "'b'"]),
        ("'a' -- 'b'", &["'a'"]),
        ("'a'\nE'b'", &["'a'", "E'b'"]),
        ("$$a$$\n'b'", &["$$a$$", "'b'"]),
        ("\"a\"\n\"b\"", &["\"a\"", "\"b\""]),
        // Comments.
        ("/* /* */ x */ a", &["a"]),
        ("/*/**/*/a", &["a"]),
        ("/* -- */ a", &["a"]),
        ("-- /*\na", &["a"]),
        ("-- x\ra", &["a"]),
        ("a\0b", &["a"]),
        ("\x0b\x0ca", &["a"]),
    ] {
        assert_eq!(texts(text), expected, "{text:?}");
    }
}

#[test]
fn what_has_no_end_goes_on_to_the_end_of_the_text_and_is_not_sure() {
    for text in [
        "'a", "'a''", "E'a\\'", "E'\\", "\"a", "$$a$", "$a$ $a", "U&'a", "'a'\n'b", "b'", "u&\"a",
    ] {
        let whole = format!("x {text}");
        assert_eq!(texts(&whole), ["x", text], "{text:?}");
        assert!(!is_sure(&whole, Strings::Conforming), "{text:?}");
    }
    for text in ["/*", "/*/", "a /* /* */", "/* *"] {
        assert!(!is_sure(text, Strings::Conforming), "{text:?}");
    }
    assert!(is_sure("-- a", Strings::Conforming));
}

#[test]
fn a_backslash_counts_in_strings_by_the_setting() {
    let text = "'\\' || 'x'";
    assert_eq!(cut(text.as_bytes(), Strings::Conforming).len(), 3);
    let backslash = cut(text.as_bytes(), Strings::Backslash);
    assert_eq!(backslash.first(), Some(&(String(Plain), "'\\' || '")));
    assert_eq!(cut(text.as_bytes(), Strings::Unknown), [(String(Plain), text)]);
    assert!(!is_sure(text, Strings::Unknown));
    for text in [
        "'C:\\temp'",
        "'a\\\\'",
        "N'a\\b'",
        "E'\\''",
        "U&'\\'",
        "$$\\$$",
        "b'\\'",
    ] {
        assert!(is_sure(text, Strings::Unknown), "{text}");
    }
}

#[test]
fn comments_are_tokens_where_they_are_asked_for() {
    let text = b"/* a */ SELECT -- b\n 1";
    let kinds: Vec<_> = Lexer::new(text, Strings::Unknown)
        .keeping_comments()
        .map(|token| (token.kind, &text[token.range()]))
        .collect();
    assert_eq!(
        kinds,
        [
            (Comment, &b"/* a */"[..]),
            (Word, b"SELECT"),
            (Comment, b"-- b"),
            (Number, b"1")
        ]
    );
}

#[test]
fn names_and_strings_have_values() {
    for (text, expected) in [
        ("Abc$", "abc$"),
        ("abc", "abc"),
        ("\"A\"\"b\"", "A\"b"),
        ("'it''s'", "it's"),
        ("N'a'", "a"),
        ("'a\\n'", "a\\n"),
        ("'a'\n 'b''c'", "ab'c"),
        ("E'a''b\\'c\\\\'\n'\\x41\\101\\u00e9\\t'", "a'b'c\\AA\u{e9}\t"),
        ("E'\\ud83d\\ude00\\U0001F600'", "\u{1f600}\u{1f600}"),
        ("E'\\x'", "x"),
        ("b'01'\n'1'", "011"),
        ("$a$ it''s $a$", " it''s "),
        ("'open''", "open'"),
        ("$$open$", "open$"),
    ] {
        let token = Lexer::new(text.as_bytes(), Strings::Conforming).next().unwrap();
        let value = name_of(&token).or_else(|| string_of(&token));
        assert_eq!(value.as_deref(), Some(expected.as_bytes()), "{text}");
    }
    for text in ["\"a", "\"a\"\"", "U&\"a\"", "U&'a'", "1", "$1", "+"] {
        let token = Lexer::new(text.as_bytes(), Strings::Conforming).next().unwrap();
        assert_eq!(name_of(&token).or_else(|| string_of(&token)), None, "{text}");
    }
}

#[test]
fn plain_values_are_borrowed() {
    for text in ["abc", "\"Abc\"", "'abc'", "E'abc'", "$$abc$$"] {
        let token = Lexer::new(text.as_bytes(), Strings::Conforming).next().unwrap();
        let value = name_of(&token).or_else(|| string_of(&token)).unwrap();
        assert!(matches!(value, Cow::Borrowed(_)), "{text}");
    }
}

#[test]
fn words_are_found_in_quotes_and_comments_too() {
    let found: Vec<_> = words(b"a-b_1 'c' /* d$e */ --f").collect();
    assert_eq!(found, [&b"a"[..], b"b_1", b"c", b"d", b"e", b"f"]);
}

/// A token and its kind.
fn token() -> impl Strategy<Value = (Kind, std::string::String)> {
    prop_oneof![
        "[a-zA-Z_é][a-z0-9_$é]{2,6}".prop_map(|text| (Word, text)),
        "\"([a-z '$;-]|\"\"){1,6}\"".prop_map(|text| (QuotedName, text)),
        "'([a-z \"$;-]|''|\n){0,6}'".prop_map(|text| (String(Plain), text)),
        "[eE]'([a-z \"$;-]|''|\\\\['\\\\n]){0,6}'".prop_map(|text| (String(Escaped), text)),
        "\\$t\\$[a-z '\";-]{0,6}(\\$\\$ |\\$a\\$ )?[a-z ]\\$t\\$".prop_map(|text| (String(Dollars), text)),
        "[0-9]{1,3}(\\.[0-9]{1,3})?(e[+-]?[0-9])?".prop_map(|text| (Number, text)),
        "\\$[0-9]{1,3}".prop_map(|text| (Parameter, text)),
        "[~!@#^&|?%][<>=*]{0,3}".prop_map(|text| (Operator, text)),
        "[,;()\\[\\]]".prop_map(|text| (Punctuation, text)),
    ]
}

/// What may stand between two tokens, even between two strings: no newline alone.
fn gap() -> impl Strategy<Value = std::string::String> {
    "( |\t|/\\*[a-z '\"$*;-]{0,6}[a-z ](/\\*x\\*/)?\\*/)( |/\\*[a-z]{0,3}\\*/|--[a-z '\"$/*]{0,6}\n/\\*\\*/)?"
}

proptest! {
    #[test]
    fn a_text_put_together_from_tokens_is_cut_into_them(parts in prop::collection::vec((token(), gap()), 0..12)) {
        let text: std::string::String = parts.iter().map(|((_, token), gap)| format!("{token}{gap}")).collect();
        let expected: Vec<_> = parts.iter().map(|((kind, token), _)| (*kind, token.as_str())).collect();
        prop_assert_eq!(tokens(&text), expected);
    }

    #[test]
    fn any_text_is_covered_by_tokens_and_blanks(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"'\"$\\-/*;aeU&\n 1."[..])], 0..60)) {
        for strings in [Strings::Conforming, Strings::Backslash, Strings::Unknown] {
            let mut lexer = Lexer::new(&bytes, strings).keeping_comments();
            let mut end = 0;
            while let Some(token) = lexer.next() {
                prop_assert!(!token.text.is_empty());
                prop_assert!(bytes[end..token.start].iter().all(|byte| byte::is_blank(*byte)));
                prop_assert_eq!(&bytes[token.range()], token.text);
                end = token.end();
                prop_assert!(lexer.is_sure() || end == bytes.len());
                let _ = (name_of(&token), string_of(&token));
            }
            prop_assert!(bytes[end..].iter().find(|byte| !byte::is_blank(**byte)).is_none_or(|byte| *byte == 0));
        }
    }

    #[test]
    fn what_is_sure_without_the_setting_is_so_with_either(text in "(['\\\\\n ;]|''|E'|--|[a-z$])*") {
        if is_sure(&text, Strings::Unknown) {
            let unknown = cut(text.as_bytes(), Strings::Unknown);
            prop_assert_eq!(&unknown, &cut(text.as_bytes(), Strings::Conforming));
            prop_assert_eq!(&unknown, &cut(text.as_bytes(), Strings::Backslash));
        }
    }
}

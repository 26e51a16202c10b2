//! stub
use std::fmt;
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan { class: Class, reason: Reason }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class { Read, Write, Session, Begin(Access), Modes(Access), Within, Execute }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access { Unstated, ReadOnly, Primary }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Literals { Free, Fixed }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonKind { VolatileFunction }
impl Reason { pub fn new(_k: ReasonKind, _s: impl Into<Box<str>>) -> Self { Self } }
pub struct Function { pub arguments: Box<str>, pub judgement: Judgement }
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement { Reads, Volatile, Acts(Reason) }
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation { Logged, View, Unlogged, Temporary, Sequence, Foreign, Acts(Reason) }
impl Catalog {
    pub fn add_function(&mut self, _s: &str, _n: &str, _f: Function) {}
    pub fn add_relation(&mut self, _s: &str, _n: &str, _f: Relation) {}
    pub fn add_type(&mut self, _s: &str, _n: &str, _f: Judgement) {}
    pub fn add_operator(&mut self, _s: &str, _n: &str, _f: Judgement) {}
    pub fn add_row_function(&mut self, _n: &str, _f: Reason) {}
    pub fn add_implicit_cast(&mut self, _f: Reason) {}
}
impl fmt::Display for Reason { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("?") } }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling { Standard, Other }
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog;
#[derive(Debug, Clone, Default)]
pub struct Patterns;
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> { pub catalog: &'a Catalog, pub search_path: &'a [Box<str>], pub functions: &'a Patterns, pub spelling: Spelling }
pub const STACK_LEN: usize = 1 << 26;
pub fn plan(text: &[u8], _c: &Circumstances<'_>) -> Plan {
    let class = if text.to_ascii_lowercase().starts_with(b"select") { Class::Read } else { Class::Write };
    Plan { class, reason: Reason }
}
pub fn normalise(text: &[u8], out: &mut Vec<u8>) { out.extend_from_slice(text); }
impl Plan {
    pub fn class(&self) -> Class { self.class }
    pub fn reason(&self) -> &Reason { &self.reason }
    pub fn literals(&self) -> Literals { Literals::Free }
    pub fn footprint(&self) -> usize { 100 }
}

impl Patterns { pub fn new<'a>(_r: impl IntoIterator<Item = &'a str>, _w: impl IntoIterator<Item = &'a str>) -> Self { Self } }

//! Run-time parameters by name, as `ParameterStatus` and startup packets carry them.

/// An ordered set of parameters; names compare as PostgreSQL compares them, without regard to ASCII case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parameters(Vec<(Box<str>, Box<str>)>);

impl Parameters {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a parameter.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// Sets a parameter; the last value wins. Says whether anything changed.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        match self
            .0
            .iter_mut()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            Some((_, old)) if **old == *value => false,
            Some((_, old)) => {
                *old = value.into();
                true
            }
            None => {
                let at = self.0.partition_point(|(known, _)| lower(known) < lower(name));
                self.0.insert(at, (name.into(), value.into()));
                true
            }
        }
    }

    /// Gives back memory that is not needed: a client keeps its parameters for long.
    pub fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Takes a parameter out.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        before != self.0.len()
    }

    /// In the order of their lower-case names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}

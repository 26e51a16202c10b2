//! The name that was probably meant.

/// The known name that is least far from the given one, if any is near.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > NAME_BYTES_MAX {
        return None;
    }
    let folded = given.to_ascii_lowercase().replace('-', "_");
    let near = (folded.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|name| (distance(&folded, name), name))
        .filter(|(distance, name)| *distance <= near && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be added, taken away, changed, or swapped with their neighbour (Damerau, restricted).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    let mut last_letter = None;
    for (row, letter) in left.chars().enumerate() {
        let mut line = Vec::with_capacity(right.len() + 1);
        line.push(row + 1);
        for (column, other) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let change = at(&last, column) + usize::from(letter != *other);
            let mut least = change.min(at(&last, column + 1) + 1).min(at(&line, column) + 1);
            let previous = column.checked_sub(1).and_then(|index| right.get(index));
            if previous == Some(&letter) && last_letter == Some(*other) {
                least = least.min(at(&before, column - 1) + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut last, line);
        last_letter = Some(letter);
    }
    last.last().copied().unwrap_or(0)
}

/// Of a name that is compared: no known name is half as long, and the comparison takes time with its square.
const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn counts_single_edits() {
        for (left, right, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("pool_size", "pool_sise", 1),
            ("form", "from", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), edits, "{left} {right}");
        }
    }

    #[test]
    fn finds_the_name_that_was_meant_and_nothing_far_away() {
        let known = ["pool_size", "pool_mode", "listen"];
        assert_eq!(nearest("pool-size", known), Some("pool_size"));
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("qwertz", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}

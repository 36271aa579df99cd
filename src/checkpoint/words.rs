//! Settings as text: words of the form `name=value`, with spaces between them.
//!
//! Numbers are the shortest decimals that read back as the same bits, so that equal words are equal
//! settings.
#![forbid(unsafe_code)]

/// Returns the value of a name.
pub fn value<'a>(words: &'a str, name: &str) -> Option<&'a str> {
    words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// Returns the value of a name as a number.
pub fn number<T: core::str::FromStr>(words: &str, name: &str) -> Option<T> {
    value(words, name)?.parse().ok()
}

/// A name, and the values that it has on both sides.
pub type Word<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// Returns the words that differ, or that only one side has. `ours` are few; `theirs` may be as
/// many as a file has room for, and are passed over once for each of ours.
pub fn differences<'a>(ours: &'a str, theirs: &'a str) -> impl Iterator<Item = Word<'a>> {
    let split = |words: &'a str| {
        words
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| word.split_once('=').unwrap_or((word, "")))
    };
    let changed = split(ours).map(move |(name, ours)| (name, Some(ours), value(theirs, name)));
    let changed = changed.filter(|(_, ours, theirs)| ours != theirs);
    let only_theirs = split(theirs).filter(move |(name, _)| value(ours, name).is_none());
    changed.chain(only_theirs.map(|(name, theirs)| (name, None, Some(theirs))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_from_both_sides() {
        let named = |ours, theirs| {
            differences(ours, theirs).map(|(name, ..)| name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(named("a=1 b=2", "b=2 a=1"), "");
        assert_eq!(named("a=1 b=2", "a=1 b=3"), "b");
        assert_eq!(named("a=1", "a=1 c=3"), "c");
        assert_eq!(named("a=1 ab=2", "ab=1"), "a ab");
        assert_eq!(named("", "a=1"), "a");
        assert_eq!(differences("a=1", "a=2").next(), Some(("a", Some("1"), Some("2"))));
    }

    #[test]
    fn numbers_read_back_as_the_same_bits() {
        for value in [0.1, 1e-8, -0.0, f64::MIN_POSITIVE / 3.0, f64::MAX, 1.0 / 3.0] {
            let words = format!("x={value:?}");
            assert_eq!(number::<f64>(&words, "x").map(f64::to_bits), Some(value.to_bits()));
        }
        assert_eq!(number::<u64>("n=18446744073709551615", "n"), Some(u64::MAX));
        assert_eq!(number::<u64>("n=-1", "n"), None);
    }
}

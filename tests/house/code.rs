//! The crate's source as plain text: which files there are, what is code in them, what comment.
#![allow(dead_code, reason = "each test uses a part of this")]

use std::path::{Path, PathBuf};

/// A source file: its path below `src`, with `/` between the parts, and its text.
pub struct Source {
    pub path: String,
    pub text: String,
    /// The text without comments and strings, line by line.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let code = without_comments_and_strings(text);
        Source { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// The module's path: `ffi/mod.rs` is `[ffi]`, `ffi/types.rs` is `[ffi, types]`.
    pub fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs");
        path.trim_end_matches("/mod").split('/').collect()
    }

    /// Whether the file is one of these, or in one of these folders.
    pub fn lies_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            let rest = self.path.strip_prefix(place);
            rest.is_some_and(|rest| {
                place.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '.'])
            })
        })
    }
}

/// Every source file of the crate.
pub fn sources() -> Vec<Source> {
    files_in_src(&["rs"])
}

/// All sources of kernels.
pub fn kernels() -> Vec<Source> {
    files_in_src(&["cu", "cuh"])
}

fn files_in_src(extensions: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| extensions.iter().any(|ext| it == *ext)) {
                let text = std::fs::read_to_string(&path).unwrap();
                let inside = path.strip_prefix(&root).unwrap().to_str().unwrap();
                sources.push(Source::new(&inside.replace('\\', "/"), &text));
            }
        }
    }
    sources
}

/// The same text with every comment, string and character blanked out, line by line.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, is_code) = token(rest, code.chars().next_back());
        let (token, after) = rest.split_at(length.max(first.len_utf8()));
        if is_code {
            code.push_str(token);
        } else {
            code.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    code
}

/// The plain strings of some source, as the program has them.
pub fn strings(text: &str) -> Vec<String> {
    let (mut strings, mut rest, mut before) = (Vec::new(), text, None);
    while let Some(first) = rest.chars().next() {
        let (length, is_code) = token(rest, before);
        let (token, after) = rest.split_at(length.max(first.len_utf8()));
        if let Some(text) = token.strip_prefix('"').filter(|_| !is_code) {
            strings.push(unescaped(text.strip_suffix('"').unwrap_or(text)));
        }
        before = if is_code { token.chars().next_back() } else { Some(' ') };
        rest = after;
    }
    strings
}

/// Without line ends that are escaped and with the quotes that are.
fn unescaped(text: &str) -> String {
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let joined = lines.fold(first, |text, line| text + line.trim_start());
    joined.replace("\\\"", "\"")
}

/// The length in bytes of what a text starts with, and whether that is code.
fn token(text: &str, before: Option<char>) -> (usize, bool) {
    let in_a_word = before.is_some_and(is_word);
    let after_prefix = text.trim_start_matches(['b', 'c', 'r']);
    let prefix = &text[..text.len() - after_prefix.len()];
    let hashes = after_prefix.len() - after_prefix.trim_start_matches('#').len();
    let quoted = after_prefix[hashes..].starts_with('"');
    if text.starts_with("//") {
        (text.find('\n').unwrap_or(text.len()), false)
    } else if text.starts_with("/*") {
        (block_comment(text), false)
    } else if quoted && !in_a_word && prefix.ends_with('r') {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = prefix.len() + hashes + 1;
        (text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()), false)
    } else if quoted && hashes == 0 && (prefix.is_empty() || !in_a_word && prefix.len() == 1) {
        (prefix.len() + 1 + escaped(&text[prefix.len() + 1..], '"'), false)
    } else if is_character(text) {
        (1 + escaped(&text[1..], '\''), false)
    } else {
        (0, true)
    }
}

/// Whether a quote opens a character and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('\'')
        && match chars.next() {
            Some('\\') => true,
            Some(_) => chars.next() == Some('\''),
            None => false,
        }
}

/// The length of a literal's text and the quote that closes it.
fn escaped(text: &str, quote: char) -> usize {
    let mut after_backslash = false;
    for (at, c) in text.char_indices() {
        if c == quote && !after_backslash {
            return at + 1;
        }
        after_backslash = c == '\\' && !after_backslash;
    }
    text.len()
}

/// The length of a block comment, comments inside it included.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The words (names, keywords, numbers) and other signs of some code, without white space.
pub fn words(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match rest.find(|c| !is_word(c)) {
            Some(0) => first.len_utf8(),
            Some(length) => length,
            None => rest.len(),
        };
        words.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    words
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn only_code_is_left() {
    let samples = [
        ("a // unsafe\nb", "a b"),
        ("a /* x /* y */ z\n */ b", "a b"),
        (r#"f("un\"safe") g"#, "f( ) g"),
        (r##"f(r#"un"safe"#, cr"\") g"##, "f( , ) g"),
        (r"f('\'', '/', 'ä') '/' g", "f( , , ) g"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        ("\"ä\" bar\"//\" c", "bar c"),
    ];
    for (text, expected) in samples {
        let code = without_comments_and_strings(text);
        let left: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(left.join(" "), expected, "{text}");
        assert_eq!(code.lines().count(), text.lines().count(), "{text}");
    }
}

#[test]
fn strings_are_as_the_program_has_them() {
    let code = "f(\"a \\\n   b\", /* \"c\" */ '\"', \"\\\"d\\\"\") // \"e\"";
    assert_eq!(strings(code), ["a b", "\"d\""]);
}

#[test]
fn words_and_signs_are_told_apart() {
    assert_eq!(
        words("use crate::{a_b, *};"),
        ["use", "crate", ":", ":", "{", "a_b", ",", "*", "}", ";"]
    );
}

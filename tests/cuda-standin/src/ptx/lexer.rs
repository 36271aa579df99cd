//! PTX text as words and marks, each with its line.

use super::ParseError;

/// A word (`ld.global.f32`, `%r1`, `0f3F800000`, `.reg`), a quoted text, or one mark.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: u32,
}

/// The tokens of a text, read from left to right.
#[derive(Clone)]
pub struct Tokens<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

impl<'a> Tokens<'a> {
    /// Splits a text; comments are left out.
    pub fn new(text: &'a str) -> Result<Tokens<'a>, ParseError> {
        let bytes = text.as_bytes();
        let mut tokens = Vec::new();
        let (mut at, mut line) = (0, 1);
        while at < bytes.len() {
            let rest = &text.as_bytes()[at..];
            let from = at;
            if rest.starts_with(b"//") {
                at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            } else if rest.starts_with(b"/*") {
                let length = rest.windows(2).position(|two| two == b"*/");
                let length = length.ok_or_else(|| ParseError::new(line, "comment without end"))?;
                line += rest[..length].iter().filter(|&&byte| byte == b'\n').count() as u32;
                at += length + 2;
            } else if rest[0] == b'"' {
                let length = rest[1..].iter().position(|&byte| byte == b'"');
                at += length.ok_or_else(|| ParseError::new(line, "text without end"))? + 2;
                tokens.push(Token { text: &text[from..at], line });
            } else if in_word(rest[0]) {
                at += rest.iter().position(|&byte| !in_word(byte)).unwrap_or(rest.len());
                tokens.push(Token { text: &text[from..at], line });
            } else if rest[0].is_ascii_whitespace() {
                line += u32::from(rest[0] == b'\n');
                at += 1;
            } else if rest[0].is_ascii_graphic() {
                at += 1;
                tokens.push(Token { text: &text[from..at], line });
            } else {
                return Err(ParseError::new(line, format!("byte {:#04x}", rest[0])));
            }
        }
        Ok(Tokens { tokens, next: 0 })
    }

    /// What comes next, without taking it.
    pub fn ahead(&self) -> impl Iterator<Item = &'a str> {
        self.tokens[self.next..].iter().map(|token| token.text)
    }

    /// The line of the next token, or of the last one.
    pub fn line(&self) -> u32 {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |token| token.line)
    }

    /// An error at the last token that was taken.
    pub fn error(&self, message: impl Into<String>) -> ParseError {
        let last = self.tokens.get(self.next.saturating_sub(1));
        ParseError::new(last.map_or(0, |token| token.line), message)
    }

    /// The next token's text, which stays.
    pub fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.next).map(|token| token.text)
    }

    /// The text of the token after the next one.
    pub fn peek_second(&self) -> Option<&'a str> {
        self.tokens.get(self.next + 1).map(|token| token.text)
    }

    /// Takes the next token.
    pub fn take(&mut self) -> Result<&'a str, ParseError> {
        let token = self.tokens.get(self.next).ok_or_else(|| self.error("text ends early"))?;
        self.next += 1;
        Ok(token.text)
    }

    /// Takes the next token if it is this one.
    pub fn take_if(&mut self, text: &str) -> bool {
        let is_it = self.peek() == Some(text);
        self.next += usize::from(is_it);
        is_it
    }

    /// Takes this token.
    pub fn expect(&mut self, text: &str) -> Result<(), ParseError> {
        let found = self.take()?;
        if found == text { Ok(()) } else { Err(self.error(format!("`{found}`, not `{text}`"))) }
    }

    /// Takes a plain number.
    pub fn number(&mut self) -> Result<usize, ParseError> {
        let text = self.take()?;
        text.parse().map_err(|_| self.error(format!("`{text}` is no number")))
    }
}

#[cfg(test)]
mod tests {
    use super::Tokens;

    #[test]
    fn words_marks_and_lines() {
        let text = "@!%p1 bra $L; // far\n/* a\nb */ st.v2.u8 [%rd1+-8], {%a,%b};";
        let mut tokens = Tokens::new(text).unwrap();
        let mut found = Vec::new();
        while let Some(word) = tokens.peek() {
            found.push((word, tokens.line()));
            tokens.take().unwrap();
        }
        let words: Vec<_> = found.iter().map(|&(word, _)| word).collect();
        assert_eq!(words.join(" "), "@ ! %p1 bra $L ; st.v2.u8 [ %rd1 + - 8 ] , { %a , %b } ;");
        assert_eq!((found[3].1, found[6].1), (1, 3));
    }

    #[test]
    fn what_has_no_end() {
        assert!(Tokens::new("/* a").is_err());
        assert!(Tokens::new("\"a").is_err());
    }
}

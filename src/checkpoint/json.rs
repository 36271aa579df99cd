//! Reads the JSON that a header is: objects, strings and whole numbers, in place.
//!
//! A general parser would turn 100 MB of a hostile header into some GB of values before anybody
//! looks at them. This one allocates nothing: a string is unescaped in place, and is a `Span` of
//! the text from then on.
//!
//! A `Reader` goes through the text once. `object` and `numbers` read an object and an array, and
//! call back for each entry; `string` reads a string, and `unescape` and `unicode` its escapes;
//! `end` checks that nothing follows. Each of them skips space by `peek`, and returns `Broken` at
//! the first byte that cannot be there.
#![forbid(unsafe_code)]

/// The place of a string in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    start: u32,
    length: u32,
}

impl Span {
    pub fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.start as usize..][..self.length as usize]
    }

    /// Returns the string and the NUL behind it.
    pub fn with_nul<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.start as usize..][..self.length as usize + 1]
    }
}

/// The reason why a text is not a header.
pub type Broken = &'static str;

/// Reads a text from its start to its end. The text is shorter than 4 GiB.
pub struct Reader<'a> {
    text: &'a mut [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a mut [u8]) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    /// Returns a string that was read before.
    pub fn bytes(&self, span: Span) -> &[u8] {
        span.of(self.text)
    }

    /// Returns the next byte that is not space, without reading it.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Reads this byte if it is next, and returns whether it was.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn take(&mut self, byte: u8, broken: Broken) -> Result<(), Broken> {
        if self.takes(byte) { Ok(()) } else { Err(broken) }
    }

    /// Reads an object; `entry` reads the value of each key.
    pub fn object(
        &mut self,
        mut entry: impl FnMut(&mut Self, Span) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.take(b'{', "an object does not start with {")?;
        if self.takes(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.take(b':', "a key has no : behind it")?;
            entry(self, key)?;
            if !self.takes(b',') {
                return self.take(b'}', "an object does not end with }");
            }
        }
    }

    /// Reads an array of whole numbers.
    pub fn numbers(
        &mut self,
        mut each: impl FnMut(u64) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.take(b'[', "an array does not start with [")?;
        if self.takes(b']') {
            return Ok(());
        }
        loop {
            each(self.number()?)?;
            if !self.takes(b',') {
                return self.take(b']', "an array does not end with ]");
            }
        }
    }

    fn number(&mut self) -> Result<u64, Broken> {
        self.peek();
        let start = self.at;
        let mut value = 0u64;
        while let Some(digit @ b'0'..=b'9') = self.text.get(self.at) {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(digit - b'0')))
                .ok_or("a number is larger than 64 bits hold")?;
            self.at += 1;
        }
        let digits = self.at - start;
        let is_number = digits == 1 || digits > 1 && self.text[start] != b'0';
        if is_number { Ok(value) } else { Err("a number is not written in digits alone") }
    }

    /// Reads a string: UTF-8 without NUL, followed by a NUL in the text from now on.
    pub fn string(&mut self) -> Result<Span, Broken> {
        self.take(b'"', "a string does not start with a quote")?;
        let start = self.at;
        let mut end = start;
        loop {
            let byte = self.next()?;
            match byte {
                b'"' => break,
                b'\\' => self.unescape(&mut end)?,
                0..0x20 => return Err("a string has a control character in it"),
                _ => self.put(&mut end, &[byte]),
            }
        }
        self.put(&mut end.clone(), &[0]);
        let bytes = &self.text[start..end];
        if bytes.contains(&0) || core::str::from_utf8(bytes).is_err() {
            return Err("a string is not UTF-8, or has a NUL in it");
        }
        Ok(Span { start: start as u32, length: (end - start) as u32 })
    }

    fn next(&mut self) -> Result<u8, Broken> {
        let byte = self.text.get(self.at).copied();
        self.at += 1;
        byte.ok_or("a string does not end")
    }

    /// Writes bytes to the end of the string that is being read. It is never longer than the text
    /// read so far.
    fn put(&mut self, end: &mut usize, bytes: &[u8]) {
        self.text[*end..*end + bytes.len()].copy_from_slice(bytes);
        *end += bytes.len();
    }

    fn unescape(&mut self, end: &mut usize) -> Result<(), Broken> {
        let byte = match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = self.unicode()?;
                let mut bytes = [0; 4];
                let bytes = character.encode_utf8(&mut bytes).as_bytes();
                self.put(end, bytes);
                return Ok(());
            }
            _ => return Err("a string has an unknown escape in it"),
        };
        self.put(end, &[byte]);
        Ok(())
    }

    /// Reads the code, or the pair of codes, that comes after `\u`, and returns its character.
    fn unicode(&mut self) -> Result<char, Broken> {
        let first = self.hexadecimal()?;
        let code = match first {
            0xd800..0xdc00 => {
                let is_pair = self.next()? == b'\\' && self.next()? == b'u';
                let second = if is_pair { self.hexadecimal()? } else { 0 };
                let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
                low.map_or(first, |low| 0x10000 + ((first - 0xd800) << 10) + low)
            }
            code => code,
        };
        char::from_u32(code).ok_or("a string has half a character in it")
    }

    fn hexadecimal(&mut self) -> Result<u32, Broken> {
        (0..4).try_fold(0, |value, _| {
            let digit = char::from(self.next()?).to_digit(16);
            Ok(value << 4 | digit.ok_or("an escape has no four digits")?)
        })
    }

    /// Checks that nothing but space is left.
    pub fn end(&mut self) -> Result<(), Broken> {
        if self.peek().is_none() { Ok(()) } else { Err("there is text behind the header") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Result<String, Broken> {
        let mut bytes = text.as_bytes().to_vec();
        let mut reader = Reader::new(&mut bytes);
        let span = reader.string()?;
        reader.end()?;
        assert_eq!(span.with_nul(&bytes).last(), Some(&0));
        Ok(String::from_utf8(span.of(&bytes).to_vec()).unwrap())
    }

    #[test]
    fn strings_are_what_a_json_library_reads() {
        for text in [
            r#""""#,
            r#" "w" "#,
            r#""layer.0.weight""#,
            r#""ä€😀""#,
            r#""\u00e4\u20ac\ud83d\ude00\"\\\/\b\f\n\r\t""#,
        ] {
            let expected: String = serde_json::from_str(text).unwrap();
            assert_eq!(string(text), Ok(expected), "{text}");
        }
        for text in [
            "w",
            "\"w",
            "\"w\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            r#""\ud83d""#,
            r#""\ud83d\u0041""#,
            r#""\ude00""#,
            r#""\u0000""#,
            "\"\n\"",
            "\"w\" 1",
        ] {
            assert!(string(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_whole_and_64_bits_wide() {
        let numbers = |text: &str| {
            let (mut bytes, mut found) = (text.as_bytes().to_vec(), Vec::new());
            let mut reader = Reader::new(&mut bytes);
            reader.numbers(|number| {
                found.push(number);
                Ok(())
            })?;
            reader.end()?;
            Ok::<_, Broken>(found)
        };
        assert_eq!(numbers("[]"), Ok(vec![]));
        assert_eq!(numbers(" [ 0 ,1, 18446744073709551615 ] "), Ok(vec![0, 1, u64::MAX]));
        for text in
            ["[", "[1", "[1,]", "[,1]", "[01]", "[-1]", "[1.0]", "[1e3]", "[18446744073709551616]"]
        {
            assert!(numbers(text).is_err(), "{text}");
        }
    }
}

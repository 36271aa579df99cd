//! What a file says of many parameters, whose state is packed: `optimizer/saved/layout.rs` writes
//! it.
//!
//! `Packed::read` reads the columns, each of which has an entry for each parameter, and the words
//! of the kinds of parameters; it finds where the tensors of each begin, and that they fill the
//! tensors that they are packed in. `find` finds a parameter by its name. All of it takes about as
//! much memory as it takes in the file.
#![forbid(unsafe_code)]

use super::header::Entry;
use super::{Checkpoint, Window, alone, words, zeros};
use crate::error::{Error, FileProblem, Label};
use crate::role::Role;
use crate::sys::memory::reserve;
use core::ops::Range;

/// Parameters by number, in the order of the file.
pub struct Packed {
    /// The names, each with a NUL behind it, and where each begins.
    names: String,
    name_starts: Vec<u32>,
    /// A hash of each name and its parameter, in the order of both.
    by_name: Vec<(u64, u32)>,
    n_elements: Vec<u8>,
    step: Vec<u8>,
    powers: [Vec<u8>; 2],
    /// Of shards: where they begin and the length of the whole. Empty if there are none.
    shards: [Vec<u8>; 2],
    kind: Vec<u8>,
    words: String,
    kinds: Vec<Kind>,
    tensors: Vec<Tensor>,
    /// Where the first tensor of each parameter is in `starts`, which has where each begins, by
    /// parameter and in the order of its kind.
    first: Vec<u32>,
    starts: Vec<u64>,
}

/// Parameters that are stepped and kept alike.
struct Kind {
    words: Range<usize>,
    tensors: Range<usize>,
}

/// A tensor that all parameters of a kind have.
#[derive(Clone, Copy)]
struct Tensor {
    role: Role,
    /// The tensor that it is packed in: its place in the header.
    packed_in: usize,
    /// So many elements of a parameter are stored as so many.
    elements: u64,
    stored: u64,
}

/// A parameter of a file.
#[derive(Clone, Copy)]
pub struct Listed {
    pub number: usize,
    pub n_elements: u64,
    pub first_element: u64,
    pub whole: u64,
    pub step: u64,
    pub powers: [f64; 2],
}

const WHAT: &str = "what a checkpoint says of its parameters";

/// The most bytes of the words of a kind, several times what the longest take: they are compared
/// with those of each parameter of the handle.
const LONGEST_WORDS: usize = 4096;

/// Returns the 8 bytes of a parameter in a column; 0 if the column is empty.
fn word(column: &[u8], number: usize) -> [u8; 8] {
    column.as_chunks().0.get(number).copied().unwrap_or_default()
}

fn hash(name: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    name.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

impl Packed {
    pub fn read(file: &Checkpoint, window: &mut Window) -> Result<Packed, Error> {
        let mut column = |name, dtype| column(file, name, dtype, window);
        let names = column("name", "U8")?;
        let [n_elements, step] = [column("n_elements", "U64")?, column("step", "U64")?];
        let powers = [column("beta1_power", "F64")?, column("beta2_power", "F64")?];
        let is_sharded = file.header().tensor(&["params.", "whole"]).is_some();
        let mut shard = |name| if is_sharded { column(name, "U64") } else { Ok(Vec::new()) };
        let shards = [shard("first_element")?, shard("whole")?];
        let (kind, words) = (column("kind", "U32")?, column("kinds", "U8")?);
        let mut packed = Packed {
            names: String::new(),
            name_starts: Vec::new(),
            by_name: Vec::new(),
            n_elements,
            step,
            powers,
            shards,
            kind,
            words: String::new(),
            kinds: Vec::new(),
            tensors: Vec::new(),
            first: Vec::new(),
            starts: Vec::new(),
        };
        packed.check_lengths().map_err(|problem| file.broken(problem))?;
        packed.list_names(file, names)?;
        packed.list_kinds(file, words)?;
        packed.place_tensors(file)?;
        Ok(packed)
    }

    pub fn len(&self) -> usize {
        self.n_elements.len() / 8
    }

    fn check_lengths(&self) -> Result<(), &'static str> {
        let n = self.n_elements.len();
        let mut columns = [&self.step, &self.powers[0], &self.powers[1]].into_iter();
        let mut shards = self.shards.iter();
        let have_all = columns.all(|column| column.len() == n)
            && shards.all(|column| column.is_empty() || column.len() == n)
            && self.kind.len() * 2 == n;
        if have_all { Ok(()) } else { Err("its columns are not equally long") }
    }

    /// Finds where each name begins, and sorts them.
    fn list_names(&mut self, file: &Checkpoint, names: Vec<u8>) -> Result<(), Error> {
        let n = self.len();
        reserve(&mut self.name_starts, n, WHAT)?;
        reserve(&mut self.by_name, n, WHAT)?;
        let broken = || file.broken("its names are not those of its parameters");
        self.names = String::from_utf8(names).map_err(|_| broken())?;
        let is_terminated = self.names.is_empty() || self.names.ends_with('\0');
        let n_bytes = u32::try_from(self.names.len()).ok().filter(|_| is_terminated);
        let (n_bytes, mut start) = (n_bytes.ok_or_else(broken)?, 0);
        for name in self.names.split_inclusive('\0').take(n) {
            let hash = hash(&name.as_bytes()[..name.len() - 1]);
            self.by_name.push((hash, self.by_name.len() as u32));
            self.name_starts.push(start);
            start += name.len() as u32;
        }
        if self.by_name.len() != n || start != n_bytes {
            return Err(broken());
        }
        let mut by_name = core::mem::take(&mut self.by_name);
        let named = |entry: &(u64, u32)| self.name(entry.1 as usize);
        by_name.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| named(a).cmp(named(b))));
        let twice = by_name.windows(2).find(|pair| named(&pair[0]) == named(&pair[1]));
        if let Some(pair) = twice {
            return Err(file.problem(FileProblem::Twice(Label::new(named(&pair[0]).as_bytes()))));
        }
        self.by_name = by_name;
        Ok(())
    }

    /// Reads the words of the kinds, each of which is of some parameter and has a tensor once.
    fn list_kinds(&mut self, file: &Checkpoint, words: Vec<u8>) -> Result<(), Error> {
        let broken = || file.broken("the kinds of its parameters are not what they should be");
        self.words = String::from_utf8(words).map_err(|_| broken())?;
        let (mut start, most) = (0, self.len());
        for words in self.words.split_inclusive('\0') {
            let text = words.strip_suffix('\0').ok_or_else(broken)?;
            if self.kinds.len() == most || text.len() > LONGEST_WORDS {
                return Err(broken());
            }
            let first = self.tensors.len();
            let listed = words::value(text, "tensors").unwrap_or_default();
            for tensor in listed.split(',').filter(|tensor| !tensor.is_empty()) {
                let tensor = Tensor::read(file, tensor).ok_or_else(broken)?;
                if self.tensors[first..].iter().any(|other| other.role == tensor.role) {
                    return Err(broken());
                }
                reserve(&mut self.tensors, 1, WHAT)?;
                self.tensors.push(tensor);
            }
            reserve(&mut self.kinds, 1, WHAT)?;
            let words = start..start + text.len();
            start = words.end + 1;
            self.kinds.push(Kind { words, tensors: first..self.tensors.len() });
        }
        Ok(())
    }

    /// Finds where the tensors of each parameter begin. Together they are what the file has.
    fn place_tensors(&mut self, file: &Checkpoint) -> Result<(), Error> {
        let entries = file.header().entries();
        let mut ends = Vec::new();
        reserve(&mut ends, entries.len(), WHAT)?;
        ends.extend(entries.iter().map(|entry| entry.start));
        let n = self.len();
        reserve(&mut self.first, n, WHAT)?;
        for number in 0..n {
            self.first.push(self.starts.len() as u32);
            let kind = self.kind_of(number);
            let kind = kind.ok_or_else(|| file.broken("a parameter is of an unknown kind"))?;
            let tensors = kind.tensors.clone();
            let n_elements = u64::from_le_bytes(word(&self.n_elements, number));
            reserve(&mut self.starts, tensors.len(), WHAT)?;
            for tensor in &self.tensors[tensors] {
                let entry = &entries[tensor.packed_in];
                let end = &mut ends[tensor.packed_in];
                self.starts.push(*end);
                let left = entry.end - *end;
                let n_bytes = tensor.n_stored(n_elements).and_then(|n| entry.bytes_of(n));
                let n_bytes = n_bytes.filter(|n| *n <= left);
                *end += n_bytes.ok_or_else(|| file.broken("a packed tensor is too short"))?;
            }
        }
        for (entry, end) in entries.iter().zip(ends) {
            let is_column = file.header().name(entry).starts_with("params.");
            if !is_column && end != entry.end {
                return Err(file.broken("a packed tensor is too long"));
            }
        }
        Ok(())
    }

    fn kind_of(&self, number: usize) -> Option<&Kind> {
        let kind = self.kind.as_chunks().0.get(number).copied().map(u32::from_le_bytes)?;
        self.kinds.get(kind as usize)
    }

    pub fn name(&self, number: usize) -> &str {
        let start = self.name_starts[number] as usize;
        let end = self.name_starts.get(number + 1).map_or(self.names.len(), |end| *end as usize);
        &self.names[start..end - 1]
    }

    /// Returns a parameter by its name. It is found at once if it is `next`.
    pub fn find(&self, name: &str, next: usize) -> Option<Listed> {
        let is_next = next < self.len() && self.name(next) == name;
        let number = if is_next {
            next
        } else {
            let key = hash(name.as_bytes());
            let order = |(hash, number): &(u64, u32)| {
                hash.cmp(&key).then_with(|| self.name(*number as usize).cmp(name))
            };
            self.by_name[self.by_name.binary_search_by(order).ok()?].1 as usize
        };
        let power = |column: &Vec<u8>| f64::from_le_bytes(word(column, number));
        let [first_element, whole] = [&self.shards[0], &self.shards[1]];
        Some(Listed {
            number,
            n_elements: u64::from_le_bytes(word(&self.n_elements, number)),
            first_element: u64::from_le_bytes(word(first_element, number)),
            whole: u64::from_le_bytes(word(whole, number)),
            step: u64::from_le_bytes(word(&self.step, number)),
            powers: [power(&self.powers[0]), power(&self.powers[1])],
        })
    }

    /// Returns the words of a parameter.
    pub fn words(&self, of: &Listed) -> &str {
        self.kind_of(of.number).map_or("", |kind| &self.words[kind.words.clone()])
    }

    /// Returns a tensor of a parameter, as a part of the one that it is packed in.
    pub fn tensor(&self, file: &Checkpoint, of: &Listed, role: Role) -> Option<Entry> {
        let tensors = &self.tensors[self.kind_of(of.number)?.tensors.clone()];
        let at = tensors.iter().position(|tensor| tensor.role == role)?;
        let start = self.starts[self.first[of.number] as usize + at];
        let entry = &file.header().entries()[tensors[at].packed_in];
        let n_bytes = entry.bytes_of(tensors[at].n_stored(of.n_elements)?)?;
        Some(entry.part(start, start + n_bytes))
    }
}

impl Tensor {
    /// Reads `<role>:<type>`, and behind that the elements that are stored as another number of
    /// them: `:<elements>:<stored>`.
    fn read(file: &Checkpoint, text: &str) -> Option<Tensor> {
        let mut parts = text.split(':');
        let (name, dtype) = (parts.next()?, parts.next()?);
        let itself = [Role::Param].into_iter().find(|role| role.name() == name);
        let role = itself.or_else(|| Role::STATE.into_iter().find(|role| role.name() == name))?;
        let prefix = if role == Role::Param { "" } else { "state." };
        let packed_in = file.header().place(&[prefix, name, ".", dtype])?;
        let mut number = || parts.next().map_or(Some(1), |digits| digits.parse().ok());
        let (elements, stored) = (number()?, number()?);
        (elements > 0).then_some(Tensor { role, packed_in, elements, stored })
    }

    /// Returns how many elements of a parameter are stored as how many.
    fn n_stored(&self, n_elements: u64) -> Option<u64> {
        n_elements.div_ceil(self.elements).checked_mul(self.stored)
    }
}

/// Reads a column whole.
fn column(
    file: &Checkpoint,
    name: &str,
    dtype: &str,
    window: &mut Window,
) -> Result<Vec<u8>, Error> {
    let entry = file.header().tensor(&["params.", name]).filter(|entry| entry.dtype() == dtype);
    let missing = || file.problem(FileProblem::Text(Label::new(name.as_bytes())));
    let entry = *entry.ok_or_else(missing)?;
    let mut bytes = zeros(entry.n_bytes() as usize, WHAT)?;
    file.read(&entry, 0, &mut bytes, window, &mut alone)?;
    Ok(bytes)
}

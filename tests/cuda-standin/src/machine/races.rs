//! Races between the blocks of one launch: who wrote and who read each word of global memory.
//!
//! Each four bytes have one number: the launch, the last block that wrote, the last that read, which of
//! the bytes those touched, and which bytes other blocks have read. Bytes of one word that several
//! blocks write apart from each other are no race; the word then remembers the last of them only.

const BLOCK: u64 = 0x3F_FFFF;
/// The most blocks of a launch that can be told apart.
pub const MOST_BLOCKS: u64 = BLOCK;

/// What is known of one word in one launch.
#[derive(Default)]
struct Word {
    writer: u64,
    reader: u64,
    written: u64,
    read: u64,
    /// What was read before by blocks that are not the last reader. Blocks run one after the other,
    /// so that none of them is the one that runs.
    others_read: u64,
}

impl Word {
    fn unpack(bits: u64, launch: u8) -> Word {
        if bits >> 56 != u64::from(launch) {
            return Word::default();
        }
        Word {
            writer: bits >> 34 & BLOCK,
            reader: bits >> 12 & BLOCK,
            written: bits >> 8 & 15,
            read: bits >> 4 & 15,
            others_read: bits & 15,
        }
    }

    fn pack(&self, launch: u8) -> u64 {
        u64::from(launch) << 56
            | self.writer << 34
            | self.reader << 12
            | self.written << 8
            | self.read << 4
            | self.others_read
    }
}

/// An access by a block (first is 1) in a launch (never 0).
#[derive(Clone, Copy)]
pub struct Access {
    pub launch: u8,
    pub block: u64,
    pub write: bool,
}

/// Notes an access to `bytes` from `offset` of the memory that `words` tells of; an error names
/// the race.
pub fn note(words: &mut [u64], offset: usize, bytes: usize, access: Access) -> Result<(), String> {
    let end = offset + bytes;
    let places = offset / 4..end.div_ceil(4);
    for (place, bits) in places.clone().zip(&mut words[places]) {
        let first = offset.max(4 * place) - 4 * place;
        let last = end.min(4 * place + 4) - 4 * place;
        let touched = (15 << first & !(15 << last) & 15) as u64;
        let mut word = Word::unpack(*bits, access.launch);
        if word.writer != 0 && word.writer != access.block && word.written & touched != 0 {
            let verb = if access.write { "writes" } else { "reads" };
            return Err(format!(
                "block {} {verb} what block {} wrote",
                access.block - 1,
                word.writer - 1
            ));
        }
        if access.write {
            let last = if word.reader == access.block { 0 } else { word.read };
            if (last | word.others_read) & touched != 0 {
                return Err(format!("block {} writes what another block read", access.block - 1));
            }
            let kept = if word.writer == access.block { word.written } else { 0 };
            word.writer = access.block;
            word.written = kept | touched;
        } else {
            if word.reader != access.block {
                word.others_read |= word.read;
                (word.reader, word.read) = (access.block, 0);
            }
            word.read |= touched;
        }
        *bits = word.pack(access.launch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Access, note};

    #[test]
    fn blocks_and_bytes() {
        let mut words = [0; 2];
        let by = |block, write| Access { launch: 1, block, write };
        note(&mut words, 0, 2, by(1, true)).unwrap();
        note(&mut words, 2, 2, by(2, true)).unwrap();
        note(&mut words, 2, 1, by(2, false)).unwrap();
        assert!(note(&mut words, 3, 1, by(1, false)).is_err());
        note(&mut words, 4, 4, by(1, false)).unwrap();
        note(&mut words, 4, 4, by(2, false)).unwrap();
        assert!(note(&mut words, 6, 1, by(2, true)).is_err());
        // Each of two blocks writes what it alone has read.
        let mut words = [0; 1];
        note(&mut words, 0, 3, by(1, false)).unwrap();
        note(&mut words, 0, 3, by(1, true)).unwrap();
        note(&mut words, 3, 1, by(2, false)).unwrap();
        note(&mut words, 3, 1, by(2, true)).unwrap();
        let mut words = [0; 2];
        // The next launch knows nothing of this one.
        note(&mut words, 0, 8, Access { launch: 2, block: 9, write: true }).unwrap();
    }
}

//! What some ranks have saved goes on on another number of ranks, on one, and alone.

use crate::bits::{MODES, Mode, cuts};
use crate::common::checkpoint::{in_memory, load_options};
use crate::common::handle::Handle;
use crate::meeting::{Meeting, on_ranks};
use crate::world::Part;
use adamw::ffi::*;

const SAVED_ON: usize = 4;
const SAVED_AT: u64 = 3;
const END: u64 = 5;

/// Loads what ranks have saved, state and parameters.
pub fn load(handle: &Handle, files: &[Vec<u8>]) {
    let sources: Vec<_> = files.iter().map(|file| in_memory(file)).collect();
    handle.load_from(&sources, &adamw_load_options { params: 1, ..load_options() }).unwrap();
}

/// What one handle saves that has the whole of what these files have.
fn joined(mode: Mode, files: &[Vec<u8>]) -> Vec<u8> {
    let whole = mode.whole();
    load(&whole.handle, files);
    whole.handle.saved(true)
}

#[test]
fn what_four_ranks_saved_goes_on_on_three_on_one_and_alone() {
    for mode in MODES {
        let plain = mode.whole();
        mode.train(&plain, 0..SAVED_AT);
        let expected = mode.train(&plain, SAVED_AT..END);
        let end = plain.handle.saved(true);
        for from in cuts(mode, SAVED_ON) {
            let files = on_ranks(SAVED_ON, |rank, meeting| {
                let part = mode.part(from[rank].clone());
                meeting.join(&part.handle).unwrap();
                mode.train(&part, 0..SAVED_AT);
                part.handle.saved(true)
            });
            let go_on = |part: Part, case: &str| {
                load(&part.handle, &files);
                assert!(mode.train(&part, SAVED_AT..END) == expected, "{mode:?}, {case}");
                part.handle.saved(true)
            };
            assert!(go_on(mode.whole(), "alone") == end, "{mode:?}, {from:?}");
            for n_ranks in [3, 1] {
                for to in cuts(mode, n_ranks) {
                    let case = format!("{from:?} to {to:?}");
                    let files = on_ranks(n_ranks, |rank, meeting: &Meeting| {
                        let part = mode.part(to[rank].clone());
                        meeting.join(&part.handle).unwrap();
                        go_on(part, &case)
                    });
                    assert!(joined(mode, &files) == end, "{mode:?}, {case}");
                }
            }
        }
    }
}

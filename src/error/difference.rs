//! Differences between a handle and a checkpoint, and what can be done about them.
#![forbid(unsafe_code)]

/// The differences between a handle and its checkpoints. An error tells the first of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference {
    Settings,
    Schedule,
    Parts,
    Missing,
    Unexpected,
    Sizes,
    Orders,
    Types,
    NoParams,
    Lacking,
    Extra,
    Uncovered,
    Cut,
}

impl Difference {
    pub(crate) const ALL: [Difference; 13] = [
        Difference::Settings,
        Difference::Schedule,
        Difference::Parts,
        Difference::Missing,
        Difference::Unexpected,
        Difference::Sizes,
        Difference::Orders,
        Difference::Types,
        Difference::NoParams,
        Difference::Lacking,
        Difference::Extra,
        Difference::Uncovered,
        Difference::Cut,
    ];

    /// Returns the text in front of the names, which says what they have in common.
    pub fn what(self) -> &'static str {
        match self {
            Difference::Settings => "the handle has other settings than the checkpoint",
            Difference::Schedule => "the handle has another schedule than the checkpoint",
            Difference::Parts => "the checkpoints are not parts of one",
            Difference::Missing => "the checkpoint has no state of these params",
            Difference::Unexpected => "the checkpoint has state of params that the handle lacks",
            Difference::NoParams => "the checkpoint was saved without params",
            Difference::Lacking => "the checkpoint lacks what the handle has",
            Difference::Extra => "the handle lacks what the checkpoint has",
            Difference::Sizes => "these have another size in the checkpoint",
            Difference::Orders => "these lie in memory in another order than in the checkpoint",
            Difference::Types => "these are of another type in the checkpoint",
            Difference::Uncovered => "the checkpoints do not have all elements",
            Difference::Cut => "moments in codes are not cut inside a block",
        }
    }

    /// Returns the text behind the names, which says what can be done.
    pub fn advice(self) -> &'static str {
        match self {
            Difference::Settings => {
                "; make the handle with what was saved and change it after the load, or load with \
                 ADAMW_LOAD_SHARED, which keeps the handle's (options.extend 1 turns amsgrad or \
                 multi_precision on)"
            }
            Difference::Schedule => {
                "; options.keep_schedule 1 goes on with the handle's at the index that was saved"
            }
            Difference::Parts => "; give files of one save",
            Difference::Missing => {
                "; ADAMW_LOAD_SHARED loads what both have, options.rename finds other names"
            }
            Difference::Unexpected => "; ADAMW_LOAD_SUBSET passes over them",
            Difference::NoParams => "; save with args.params 1, or load with options.params 0",
            Difference::Lacking => {
                "; make the handle as the saved one was, or load with options.extend 1, which \
                 starts maxima and masters"
            }
            Difference::Extra => "; make the handle as the saved one was",
            Difference::Sizes => "; add the params with the shapes that were saved",
            Difference::Orders => {
                "; add the params with the strides that were saved, or as plain arrays to take the \
                 elements as they lie"
            }
            Difference::Types => "; options.convert 1 converts f32, f64, f16 and bf16",
            Difference::Uncovered => "; give the files of all ranks",
            Difference::Cut => "; cut at multiples of 256",
        }
    }
}
